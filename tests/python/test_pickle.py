"""Pickling: in band, out of band, views, every dtype, other processes."""

import copy
import multiprocessing
import pickle

import cloudpickle
import numpy as np
import pytest
from conftest import DTYPES

import neuro_memory as nm


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_band(dtype: str, protocol: int) -> None:
    tensor = nm.ones((2, 3), dtype)
    tensor[1] = 0
    for original in (tensor, tensor.T, tensor[:, ::2], tensor[0, 0, ...], tensor[:0]):
        loaded = pickle.loads(pickle.dumps(original, protocol))
        assert loaded.dtype == dtype and loaded.shape == original.shape and loaded.tolist() == original.tolist()
        assert not loaded.readonly
        loaded.fill(1)
    assert tensor[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_of_band_shares_the_memory(dtype: str) -> None:
    tensor = nm.ones((4, 5), dtype)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(tensor, 5, buffer_callback=buffers.append)
    assert len(buffers) == 1 and len(data) < 200
    loaded = pickle.loads(data, buffers=buffers)
    assert loaded.data_ptr == tensor.data_ptr and loaded.dtype == dtype and loaded.shape == (4, 5)
    tensor.fill(0)
    assert not any(map(any, loaded.tolist()))


def test_read_only_stays_read_only() -> None:
    tensor = nm.from_buffer(bytes(range(8)), "int16")
    for protocol in (2, 5):
        loaded = pickle.loads(pickle.dumps(tensor, protocol))
        assert loaded.readonly and loaded.tolist() == tensor.tolist()
    # What Ray hands over: a writable tensor's bytes, read-only.
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(nm.ones(3), 5, buffer_callback=buffers.append)
    frozen = memoryview(bytes(buffers[0].raw()))
    assert pickle.loads(data, buffers=[frozen]).readonly


def test_a_misaligned_buffer_is_copied_once(pool: nm.MemoryPool) -> None:
    # What Dask hands over: a frame somewhere inside a message.
    tensor = pool.full(100, 2.5, "float64")
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(tensor, 5, buffer_callback=buffers.append)
    message = bytearray(8 + 800 + 8)
    for offset in (0, 8, 1, 3):
        message[offset : offset + 800] = buffers[0].raw()
        frame = memoryview(message)[offset : offset + 800]
        loaded = pickle.loads(data, buffers=[frame])
        address = np.frombuffer(frame, "uint8").ctypes.data
        assert (loaded.data_ptr == address) == (address % 8 == 0)
        assert loaded.tolist() == tensor.tolist() and not loaded.readonly
        del loaded, frame


def test_a_strided_view_travels_as_its_own_elements() -> None:
    tensor = nm.zeros((1000, 1000))
    assert len(pickle.dumps(tensor[0], 5)) < 5000


def test_copying_and_cloudpickle() -> None:
    tensor = nm.full((2, 2), 3, "bfloat16")
    for duplicate in (copy.deepcopy(tensor), cloudpickle.loads(cloudpickle.dumps(tensor))):
        assert duplicate.tolist() == tensor.tolist() and duplicate.data_ptr != tensor.data_ptr


def total(tensor: nm.Tensor) -> float:
    """What another process makes of a tensor."""
    return float(np.asarray(tensor).sum())


def test_another_process() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        assert workers.map(total, [nm.full(1000, i) for i in range(3)]) == [0, 1000, 2000]


def test_a_lying_pickle_is_refused() -> None:
    from neuro_memory import _neuro_memory

    for payload, dtype, shape in [(b"1234", "float32", (2,)), (b"123", "float32", (1,)), (b"1234", "what", (1,))]:
        with pytest.raises((ValueError, TypeError)):
            _neuro_memory._rebuild(payload, dtype, shape)
