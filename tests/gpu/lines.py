"""What every program of this folder shares: checks by name, each on its own, and what they found as lines of JSON.

    from lines import check, main

    @check("torch")
    def torch_takes_our_tensor():
        ...                                # what raises has failed; what raises Skip did not run

    if __name__ == "__main__":
        main()

A program runs its checks in a child process. One that fails, faults or hangs ends the child, since a device's errors stay with the
process; the rest go on in a new one. So each line is one check's own, and a hang costs no more than its limit. A last line tells of
a child that did its checks and then did not end well.

Lines: {"check": name, "ok": true or false}, and "skipped" (why), "figure", "unit", "goal", "met", "detail", "error", where they apply; a
goal that was missed is no failure. A last one has {"versions": …} of what was used. Status: 1 where a check failed, else 0.

`--require`: a check that could not run has failed. `--only TEXT`: checks whose name has it. NEURO_GPU_QUICK=1: less of everything.
NEURO_GPU_DEVICE=cpu: checks marked "device" run on the host, to try them where there is no device.
"""

import argparse
import ctypes
import faulthandler
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import IO, Any, NamedTuple

QUICK = os.environ.get("NEURO_GPU_QUICK", "0") not in ("", "0")
DEVICE = os.environ.get("NEURO_GPU_DEVICE", "cuda:0")
ON_HOST = DEVICE == "cpu"
# For imports and a context on the device, before a check's own time begins; and for the end of a process.
START, END = 60.0, 20.0

PR_SET_PDEATHSIG = 1

# Else JAX takes three quarters of the device when it is first asked, and the checks beside it get none.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

# What a framework is called where its module is not, and what is named when it is missing.
MODULES = {name: name for name in ("cuda.core", "cupy", "jax", "numpy", "rmm", "torch")} | {"numba": "numba.cuda"}
DEVICES = ("cuda", "device")


class Skip(Exception):  # noqa: N818 (it is no error)
    """Why a check cannot run here."""


class Check(NamedTuple):
    """One of a program's checks."""

    name: str
    needs: tuple[str, ...]
    limit: float
    run: Callable[[], Any]


CHECKS: dict[str, Check] = {}


def check(*needs: str, limit: float = 20.0) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Makes a function a check, named as it is. It gives nothing, one dict of further keys of its line, or a list of such for several.

    needs: modules of MODULES; "cuda" for a CUDA device of ours, or "device" for that or, where NEURO_GPU_DEVICE says so, the host.
    limit: seconds after which it hangs.
    """

    def add(run: Callable[[], Any]) -> Callable[[], Any]:
        name = run.__name__.replace("_", " ")
        CHECKS[name] = Check(name, needs, limit, run)
        return run

    return add


def need(what: str) -> Any:
    """A module, or Skip."""
    if what in DEVICES:
        return _need_device(what)
    try:
        module = importlib.import_module(MODULES[what])
    except ImportError as wrong:
        raise Skip(f"{what} cannot be imported: {_first_line(wrong)}") from None
    except Exception as wrong:  # a framework that looks for its device, or for versions of others, when imported
        raise Skip(f"{what} does not start here: {_first_line(wrong)}") from None
    if not ON_HOST:
        _need_its_device(what, module)
    return module


def _need_device(what: str) -> None:
    import neuro_memory as nm

    if ON_HOST:
        if what == "cuda":
            raise Skip("needs a CUDA device, and NEURO_GPU_DEVICE says cpu")
        return
    found, missing = nm.devices()
    first = next((device for device in found if device["device"] == DEVICE), None)
    reason = missing.get("cuda", "no such device") if first is None else first["unusable"]
    if reason:
        raise Skip(f"needs hardware: {DEVICE}: {reason}")


def _need_its_device(what: str, module: Any) -> None:
    """Skip for a framework without CUDA, or with another driver's: our device is there, theirs is not. None begins to use it by that."""
    try:
        if what == "torch" and not module.cuda.is_available():
            raise Skip(f"torch {module.__version__} finds no CUDA device")
        if what == "cupy":
            module.cuda.runtime.getDeviceCount()
        if what == "jax":
            module.devices("cuda")
        if what == "rmm":
            module.mr.available_device_memory()
    except RuntimeError as wrong:
        raise Skip(f"{what} {module.__version__} finds no CUDA device: {_first_line(wrong)}") from None


def python(*arguments: str, limit: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Another Python process, for what needs one of its own: the words of arguments behind `python`."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=os.path.dirname(os.path.abspath(__file__)),
    )


def end_with_parent() -> None:
    """Has the system end this process when the one that started it is gone: nothing stays on the device."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def say(line: dict[str, Any], to: IO[str] | None = None) -> None:
    """One line of JSON, at once."""
    print(json.dumps(line, default=str), file=to or sys.stdout, flush=True)


def main() -> None:
    """Runs the program's checks, and ends the process."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--require", action="store_true", help="what cannot run has failed")
    parser.add_argument("--only", default="", help="checks whose name has this text")
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        sys.exit(_child(options.child))
    names = [name for name in CHECKS if options.only in name]
    if not names:
        sys.exit(f"no check here has {options.only!r} in its name")
    sys.exit(1 if Supervisor(names, options.require).run() else 0)


