"""The buffer protocol: every flag, every dtype, both directions."""

import array
import ctypes
import gc
import mmap

import numpy as np
import pytest
from conftest import NUMPY_DTYPES

import neuro_memory as nm

WRITABLE, FORMAT, ND, STRIDES = 0x1, 0x4, 0x8, 0x18
C_CONTIGUOUS, F_CONTIGUOUS, ANY_CONTIGUOUS = 0x38, 0x58, 0x98


class PyBuffer(ctypes.Structure):
    """CPython's Py_buffer, as the stable ABI fixes it."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    ]


get_buffer = ctypes.pythonapi.PyObject_GetBuffer
get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(PyBuffer), ctypes.c_int]
release_buffer = ctypes.pythonapi.PyBuffer_Release
release_buffer.argtypes = [ctypes.POINTER(PyBuffer)]
release_buffer.restype = None


def ask(obj: object, flags: int) -> dict[str, object]:
    """What `obj` fills in for `flags`, released again."""
    view = PyBuffer(obj=1)  # a wrong owner, which a refusal must set to NULL
    try:
        get_buffer(obj, view, flags)
    except BufferError:
        assert view.obj is None
        raise
    ndim = view.ndim
    got = {
        "buf": view.buf,
        "len": view.len,
        "itemsize": view.itemsize,
        "readonly": bool(view.readonly),
        "ndim": ndim,
        "format": view.format,
        "shape": tuple(view.shape[:ndim]) if view.shape else None,
        "strides": tuple(view.strides[:ndim]) if view.strides else None,
    }
    assert not view.suboffsets
    release_buffer(view)
    return got


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_numpy_reads_and_writes_the_same_memory(dtype: str) -> None:
    tensor = nm.zeros((2, 3), dtype)
    shared = np.asarray(tensor)
    assert shared.dtype == dtype and shared.ctypes.data == tensor.data_ptr
    shared[1, 2] = 1
    assert tensor[1, 2] == 1
    back = nm.from_buffer(shared)
    assert back.dtype == dtype and back.data_ptr == tensor.data_ptr and not back.readonly


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_numpys_own_export_is_ours(dtype: str) -> None:
    ours, theirs = memoryview(nm.zeros((2, 3), dtype)), memoryview(np.zeros((2, 3), dtype))
    for fact in ["format", "itemsize", "shape", "strides", "nbytes", "readonly", "c_contiguous"]:
        assert getattr(ours, fact) == getattr(theirs, fact), fact


LAYOUTS = {
    "dense": lambda t: t,
    "transposed": lambda t: t.T,
    "strided": lambda t: t[:, ::2],
    "backwards": lambda t: t[::-1],
    "column": lambda t: t[:, 1],
    "scalar": lambda t: t[0, 0, ...],
    "empty": lambda t: t[:0],
}
FLAGS = [
    0,
    WRITABLE,
    ND,
    ND | FORMAT,
    STRIDES,
    STRIDES | FORMAT | WRITABLE,
    C_CONTIGUOUS,
    F_CONTIGUOUS,
    F_CONTIGUOUS | FORMAT,
    C_CONTIGUOUS | F_CONTIGUOUS,
    ANY_CONTIGUOUS,
    ANY_CONTIGUOUS | WRITABLE,
]


@pytest.mark.parametrize("flags", FLAGS, ids=hex)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_flag_is_answered_as_numpy_answers_it(layout: str, flags: int) -> None:
    tensor = nm.zeros((3, 4), "int16")
    tensor.copy_from(np.arange(12, dtype="int16").reshape(3, 4))
    ours, theirs = LAYOUTS[layout](tensor), LAYOUTS[layout](np.asarray(tensor))
    try:
        expected = ask(theirs, flags)
    except (BufferError, ValueError):
        with pytest.raises(BufferError):
            ask(ours, flags)
        return
    got = ask(ours, flags)
    if theirs.size == 0:
        # An empty array has no address and no strides that mean anything.
        for fact in ("buf", "strides"):
            del got[fact], expected[fact]
    if not flags & ND:
        # CPython says: one dimension, no shape. NumPy says 0 or its own number.
        del got["ndim"], expected["ndim"]
    if ours.ndim == 0:
        # NumPy gives pointers to zero numbers, we give NULL.
        assert got.pop("shape") in (None, ()) and got.pop("strides") in (None, ())
        del expected["shape"], expected["strides"]
    assert got == expected


def test_what_is_contiguous_both_ways_is_given_as_both() -> None:
    for shape in (5, (), (1, 4), (4, 1, 1), (0, 3)):
        assert ask(nm.zeros(shape), C_CONTIGUOUS | F_CONTIGUOUS)["itemsize"] == 4
    for neither in (nm.zeros((2, 2)), nm.zeros((2, 2)).T, nm.zeros(6)[::2]):
        with pytest.raises(BufferError, match="contiguous"):
            ask(neither, C_CONTIGUOUS | F_CONTIGUOUS)


def test_read_only_is_kept_and_writing_refused() -> None:
    source = np.arange(3.0)
    source.flags.writeable = False
    for tensor in (nm.from_buffer(source), nm.from_buffer(b"12345678", "float64")):
        assert tensor.readonly and memoryview(tensor).readonly and not np.asarray(tensor).flags.writeable
        assert ask(tensor, ND)["readonly"]
        with pytest.raises(BufferError, match="read-only"):
            ask(tensor, WRITABLE)


def test_bfloat16_has_no_format_but_has_bytes() -> None:
    tensor = nm.ones(3, "bfloat16")
    with pytest.raises(BufferError, match="DLPack"):
        memoryview(tensor)
    assert ask(tensor, STRIDES)["format"] is None and ask(tensor, 0)["len"] == 6
    assert bytes(tensor.view("uint8")) == b"\x80\x3f" * 3
    assert np.asarray(tensor).tolist() == [1, 1, 1]


def test_a_format_without_dimensions_is_for_bytes_only() -> None:
    assert ask(nm.zeros(3, "uint8"), FORMAT)["format"] == b"B"
    with pytest.raises(BufferError, match="dimensions"):
        ask(nm.zeros(3, "float32"), FORMAT)


def test_a_view_keeps_the_tensor(pool: nm.MemoryPool) -> None:
    view = memoryview(pool.full(1000, 5))
    gc.collect()
    assert pool.stats().live_blocks == 1 and view[999] == 5
    view.release()
    assert pool.stats().live_blocks == 0


@pytest.mark.parametrize(
    "source",
    [bytearray(b"\x01\x00\x02\x00"), array.array("H", [1, 2]), (ctypes.c_uint16 * 2)(1, 2), mmap.mmap(-1, 4)],
    ids=lambda source: type(source).__name__,
)
def test_everything_with_a_buffer_can_be_borrowed(source: object) -> None:
    tensor = nm.from_buffer(source, "uint16")
    tensor[1] = 7
    assert bytes(memoryview(source))[2:4] == b"\x07\x00"
    assert not tensor.readonly and tensor.shape == (2,)


def test_the_source_is_locked_while_it_is_borrowed_and_free_afterwards() -> None:
    source = bytearray(16)
    tensor = nm.from_buffer(source, "float32")
    with pytest.raises(BufferError):
        source.append(0)
    del tensor
    source.append(0)


def test_strided_buffers_keep_their_strides() -> None:
    source = np.arange(24.0).reshape(4, 6)
    for view in (source[::2, ::-3], source.T, source[::-1], source[:, 2], source[1:1]):
        tensor = nm.from_buffer(view)
        assert tensor.tolist() == view.tolist()
        if view.size:
            assert tensor.strides == view.strides and tensor.data_ptr == view.ctypes.data
            tensor.fill(-1)
            assert (view == -1).all()


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_buffers_without_dimensions(dtype: str) -> None:
    source = np.ones((), dtype)
    for given, address in ((source, source.ctypes.data), (nm.ones((), dtype), None)):
        tensor = nm.from_buffer(given)
        assert tensor.shape == () and tensor.dtype == dtype and tensor.item() == 1 and not tensor.readonly
        assert tensor.data_ptr == (address or given.data_ptr)
    if np.dtype(dtype).itemsize == 2:
        assert nm.from_buffer(source, "uint16").shape == () and nm.from_buffer(source, "uint8").shape == (2,)


def test_dtype_and_shape_of_a_borrowed_buffer() -> None:
    source = bytearray(range(24))
    assert nm.from_buffer(source).dtype == "uint8"
    assert nm.from_buffer(source, "float64").shape == (3,)
    assert nm.from_buffer(source, "uint16", (3, 4)).shape == (3, 4)
    assert nm.from_buffer(source, shape=(2, 12)).shape == (2, 12)
    assert nm.from_buffer(np.zeros((2, 2), "uint16").T, "bfloat16").strides == (2, 4)
    with pytest.raises(ValueError, match="multiple of 16"):
        nm.from_buffer(source, "complex128")
    with pytest.raises(ValueError, match="elements"):
        nm.from_buffer(source, "uint8", (5, 5))
    with pytest.raises(ValueError, match="contiguous"):
        nm.from_buffer(np.zeros((4, 4))[:, ::2], "uint8")
    with pytest.raises(ValueError, match="strided"):
        nm.from_buffer(np.zeros((4, 4))[:, ::2], shape=(8,))


def test_what_cannot_be_borrowed_is_refused() -> None:
    with pytest.raises(TypeError, match="byte order"):
        nm.from_buffer(np.zeros(3, ">f4"))
    with pytest.raises(TypeError, match="dtype="):
        nm.from_buffer(np.zeros(3, "f4,i4"))
    with pytest.raises(TypeError, match="dtype="):
        nm.from_buffer(np.zeros(3, "longdouble"))
    with pytest.raises(BufferError, match="whole elements"):
        nm.from_buffer(np.zeros(4, "u1,f4")["f1"])
    source = bytearray(17)
    with pytest.raises(ValueError, match="align"):
        nm.from_buffer(memoryview(source)[1:], "float64")
    source.append(0)  # a refusal gives the buffer back
    for wrong in (3, None, "text"):
        with pytest.raises(TypeError):
            nm.from_buffer(wrong)


def test_buffers_of_objects_are_refused() -> None:
    for source in (np.array([1, 2], object), np.array(1, object), np.zeros(2, [("a", "i8"), ("b", object)])):
        for dtype in (None, "uint64", "uint8"):
            with pytest.raises(BufferError, match="Python objects"):
                nm.from_buffer(source, dtype)
    assert nm.from_buffer(np.zeros(2, [("O", "i8")]), "int64").tolist() == [0, 0]  # a name only


def test_array_interface(pool: nm.MemoryPool) -> None:
    class Only:
        """An object that has the interface and nothing else."""

        def __init__(self, tensor: nm.Tensor) -> None:
            self.tensor = tensor
            self.__array_interface__ = tensor.__array_interface__

    for dtype in NUMPY_DTYPES:
        tensor = pool.zeros((2, 3), dtype)
        shared = np.asarray(Only(tensor.T))
        assert shared.ctypes.data == tensor.data_ptr and shared.dtype == dtype and shared.shape == (3, 2)
    with pytest.raises(AttributeError, match="bfloat16"):
        nm.zeros(1, "bfloat16").__array_interface__  # noqa: B018


def test_array_method_copies_only_when_it_must() -> None:
    tensor = nm.ones(3)
    assert tensor.__array__().ctypes.data == tensor.data_ptr
    assert tensor.__array__(copy=True).ctypes.data != tensor.data_ptr
    assert tensor.__array__("float32", copy=False).ctypes.data == tensor.data_ptr
    assert tensor.__array__("float64").dtype == "float64"
    with pytest.raises(ValueError, match="copy=False"):
        tensor.__array__("float64", copy=False)
    assert np.asarray(nm.ones(3, "bfloat16"), dtype="float32").tolist() == [1, 1, 1]
