"""Runs one step: in a process group of its own, which goes as a whole when its time is over, with its output in a log."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from bundle import Bundle
from result import Result
from steps import Step

# What is kept of an output for reading it.
MOST_BYTES = 8 << 20


def run(step: Step, bundle: Bundle, work: Path, logs: Path, left: float, device: bool) -> Result:
    """What came of it. `left`: seconds for all steps to come; `device`: whether there is one."""
    if not device:
        return Result(step.name, "SKIPPED", "no CUDA device")
    if reason := step.missing():
        return Result(step.name, "SKIPPED", reason)
    if left <= 1:
        return Result(step.name, "FAILED", "the time for all steps was over before it began")
    limit = min(step.limit, left)
    log = logs / (re.sub(r"\W+", "-", step.name) + ".log")
    environment = bundle.environment(work, more=step.packages) | dict(step.environment)
    start = time.monotonic()
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                step.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=bundle.folder,
                env=environment,
                start_new_session=True,
            )
        except OSError as wrong:
            return Result(step.name, "FAILED", f"{step.command[0]}: {wrong}", log=str(log))
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end(process)
    seconds = time.monotonic() - start
    with log.open("rb") as said:
        said.seek(max(0, log.stat().st_size - MOST_BYTES))
        text = said.read().decode(errors="replace")
    if status is None:
        result = step.read(step.name, 1, text)
        result.result, result.why = "FAILED", f"not done after {limit:.0f} s"
    else:
        result = step.read(step.name, status, text)
    result.seconds, result.log = seconds, str(log)
    return result


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends what is left of it, children included."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