def _first_line(wrong: BaseException) -> str:
    return (str(wrong) or type(wrong).__name__).splitlines()[0]


# ---- the child ----------------------------------------------------------------------------------------------------


def _child(names: Iterable[str]) -> int:
    """Runs checks until one fails."""
    # What frameworks print goes where messages go: stdout is the lines'.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()
    end_with_parent()
    for name in names:
        one = CHECKS[name]
        say({"begin": name, "limit": one.limit + START}, out)
        lines = _lines_of(one, out)
        for line in lines:
            say({"check": name} | line, out)
        say({"end": name}, out)
        say({"versions": versions()}, out)  # before it may end
        if not all(line["ok"] for line in lines):
            return 1
    return 0


def versions() -> dict[str, str]:
    """Of what was imported."""
    found = {name: getattr(sys.modules[module], "__version__", None) for name, module in MODULES.items() if module in sys.modules}
    return {name: version for name, version in found.items() if version}


def _lines_of(one: Check, out: IO[str]) -> list[dict[str, Any]]:
    try:
        # The device first: without one nothing has to be imported.
        for what in sorted(one.needs, key=lambda what: what not in DEVICES):
            need(what)
        # Imports are over; what comes now has its own time.
        say({"begin": one.name, "limit": one.limit}, out)
        faulthandler.dump_traceback_later(one.limit * 0.9)
        found = one.run()
    except Skip as why:
        return [{"ok": True, "skipped": str(why)}]
    except Exception as wrong:  # what a check raises is what it found
        where = "".join(traceback.format_exc(limit=-4))
        return [{"ok": False, "error": f"{type(wrong).__name__}: {wrong}"[:2000], "detail": where[-4000:]}]
    finally:
        faulthandler.cancel_dump_traceback_later()
    found = found if isinstance(found, list) else [found or {}]
    return [{"ok": True} | line for line in found]


# ---- its parent ---------------------------------------------------------------------------------------------------


class Supervisor:
    """Sees to it that each check has its say, whatever the ones before it did to their process."""

    def __init__(self, names: list[str], require: bool) -> None:
        self.left = names
        self.require = require
        self.failed = self.child_failed = False
        self.begun: str | None = None
        self.deadline = 0.0

    def run(self) -> bool:
        """Whether a check failed."""
        while self.left:
            self._one_child()
        return self.failed

    def _one_child(self) -> None:
        program = os.path.abspath(sys.argv[0])
        with tempfile.TemporaryFile("w+", errors="replace") as words:
            child = subprocess.Popen(
                [sys.executable, program, "--child", *self.left], stdout=subprocess.PIPE, stderr=words, text=True, stdin=subprocess.DEVNULL
            )
            self.begun, self.deadline = self.left[0], time.monotonic() + START
            self.child_failed = False
            over_time = self._listen(child)
            status = child.wait()
            words.seek(0)
            said = words.read()
        sys.stderr.write(said)
        if self.begun:  # it began and did not end
            how = f"not over after its limit of {over_time:.0f} s" if over_time else f"the process ended with {ended(status)}"
            self._tell({"check": self.begun, "ok": False, "error": how, "detail": said[-3000:]})
            self.left.remove(self.begun)
        elif status and not self.child_failed:  # one that failed ends its process with 1
            name = f"end of the process of {os.path.basename(program)}"
            self._tell({"check": name, "ok": False, "error": f"it ended with {ended(status)}", "detail": said[-3000:]})

    def _listen(self, child: subprocess.Popen[str]) -> float:
        """Passes on what a child finds; the seconds it was given where it took longer."""
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        assert child.stdout
        threading.Thread(target=_read, args=(child.stdout, lines), daemon=True).start()
        limit = START
        while True:
            try:
                text = lines.get(timeout=max(0.0, self.deadline - time.monotonic()))
            except queue.Empty:
                child.kill()
                return limit if self.begun else 0.0
            if text is None:
                return 0.0
            line = json.loads(text)
            if "begin" in line:
                limit = line["limit"]
                self.begun, self.deadline = line["begin"], time.monotonic() + limit
            elif "end" in line:
                self.left.remove(line["end"])
                self.begun, self.deadline = None, time.monotonic() + (START if self.left else END)
            elif "check" in line:
                self._tell(line)
            elif line["versions"]:
                say(line)

    def _tell(self, line: dict[str, Any]) -> None:
        self.child_failed |= not line["ok"]
        if self.require and "skipped" in line:
            line["ok"] = False
        self.failed |= not line["ok"]
        say(line)


def _read(source: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    for line in source:
        lines.put(line)
    lines.put(None)


def ended(status: int) -> str:
    """How a process ended, in words."""
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
