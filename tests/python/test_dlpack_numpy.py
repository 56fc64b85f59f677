"""DLPack with NumPy, and the protocol itself: capsules, versions, devices, lifetimes."""

import ctypes
import gc
import threading

import numpy as np
import pytest
from conftest import NUMPY_DTYPES
from foreign import NAME, Producer

import neuro_memory as nm


def test_asarray_forwards_that_nothing_may_be_copied() -> None:
    class Copier:
        """Copies unless it may not."""

        def __dlpack__(self, copy: bool | None = None, **options: object) -> object:
            if copy is False:
                raise BufferError("must copy")
            return nm.ones(3).__dlpack__(**options)

    for copy in (None, True):
        assert nm.asarray(Copier(), copy=copy).tolist() == [1, 1, 1]
    with pytest.raises(BufferError, match="must copy"):
        nm.asarray(Copier(), copy=False)
    tensor = nm.ones(3)
    assert nm.asarray(tensor, copy=False) is tensor


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_both_ways_without_a_copy(dtype: str) -> None:
    tensor = nm.zeros((2, 3), dtype)
    array = np.from_dlpack(tensor)
    assert array.ctypes.data == tensor.data_ptr and array.dtype == dtype and array.shape == (2, 3)
    assert array.flags.writeable
    array[0, 1] = 1
    back = nm.from_dlpack(array)
    assert back.data_ptr == tensor.data_ptr and back[0, 1] == 1 and back.dtype == dtype


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 1, 3)])
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    assert np.from_dlpack(nm.ones(shape)).shape == shape
    assert nm.from_dlpack(np.ones(shape)).tolist() == np.ones(shape).tolist()


def test_strided_views_both_ways() -> None:
    tensor = nm.zeros((4, 6))
    tensor.copy_from(np.arange(24, dtype="float32").reshape(4, 6))
    for view in (tensor.T, tensor[::-1], tensor[1:, ::2], tensor[:, 3], tensor[::-2, ::-3]):
        array = np.from_dlpack(view)
        assert array.ctypes.data == view.data_ptr and array.strides == view.strides and array.tolist() == view.tolist()
        back = nm.from_dlpack(array)
        assert back.data_ptr == view.data_ptr and back.strides == view.strides


def test_read_only_needs_the_versioned_form() -> None:
    tensor = nm.from_buffer(bytes(8), "float32")
    assert not np.from_dlpack(tensor).flags.writeable
    with pytest.raises(BufferError, match="read-only"):
        tensor.__dlpack__()
    source = np.arange(3.0)
    source.flags.writeable = False
    assert nm.from_dlpack(source).readonly


def test_which_form_a_consumer_gets() -> None:
    tensor = nm.zeros(3)
    for version, name in [(None, b"dltensor"), ((0, 8), b"dltensor"), ((1, 0), b"dltensor_versioned"), ((2, 0), b"dltensor_versioned")]:
        assert NAME(tensor.__dlpack__(max_version=version)) == name
    assert tensor.__dlpack_device__() == (1, 0)


def test_a_copy_says_that_it_is_one() -> None:
    tensor = nm.ones(3)
    assert np.from_dlpack(tensor, copy=True).ctypes.data != tensor.data_ptr
    assert np.from_dlpack(tensor, copy=False).ctypes.data == tensor.data_ptr
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    for copy, flags in [(True, 2), (False, 0), (None, 0)]:
        capsule = tensor.__dlpack__(max_version=(1, 0), copy=copy)
        managed = get(capsule, b"dltensor_versioned")
        assert ctypes.c_uint64.from_address(managed + 24).value == flags
    array = np.ones(3)
    assert nm.from_dlpack(array, copy=True).data_ptr != array.ctypes.data
    assert nm.from_dlpack(array, copy=False, device="cpu").data_ptr == array.ctypes.data


@pytest.mark.parametrize(
    "request_",
    [{"stream": 0}, {"stream": 2}, {"stream": "x"}, {"dl_device": (2, 0)}, {"dl_device": "cpu"}, {"max_version": 1}],
    ids=str,
)
def test_what_host_memory_cannot_do_is_a_buffer_error(request_: dict) -> None:
    with pytest.raises(BufferError):
        nm.zeros(3).__dlpack__(**request_)


def test_requests_host_memory_can_meet() -> None:
    for request in ({"stream": -1}, {"stream": None}, {"dl_device": (1, 0)}, {"dl_device": None, "copy": None}):
        assert NAME(nm.zeros(3).__dlpack__(**request)) == b"dltensor"


