"""``neuro_memory.hooks.cuda_core``: buffers of ``cuda.core`` from a memory pool, in the order of the streams that it names."""

from types import TracebackType
from typing import Any

from .. import _neuro_memory as _core
from .._neuro_memory import MemoryPool
from ._pools import ResourceHook, checked, device_of, framework, raw_stream

__all__ = ["cuda_core"]


class CudaCoreScope:
    """What ``hooks.cuda_core(...)`` returns: a context manager under which the pool is its device's resource.

    ``cuda.core`` has one ``Device`` object for each device and thread, so this is of one thread.
    """

    def __init__(self, core: Any, pool: MemoryPool, resource: Any) -> None:
        self.pool = pool
        self.resource = resource
        self._core = core
        self._before: list[tuple[Any, Any]] = []

    def __enter__(self) -> MemoryPool:
        device = self._core.Device(device_of(self.pool))
        self._before.append((device, device.memory_resource))
        device.memory_resource = self.resource
        return self.pool

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._before:
            raise RuntimeError("hooks.cuda_core: this scope is not entered")
        device, before = self._before.pop()
        device.memory_resource = before


class CudaCoreHook(ResourceHook):
    """``cuda.core``'s memory from a pool: bounded, counted, reused in the order of streams.

    ``hooks.cuda_core.resource(pool)`` is a ``cuda.core.MemoryResource``: ``resource.allocate(bytes, stream=stream)``.
    ``with hooks.cuda_core(pool) as pool:`` and ``hooks.cuda_core.install(pool)`` make it the ``memory_resource`` of its device.
    A buffer goes back behind the stream that it is closed on, or was made on; whoever names another has ordered that. Buffers may outlive the hook.
    Where the pool is full, ``OutOfMemoryError``, which is a ``MemoryError``.

    pool: one of a CUDA device; None is the default pool of ``cuda:0``.
    """

    def __call__(self, pool: MemoryPool | None = None) -> CudaCoreScope:
        """Scope for ``with``. Imports ``cuda.core``."""
        core = framework("cuda_core", "cuda.core", "cuda.core")
        pool = checked("cuda_core", pool, 0)
        return CudaCoreScope(core, pool, _resource(core, pool))


class _Resource:
    """What ``cuda.core`` asks of a resource, whose class comes beside this one."""

    _framework: Any
    _hook: _core._CudaHook
    _device: int

    def allocate(self, size: int, *, stream: Any) -> Any:
        """A buffer, in the order of a stream."""
        ptr = self._hook.allocate(size, raw_stream(stream), stream)
        return self._framework.Buffer.from_handle(ptr, size, mr=self, stream=stream)

    def deallocate(self, ptr: Any, size: int, *, stream: Any) -> None:
        """Gives memory back, behind what the stream has by now."""
        self._hook.free(int(ptr), raw_stream(stream), stream)

    @property
    def is_device_accessible(self) -> bool:
        """It is."""
        return True

    @property
    def is_host_accessible(self) -> bool:
        """It is not."""
        return False

    @property
    def is_managed(self) -> bool:
        """It is not."""
        return False

    @property
    def device_id(self) -> int:
        """Number of the pool's device."""
        return self._device


def _resource(core: Any, pool: MemoryPool) -> Any:
    parts = {
        "_framework": core,
        "_hook": _core._CudaHook(pool),
        "_device": device_of(pool),
        "__doc__": "A resource of cuda.core that is a pool of neuro_memory.",
    }
    return type("PoolResource", (_Resource, core.MemoryResource), parts)()


cuda_core = CudaCoreHook()
