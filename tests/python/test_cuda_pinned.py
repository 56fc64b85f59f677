"""NumPy arrays in page-locked memory, as the driver sees them: any program's copies of them are the device's own, and one to the driver."""

import ctypes
import gc
import random

import numpy as np
import pytest

import neuro_memory as nm

GPU = "cuda:0"
HOST = 1
MEMORY_TYPE, RANGE_START, RANGE_BYTES = 2, 11, 12


class Driver:
    """The driver, asked by a program that does not know of the library."""

    def __init__(self) -> None:
        self.calls = ctypes.CDLL("libcuda.so.1")
        self.calls.cuCtxSetCurrent.argtypes = [ctypes.c_void_p]
        self.calls.cuPointerGetAttribute.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint64]
        self.calls.cuMemcpyHtoDAsync_v2.argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        self.calls.cuMemcpyDtoHAsync_v2.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p]
        self.calls.cuStreamSynchronize.argtypes = self.calls.cuStreamDestroy_v2.argtypes = [ctypes.c_void_p]
        assert self.calls.cuCtxSetCurrent(nm.cuda.handles(GPU).context) == 0
        stream = ctypes.c_void_p()
        assert self.calls.cuStreamCreate(ctypes.byref(stream), 1) == 0
        self.stream = stream.value

    def attribute(self, which: int, address: int) -> int | None:
        answer = ctypes.c_uint64(0)
        code = self.calls.cuPointerGetAttribute(ctypes.byref(answer), which, address)
        return answer.value if code == 0 else None

    def has(self, array: np.ndarray) -> bool:
        """Whether all of the array lies in one range of page-locked memory."""
        start, bytes = array.ctypes.data, array.nbytes
        if self.attribute(MEMORY_TYPE, start) != HOST:
            return False
        first = self.attribute(RANGE_START, start)
        return first <= start and start + bytes <= first + self.attribute(RANGE_BYTES, start)

    def round_trip(self, array: np.ndarray, device: nm.Tensor) -> None:
        """Up by one call, and back by another into zeros."""
        there, pointer = array.copy(), nm.cuda.pointer(device)
        assert self.calls.cuMemcpyHtoDAsync_v2(pointer, array.ctypes.data, array.nbytes, self.stream) == 0
        assert self.calls.cuStreamSynchronize(self.stream) == 0
        array.fill(0)
        assert self.calls.cuMemcpyDtoHAsync_v2(array.ctypes.data, pointer, array.nbytes, self.stream) == 0
        assert self.calls.cuStreamSynchronize(self.stream) == 0
        assert (array == there).all()


@pytest.fixture
def driver(cuda):
    driver = Driver()
    yield driver
    assert driver.calls.cuStreamDestroy_v2(driver.stream) == 0


@pytest.fixture
def pool(cuda):
    pool = nm.MemoryPool(gpu_support=True)
    assert GPU in pool.gpu_support
    yield pool
    gc.collect()
    assert pool.stats().live_blocks == 0


def test_arrays_of_every_size_are_page_locked(driver, pool):
    with nm.hooks.numpy(pool):
        arrays = [np.arange(count, dtype="uint8") for count in (1, 4000, 5000, 70_000, 300_000, 3 << 20, 5_000_001)]
        arrays += [np.zeros((3, 1 << 20), "float32"), np.empty(9 << 20, "uint8")]
        arrays.append(np.concatenate(arrays[:6]))
    assert all(driver.has(array) for array in arrays)
    assert not driver.has(np.zeros(3 << 20))  # outside the hook
    stats = pool.stats()
    assert sum(array.nbytes for array in arrays) <= stats.pinned_bytes <= stats.committed_bytes
    # The same memory as a tensor of ours, and as a view of NumPy's.
    tensor = nm.from_dlpack(arrays[5])
    assert tensor.data_ptr == arrays[5].ctypes.data and driver.has(arrays[7][1])


def test_a_copy_of_an_array_is_one_call(driver, pool):
    """Regression: an array lay across the border of two page-locked ranges, and the driver refused to copy it by one call."""
    device = nm.empty(8 << 20, "uint8", device=GPU)
    chance = random.Random(1)
    kept = []
    with nm.hooks.numpy(pool):
        for _ in range(60):
            array = np.full(chance.choice([5000, 700_000, 1_500_000, 5 << 20]) + chance.randrange(1000), 7, "uint8")
            assert driver.has(array)
            driver.round_trip(array, device)
            if chance.random() < 0.6:
                kept.append(array)
            elif kept:
                kept.pop(chance.randrange(len(kept)))
    for array in kept:
        driver.round_trip(array, device)


def test_arrays_stay_so_while_they_live(driver, pool):
    with nm.hooks.numpy(pool):
        kept = np.full(1 << 20, 3, "uint8")
        gone = np.empty(6 << 20, "uint8")
        view = kept[5:]
    before = pool.stats().pinned_bytes
    address = gone.ctypes.data
    del gone
    assert pool.stats().pinned_bytes == before and driver.attribute(MEMORY_TYPE, address) == HOST  # it is kept for the next
    assert pool.trim() >= 4 << 20
    assert pool.stats().pinned_bytes <= before - (4 << 20) and driver.attribute(MEMORY_TYPE, address) is None
    assert driver.has(kept) and driver.has(view)
    kept.resize(3 << 20, refcheck=False)  # it moves
    assert driver.has(kept) and kept[: 1 << 20].min() == 3
    del kept, view


def test_a_loop_asks_for_page_locked_memory_once(driver, pool):
    with nm.hooks.numpy(pool):
        for count in range(50):
            batch = np.full((64, 3, 50, 50), count, "float32")
            labels = np.full(64, count)
            if count == 2:
                warm = pool.stats().pinned_bytes
            assert driver.has(batch) and driver.has(labels)
        assert pool.stats().pinned_bytes == warm
