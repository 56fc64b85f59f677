"""What the hooks of CUDA frameworks share: pools, streams, and how a framework is found."""

import abc
import importlib
import threading
import warnings
from typing import Any, Protocol

from .. import _neuro_memory as _core
from .._neuro_memory import MemoryPool

__all__ = ["ResourceHook", "checked", "device_of", "framework", "raw_stream", "release"]


def framework(hook: str, module: str, package: str) -> Any:
    """The framework's module, imported now."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"hooks.{hook} needs {package}, which cannot be imported: {error}") from error


def device_of(pool: MemoryPool) -> int:
    """The number of the pool's CUDA device."""
    return int(pool.device.split(":")[1])


def checked(hook: str, pool: MemoryPool | None, current: int) -> MemoryPool:
    """The pool, or the default pool of device number ``current``."""
    if pool is None:
        return MemoryPool(device=f"cuda:{current}")
    if not isinstance(pool, MemoryPool):
        raise TypeError(f"hooks.{hook}: pool must be a MemoryPool or None, not {type(pool).__name__}")
    if not pool.device.startswith("cuda:"):
        raise ValueError(
            f"hooks.{hook}: the pool is of {pool.device}, and memory of a CUDA device is needed; "
            'make one with MemoryPool(device="cuda:0")'
        )
    return pool


def raw_stream(stream: Any) -> int:
    """The address of the CUstream that an object has, or that a number is."""
    if isinstance(stream, int):
        return stream
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        return int(protocol()[1])
    for name in ("cuda_stream", "ptr", "handle"):
        handle = getattr(stream, name, None)
        if handle is not None:
            return int(getattr(handle, "value", handle) or 0)
    inner = getattr(stream, "stream", None)  # a graph that is being built
    if inner is not None:
        return raw_stream(inner)
    raise TypeError(f"a stream is an int, or has __cuda_stream__(); {type(stream).__name__} is not and has not")


def release(hook: _core._CudaHook, ptr: int, stream: int | None = None) -> None:
    """Frees for a framework that has no use for an exception: what is wrong becomes a warning."""
    try:
        hook.free(ptr, stream)
    except Exception as error:
        warnings.warn(f"neuro_memory: {error}", RuntimeWarning, stacklevel=2)


class _Scope(Protocol):
    pool: MemoryPool
    resource: Any

    def __enter__(self) -> MemoryPool: ...
    def __exit__(self, exc_type: None, exc: None, traceback: None, /) -> None: ...


class ResourceHook(abc.ABC):
    """A framework that has one resource a device, of which there is a scope: for the whole process by ``install``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scope: _Scope | None = None

    @abc.abstractmethod
    def __call__(self, pool: MemoryPool | None = None) -> _Scope:
        """Scope for ``with``. Imports the framework."""

    def resource(self, pool: MemoryPool | None = None) -> Any:
        """The framework's resource of the pool."""
        return self(pool).resource

    def install(self, pool: MemoryPool | None = None) -> MemoryPool:
        """Make the pool the resource of its device. Installing again replaces it."""
        scope = self(pool)
        with self._lock:
            self._end()
            scope.__enter__()
            self._scope = scope
        return scope.pool

    def uninstall(self) -> None:
        """Give the device the resource that it had before ``install``. Without an install, nothing."""
        with self._lock:
            self._end()

    @property
    def installed(self) -> bool:
        """Whether ``install`` is in force."""
        return self._scope is not None

    def _end(self) -> None:
        if self._scope is not None:
            self._scope.__exit__(None, None, None)
            self._scope = None
