"""Training in PyTorch with its memory from our pools, beside torch's own allocator, with and without segments that grow.

Each place that memory comes from has a process of its own; they take turns on the device, so that what disturbs one disturbs all. With
the same seed all must end with the same bits. What is compared besides: memory held of the device at most ÷ what tensors asked for at
most, and the time of a step.
"""

import json
import math
import os
import subprocess
import sys
from functools import cache
from typing import Any

from lines import DEVICE, ON_HOST, QUICK, Skip, check, main
from rounds import at_most, figure, in_turn, ratio, spread

SIZE = "small" if ON_HOST else "real"
# Steps of a round: all batches of either model, so that each round is the same work.
STEPS = 8
ROUNDS = 3 if QUICK or ON_HOST else 7
GROWS = {name: "expandable_segments:True" for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")}
OWN, OWN_GROWING, OURS, OURS_GROWING = "torch", "torch, expandable", "our pool", "our pool, expandable"


class Trainee:
    """A process that trains."""

    def __init__(self, memory: str, **environment: str) -> None:
        self.said: dict[str, Any] | None = None
        self.process = subprocess.Popen(
            [sys.executable, "trainee.py", "--memory", memory, "--device", DEVICE, "--size", SIZE],
            env={name: value for name, value in os.environ.items() if name not in GROWS} | environment,
            cwd=os.path.dirname(os.path.abspath(__file__)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, **what: Any) -> None:
        """Has it begin."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What it says to the last that it was told."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise AssertionError(f"the training process ended with status {self.process.wait()}; its words are above")

    def ask(self, **what: Any) -> dict[str, Any]:
        """Tells, and waits."""
        self.tell(**what)
        return self.answer()


@cache
def trainees() -> dict[str, Trainee]:
    """One of each kind, started side by side; they live until this process ends."""
    if ON_HOST:
        found = {OWN: Trainee("theirs"), OURS: Trainee("theirs")}
    else:
        found = {OWN: Trainee("theirs"), OURS: Trainee("ours")}
        if not QUICK:
            found |= {OWN_GROWING: Trainee("theirs", **GROWS), OURS_GROWING: Trainee("ours expandable")}
    for name, one in found.items():
        assert "ready" in one.answer(), name
    return found


@cache
def trained(kind: str) -> dict[str, dict[str, Any]]:
    """What each came to, one after the other. Torch's own allocator twice: whether it does the same again."""
    results = {name: one.ask(do="train", kind=kind, steps=STEPS + STEPS // 2) for name, one in trainees().items()}
    results["again"] = trainees()[OWN].ask(do="train", kind=kind, steps=STEPS + STEPS // 2)
    return results


def same_bits(kind: str) -> dict[str, Any]:
    """All parameters are equal, bit by bit; where torch itself does not repeat itself, nearly."""
    results = trained(kind)
    own = results[OWN]
    assert all(map(math.isfinite, own["losses"])), own["losses"]
    assert own["losses"][-1] < own["losses"][0], f"it does not learn: {own['losses']}"
    repeats = own["digest"] == results["again"]["digest"]
    for name, result in results.items():
        if repeats:
            assert result["digest"] == own["digest"], f"{name}: other bits than torch's own; losses {result['losses']} and {own['losses']}"
        for mine, other in zip(result["losses"], own["losses"], strict=True):
            assert math.isclose(mine, other, rel_tol=1e-3), f"{name}: loss {mine}, torch's own {other}"
    how = "bit by bit" if repeats else "losses to 1e-3: torch's own two runs differ in their bits"
    return {"detail": f"{len(results)} runs equal {how}; loss {own['losses'][0]:.3f} to {own['losses'][-1]:.3f}"}


@check("torch", "device", limit=90)
def convolutional_training_ends_with_the_same_bits() -> dict[str, Any]:
    return same_bits("conv")


@check("torch", "device", limit=60)
def transformer_training_ends_with_the_same_bits() -> dict[str, Any]:
    return same_bits("transformer")


def held(kind: str) -> list[dict[str, Any]]:
    """Reserved ÷ requested, at their peaks."""
    if ON_HOST:
        raise Skip("needs a CUDA device: the host's memory is not counted")
    results = trained(kind)
    parts = {name: results[name]["reserved"] / results[name]["requested"] for name in trainees()}
    mib = {name: f"{results[name]['reserved'] >> 20} of {results[name]['requested'] >> 20} MiB" for name in trainees()}
    theirs = [name for name in (OWN, OWN_GROWING) if name in parts]
    lines = [figure(f"{kind}: reserved ÷ peak, {name}", parts[name], "×", detail=mib[name]) for name in theirs]
    for mine in (name for name in (OURS, OURS_GROWING) if name in parts):
        for other in theirs:
            beside = f"{mib[mine]}; {other} {mib[other]}"
            lines.append(at_most(f"{kind}: reserved ÷ peak, {mine}, beside {other}", parts[mine], round(parts[other], 2), beside))
    return lines


def step_time(kind: str) -> list[dict[str, Any]]:
    """Seconds of a step, in turn. Where checks of the other model came between, a fresh training first."""
    arms = {}
    for name, one in trainees().items():
        one.ask(do="train", kind=kind, steps=STEPS)
        arms[name] = lambda one=one: float(one.ask(do="time", steps=STEPS)["seconds"]) / STEPS
    times = in_turn(arms, ROUNDS)
    medians = {name: f"{spread(times[name]).median * 1e3:.2f} ms" for name in arms}
    lines = []
    for mine in (OURS, OURS_GROWING):
        if mine in times:
            beside = f"a step {medians[mine]}; torch's own {medians[OWN]}; {ROUNDS} rounds of {STEPS} steps"
            lines.append(at_most(f"{kind}: step time, {mine} ÷ torch", ratio(times[mine], times[OWN]), 1.01, beside))
    if OWN_GROWING in times:
        growing = ratio(times[OWN_GROWING], times[OWN])
        lines.append(figure(f"{kind}: step time, {OWN_GROWING} ÷ torch", growing, "×", detail=medians[OWN_GROWING]))
    return lines


@check("torch", "device", limit=90)
def convolutional_memory_held() -> list[dict[str, Any]]:
    return held("conv")


@check("torch", "device", limit=90)
def transformer_memory_held() -> list[dict[str, Any]]:
    return held("transformer")


@check("torch", "device", limit=60)
def convolutional_step_time() -> list[dict[str, Any]]:
    return step_time("conv")


@check("torch", "device", limit=60)
def transformer_step_time() -> list[dict[str, Any]]:
    return step_time("transformer")


if __name__ == "__main__":
    main()