def test_an_unconsumed_capsule_frees_what_it_holds(pool: nm.MemoryPool) -> None:
    for version in (None, (1, 0)):
        capsule = pool.zeros(100).__dlpack__(max_version=version)
        gc.collect()
        assert pool.stats().live_blocks == 1
        del capsule
        assert pool.stats().live_blocks == 0


def test_a_capsule_dropped_by_an_exception_keeps_the_exception(pool: nm.MemoryPool) -> None:
    def fail() -> None:
        capsules = [pool.zeros(10).__dlpack__(), pool.zeros(10).__dlpack__(max_version=(1, 0))]
        raise KeyError(len(capsules))

    try:
        fail()
    except KeyError as error:
        assert error.args == (2,)
    assert pool.stats().live_blocks == 0


def test_a_capsule_can_be_used_once(pool: nm.MemoryPool) -> None:
    for version in (None, (1, 0)):
        capsule = pool.zeros(3).__dlpack__(max_version=version)
        tensor = nm.from_dlpack(capsule)
        assert NAME(capsule).startswith(b"used_dltensor")
        with pytest.raises(BufferError, match="used already"):
            nm.from_dlpack(capsule)
        del capsule
        assert tensor.tolist() == [0, 0, 0] and pool.stats().live_blocks == 1
        del tensor
        assert pool.stats().live_blocks == 0


def test_the_array_outlives_tensor_and_pool() -> None:
    pool = nm.MemoryPool(limit=1 << 20)
    array = np.from_dlpack(pool.full(1000, 2))
    del pool
    gc.collect()
    assert array.sum() == 2000


def test_the_last_owner_may_be_another_thread(pool: nm.MemoryPool) -> None:
    arrays = [np.from_dlpack(pool.ones(1000)) for _ in range(10)]
    threads = [threading.Thread(target=arrays.pop) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.stats().live_blocks == 0


@pytest.mark.parametrize("versioned", [False, True])
def test_a_foreign_capsule_is_freed_exactly_once(versioned: bool) -> None:
    producer = Producer(versioned=versioned, shape=(2, 3), strides=(-8, 2), byte_offset=4 * 20)
    tensor = nm.from_dlpack(producer.capsule())
    assert tensor.tolist() == [[20, 22, 24], [12, 14, 16]]
    view = tensor[1]
    del tensor
    assert producer.freed == 0
    assert view.tolist() == [12, 14, 16]
    del view
    assert producer.freed == 1


def test_flags_and_devices_of_foreign_capsules() -> None:
    assert nm.from_dlpack(Producer(versioned=True, flags=1).capsule()).readonly
    assert not nm.from_dlpack(Producer(versioned=True, flags=2).capsule()).readonly
    assert nm.from_dlpack(Producer(device=(3, 0)).capsule()).device == "cpu"
    assert nm.from_dlpack(Producer(shape=(0, 5), data=None).capsule()).shape == (0, 5)
    assert nm.from_dlpack(Producer(shape=(), strides=None).capsule()).item() == 0


def test_producers_without_the_new_keywords() -> None:
    class Old:
        """A producer from before DLPack 1.0."""

        def __dlpack__(self, stream: object = None) -> object:
            return nm.full(3, 4).__dlpack__()

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    assert nm.from_dlpack(Old()).tolist() == [4, 4, 4]
    assert nm.from_dlpack(Old(), copy=False).tolist() == [4, 4, 4]
    # The old form cannot say whether writing is allowed.
    assert nm.from_dlpack(Old()).readonly and not nm.from_dlpack(Old(), copy=True).readonly
    assert not np.from_dlpack(Old()).flags.writeable


def test_what_is_no_producer() -> None:
    class OnAGpu:
        """A producer whose memory the host cannot read."""

        def __dlpack__(self, **_: object) -> object:
            raise AssertionError("asked for a capsule before the device was checked")

        def __dlpack_device__(self) -> tuple[int, int]:
            return (10, 0)  # kDLROCM

    class Liar:
        """A producer that gives something else."""

        def __dlpack__(self, **_: object) -> object:
            return 3

    with pytest.raises(BufferError, match="CPU"):
        nm.from_dlpack(OnAGpu())
    for wrong in (3, None, Liar()):
        with pytest.raises(TypeError):
            nm.from_dlpack(wrong)
    with pytest.raises(nm.NeuroMemoryError):
        nm.from_dlpack(np.zeros(3), device="cuda:0")
