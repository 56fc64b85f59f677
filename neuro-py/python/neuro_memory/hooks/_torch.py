"""``neuro_memory.hooks.torch``: PyTorch's CUDA tensors in a memory pool.

The functions that PyTorch calls for memory are native, and are those of the extension that this package has loaded already: one library, one set of
pools. They are told nothing of whose they are, so there are sixteen of each, and a pool is bound to a number.
"""

import contextlib
import ctypes
import threading
from types import TracebackType
from typing import Any

from .. import _neuro_memory as _core
from .._neuro_memory import MemoryPool
from ._pools import checked, device_of, framework

__all__ = ["torch"]


class TorchScope:
    """What ``hooks.torch(...)`` returns: a context manager under which this thread's new CUDA tensors lie in a pool.

    PyTorch's own caching allocator stands between: it takes segments of some MiB from the pool, and gives them back when it is told to
    (``torch.cuda.empty_cache()``), or when the scope is gone and no tensor is left in them. It may be entered again, also while it is entered,
    and by any thread. Threads that do the backward pass for this one are not in the scope.

    pool: where tensors go. mem_pool: the ``torch.cuda.MemPool``. slot: the number of the functions.
    """

    def __init__(self, pool: MemoryPool) -> None:
        torch = framework("torch", "torch", "PyTorch")
        if not hasattr(torch.cuda, "MemPool"):
            raise RuntimeError(f"hooks.torch(...) needs torch.cuda.MemPool, which PyTorch {torch.__version__} has not; use install()")
        self._torch = torch
        self._slot = _core._TorchSlot(pool, False)
        self.pool = pool
        with torch.cuda.device(device_of(pool)):
            allocator = _allocator(torch, self._slot.number)
            self.mem_pool = torch.cuda.MemPool(allocator.allocator())
        # Whoever keeps the MemPool, as a graph does, keeps the number.
        self.mem_pool._neuro_memory_slot = self._slot
        self._entered = threading.local()

    @property
    def slot(self) -> int:
        """The number of the functions that PyTorch calls."""
        return self._slot.number

    def __enter__(self) -> MemoryPool:
        stack = contextlib.ExitStack()
        stack.enter_context(self._torch.cuda.use_mem_pool(self.mem_pool, device_of(self.pool)))
        self._stacks().append(stack)
        return self.pool

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stacks = self._stacks()
        if not stacks:
            raise RuntimeError("hooks.torch: this scope is not entered in this thread; leave it where it was entered")
        stacks.pop().close()

    def _stacks(self) -> list[contextlib.ExitStack]:
        stacks: list[contextlib.ExitStack] | None = getattr(self._entered, "stacks", None)
        if stacks is None:
            stacks = self._entered.stacks = []
        return stacks


class TorchHook:
    """PyTorch's CUDA memory from a pool: bounded, counted, reused in the order of streams.

    ``with hooks.torch(pool) as pool:`` for what this thread allocates inside the block;
    ``hooks.torch.install(pool)`` for the whole process, for good, before PyTorch has used CUDA.

    pool: one of a CUDA device; None is the default pool of the current device.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._installed: tuple[MemoryPool, _core._TorchSlot] | None = None

    def __call__(self, pool: MemoryPool | None = None) -> TorchScope:
        """Scope for ``with``. Imports PyTorch."""
        torch = framework("torch", "torch", "PyTorch")
        current = torch.cuda.current_device() if pool is None else 0
        return TorchScope(checked("torch", pool, current))

    def install(self, pool: MemoryPool | None = None) -> MemoryPool:
        """Put every CUDA tensor of the process into ``pool``, of all threads, each as a block of its own. There is no way back.

        ``torch.cuda.empty_cache()`` waits for the streams, and trims the pool. Where it is full, PyTorch raises ``RuntimeError`` with the pool's own words. Graphs
        (``torch.cuda.graph``) and ``torch.cuda.MemPool`` are refused, and PyTorch has no figures of such memory: see ``pool.stats()``. Tensors on
        other devices than the pool's are refused.
        """
        torch = framework("torch", "torch", "PyTorch")
        pool = checked("torch", pool, 0)
        with self._lock:
            if self._installed is not None:
                if self._installed[0] is pool:
                    return pool
                raise RuntimeError("hooks.torch.install: another pool is installed, which PyTorch keeps to its end")
            if torch.cuda.is_initialized():
                raise RuntimeError(
                    "hooks.torch.install: PyTorch has used CUDA already, and its allocator cannot be changed any more; "
                    "call this before the first CUDA tensor is made, or use `with hooks.torch(pool):`"
                )
            slot = _core._TorchSlot(pool, True)
            allocator = _allocator(torch, slot.number)
            for register, name in (
                ("set_record_stream_fn", f"neuro_torch_record_stream_{slot.number}"),
                ("set_reset_fn", f"neuro_torch_empty_cache_{slot.number}"),
                ("set_begin_allocate_to_pool", "neuro_torch_refuse_graph"),
            ):
                setter = getattr(allocator.allocator(), register, None)
                if setter is None:
                    raise RuntimeError(
                        f"hooks.torch.install needs {register} of PyTorch's allocators, which PyTorch {torch.__version__} has not; "
                        "use `with hooks.torch(pool):`"
                    )
                setter(_address(name))
            try:
                torch.cuda.memory.change_current_allocator(allocator)
            except RuntimeError as error:
                raise RuntimeError(
                    f"hooks.torch.install: PyTorch does not change its allocator any more ({error}); call this before it uses CUDA"
                ) from error
            self._installed = (pool, slot)
        return pool

    @property
    def installed(self) -> bool:
        """Whether ``install`` is in force."""
        return self._installed is not None


# By number; kept, since pools of older versions only point to them.
_allocators: dict[int, Any] = {}


def _allocator(torch: Any, number: int) -> Any:
    """PyTorch's object for the functions of a number, in the file that is loaded already."""
    if number not in _allocators:
        _allocators[number] = torch.cuda.memory.CUDAPluggableAllocator(
            _core.__file__, f"neuro_torch_alloc_{number}", f"neuro_torch_free_{number}"
        )
    return _allocators[number]


def _address(name: str) -> int:
    address = ctypes.cast(getattr(ctypes.CDLL(_core.__file__), name), ctypes.c_void_p).value
    assert address is not None
    return address


torch = TorchHook()
