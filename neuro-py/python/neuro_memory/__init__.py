"""Pooled, aligned, reference-counted memory for ML code.

Tensors live in pools: 64-byte aligned, recycled, bounded by a limit, counted to the byte. NumPy, JAX and PyArrow read and
write the same memory, through the buffer protocol and DLPack, without a copy.

    >>> import neuro_memory as nm
    >>> pool = nm.MemoryPool(limit=1 << 20)
    >>> t = pool.zeros((2, 3))
    >>> t.numpy()[1] = 7
    >>> t.tolist()
    [[0.0, 0.0, 0.0], [7.0, 7.0, 7.0]]
    >>> pool.stats().live_blocks
    1

Loaded when first named: `neuro_memory.hooks` puts the arrays of other libraries into pools; `neuro_memory.cuda` is for streams of
others, and kernels of one's own.
"""

import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING

from ._neuro_memory import (
    _C_API,
    CorruptedError,
    Counters,
    MemoryPool,
    NeuroMemoryError,
    OutOfMemoryError,
    PoolStats,
    Scope,
    Tensor,
    Transfer,
    Usage,
    __version__,
    asarray,
    default_pool,
    devices,
    empty,
    from_buffer,
    from_dlpack,
    full,
    import_fd,
    load_file,
    load_metadata,
    ones,
    save_file,
    shutdown,
    stats,
    trim,
    zeros,
)

if TYPE_CHECKING:
    from . import cuda as cuda
    from . import hooks as hooks

__all__ = [
    "_C_API",
    "CorruptedError",
    "Counters",
    "MemoryPool",
    "NeuroMemoryError",
    "OutOfMemoryError",
    "PoolStats",
    "Scope",
    "Tensor",
    "Transfer",
    "Usage",
    "__version__",
    "asarray",
    "cuda",
    "default_pool",
    "devices",
    "empty",
    "from_buffer",
    "from_dlpack",
    "full",
    "import_fd",
    "get_include",
    "hooks",
    "load_file",
    "load_metadata",
    "ones",
    "save_file",
    "shutdown",
    "stats",
    "trim",
    "zeros",
]


def get_include() -> str:
    """The directory of `neuro_memory.h`. Its functions are exported by this package's native module."""
    return os.path.join(os.path.dirname(__file__), "include")


def __getattr__(name: str) -> ModuleType:
    # For programs that ask for them: nobody else pays for their import.
    if name in ("cuda", "hooks"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
