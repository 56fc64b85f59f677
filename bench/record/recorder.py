"""Records every array buffer that NumPy allocates in a block of code, and writes the trace.

NumPy takes a memory handler from a capsule. `handler.c` holds one that notes each call; it is compiled here, and NumPy's
C interface is reached through its table of functions, as an extension module would.
"""

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy._core import _multiarray_umath

#: The place of `PyDataMem_SetHandler` in NumPy's table; the same from NumPy 1.22 on.
SLOT_SET_HANDLER = 304
ALLOCATED, FREED = 1, 2


class Event(ctypes.Structure):
    """`struct event` of handler.c."""

    _fields_ = (("kind", ctypes.c_uint64), ("address", ctypes.c_uint64), ("bytes", ctypes.c_uint64))


class Recorder:
    """A context: what NumPy allocates inside is recorded. One a process, since the log is one."""

    def __init__(self, compiler: str = "gcc") -> None:
        source = Path(__file__).with_name("handler.c")
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "handler.so"
            command = [compiler, "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", source, "-o", library]
            subprocess.run(command, check=True)
            self._library = ctypes.CDLL(str(library))  # stays mapped when the file is gone
        for name in ("handler", "capsule_name", "events"):
            getattr(self._library, f"recorder_{name}").restype = ctypes.c_void_p
        for name in ("count", "capacity", "refusals"):
            getattr(self._library, f"recorder_{name}").restype = ctypes.c_uint64
        new_capsule = ctypes.pythonapi.PyCapsule_New
        new_capsule.restype, new_capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        self._capsule = new_capsule(self._library.recorder_handler(), self._library.recorder_capsule_name(), None)
        self._before: object = None

    def __enter__(self) -> "Recorder":
        self._before = _set_handler(self._capsule)
        return self

    def __exit__(self, *_: object) -> None:
        _set_handler(self._before)

    def rows(self) -> list[tuple[int, int, int]]:
        """Lower, upper and size of each buffer, in the order of allocation. The clock counts events; a buffer that is
        still live ends one tick after the last."""
        count, capacity = self._library.recorder_count(), self._library.recorder_capacity()
        if count > capacity:
            raise RuntimeError(f"{count} events, of which the log holds {capacity}: record less")
        if refusals := self._library.recorder_refusals():
            raise RuntimeError(f"the C library refused {refusals} requests: the log is not whole")
        events = ctypes.cast(self._library.recorder_events(), ctypes.POINTER(Event))
        live: dict[int, int] = {}
        rows: list[list[int]] = []
        for tick in range(count):
            event = events[tick]
            if event.kind == ALLOCATED:
                live[event.address] = len(rows)
                rows.append([tick, count, event.bytes])
            else:
                rows[live.pop(event.address)][1] = tick
        return [tuple(row) for row in rows]

    def write(self, path: Path) -> str:
        """Writes the trace; returns a line about it."""
        rows = self.rows()
        lines = ["id,lower,upper,size", *(f"{number},{a},{b},{size}" for number, (a, b, size) in enumerate(rows))]
        path.write_text("\n".join(lines) + "\n")
        return f"{path.name}: {len(rows):,} buffers, {path.stat().st_size / 1e3:.0f} kB, {peak(rows) / 2**20:.1f} MiB at the peak"


def peak(rows: list[tuple[int, int, int]]) -> int:
    """Most bytes live at once."""
    changes = sorted(change for lower, upper, size in rows for change in ((lower, size), (upper, -size)))
    live = most = 0
    for _, change in changes:
        live += change
        most = max(most, live)
    return most


def _set_handler(capsule: object) -> object:
    """NumPy's `PyDataMem_SetHandler`: the handler of the current context; returns the one before."""
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    table = ctypes.cast(get_pointer(_multiarray_umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    return ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[SLOT_SET_HANDLER])(capsule)


def check_losses(losses: list[float]) -> str:
    """That a training was one: every loss finite, and each below the one before."""
    if not np.isfinite(losses).all() or any(after >= before for before, after in zip(losses, losses[1:])):
        raise RuntimeError(f"this is no training: losses {losses}")
    return "losses " + ", ".join(f"{loss:.4f}" for loss in losses)
