"""``neuro_memory.hooks.numba``: numba-cuda's device memory from a pool.

Numba does not say on which stream it uses memory. So what was used before is ordered, by a mark in the legacy default stream, before all that streams get later
which wait for that, as all do that Numba makes (``cuda.stream()``). Nobody waits on the host.
"""

import ctypes
import functools
import threading
from typing import Any

from .. import _neuro_memory as _core
from .._neuro_memory import MemoryPool
from ._pools import checked, device_of, framework, release

__all__ = ["numba"]


class NumbaHook:
    """Numba's device arrays in a pool: bounded, counted, recycled.

    ``hooks.numba.install(pool)`` for the whole process, for good, before Numba uses the device; ``hooks.numba.manager(pool)`` is the class that
    ``numba.cuda.set_memory_manager`` takes. Arrays are good on the default streams and on those that ``cuda.stream()`` makes, not on streams of others that were
    made to be non-blocking. Where the pool is full, ``OutOfMemoryError``, which is a ``MemoryError``.

    pool: one of a CUDA device; None is the default pool of ``cuda:0``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._installed: MemoryPool | None = None

    def manager(self, pool: MemoryPool | None = None) -> Any:
        """A class of memory managers for ``numba.cuda.set_memory_manager``. Imports Numba."""
        return _manager(framework("numba", "numba.cuda", "numba-cuda"), checked("numba", pool, 0))

    def install(self, pool: MemoryPool | None = None) -> MemoryPool:
        """Put every device array of the process into ``pool``. There is no way back."""
        cuda = framework("numba", "numba.cuda", "numba-cuda")
        pool = checked("numba", pool, 0)
        with self._lock:
            if self._installed is pool:
                return pool
            devices = framework("numba", "numba.cuda.cudadrv.devices", "numba-cuda")
            if any(getattr(gpu, "primary_context", None) is not None for gpu in devices.gpus):
                raise RuntimeError(
                    "hooks.numba.install: Numba uses a device already, and keeps the memory manager that it has there; call this before"
                )
            cuda.set_memory_manager(_manager(cuda, pool))
            self._installed = pool
        return pool

    @property
    def installed(self) -> bool:
        """Whether ``install`` is in force."""
        return self._installed is not None


class _Manager:
    """What Numba asks of a memory manager; the rest is its own class, which comes beside this one."""

    _hook: _core._CudaHook
    _pool: MemoryPool
    context: Any

    def initialize(self) -> None:
        """Nothing to be done."""

    def memalloc(self, size: int) -> Any:
        """Memory of the pool."""
        cuda = framework("numba", "numba.cuda", "numba-cuda")
        device, here = device_of(self._pool), self.context.device.id
        if here != device:
            raise RuntimeError(f"hooks.numba: the pool is of cuda:{device}, and memory of cuda:{here} was asked for")
        ptr = self._hook.allocate(max(size, 1), None)
        return cuda.MemoryPointer(
            self.context, ctypes.c_void_p(ptr), size, finalizer=functools.partial(release, self._hook, ptr)
        )

    def get_memory_info(self) -> Any:
        """Bytes that the pool still gives, and its limit."""
        cuda, stats = framework("numba", "numba.cuda", "numba-cuda"), self._pool.stats()
        limit = stats.limit_bytes or 0
        return cuda.MemoryInfo(free=limit - stats.live_bytes, total=limit)

    def get_ipc_handle(self, memory: Any) -> Any:
        """Not with a pool, whose blocks share slabs."""
        raise NotImplementedError("hooks.numba: memory of a pool has no IPC handle of its own; copy the array through the host")

    @property
    def interface_version(self) -> int:
        """Of Numba's interface."""
        return 1


def _manager(cuda: Any, pool: MemoryPool) -> Any:
    parts = {"_hook": _core._CudaHook(pool), "_pool": pool, "__doc__": "Numba's device memory from a pool of neuro_memory."}
    return type("PoolManager", (_Manager, cuda.HostOnlyCUDAMemoryManager), parts)


numba = NumbaHook()
