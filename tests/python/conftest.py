"""What all tests share: the check that each gives back every block it took."""

import gc
import os
from collections.abc import Iterator

import pytest

import neuro_memory as nm

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
NUMPY_DTYPES = [name for name in DTYPES if name != "bfloat16"]


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """No test leaves more live blocks, in all pools together, than it found."""
    before = nm.stats().live_blocks
    yield
    if nm.stats().live_blocks > before:
        gc.collect()  # only where it can matter: it takes longer than most tests
    assert nm.stats().live_blocks <= before


def need(kind: str, why: str = "") -> None:
    """The first device of this kind, as "vulkan:0", or no test, and why not."""
    found, missing = nm.devices()
    first = next((device for device in found if device["device"].startswith(kind)), None)
    reason = missing[kind] if first is None else first["unusable"]
    if reason:
        assert f"NEURO_REQUIRE_{kind.upper()}" not in os.environ, reason
        pytest.skip(f"SKIPPED: {why}{reason}")


@pytest.fixture(scope="session")
def gpu() -> None:
    """The Vulkan device "vulkan:0", or no test."""
    need("vulkan")


@pytest.fixture(scope="session")
def cuda() -> None:
    """The CUDA device "cuda:0", or no test."""
    need("cuda", "needs hardware: ")


@pytest.fixture(scope="session")
def nvrtc() -> None:
    """The compiler of CUDA C, or no test."""
    try:
        nm.cuda.nvrtc_version()
    except nm.NeuroMemoryError as wrong:
        assert "NEURO_REQUIRE_NVRTC" not in os.environ, wrong
        pytest.skip(f"SKIPPED: {wrong}")


@pytest.fixture
def pool() -> nm.MemoryPool:
    """A pool of the test's own."""
    return nm.MemoryPool(limit=64 << 20)
