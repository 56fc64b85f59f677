"""Facts, views, elements and copies of tensors, compared with NumPy's."""

import copy
import gc
import operator
import weakref
from unittest.mock import MagicMock

import ml_dtypes
import numpy as np
import pytest
from conftest import DTYPES, NUMPY_DTYPES

import neuro_memory as nm


def counting(*shape: int, dtype: str = "int32") -> tuple[nm.Tensor, np.ndarray]:
    """A tensor of 0, 1, 2, ... and a NumPy array of its own memory with the same elements."""
    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    tensor = nm.empty(shape, dtype)
    tensor.copy_from(array)
    return tensor, array


@pytest.mark.parametrize("dtype", DTYPES)
def test_facts_are_numpys(dtype: str) -> None:
    tensor = nm.zeros((3, 4, 5), dtype)
    array = np.zeros((3, 4, 5), ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    for fact in ["shape", "strides", "ndim", "size", "itemsize", "nbytes"]:
        assert getattr(tensor, fact) == getattr(array, fact), fact
    assert tensor.dtype == array.dtype.name == dtype
    assert tensor.device == "cpu" and tensor.is_contiguous and not tensor.readonly and tensor.refcount == 1
    assert tensor.data_ptr % 64 == 0 and tensor.alignment >= 64
    assert np.array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ones_and_full_and_fill(dtype: str) -> None:
    assert nm.ones((2, 3), dtype).tolist() == [[1, 1, 1]] * 2
    tensor = nm.full(4, True, dtype)
    assert tensor.tolist() == [1] * 4
    tensor.fill(0)
    assert tensor.tolist() == [0] * 4
    tensor[1:3] = np.float64(1) if dtype not in ("bool",) else np.bool_(True)
    assert tensor.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    "given",
    [np.float32, np.dtype("float32"), "f4", "<f4", "float32", None, nm.zeros(1).numpy().dtype],
)
def test_a_dtype_is_known_by_many_names(given: object) -> None:
    assert nm.empty(1, given).dtype == "float32"


def test_more_names_of_dtypes() -> None:
    import jax.numpy as jnp

    names = {
        float: "float64",
        int: "int64",
        bool: "bool",
        complex: "complex128",
        np.bool_: "bool",
        np.int16: "int16",
        np.dtype("?"): "bool",
        np.longlong: "int64",
        ml_dtypes.bfloat16: "bfloat16",
        jnp.bfloat16: "bfloat16",
        jnp.float16: "float16",
    }
    for given, name in names.items():
        if given is np.longlong:
            given = np.dtype(given)
        assert nm.empty(1, given).dtype == name, given


def test_shapes_come_in_many_forms() -> None:
    for given, shape in [(3, (3,)), ((), ()), ([2, 3], (2, 3)), (np.int64(4), (4,)), (range(1, 4), (1, 2, 3)), ((0, 5), (0, 5))]:
        assert nm.zeros(given).shape == shape
    for array, shape in [([2, 3], (2, 3)), ([3], (3,)), (3, (3,))]:
        assert nm.zeros(np.array(array)).shape == shape
        assert nm.zeros(nm.from_buffer(np.array(array), shape=np.shape(array))).shape == shape
    assert nm.zeros(Seven()).shape == (7,)


@pytest.mark.parametrize("alignment", [64, 128, 4096, 2 << 20])
def test_alignment_on_request(alignment: int, pool: nm.MemoryPool) -> None:
    assert nm.empty(5, alignment=alignment).data_ptr % alignment == 0
    assert pool.empty(5, alignment=alignment).alignment >= alignment
    assert nm.MemoryPool(alignment=alignment).zeros(7).data_ptr % alignment == 0


