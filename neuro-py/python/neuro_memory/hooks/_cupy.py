"""``neuro_memory.hooks.cupy``: CuPy's arrays in a memory pool, in the order of CuPy's current streams.

CuPy's allocators in C are not told of streams; an allocator in Python asks for the current one.
"""

import threading
import weakref
from types import TracebackType
from typing import Any

from .. import _neuro_memory as _core
from .._neuro_memory import MemoryPool
from ._pools import checked, device_of, framework, raw_stream

__all__ = ["cupy"]


class _Allocator:
    """What CuPy calls with a number of bytes."""

    def __init__(self, cupy: Any, pool: MemoryPool) -> None:
        self._cupy = cupy
        self._device = device_of(pool)
        self.hook = _core._CudaHook(pool)

    def __call__(self, size: int) -> Any:
        cuda = self._cupy.cuda
        current = cuda.runtime.getDevice()
        if current != self._device:
            raise RuntimeError(
                f"hooks.cupy: the pool is of cuda:{self._device}, and memory of cuda:{current} was asked for; hook a pool of that"
            )
        stream = cuda.get_current_stream()
        block = self.hook.block(size, stream.ptr, stream)
        return cuda.MemoryPointer(cuda.UnownedMemory(block.ptr, size, block, self._device), 0)


class CupyScope:
    """What ``hooks.cupy(...)`` returns: a context manager under which this thread's new CuPy arrays lie in a pool."""

    def __init__(self, pool: MemoryPool, allocator: _Allocator) -> None:
        self.pool = pool
        self._allocator = allocator
        self._entered = threading.local()

    def __enter__(self) -> MemoryPool:
        using = self._allocator._cupy.cuda.using_allocator(self._allocator)
        using.__enter__()
        self._entered.stack = [*getattr(self._entered, "stack", ()), using]
        return self.pool

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stack = getattr(self._entered, "stack", [])
        if not stack:
            raise RuntimeError("hooks.cupy: this scope is not entered in this thread; leave it where it was entered")
        stack.pop().__exit__(None, None, None)


class CupyHook:
    """CuPy's memory from a pool: bounded, counted, reused in the order of streams.

    ``with hooks.cupy(pool) as pool:`` for what this thread allocates inside the block; ``hooks.cupy.install(pool)`` and
    ``hooks.cupy.uninstall()`` for the whole process. Arrays may outlive both. Where the pool is full, ``OutOfMemoryError``, which is a ``MemoryError``.

    An array that is used on another stream than the one that was current when it was made is known to be if ``record_stream`` says so; else the
    program keeps it until that stream is done with it, as with CuPy's own pool.

    pool: one of a CUDA device; None is the default pool of the current device.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: Any = None
        self._installed: _Allocator | None = None
        self._allocators: weakref.WeakSet[_Allocator] = weakref.WeakSet()

    def __call__(self, pool: MemoryPool | None = None) -> CupyScope:
        """Scope for ``with``. Imports CuPy."""
        return CupyScope(*self._made(pool))

    def install(self, pool: MemoryPool | None = None) -> MemoryPool:
        """Put every new CuPy array of the process into ``pool``. Installing again replaces the pool."""
        pool, allocator = self._made(pool)
        with self._lock:
            if self._installed is None:
                self._before = allocator._cupy.cuda.get_allocator()
            allocator._cupy.cuda.set_allocator(allocator)
            self._installed = allocator
        return pool

    def uninstall(self) -> None:
        """Give new arrays the memory that they had before ``install``. Without an install, nothing."""
        with self._lock:
            if self._installed is not None:
                self._installed._cupy.cuda.set_allocator(self._before)
                self._installed = self._before = None

    @property
    def installed(self) -> bool:
        """Whether ``install`` is in force."""
        return self._installed is not None

    def record_stream(self, array: Any, stream: Any) -> None:
        """Say that ``stream`` uses ``array``, too: its memory is handed out again behind what that stream has when the array goes."""
        ptr, raw = array.data.mem.ptr, raw_stream(stream)
        owner = None if isinstance(stream, int) else stream
        for allocator in list(self._allocators):
            try:
                return allocator.hook.record_stream(ptr, raw, owner)
            except ValueError:
                continue  # not a block of this one
        raise ValueError("hooks.cupy.record_stream: the array's memory is not from a hooked pool")

    def _made(self, pool: MemoryPool | None) -> tuple[MemoryPool, _Allocator]:
        cupy = framework("cupy", "cupy", "CuPy")
        current = cupy.cuda.runtime.getDevice() if pool is None else 0
        pool = checked("cupy", pool, current)
        allocator = _Allocator(cupy, pool)
        self._allocators.add(allocator)
        return pool, allocator


cupy = CupyHook()
