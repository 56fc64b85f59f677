"""Measured processes that use Vulkan: with layers between them and the driver, each chosen by the process's environment."""

import json
import os
from pathlib import Path

from .rounds import one_process

#: `bench/layer`, which counts and can show memory apart; and the one that checks.
BENCH, VALIDATION = "VK_LAYER_NEURO_bench", "VK_LAYER_KHRONOS_validation"

#: Where the layer that checks finds what it is to do: all checks it has, synchronisation too, and its words go to a file.
SETTINGS = """\
khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
khronos_validation.report_flags = error,warn,perf
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.log_filename = {messages}
"""


class Vulkan:
    """Processes of `worker`, an arm each, on device `ordinal`. `folder` is for files that live as long as this."""

    def __init__(self, worker: Path, layer: Path, folder: Path, ordinal: int) -> None:
        self._worker = worker
        self._ordinal = ordinal
        self._folder = folder
        manifest = {
            "file_format_version": "1.1.2",
            "layer": {
                "name": BENCH,
                "type": "GLOBAL",
                "library_path": str(layer),
                "api_version": "1.3.0",
                "implementation_version": "1",
                "description": "Counts calls for memory; shows memory apart",
            },
        }
        (folder / "bench_layer.json").write_text(json.dumps(manifest))
        (folder / "vk_layer_settings.txt").write_text(SETTINGS.format(messages=folder / "messages"))

    def program(self, arm: str, *, apart: bool = False, layers: tuple[str, ...] = (), **settings: object) -> tuple[str, ...]:
        """The command of an arm. `apart`: memory that host and device share is shown to be of two kinds."""
        if apart:
            settings["NEURO_BENCH_APART"] = 1
        if apart or "NEURO_BENCH_CALLS" in settings:
            # Last: next to the driver, so that the one that checks sees what the program sees.
            layers = (*layers, BENCH)
        environment = {"VK_ADD_LAYER_PATH": self._folder, "VK_INSTANCE_LAYERS": os.pathsep.join(layers)} | settings
        words = tuple(f"{name}={value}" for name, value in environment.items())
        return ("env", *words, str(self._worker), arm, str(self._ordinal))

    def ask(self, arm: str, question: dict[str, object], **how: object) -> dict:
        """A fresh process's answer to what is not a time."""
        with one_process(self.program(arm, **how)) as worker:
            return worker.ask(eval=question)

    def calls(self, arm: str, question: dict[str, object]) -> tuple[list[int], dict]:
        """The bytes of each call for memory, and the answer."""
        path = self._folder / f"calls of {arm}"
        told = self.ask(arm, question, NEURO_BENCH_CALLS=path)
        lines = path.read_text().splitlines()
        return [int(line.split()[1]) for line in lines if line.startswith("allocate")], told

    def validated(self, question: dict[str, object], apart: bool) -> tuple[list[str], dict]:
        """What the layer that checks says meanwhile, and the answer."""
        path = self._folder / "messages"
        path.unlink(missing_ok=True)
        settings = {"VK_LAYER_SETTINGS_PATH": self._folder}
        told = self.ask("storm", question, apart=apart, layers=(VALIDATION,), **settings)
        # A message is a line, and what belongs to it is indented.
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line and not line[0].isspace()], told
