"""DLPack of tensors on a Vulkan device: within this library they share, others refuse them or get a copy on the host."""

import ctypes
import gc
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax.numpy as jnp
import numpy as np
import pytest
from foreign import NAME, Producer

import neuro_memory as nm

GPU = "vulkan:0"
pytestmark = pytest.mark.usefixtures("gpu")
HOST = (1, 0)
THERE = (7, 0)
VALUES = np.arange(24, dtype="float32").reshape(4, 6)


def on_device() -> nm.Tensor:
    """VALUES on the device, in a pool of the test's own. (No fixture: pytest holds its value until after the look for leaks.)"""
    return nm.asarray(VALUES).to(pool=nm.MemoryPool(1 << 20, device=GPU))


def values(tensor: nm.Tensor) -> list:
    return tensor.to("cpu").tolist()


@pytest.mark.parametrize("version", [None, (0, 8), (1, 0), (1, 3)])
def test_out_and_in_share_the_storage(version: tuple | None) -> None:
    there = on_device()
    assert there.__dlpack_device__() == THERE
    for view in (there, there.T, there[1:, ::2], there[::-1, 3], there[2:2]):
        before = there.refcount
        capsule = view.__dlpack__(max_version=version)
        assert NAME(capsule) == (b"dltensor_versioned" if version and version[0] else b"dltensor")
        same = nm.from_dlpack(capsule)
        assert (same.device, same.shape, same.strides, same.dtype) == (GPU, view.shape, view.strides, "float32")
        assert there.refcount == before + 1
        assert values(same) == values(view) and not same.readonly
        with pytest.raises(BufferError, match="used already"):
            nm.from_dlpack(capsule)
        del same


def test_from_dlpack_of_a_tensor() -> None:
    there = on_device()
    for options in ({}, {"copy": None}, {"copy": False}, {"device": GPU}, {"device": GPU, "copy": False}):
        same = nm.from_dlpack(there, **options)
        assert (same.device, there.refcount) == (GPU, 2)
        del same
    copy = nm.from_dlpack(there, copy=True)
    assert (copy.device, there.refcount) == (GPU, 1) and values(copy) == VALUES.tolist()
    for copy in (None, True):
        near = nm.from_dlpack(there, device="cpu", copy=copy)
        assert (near.device, there.refcount) == ("cpu", 1) and near.tolist() == VALUES.tolist()
    # The tensor lives as long as what shares it.
    same = nm.from_dlpack(there)
    del there
    gc.collect()
    assert values(same) == VALUES.tolist()


def test_host_memory_goes_to_the_device() -> None:
    far = nm.from_dlpack(VALUES, device=GPU)
    assert far.device == GPU and values(far) == VALUES.tolist()
    with pytest.raises(BufferError, match="copy=False was asked for on vulkan:0"):
        nm.from_dlpack(VALUES, device=GPU, copy=False)
    with pytest.raises(BufferError, match=r"\(7, 0\) was asked for, but the tensor lies on \(1, 0\), the host"):
        nm.zeros(3).__dlpack__(dl_device=THERE)


def test_what_a_capsule_on_the_device_says() -> None:
    there = on_device()
    capsule = there.__dlpack__(max_version=(1, 0))
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    managed = get(capsule, b"dltensor_versioned")
    data = ctypes.c_size_t.from_address(managed + 32).value
    device = (ctypes.c_int32.from_address(managed + 40).value, ctypes.c_int32.from_address(managed + 44).value)
    # In a page that is never mapped: who follows it faults.
    assert (data, device) == (256, THERE)
    assert ctypes.c_uint64.from_address(managed + 24).value == 0
    refs = there.refcount
    del capsule
    assert there.refcount == refs - 1


def test_requests() -> None:
    there = on_device()
    for request in ({"stream": None}, {"dl_device": THERE}, {"dl_device": THERE, "copy": False}, {"copy": None}):
        same = nm.from_dlpack(there.__dlpack__(**request))
        assert (same.device, there.refcount) == (GPU, 2)
        del same
    far = nm.from_dlpack(there.T.__dlpack__(copy=True, max_version=(1, 0)))
    assert (far.device, there.refcount) == (GPU, 1) and values(far) == VALUES.T.tolist()
    for stream in (-1, 0, 1, 2, "x"):
        with pytest.raises(BufferError, match="no streams.*pass None"):
            there.__dlpack__(stream=stream)
    for device in ((7, 1), (2, 0), "cpu", 7):
        with pytest.raises(BufferError, match=r"lies on \(7, 0\), vulkan:0"):
            there.__dlpack__(dl_device=device)


def test_a_copy_on_the_host_for_who_asks() -> None:
    there = on_device()
    for copy in (None, True):
        for version in (None, (1, 0)):
            near = nm.from_dlpack(there[:, 1:].__dlpack__(dl_device=HOST, copy=copy, max_version=version))
            assert (near.device, there.refcount) == ("cpu", 1)
            assert near.tolist() == VALUES[:, 1:].tolist()
    array = np.from_dlpack(there, device="cpu")
    assert np.array_equal(array, VALUES) and array.flags.writeable
    array[:] = 0
    assert values(there) == VALUES.tolist()
    assert np.array_equal(np.from_dlpack(there.T, device="cpu", copy=True), VALUES.T)


def test_without_a_copy_the_host_maps_or_is_refused() -> None:
    there = on_device()
    try:
        array = np.from_dlpack(there, device="cpu", copy=False)
    except BufferError as error:
        assert "copy=False was asked for on the host" in str(error)
        return
    # A device whose memory the processor reaches.
    assert np.array_equal(array, VALUES) and there.refcount == 2
    array[0, 0] = 99
    assert there[0].to("cpu").tolist()[0] == 99


def test_numpy_and_jax_refuse() -> None:
    there = on_device()
    for copy in (None, False, True):
        with pytest.raises((BufferError, RuntimeError), match="Unsupported device"):
            np.from_dlpack(there, copy=copy)
    for take in (np.asarray, np.array):
        with pytest.raises(BufferError, match="vulkan:0"):
            take(there)
    with pytest.raises((BufferError, TypeError), match="unsupported device type"):
        jnp.from_dlpack(there)
    assert there.refcount == 1, "nothing was kept"
    assert values(there) == VALUES.tolist()


@pytest.mark.parametrize("versioned", [False, True])
def test_strangers_on_vulkan_are_refused(versioned: bool) -> None:
    producer = Producer(device=THERE, versioned=versioned)
    with pytest.raises(BufferError, match="another library exported it"):
        nm.from_dlpack(producer.capsule())
    assert producer.freed == 0

    class Stranger:
        """Another library's tensor on the device; a copy on the host for who asks."""

        def __dlpack__(self, *, dl_device: tuple | None = None, copy: bool | None = None, max_version: tuple | None = None) -> object:
            if dl_device == HOST:
                if copy is False:
                    raise BufferError("it takes a copy")
                return nm.ones(3).__dlpack__(max_version=max_version)
            return producer.capsule()

        def __dlpack_device__(self) -> tuple[int, int]:
            return THERE

    with pytest.raises(BufferError, match="another library exported it"):
        nm.from_dlpack(Stranger())
    for copy in (None, True):
        assert nm.from_dlpack(Stranger(), device="cpu", copy=copy).tolist() == [1, 1, 1]
    with pytest.raises(BufferError, match="it takes a copy"):
        nm.from_dlpack(Stranger(), device="cpu", copy=False)
    assert producer.freed == 0
