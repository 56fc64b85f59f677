"""``neuro_memory.hooks.rmm``: RMM's device memory from a pool, and so that of what is built on RMM."""

from types import TracebackType
from typing import Any

from .. import _neuro_memory as _core
from .._neuro_memory import MemoryPool
from ._pools import ResourceHook, checked, device_of, framework, raw_stream, release

__all__ = ["rmm"]


class RmmScope:
    """What ``hooks.rmm(...)`` returns: a context manager under which RMM's resource of the pool's device is the pool.

    RMM keeps one resource a device for the whole process, so this is not of one thread.
    """

    def __init__(self, rmm: Any, pool: MemoryPool, resource: Any) -> None:
        self.pool = pool
        self.resource = resource
        self._rmm = rmm
        self._before: list[Any] = []

    def __enter__(self) -> MemoryPool:
        device = device_of(self.pool)
        self._before.append(self._rmm.mr.get_per_device_resource(device))
        self._rmm.mr.set_per_device_resource(device, self.resource)
        return self.pool

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._before:
            raise RuntimeError("hooks.rmm: this scope is not entered")
        self._rmm.mr.set_per_device_resource(device_of(self.pool), self._before.pop())


class RmmHook(ResourceHook):
    """RMM's memory from a pool, in the order of the streams that RMM is given.

    ``with hooks.rmm(pool) as pool:``; ``hooks.rmm.install(pool)`` and ``hooks.rmm.uninstall()``; or ``hooks.rmm.resource(pool)``, an
    ``rmm.mr.CallbackMemoryResource``, to be put wherever RMM takes one. Buffers may outlive the hook. A stream stays until buffers that were made or
    freed on it are freed, and the resource is gone.

    pool: one of a CUDA device; None is the default pool of ``cuda:0``.
    """

    def __call__(self, pool: MemoryPool | None = None) -> RmmScope:
        """Scope for ``with``. Imports RMM."""
        rmm = framework("rmm", "rmm", "RMM")
        pool = checked("rmm", pool, 0)
        return RmmScope(rmm, pool, _resource(rmm, pool))


def _resource(rmm: Any, pool: MemoryPool) -> Any:
    hook = _core._CudaHook(pool)

    def allocate(size: int, stream: Any) -> int:
        return hook.allocate(size, raw_stream(stream))

    def deallocate(ptr: int, size: int, stream: Any) -> None:
        release(hook, ptr, raw_stream(stream))

    return rmm.mr.CallbackMemoryResource(allocate, deallocate)


rmm = RmmHook()
