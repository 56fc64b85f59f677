"""Tensors on devices: the Vulkan device that the tests install. Without one a test is SKIPPED, unless NEURO_REQUIRE_VULKAN is set."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import neuro_memory as nm

GPU = "vulkan:0"
pytestmark = pytest.mark.usefixtures("gpu")


def test_devices_say_what_they_are():
    found, missing = nm.devices()
    for kind in ("cuda", "vulkan"):
        names = [device["device"] for device in found if device["device"].startswith(kind)]
        assert names == [f"{kind}:{n}" for n in range(len(names))]
        assert (kind in missing) == (not names)
    first = next(device for device in found if device["device"] == GPU)
    assert first["name"] and first["api"].startswith("Vulkan 1.") and len(first["uuid"]) == 32
    assert sum(heap["bytes"] for heap in first["heaps"]) > 0
    out = subprocess.run([sys.executable, "-m", "neuro_memory", "info"], check=True, capture_output=True, text=True).stdout
    assert f"{GPU}: {first['name']}" in out


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "complex128", "bool"])
def test_there_and_back(dtype):
    array = np.arange(60_000).reshape(300, 200).astype(dtype)
    there = nm.asarray(array).to(GPU)
    assert (there.device, there.shape, there.dtype) == (GPU, (300, 200), dtype)
    assert there.to(GPU) is there
    assert np.array_equal(there.to("cpu").numpy(), array)
    assert np.array_equal(there.T.to("cpu").numpy(), array.T)
    assert np.array_equal(there[10:200:7, ::-1].to("cpu").numpy(), array[10:200:7, ::-1])


def test_made_there():
    assert nm.zeros((5, 3), device=GPU).to("cpu").tolist() == [[0.0] * 3] * 5
    assert nm.full(4, 7, "int32", device=GPU).to("cpu").tolist() == [7] * 4
    pool = nm.MemoryPool(1 << 20, device=GPU)
    assert (pool.device, pool.limit) == (GPU, 1 << 20)
    ones = pool.ones(10)
    assert (ones.device, pool.stats().live_bytes) == (GPU, 256)
    assert ones.to("cpu").tolist() == [1.0] * 10
    with pytest.raises(nm.OutOfMemoryError, match="vulkan:0"):
        pool.empty(1 << 20)
    with pytest.raises(ValueError, match="name one of them"):
        nm.empty(3, device="cpu", pool=pool)
    with pytest.raises(ValueError, match="no option but its limit"):
        nm.MemoryPool(1 << 20, device=GPU, prefault=True)
    debug = nm.MemoryPool(1 << 20, device=GPU, debug=True)
    assert (debug.ones(10).to("cpu").tolist(), debug.device) == ([1.0] * 10, GPU)
    with pytest.raises(ValueError, match="grows in place anyway"):
        nm.MemoryPool(1 << 20, expandable=True)
    with pytest.raises(nm.NeuroMemoryError, match="with_expandable on vulkan:0"):
        nm.MemoryPool(1 << 20, device=GPU, expandable=True).zeros(4)


def test_the_host_is_kept_off():
    there = nm.asarray(np.ones(4, np.float32)).to(GPU)
    for refused in (memoryview, lambda t: t.data_ptr, np.asarray, lambda t: t.__array_interface__):
        with pytest.raises(BufferError, match="vulkan|cpu"):
            refused(there)
    for refused in (lambda t: t.tolist(), lambda t: t[0].item(), lambda t: t.fill(1), pickle.dumps, lambda t: t.copy()):
        with pytest.raises((nm.NeuroMemoryError, BufferError), match="vulkan"):
            refused(there)
    assert repr(there) == "Tensor(shape=(4,), dtype='float32', device='vulkan:0')"
    assert there.__dlpack_device__() == (7, 0)


def test_arrays_do_not_go_into_a_devices_pool():
    pool = nm.MemoryPool(1 << 20, device=GPU)
    with pytest.raises(ValueError, match="host memory"):
        nm.hooks.numpy.install(pool)
    with pytest.raises(ValueError, match="host memory"), nm.hooks.numpy(pool):
        pass
    assert np.ones(10).sum() == 10


def test_devices_that_are_not_there():
    tensor = nm.zeros(3)
    for name in ("cuda:99", "vulkan:99"):
        with pytest.raises(nm.NeuroMemoryError, match=name):
            tensor.to(name)
        with pytest.raises(nm.NeuroMemoryError, match=name):
            nm.MemoryPool(1 << 20, device=name)
    with pytest.raises(TypeError, match="device or a pool"):
        tensor.to()


def test_exit_with_live_tensors():
    program = f"import neuro_memory as nm; kept = [nm.zeros((1000, 1000)).to({GPU!r}) for _ in range(5)]; print('made')"
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "made\n", "")
