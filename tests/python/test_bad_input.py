"""Wrong input: a clear error of the expected type, and nothing leaked or consumed."""

import itertools
from collections.abc import Callable
from unittest.mock import MagicMock

import numpy as np
import pytest
from foreign import NAME, NEW, Producer

import neuro_memory as nm

MAKERS: list[Callable[..., nm.Tensor]] = [nm.empty, nm.zeros, nm.ones, nm.MemoryPool(1 << 30).empty]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (-1, "negative"),
        ((3, -2), "negative"),
        (2**63, "larger than an address space"),
        (2**200, "larger than an address space"),
        (-(2**200), "larger than an address space"),
        (2**62, "overflows"),
        ((2**32, 2**32), "overflows"),
        ((2**32, 2**31, 0), "overflows"),
        ((1,) * 65, "64"),
    ],
)
def test_impossible_shapes(make: Callable[..., nm.Tensor], shape: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(shape)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("shape", [None, "3", 1.5, (1, "2"), (1, None), [1.0], object()], ids=str)
def test_what_is_no_shape(make: Callable[..., nm.Tensor], shape: object) -> None:
    with pytest.raises(TypeError):
        make(shape)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "dtype", ["", "float", "float128", "f3", ">f4", 7, object, str, np.dtype("S4"), np.dtype(">f8"), np.dtype("f4,i4")], ids=repr
)
def test_unknown_dtypes(make: Callable[..., nm.Tensor], dtype: object) -> None:
    with pytest.raises(TypeError, match="dtype"):
        make(1, dtype)


@pytest.mark.parametrize("shape", [(2**60,), (2**62,), (2**30, 2**30), (2**50,)], ids=str)
def test_lists_larger_than_memory(shape: tuple[int, ...]) -> None:
    one_byte = nm.from_buffer(np.broadcast_to(np.zeros((), "uint8"), shape))
    with pytest.raises(MemoryError, match="nested lists"):
        one_byte.tolist()
    with pytest.raises(MemoryError, match="nested lists"):
        nm.empty((2**45, 0)).tolist()


def test_elements_cannot_be_deleted() -> None:
    tensor = nm.zeros(3)
    with pytest.raises(TypeError, match="deleted"):
        del tensor[0]


def test_shapes_without_end() -> None:
    for use in (nm.zeros, nm.zeros(1).reshape, nm.zeros(1).transpose):
        with pytest.raises(ValueError, match="more than 64"):
            use(itertools.repeat(1))
    with pytest.raises(TypeError):
        nm.zeros(np.array([2.0, 3.0]))


def test_a_dtype_of_dtypes_without_end_is_unknown() -> None:
    class Endless:
        @property
        def dtype(self) -> "Endless":
            return self

    for dtype in (MagicMock(), Endless()):
        with pytest.raises(TypeError, match="dtype"):
            nm.zeros(3, dtype)


@pytest.mark.parametrize("alignment", [3, 96, 4 << 20, 2**63])
def test_alignments_that_cannot_be(alignment: int) -> None:
    with pytest.raises(ValueError, match="alignment"):
        nm.empty(1, alignment=alignment)
    pool = nm.MemoryPool(1 << 20, alignment)  # says nothing yet
    with pytest.raises(ValueError, match="alignment"):
        pool.empty(1)


@pytest.mark.parametrize("count", [-1, 2**64])
def test_byte_counts_out_of_range(count: int) -> None:
    for make in MAKERS:
        with pytest.raises(ValueError, match="alignment"):
            make(1, alignment=count)
    for trim in (nm.trim, nm.MemoryPool().trim):
        with pytest.raises(ValueError, match="keep"):
            trim(count)
        with pytest.raises(TypeError):
            trim("1")
        assert trim() >= trim(2**64 - 1) == 0


def test_limits_that_cannot_be() -> None:
    for limit in (-1, 2**64):
        with pytest.raises(ValueError, match="limit"):
            nm.MemoryPool(limit)
    for limit in ("1", 1.5):
        with pytest.raises(TypeError):
            nm.MemoryPool(limit)
    with pytest.raises(nm.OutOfMemoryError):
        nm.MemoryPool(0).empty(1)


