"""What the hooks of CUDA frameworks share: pools, streams, and how a framework is found."""

import importlib
import warnings
from typing import Any

from .. import _neuro_memory as _core
from .._neuro_memory import MemoryPool

__all__ = ["checked", "device_of", "framework", "raw_stream", "release"]


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
