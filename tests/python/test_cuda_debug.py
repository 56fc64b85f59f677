"""Pools of a CUDA device in debug mode: every tensor is an allocation of the driver's own, so that what watches the driver sees what is wrong.
SKIPPED without such a device, unless NEURO_REQUIRE_CUDA is set."""

import os
import subprocess
import sys

import pytest

import neuro_memory as nm

GPU = "cuda:0"

pytestmark = pytest.mark.usefixtures("cuda")


def test_a_tensor_is_an_allocation_of_its_own_bytes():
    pool = nm.MemoryPool(1 << 20, device=GPU, debug=True)
    tensors = [pool.zeros(10), pool.ones(7, "uint8")]
    stats = pool.stats()
    assert (stats.live_bytes, stats.committed_bytes) == (48, 48)
    assert tensors[1].to("cpu").tolist() == [1] * 7
    del tensors
    pool.trim()
    assert pool.stats().committed_bytes == 0
    with pytest.raises(nm.OutOfMemoryError, match="cuda:0"):
        pool.zeros(1 << 20)


def test_the_environment_switches_it_on():
    program = "import neuro_memory as nm; p = nm.MemoryPool(1 << 20, device='cuda:0'); x = p.zeros(10); print(p.stats().committed_bytes)"
    for value, bytes in [("1", "40"), ("0", str(1 << 20))]:
        environment = os.environ | {"NEURO_DEVICE_DEBUG": value}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        assert (done.returncode, done.stdout.strip()) == (0, bytes), done.stderr