def test_a_limit_reached_names_what_was_asked() -> None:
    pool = nm.MemoryPool(limit=1000)
    with pytest.raises(nm.OutOfMemoryError, match=r"asked for 4000 B.*limit 1000 B.*raise the limit"):
        pool.zeros(1000)
    assert pool.stats().live_blocks == 0


IMPOSSIBLE = {
    "a negative dimension": ({"shape": (4, -1)}, "impossible"),
    "dimensions that overflow": ({"shape": (2**40, 2**40)}, "impossible"),
    "one dimension that overflows": ({"shape": (2**62,)}, "impossible"),
    "negative ndim": ({"ndim": -1}, "-1 dimensions"),
    "too many dimensions": ({"ndim": 65, "shape": (1,) * 65}, "65 dimensions"),
    "no shape": ({"shape": None, "ndim": 2}, "shape is NULL"),
    "no data": ({"data": None}, "NULL"),
    "a CUDA device": ({"device": (2, 77)}, "CUDA device 77"),
    "a Vulkan device": ({"device": (7, 0)}, "device type 7"),
    "an unknown device": ({"device": (99, 0)}, "device type 99"),
    "vector lanes": ({"dtype": (2, 32, 4)}, "4 lanes"),
    "an unknown type": ({"dtype": (77, 32, 1)}, "code 77"),
    "a four-bit type": ({"dtype": (0, 4, 1)}, "4 bits"),
    "strides that reach above memory": ({"strides": (2**61, 1)}, "impossible|outside"),
    "strides that reach below memory": ({"strides": (-(2**60), 1)}, "impossible|outside"),
    "strides that overflow": ({"strides": (2**63 - 1, 2**63 - 1)}, "impossible|outside"),
    "an offset beyond memory": ({"byte_offset": 2**64 - 4}, "outside"),
    "a misaligned offset": ({"byte_offset": 2}, "align"),
}


@pytest.mark.parametrize("versioned", [False, True], ids=["old", "versioned"])
@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_foreign_capsules(case: str, versioned: bool) -> None:
    lies, words = IMPOSSIBLE[case]
    producer = Producer(versioned=versioned, **lies)
    capsule = producer.capsule()
    name = NAME(capsule)
    with pytest.raises(BufferError, match=words):
        nm.from_dlpack(capsule)
    # Refused, so still the producer's: neither renamed nor freed.
    assert NAME(capsule) == name and producer.freed == 0


def test_versions_of_the_future() -> None:
    producer = Producer(versioned=True, version=(2, 0))
    with pytest.raises(BufferError, match=r"2\.0"):
        nm.from_dlpack(producer.capsule())
    assert producer.freed == 0
    nm.from_dlpack(Producer(versioned=True, version=(1, 9)).capsule())


def test_a_foreign_capsule_used_twice() -> None:
    for versioned in (False, True):
        producer = Producer(versioned=versioned)
        capsule = producer.capsule()
        first = nm.from_dlpack(capsule)
        with pytest.raises(BufferError, match="used already"):
            nm.from_dlpack(capsule)
        assert first[0, 1] == 1 and producer.freed == 0
        del first
        assert producer.freed == 1


def test_a_capsule_of_something_else() -> None:
    with pytest.raises(BufferError, match="not a DLPack capsule"):
        nm.from_dlpack(NEW(1, b"something", None))
    with pytest.raises(BufferError, match="not a DLPack capsule"):
        nm.from_dlpack(NEW(1, None, None))


def test_keywords_that_do_not_exist() -> None:
    with pytest.raises(TypeError):
        nm.zeros(3, order="F")
    with pytest.raises(TypeError):
        nm.Tensor()
    with pytest.raises(AttributeError):
        nm.zeros(3).shape = (1, 3)
    with pytest.raises(AttributeError):
        nm.nothing  # noqa: B018
