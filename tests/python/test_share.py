"""Memory of a device that another process uses, which gets the descriptor over a socket. Without a Vulkan device that has
VK_KHR_external_memory_fd a test is SKIPPED, unless NEURO_REQUIRE_VULKAN is set."""

import gc
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

import neuro_memory as nm

GPU = "vulkan:0"

OTHER = """
import json, os, socket, sys
import numpy as np
import neuro_memory as nm

with socket.socket(fileno=int(sys.argv[1])) as line:
    text, (fd,), _, _ = socket.recv_fds(line, 4096, 1)
    there = nm.import_fd("vulkan:0", **json.loads(text), fd=fd)
    os.close(fd)
    values = there.to("cpu").numpy()
    pool = nm.MemoryPool(8 << 20, device="vulkan:0", export=True)
    mine = nm.asarray(values * 2).to(pool=pool)
    memory = mine.export_fd()
    fd = memory.pop("fd")
    socket.send_fds(line, [json.dumps(memory).encode()], [fd])
    os.close(fd)
    line.recv(1)
"""


@pytest.fixture(scope="module")
def pool():
    """Whose memory is exported, or no test."""
    try:
        pool = nm.MemoryPool(8 << 20, device=GPU, export=True)
        pool.empty(1)
    except nm.NeuroMemoryError as error:
        assert "NEURO_REQUIRE_VULKAN" not in os.environ, error
        pytest.skip(f"SKIPPED: {error}")
    return pool


def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_two_processes_use_one_memory(pool):
    values = np.arange(60_000, dtype="float32").reshape(300, 200)
    here = nm.asarray(values).to(pool=pool)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = theirs.fileno()
        other = subprocess.Popen([sys.executable, "-c", OTHER, str(fd)], pass_fds=[fd])
        theirs.close()
        memory = here.export_fd()
        assert (memory["bytes"], memory["dtype"], memory["shape"]) == (240_000, "float32", (300, 200))
        assert memory["device_uuid"] == next(found["uuid"] for found in nm.devices()[0] if found["device"] == GPU)
        fd = memory.pop("fd")
        socket.send_fds(ours, [json.dumps(memory).encode()], [fd])
        os.close(fd)
        text, fds, _, _ = socket.recv_fds(ours, 4096, 1)
        back = nm.import_fd(GPU, **json.loads(text), fd=fds[0])
        os.close(fds[0])
        assert (back.device, back.shape, back.dtype) == (GPU, (300, 200), "float32")
        assert np.array_equal(back.to("cpu").numpy(), values * 2)
        ours.send(b"x")
        assert other.wait(60) == 0
    # It stays when the process that made it is gone.
    assert np.array_equal(back.to("cpu").numpy(), values * 2)
    assert np.array_equal(here.to("cpu").numpy(), values)


def test_imports_in_one_process_are_the_same_bytes_and_lose_no_descriptor(pool):
    here = nm.asarray(np.arange(1000)).to(pool=pool)
    before = descriptors()
    for _ in range(5):
        memory = here[100:200].export_fd()
        there = nm.import_fd(GPU, **memory)
        os.close(memory["fd"])
        assert there.to("cpu").tolist() == list(range(100, 200))
        del there
    assert descriptors() == before


def test_what_cannot_be_exported_is_refused(pool):
    here = nm.asarray(np.zeros((3, 4))).to(pool=pool)
    before = descriptors()
    with pytest.raises(ValueError, match="not contiguous"):
        here.T.export_fd()
    with pytest.raises(ValueError, match="with_export"):
        here.to(pool=nm.MemoryPool(1 << 20, device=GPU)).export_fd()
    with pytest.raises(ValueError, match="lies on cpu"):
        nm.zeros(3).export_fd()
    with pytest.raises(ValueError, match="nothing to export"):
        nm.MemoryPool(1 << 20, export=True)
    with pytest.raises(ValueError, match="make two pools"):
        nm.MemoryPool(1 << 20, device=GPU, export=True, expandable=True)
    assert descriptors() == before
    assert nm.MemoryPool(device=GPU, export=True).limit == nm.MemoryPool(device=GPU).limit


def test_what_cannot_be_imported_is_refused(pool):
    here = nm.asarray(np.zeros((3, 4))).to(pool=pool)
    memory = here.export_fd()
    before = descriptors()
    for change, words in [
        ({"device_uuid": "0" * 32}, "device with uuid"),
        ({"driver_uuid": "f" * 32}, "driver with uuid"),
        ({"device_uuid": "uuid"}, "32 digits"),
        ({"offset": memory["allocation_bytes"]}, "do not lie within"),
        ({"offset": memory["offset"] + 1}, "not aligned"),
        ({"shape": (3, 5)}, "96 B are said"),
        ({"bytes": 95}, "95 B are said"),
        ({"offset": -1}, "offset"),
        ({"fd": -1}, "fd -1"),
    ]:
        with pytest.raises(ValueError, match=words):
            nm.import_fd(GPU, **{**memory, **change})
    with pytest.raises(ValueError, match="cpu"):
        nm.import_fd("cpu", **memory)
    with pytest.raises(TypeError):
        nm.import_fd(GPU, **{**memory, "dtype": "no such"})
    closed = os.dup(memory["fd"])
    os.close(closed)
    with pytest.raises(ValueError, match="cannot be used"):
        nm.import_fd(GPU, **{**memory, "fd": closed})
    with open(os.devnull, "rb") as file, pytest.raises(nm.NeuroMemoryError, match="vkAllocateMemory"):
        nm.import_fd(GPU, **{**memory, "fd": file.fileno()})
    assert descriptors() == before
    os.close(memory["fd"])