INDICES = [
    0,
    -1,
    (1, 2),
    (1, 2, 3),
    (-1, -2, -3),
    ...,
    (..., 1),
    (0, ...),
    (0, 1, 2, ...),
    (1, ..., -1),
    slice(None),
    slice(1, 2),
    slice(None, None, -1),
    slice(10, None, -2),
    slice(5, 100),
    slice(-100, -1),
    (slice(None, None, 2), slice(3, 0, -1), slice(1, None)),
    (slice(None), 1, slice(None, None, -3)),
    (),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_is_numpys(index: object) -> None:
    tensor, array = counting(3, 4, 5)
    ours, theirs = tensor[index], array[index]
    if not isinstance(theirs, np.ndarray):
        assert ours == theirs and isinstance(ours, int)
        return
    assert ours.shape == theirs.shape and ours.tolist() == theirs.tolist()
    if theirs.size:
        assert ours.strides == theirs.strides
        assert ours.data_ptr - tensor.data_ptr == theirs.ctypes.data - array.ctypes.data
    assert ours.refcount == 2


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_assignment_is_numpys(index: object) -> None:
    tensor, array = counting(3, 4, 5)
    tensor[index] = 7
    array[index] = 7
    assert tensor.tolist() == array.tolist()
    part = np.asarray(array[index] + 1)
    tensor[index] = part
    array[index] = part
    assert tensor.tolist() == array.tolist()


@pytest.mark.parametrize("index", [3, -4, (0, 4), (0, 0, 0, 0), (0, 0, 5), 2**70, (..., ...)], ids=str)
def test_indices_outside_are_index_errors(index: object) -> None:
    tensor, array = counting(3, 4, 5)
    with pytest.raises(IndexError):
        array[index]
    with pytest.raises(IndexError):
        tensor[index]


@pytest.mark.parametrize("index", [None, True, "a", 1.5, [0], np.array([True])], ids=str)
def test_other_indices_are_type_errors_that_name_numpy(index: object) -> None:
    with pytest.raises(TypeError, match="numpy"):
        nm.zeros(3)[index]


def test_length_and_iteration() -> None:
    tensor, array = counting(3, 2)
    assert len(tensor) == 3
    assert [row.tolist() for row in tensor] == array.tolist()
    assert list(tensor[0]) == [0, 1] and list(nm.zeros((0, 3))) == []
    for use in (len, iter, list):
        with pytest.raises(TypeError, match="without dimensions"):
            use(nm.zeros(()))


def test_truth_and_item() -> None:
    assert nm.ones(()) and not nm.zeros((1, 1))
    assert nm.full((1, 1), 2.5).item() == 2.5
    for several in (nm.ones(2), nm.ones(0)):
        with pytest.raises(ValueError, match="one element"):
            bool(several)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_element_is_a_number(dtype: str) -> None:
    for tensor in (nm.ones((), dtype), nm.ones((1, 1), dtype)):
        assert complex(tensor) == 1
        for number in (float, int):
            if dtype.startswith("complex"):
                with pytest.raises(TypeError, match="complex"):
                    number(tensor)
            else:
                assert number(tensor) == 1 and type(number(tensor)) is number


@pytest.mark.parametrize("number", [float, int, complex])
def test_a_number_takes_one_element_and_never_text(number: type) -> None:
    digits = nm.from_buffer(b"12")
    for several in (digits, digits[:0]):
        with pytest.raises(ValueError, match="one element"):
            number(several)
    assert number(digits[:1]) == ord("1")


def test_integers_without_dimensions_are_indices() -> None:
    for dtype in DTYPES:
        scalar = nm.ones((), dtype)
        if "int" in dtype:
            assert operator.index(scalar) == 1 and "abc"[scalar] == "b" and nm.zeros(scalar).shape == (1,)
            with pytest.raises(TypeError, match="without dimensions"):
                operator.index(nm.ones(1, dtype))
        else:
            with pytest.raises(TypeError, match="integers"):
                operator.index(scalar)
    tensor, array = counting(3, 4)
    assert tensor[nm.ones((), "int8"), 2] == array[1, 2]


class Seven:
    """A number by protocol only."""

    def __index__(self) -> int:
        return 7


def test_numbers_come_in_many_forms() -> None:
    import jax.numpy as jnp

    for seven in (Seven(), np.array(7), np.array(7.0), np.complex64(7), jnp.float32(7), jnp.int8(7), nm.full((), 7)):
        assert nm.full(1, seven).item() == 7
    assert nm.full(1, MagicMock()).item() == 1  # what a mock's __index__ gives
    assert nm.full(1, np.complex64(1 + 2j), "complex64").item() == 1 + 2j

    class Plain:
        """No number, whatever its objects carry."""

    not_on_the_class = Plain()
    not_on_the_class.__index__ = lambda: 3
    with pytest.raises(TypeError, match="number"):
        nm.full(1, not_on_the_class)

    class Broken:
        def __index__(self) -> int:
            raise KeyError("x")

    for use in (nm.zeros, lambda broken: nm.full(1, broken)):
        with pytest.raises(KeyError):
            use(Broken())


def test_transposing() -> None:
    tensor, array = counting(2, 3, 4)
    assert tensor.T.tolist() == array.T.tolist() and tensor.T.strides == array.T.strides
    assert tensor.transpose(1, 0, -1).tolist() == array.transpose(1, 0, 2).tolist()
    assert tensor.transpose((2, 0, 1)).tolist() == array.transpose(2, 0, 1).tolist()
    assert not tensor.T.is_contiguous and tensor.T.T.is_contiguous
    for wrong, error in [((0, 1), ValueError), ((0, 0, 1), ValueError), ((0, 1, 3), IndexError)]:
        with pytest.raises(error):
            tensor.transpose(wrong)


@pytest.mark.parametrize("shape", [(24,), (-1,), (4, 6), (2, -1, 2), (1, 24, 1), ([3, 8],)])
def test_reshaping(shape: tuple) -> None:
    tensor, array = counting(2, 3, 4)
    view = tensor.reshape(*shape)
    assert view.tolist() == array.reshape(*shape).tolist() and view.data_ptr == tensor.data_ptr
    copied = tensor.T.reshape(*shape)
    assert copied.tolist() == array.T.reshape(*shape).tolist() and copied.refcount == 1


@pytest.mark.parametrize("shape", [(5, 5), (-1, -1), (-2, 12), (7, -1), (0, -1), (2**62, 2**62)])
def test_reshaping_to_another_size_is_refused(shape: tuple) -> None:
    with pytest.raises(ValueError, match="reshape"):
        nm.zeros((4, 6)).reshape(shape)


def test_views_as_another_dtype() -> None:
    tensor = nm.ones((2, 4), "float32")
    assert tensor.view("uint32").tolist() == tensor.numpy().view("uint32").tolist()
    assert tensor.view("uint16").shape == (2, 8) and tensor.view("complex64").shape == (2, 2)
    assert tensor.T.view("int32").tolist() == tensor.numpy().T.view("int32").tolist()
    assert nm.ones(3, "bfloat16").view("uint16").tolist() == [0x3F80] * 3
    for view in (lambda: tensor.T.view("uint16"), lambda: nm.ones(3, "uint8").view("uint16"), lambda: nm.ones(()).view("uint8")):
        with pytest.raises(ValueError, match="contiguous"):
            view()


def test_copies_are_their_own() -> None:
    tensor, array = counting(3, 4)
    for duplicate in (tensor.copy(), copy.copy(tensor), copy.deepcopy(tensor), tensor.T.copy().T):
        assert duplicate.tolist() == array.tolist()
        duplicate.fill(9)
        assert tensor.tolist() == array.tolist()
    assert tensor.contiguous() is tensor
    assert tensor.T.contiguous().strides == (12, 4)


def test_copy_from_takes_every_protocol_and_checks_what_it_gets() -> None:
    import jax.numpy as jnp

    tensor = nm.zeros((2, 3), "float32")
    for source in (np.full((2, 3), 1, "float32"), jnp.full((2, 3), 2, "float32"), nm.full((3, 2), 3).T):
        tensor.copy_from(source)
        assert tensor.tolist() == np.asarray(source).tolist()
    with pytest.raises(TypeError, match="float64"):
        tensor.copy_from(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="shape"):
        tensor.copy_from(np.zeros((3, 2), "float32"))
    with pytest.raises(TypeError, match="NumPy array"):
        tensor.copy_from([1, 2, 3])


def test_copy_from_an_overlapping_view() -> None:
    tensor, array = counting(10)
    tensor[1:] = tensor[:-1]
    array[1:] = array[:-1].copy()
    assert tensor.tolist() == array.tolist()


def test_read_only_tensors_stay_as_they_are() -> None:
    tensor = nm.from_buffer(b"abc")
    for write in (lambda: tensor.fill(1), lambda: tensor.copy_from(b"xyz"), lambda: tensor.__setitem__(0, 1)):
        with pytest.raises(ValueError, match="read-only"):
            write()
    assert tensor.readonly and tensor[1:].readonly and bytes(tensor) == b"abc"


def test_numbers_that_do_not_fit() -> None:
    for dtype, value in [("uint8", 256), ("uint8", -1), ("int8", 128), ("int64", 2**63), ("uint64", 2**64), ("int32", 1.5)]:
        with pytest.raises(ValueError):
            nm.full(1, value, dtype)
    assert nm.full(1, 2**64 - 1, "uint64").item() == 2**64 - 1
    assert nm.full(1, -(2**63), "int64").item() == -(2**63)
    with pytest.raises(ValueError, match="64 bits"):
        nm.full(1, 2**200)
    with pytest.raises(TypeError, match="number"):
        nm.full(1, "1")


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_elements_survive_the_round_trip(dtype: str) -> None:
    array = np.array([0, 1, 1, 0]).astype(dtype)
    tensor = nm.from_buffer(array)
    assert tensor.tolist() == array.tolist()
    assert [type(x) for x in tensor.tolist()] == [type(x) for x in array.tolist()]


def test_repr_shows_small_tensors_and_describes_large_ones() -> None:
    assert repr(nm.zeros((1, 2))) == "Tensor([[0.0, 0.0]], shape=(1, 2), dtype='float32', device='cpu')"
    assert repr(nm.zeros((100, 100))) == "Tensor(shape=(100, 100), dtype='float32', device='cpu')"
    for shape in ((2**40, 0), (16,) * 15 + (0,), (17, 0, 3)):
        assert repr(nm.empty(shape)) == f"Tensor(shape={shape}, dtype='float32', device='cpu')"
    assert repr(nm.empty((0, 2**40))) == f"Tensor([], shape=(0, {2**40}), dtype='float32', device='cpu')"
    assert repr(nm.zeros((2, 0))) == "Tensor([[], []], shape=(2, 0), dtype='float32', device='cpu')"


def test_repr_of_bytes_that_are_no_bools() -> None:
    tensor = nm.from_buffer(bytearray(b"\x00\x07"), "bool")
    assert repr(tensor) == "Tensor(shape=(2,), dtype='bool', device='cpu')"
    with pytest.raises(ValueError, match="bool"):
        tensor.tolist()


def test_views_keep_the_storage_and_tensors_can_be_watched(pool: nm.MemoryPool) -> None:
    tensor = pool.zeros(1000)
    seen = weakref.ref(tensor)
    view = tensor[10:20]
    del tensor
    gc.collect()
    assert seen() is None and pool.stats().live_blocks == 1
    del view
    assert pool.stats().live_blocks == 0


def test_pool_memory_outlives_the_pool_object() -> None:
    tensor = nm.MemoryPool(limit=1 << 20).full(1000, 3)
    gc.collect()
    assert tensor.numpy().sum() == 3000


def test_device_names() -> None:
    assert nm.zeros(1, device="cpu").device == "cpu"
    with pytest.raises(nm.NeuroMemoryError, match="not available"):
        nm.zeros(1, device="cuda:0")
    with pytest.raises(ValueError, match="unknown device"):
        nm.zeros(1, device="tpu")


def test_asarray() -> None:
    array = np.arange(6.0).reshape(2, 3)
    tensor = nm.asarray(array)
    assert nm.asarray(tensor) is tensor and tensor.data_ptr == array.ctypes.data
    assert nm.asarray(array, copy=True).data_ptr != array.ctypes.data
    wide = np.arange(6).astype(ml_dtypes.bfloat16)[::2]
    shared = nm.asarray(wide)
    assert shared.dtype == "bfloat16" and shared.data_ptr == wide.ctypes.data and shared.tolist() == [0, 2, 4]
    assert np.shares_memory(shared.numpy(), wide)
