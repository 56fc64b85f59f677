"""Tensors of ours beside those of one other library: the same bytes, seen from both sides.

What is compared of a tensor is its address, its shape, its strides, and its values, which are read back over the other side. Types
without a name in NumPy are compared as bits.
"""

import gc
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from interface import take
from lines import DEVICE, ON_HOST

import neuro_memory as nm

# bfloat16 stands for what NumPy has no name for.
DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
)
SHAPE = (4, 6)
# Views by name; what makes them reads the same in every library.
VIEWS: dict[str, Callable[[Any], Any]] = {
    "whole": lambda a: a,
    "later rows": lambda a: a[1:],
    "middle columns": lambda a: a[:, 2:5],
    "every other": lambda a: a[::2, ::3],
    "transposed": lambda a: a.T,
    "a column": lambda a: a[:, 3],
    "one element": lambda a: a[1:2, 2:3].reshape(()),
    "no rows": lambda a: a[3:3],
}


class Library(NamedTuple):
    """How one library does what the checks need."""

    name: str
    dtypes: tuple[str, ...]
    views: tuple[str, ...]
    # From values in memory of the host, by name of their type ("bfloat16": as uint16).
    make: Callable[[np.ndarray, str], Any]
    # To the host; bfloat16 as uint16.
    values: Callable[[Any], np.ndarray]
    address: Callable[[Any], int]
    # In elements.
    strides: Callable[[Any], tuple[int, ...]]
    take: Callable[[Any], Any]


