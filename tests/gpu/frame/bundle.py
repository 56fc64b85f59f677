"""The bundle: where its parts lie, and the folder with the Python module that steps see. Nothing is installed, and nothing in the bundle is
changed."""

import json
import os
import platform
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

# Asks the library itself, in a process of its own: a driver that cannot be opened must not end this one.
LOOK = """
import json, os, neuro_memory as nm
devices, missing = nm.devices()
cuda = [device for device in devices if device["device"].startswith("cuda") and not device["unusable"]]
why = missing.get("cuda") or next((device["unusable"] for device in devices if device["device"].startswith("cuda")), None)
print(json.dumps({"file": nm.__file__, "device": cuda[0]["name"] if cuda else None, "driver": cuda[0]["driver"] if cuda else None,
                  "api": cuda[0]["api"] if cuda else None, "devices": len(cuda), "why": why}))
"""
VERSIONS = """
import importlib.metadata as metadata, json
names = ["torch", "cupy", "cupy-cuda12x", "cupy-cuda13x", "jax", "jaxlib", "rmm-cu12", "rmm-cu13", "numba", "numba-cuda", "cuda-core", "numpy"]
found = {}
for name in names:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class Bundle:
    """A folder that `make gpu-bundle` has made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        except FileNotFoundError:
            sys.exit(f"gpu-check: {folder} is no bundle, it has no manifest.json; `make gpu-bundle` makes one")
        self.core_tests = folder / "bin" / "core-tests"
        self.c_tests = folder / "bin" / "c"
        self.checks = folder / "checks"
        self.python_tests = folder / "python" / "tests"
        self.pytest = folder / "python" / "packages"

    def unpack(self, work: Path) -> None:
        """Puts the module into a private folder: a wheel is a zip file."""
        wheels = list((self.folder / "wheels").glob("*.whl"))
        if len(wheels) != 1:
            sys.exit(f"gpu-check: {self.folder / 'wheels'} holds {len(wheels)} wheels, and one is needed")
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(self.site(work))

    @staticmethod
    def site(work: Path) -> Path:
        return work / "site"

    def environment(self, work: Path, *, more: tuple[Path, ...] = ()) -> dict[str, str]:
        """What every step sees: our module before any other."""
        paths = [str(self.site(work)), *map(str, more)]
        before = os.environ.get("PYTHONPATH")
        return os.environ | {
            "PYTHONPATH": os.pathsep.join([*paths, before] if before else paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            # A device that is here and cannot be used is a failure.
            "NEURO_REQUIRE_CUDA": "1",
            "TMPDIR": str(work),
        }

    def look(self, work: Path) -> dict[str, object]:
        """Device, driver and versions; `device` is None where none can be used, and `why` says so."""
        needed, here = self.manifest["glibc"], platform.libc_ver()[1]
        if here and version(here) < version(needed):
            return self._nothing(f"glibc {needed} is needed, and this machine has {here}; make the bundle on an older system")
        found = self._ask(LOOK, work)
        if found is None or not str(found["file"]).startswith(str(self.site(work))):
            return self._nothing(f"the module of the bundle could not be loaded: {found}")
        versions: dict[str, Any] = self._ask(VERSIONS, work) or {}
        versions |= {"python": platform.python_version(), "glibc": here}
        found.pop("file")
        kernel_driver = Path("/proc/driver/nvidia/version")
        if kernel_driver.exists():
            found["kernel_driver"] = kernel_driver.read_text().splitlines()[0]
        return found | {"versions": versions}

    def _nothing(self, why: str) -> dict[str, object]:
        return {"device": None, "driver": None, "api": None, "devices": 0, "why": why, "versions": {}}

    def _ask(self, program: str, work: Path) -> dict[str, Any] | None:
        try:
            done = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=self.environment(work), check=False
            )
            answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (subprocess.TimeoutExpired, IndexError, ValueError) as wrong:
            print(f"gpu-check: {wrong!r}", file=sys.stderr)
            return None
        return answer


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
