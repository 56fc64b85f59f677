"""PyArrow: DLPack from its arrays, buffers in both directions, no copies."""

import numpy as np
import pyarrow as pa
import pytest

import neuro_memory as nm

TYPES = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", TYPES)
def test_we_alias_an_array_through_dlpack(dtype: str) -> None:
    values = np.arange(10).astype(dtype)
    array = pa.array(values)
    tensor = nm.from_dlpack(array)
    assert tensor.dtype == dtype and tensor.tolist() == values.tolist()
    assert tensor.data_ptr == array.buffers()[1].address
    assert nm.from_dlpack(array[3:7]).tolist() == values[3:7].tolist()


@pytest.mark.parametrize("dtype", TYPES)
def test_arrow_aliases_our_memory_through_the_buffer_protocol(dtype: str, pool: nm.MemoryPool) -> None:
    tensor = pool.full(10, 3, dtype)
    buffer = pa.py_buffer(tensor)
    assert buffer.address == tensor.data_ptr and buffer.size == tensor.nbytes and buffer.is_mutable
    kind = {"float16": "halffloat", "float32": "float", "float64": "double"}.get(dtype, dtype)
    array = pa.Array.from_buffers(pa.type_for_alias(kind), 10, [None, buffer])
    del tensor, buffer
    assert [float(x) for x in array.to_numpy()] == [3.0] * 10
    assert pool.stats().live_blocks == 1  # the array keeps it


@pytest.mark.parametrize("dtype", TYPES)
def test_arrow_tensors_both_ways(dtype: str) -> None:
    tensor = nm.full((2, 3), 5, dtype)
    arrow = pa.Tensor.from_numpy(tensor.numpy())
    assert arrow.shape == (2, 3) and arrow.to_numpy().ctypes.data == tensor.data_ptr
    # An Arrow tensor exports a buffer, and only for reading.
    back = nm.from_buffer(arrow)
    assert back.data_ptr == tensor.data_ptr and back.dtype == dtype and back.tolist() == tensor.tolist()


@pytest.mark.parametrize("dtype", TYPES)
def test_arrow_aliases_our_memory_through_dlpack(dtype: str, pool: nm.MemoryPool) -> None:
    tensor = pool.full((2, 3), 5, dtype)
    arrow = pa.Tensor.from_dlpack(tensor)
    assert arrow.to_numpy().ctypes.data == tensor.data_ptr and arrow.shape == (2, 3)
    array = pa.Array.from_dlpack(tensor[1])
    assert array.buffers()[1].address == tensor.data_ptr or array.to_numpy().ctypes.data == tensor[1].data_ptr
    assert array.to_pylist() == [5, 5, 5]
    del tensor
    assert pool.stats().live_blocks == 1


@pytest.mark.parametrize("dtype", ["bool", "bfloat16", "complex64"])
def test_what_arrow_does_not_have_it_refuses(dtype: str, pool: nm.MemoryPool) -> None:
    with pytest.raises((TypeError, NotImplementedError, pa.ArrowInvalid)):
        pa.Tensor.from_dlpack(pool.ones(3, dtype))


def test_arrow_buffers_are_read_only_where_arrow_says_so() -> None:
    immutable = pa.py_buffer(b"abcdefgh")
    assert nm.from_buffer(immutable, "float32").readonly
    with pytest.raises(ValueError, match="read-only"):
        nm.from_buffer(immutable).fill(0)
    mutable = pa.array([1, 2, 3], pa.int32()).buffers()[1]
    assert mutable.is_mutable and not nm.from_buffer(mutable, "int32").readonly


@pytest.mark.filterwarnings("ignore:Exporting an unversioned DLPack capsule")  # asked for after the refusal
def test_arrays_with_nulls_are_refused_by_arrow() -> None:
    with pytest.raises(pa.ArrowTypeError, match="null"):
        nm.from_dlpack(pa.array([1, None, 3]))
