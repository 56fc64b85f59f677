"""What NumPy may ask of an allocator: zeros, other sizes, nothing at all, and more than there is."""

import tracemalloc

import numpy as np
import pytest
from hook_tools import address, hooked, installed, nothing_left  # noqa: F401  (fixtures)

import neuro_memory as nm

MIB = 1 << 20


def test_resize_keeps_contents_and_alignment(installed):
    for alignment in (64, 4096):
        nm.hooks.numpy.install(installed, alignment=alignment)
        array = np.arange(1000)
        for size in (10, 1, 5000, 5001, 1_000_000, 3_000_000, 999, 1000):
            kept = min(size, array.size)
            head = array[:kept].copy()
            array.resize(size, refcheck=False)
            assert hooked(array)
            assert address(array) % alignment == 0
            assert (array[:kept] == head).all()
            assert (array[kept:] == 0).all()


def test_resize_in_a_scope_stays_in_its_pool():
    pool = nm.MemoryPool()
    with nm.hooks.numpy(pool, alignment=4096):
        array = np.arange(1000)
    array.resize(1_000_000, refcheck=False)
    assert array[:1000].sum() == 499_500
    assert address(array) % 4096 == 0
    assert pool.stats().live_blocks == 1
    assert pool.stats().live_bytes >= 8_000_000


def test_nothing_at_all(installed):
    arrays = [np.empty(0), np.zeros((3, 0, 2)), np.array([], dtype="U0"), np.empty((0,), object), np.empty(5, "V0")]
    arrays.append(np.empty(7, "S0"))
    for array in arrays:
        assert array.tobytes() == b"\0" * array.nbytes
    array = np.arange(3)
    array.resize(0, refcheck=False)
    array.resize(4, refcheck=False)
    assert array.tolist() == [0, 0, 0, 0]


def test_zeros_are_zero_on_used_memory(installed):
    for size in (1, 100, 5000, MIB, 40 * MIB):
        array = np.empty(size, np.uint8)
        memoryview(array)[:] = b"\xab" * size  # no temporary array between the two
        at = address(array)
        del array
        zeros = np.zeros(size, np.uint8)
        assert not zeros.any()
        assert address(zeros) == at  # the same memory again, or the test shows nothing
        del zeros


@pytest.mark.parametrize("size", [1 << 45, 1 << 60, (1 << 63) - 1])
@pytest.mark.parametrize("make", [np.empty, np.zeros])
def test_huge_is_a_memory_error(installed, make, size):
    nm.hooks.numpy.install(nm.MemoryPool(64 * MIB))
    before = installed.stats()
    for _ in range(3):
        with pytest.raises(MemoryError):
            make(size, np.uint8)
    assert installed.stats() == before
    assert make(10).size == 10


def test_huge_without_a_limit():
    pool = nm.MemoryPool()
    with nm.hooks.numpy(pool):
        for make in (np.empty, np.zeros):
            with pytest.raises(MemoryError):
                make(1 << 60, np.uint8)
        assert pool.stats().live_blocks == 0
        assert np.zeros(10).sum() == 0


def test_a_limit_is_reached_and_left():
    pool = nm.MemoryPool(MIB)
    with nm.hooks.numpy(pool):
        arrays = []
        with pytest.raises(MemoryError):
            while True:
                arrays.append(np.empty(1000, np.uint8))
                arrays[-1][999] = len(arrays) % 256
        assert pool.stats().live_blocks == len(arrays) == MIB // 1024
        assert pool.stats().live_bytes <= MIB
        assert all(int(array[999]) == i % 256 for i, array in enumerate(arrays, 1))
        with pytest.raises(MemoryError):
            np.zeros(2000, np.uint8)
        del arrays[::2]
        arrays.append(np.zeros(1000, np.uint8))
        arrays.clear()
        whole = np.zeros(MIB, np.uint8)
        assert bytes(memoryview(whole)) == bytes(MIB)  # a sum would need eight bytes more
        del whole
    assert pool.stats().live_bytes == 0


def test_a_failing_resize_loses_nothing():
    pool = nm.MemoryPool(MIB)
    with nm.hooks.numpy(pool):
        array = np.arange(100_000)
    at, live = address(array), pool.stats().live_bytes
    for size in (200_000, 1 << 40, (1 << 60) - 1):
        with pytest.raises(MemoryError):
            array.resize(size, refcheck=False)
        assert (array.size, address(array), pool.stats().live_bytes) == (100_000, at, live)
    assert (array == range(100_000)).all()
    array.resize(10, refcheck=False)
    assert array.tolist() == list(range(10))


def test_a_failing_operation_in_the_middle():
    pool = nm.MemoryPool(MIB)
    with nm.hooks.numpy(pool):
        x = np.ones(60_000)  # 480 kB: one more fits, two more do not
        with pytest.raises(MemoryError):
            (x + 1) * np.sqrt(x + 2)
        assert pool.stats().live_blocks == 1
        assert (x + x).sum() == 120_000


def test_tracemalloc_sees_the_arrays(installed):
    tracemalloc.start()
    try:
        array = np.ones(MIB, np.uint8)
        array.resize(2 * MIB, refcheck=False)
        domains = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, 389047)])
        assert sum(trace.size for trace in domains.traces) >= 2 * MIB
        del array, domains
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("alignment", [0, -64, 3, 48, 96, (2 << 20) + 1, 4 << 20, 1 << 70])
def test_an_alignment_that_cannot_be(alignment):
    with pytest.raises(ValueError, match="power of two up to 2097152"):
        nm.hooks.numpy(alignment=alignment)
    with pytest.raises(ValueError, match="power of two"):
        nm.hooks.numpy.install(alignment=alignment)
    assert not nm.hooks.numpy.installed


@pytest.mark.parametrize("arguments", [{"alignment": 64.0}, {"alignment": "64"}, {"pool": 7}])
def test_arguments_of_another_type(arguments):
    with pytest.raises(TypeError):
        nm.hooks.numpy(**arguments)
    with pytest.raises(TypeError):
        nm.hooks.numpy.install(**arguments)
    assert not nm.hooks.numpy.installed


def test_a_pool_of_another_class_is_named():
    with pytest.raises(TypeError, match="pool must be a MemoryPool or None, not str"):
        nm.hooks.numpy("global")


def test_owns_wants_an_array():
    assert not nm.hooks.numpy.owns(np.empty(3))
    with pytest.raises(AttributeError):
        nm.hooks.numpy.owns([1, 2, 3])
