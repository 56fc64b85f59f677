"""DLPack with JAX on the CPU: aliased both ways, 16-bit floats and complex included."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuro_memory as nm

jax.config.update("jax_enable_x64", True)

DTYPES = [
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_jax_aliases_our_memory(dtype: str) -> None:
    tensor = nm.ones((3, 4), dtype)
    array = jnp.from_dlpack(tensor, copy=False)
    assert array.unsafe_buffer_pointer() == tensor.data_ptr
    assert array.dtype.name == dtype and array.shape == (3, 4)
    assert bool((array == jnp.ones((3, 4), dtype)).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_we_alias_jaxs_memory(dtype: str) -> None:
    array = jnp.ones((3, 4), dtype)
    tensor = nm.from_dlpack(array)
    assert tensor.data_ptr == array.unsafe_buffer_pointer()
    assert tensor.dtype == dtype and tensor.tolist() == np.asarray(array).tolist()


def test_a_large_tensor_takes_no_more_memory(pool: nm.MemoryPool) -> None:
    tensor = pool.full((1024, 1024), 2.0)
    array = jnp.from_dlpack(tensor, copy=False)
    assert float(array.sum()) == 2.0 * 1024 * 1024
    assert pool.stats().live_blocks == 1
    del tensor
    assert float(array[0, 0]) == 2.0  # the array keeps the block


def test_views_that_jax_takes() -> None:
    tensor = nm.zeros((4, 32))
    tensor.copy_from(np.arange(128, dtype="float32").reshape(4, 32))
    row = tensor[2]
    assert np.asarray(jnp.from_dlpack(row)).tolist() == row.tolist()
    assert np.asarray(jnp.from_dlpack(tensor.T)).tolist() == tensor.T.tolist()


def test_jax_cannot_take_read_only_tensors() -> None:
    # It asks for the old form, which cannot say read-only.
    with pytest.raises(BufferError, match="read-only"):
        jnp.from_dlpack(nm.from_buffer(bytes(64), "float32"))


def test_jaxs_immutable_arrays_stay_so() -> None:
    array = jnp.zeros(3)
    tensor = nm.from_dlpack(array)
    with pytest.raises(ValueError, match="read-only"):
        tensor.fill(1)
    assert not np.asarray(tensor).flags.writeable and float(array.sum()) == 0
    copied = nm.from_dlpack(array, copy=True)
    copied.fill(1)
    assert float(array.sum()) == 0 and copied.tolist() == [1, 1, 1]


def test_computing_on_borrowed_memory() -> None:
    tensor = nm.ones((8, 8))
    result = nm.from_dlpack(jax.jit(lambda x: x @ x)(jnp.from_dlpack(tensor)))
    assert result.tolist() == [[8.0] * 8] * 8