def sample(dtype: str, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Values of a type that differ from one to the next; of bfloat16 their bits."""
    count = int(np.prod(shape))
    if dtype == "bfloat16":
        bits = (np.arange(count, dtype="float32") + seed).view("uint32") >> 16
        return bits.astype("uint16").reshape(shape)
    if dtype == "bool":
        return ((np.arange(count) + seed) % 3 == 0).reshape(shape)
    values = (np.arange(count) + 1 + seed).astype(dtype)
    return (values + values.dtype.type(1j) * seed if dtype.startswith("complex") else values).reshape(shape)


def ours(values: np.ndarray, dtype: str | None = None, pool: nm.MemoryPool | None = None) -> nm.Tensor:
    """A tensor of ours on the device with these values."""
    host = nm.asarray(np.ascontiguousarray(values), copy=True)
    if dtype == "bfloat16":
        host = host.view("bfloat16")
    return host.to(pool=pool) if pool else host.to(DEVICE)


def our_values(tensor: nm.Tensor) -> np.ndarray:
    """To the host, behind all that is under way; bfloat16 as uint16."""
    host = tensor.to("cpu").contiguous()
    return np.array((host.view("uint16") if tensor.dtype == "bfloat16" else host).numpy())


def our_address(tensor: nm.Tensor) -> int:
    """Where the first element is."""
    return tensor.data_ptr if ON_HOST else nm.cuda.pointer(tensor)


def elements(strides: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides in elements, of strides in bytes."""
    return tuple(stride // itemsize for stride in strides)


def same(mine: nm.Tensor, other: Any, library: Library, values: np.ndarray, what: str) -> None:
    """Both show the same memory, and these values are in it."""
    assert tuple(other.shape) == mine.shape == values.shape, f"{what}: shapes {tuple(other.shape)}, {mine.shape}, not {values.shape}"
    assert np.array_equal(library.values(other), values), f"{what}: {library.name} reads {library.values(other)!r}, not {values!r}"
    assert np.array_equal(our_values(mine), values), f"{what}: we read {our_values(mine)!r}, not {values!r}"
    if not values.size:
        return
    there, here = library.address(other), our_address(mine)
    assert there == here, f"{what}: {library.name} has it at {there:#x}, we at {here:#x}: that is a copy"
    # Along an axis of one element a stride says nothing.
    pairs = zip(values.shape, library.strides(other), elements(mine.strides, mine.itemsize), strict=True)
    wrong = [(a, b) for length, a, b in pairs if length > 1 and a != b]
    assert not wrong, f"{what}: strides {library.strides(other)} and {elements(mine.strides, mine.itemsize)}"


def they_take_ours(library: Library) -> dict[str, str]:
    """Each type whole, and each view of float32, from us to them. Then what they hold is ours, and what we write they see."""
    for dtype in library.dtypes:
        values = sample(dtype)
        mine = ours(values, dtype)
        same(mine, library.take(mine), library, values, f"{dtype} to {library.name}")
    values = sample("float32")
    for view in library.views:
        mine = ours(values)
        shown = VIEWS[view](mine)
        same(shown, library.take(shown), library, VIEWS[view](values), f"{view} to {library.name}")
    kept = library.take(ours(values))  # of ours, only the memory is left
    assert np.array_equal(library.values(kept), values), "the values changed when our tensor was dropped"
    return {"detail": f"{len(library.dtypes)} types, {len(library.views)} views, no copy"}


def we_take_theirs(library: Library, way: Callable[[Any], nm.Tensor] = nm.from_dlpack) -> dict[str, str]:
    """The same the other way."""
    for dtype in library.dtypes:
        values = sample(dtype)
        other = library.make(values, dtype)
        mine = way(other)
        assert (mine.dtype, mine.device) == (dtype, DEVICE), f"{dtype} from {library.name} is {mine.dtype} on {mine.device}"
        same(mine, other, library, values, f"{dtype} from {library.name}")
    values = sample("float32")
    for view in library.views:
        shown = VIEWS[view](library.make(values, "float32"))
        same(way(shown), shown, library, VIEWS[view](values), f"{view} from {library.name}")
    kept = way(library.make(values, "float32"))
    assert np.array_equal(our_values(kept), values), f"the values changed when {library.name}'s tensor was dropped"
    return {"detail": f"{len(library.dtypes)} types, {len(library.views)} views, no copy"}


def live_blocks() -> int:
    """Of all pools of this process."""
    return nm.stats().live_blocks


def all_back(before: int) -> None:
    """No more blocks live than there were. Who lent us memory gets it back when the work that we did there is known to be done."""
    end = time.monotonic() + 5
    while live_blocks() != before and time.monotonic() < end:
        gc.collect()
        if not ON_HOST:  # it looks what is done when it waits for something, and when it is lent something
            other = ours(np.zeros(1, "float32"))
            other.synchronize()
            take(other)
    assert live_blocks() == before, f"{live_blocks() - before} blocks more are live than before"


def refused(call: Callable[[], object], words: str = "") -> str:
    """What the BufferError says that a call raises; anything else is a failure."""
    try:
        got = call()
    except BufferError as error:
        assert words in str(error), f"the refusal says {str(error)!r}, not {words!r}"
        return str(error)
    except Exception as error:
        raise AssertionError(f"refused by {type(error).__name__} ({error}), not by BufferError") from error
    raise AssertionError(f"it gave {got!r} instead of BufferError")


# ---- the libraries ------------------------------------------------------------------------------------------------


def torch_library() -> Library:
    """PyTorch."""
    import torch

    def make(values: np.ndarray, dtype: str) -> Any:
        tensor = torch.from_numpy(values.view("int16") if dtype == "bfloat16" else values)
        return (tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor).clone().to(DEVICE)

    def values(tensor: Any) -> np.ndarray:
        host = tensor.cpu()
        return host.view(torch.int16).numpy().view("uint16") if tensor.dtype is torch.bfloat16 else host.numpy()

    return Library("torch", DTYPES, tuple(VIEWS), make, values, lambda t: t.data_ptr(), lambda t: t.stride(), torch.from_dlpack)


def cupy_library() -> Library:
    """CuPy."""
    import cupy

    dtypes = tuple(dtype for dtype in DTYPES if dtype != "bfloat16")
    return Library(
        "cupy",
        dtypes,
        tuple(VIEWS),
        lambda values, dtype: cupy.asarray(values),
        cupy.asnumpy,
        lambda a: a.data.ptr,
        lambda a: elements(a.strides, a.itemsize),
        cupy.from_dlpack,
    )


def jax_library() -> Library:
    """JAX, whose arrays are compact and aligned, or it copies; types of 64 bits have to be switched on."""
    import jax

    jax.config.update("jax_enable_x64", True)
    device = jax.devices("cpu" if ON_HOST else "cuda")[0]

    def make(values: np.ndarray, dtype: str) -> Any:
        import ml_dtypes

        return jax.device_put(values.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else values, device)

    def values(array: Any) -> np.ndarray:
        host = np.asarray(array)
        return host.view("uint16") if array.dtype == "bfloat16" else host

    def strides(array: Any) -> tuple[int, ...]:
        return elements(np.empty(array.shape, "uint8").strides, 1)

    def address(array: Any) -> int:
        return int(array.unsafe_buffer_pointer())

    return Library("jax", DTYPES, ("whole", "no rows"), make, values, address, strides, jax.dlpack.from_dlpack)
