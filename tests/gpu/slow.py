"""Kernels that begin late, so that whoever does not wait for them reads what was there before.

A program is run twice: first with no delay, since the first use of a kernel, of a block or of a stream may wait for the whole device;
then with SECONDS of it. The host must be through long before the kernel is.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import neuro_memory as nm
from lines import Skip

SECONDS = 0.08
# Few enough blocks that all are on the device at once, and wait side by side.
COUNT = 1 << 14
GRID, BLOCK = COUNT // 256, 256

SOURCE = r"""
extern "C" __global__ void slow_copy(const float *from, float *to, unsigned n, unsigned long long nanoseconds) {
    if (threadIdx.x == 0) {
        unsigned long long begin, now;
        asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
        do { asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)); } while (now - begin < nanoseconds);
    }
    __syncthreads();
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) to[i] = from[i];
}
"""


@cache
def _ours() -> Any:
    try:
        return nm.cuda.compile(SOURCE).kernel("slow_copy")
    except nm.NeuroMemoryError as wrong:
        if "NVRTC" in str(wrong):
            raise Skip(str(wrong)) from None
        raise


def our_copy(source: nm.Tensor, to: nm.Tensor, seconds: float, stream: Any = None) -> None:
    """On our stream, or one of others."""
    _ours().launch(GRID, BLOCK, source, to, COUNT, int(seconds * 1e9), stream=stream)


@cache
def _cupys() -> Any:
    import cupy

    return cupy.RawKernel(SOURCE, "slow_copy")


def cupy_copy(source: Any, to: Any, seconds: float) -> None:
    """On CuPy's current stream."""
    import numpy as np

    _cupys()((GRID,), (BLOCK,), (source, to, np.uint32(COUNT), np.uint64(int(seconds * 1e9))))


def torch_wait(seconds: float) -> None:
    """Has torch's current stream be busy. It counts cycles: at a lower clock it is longer."""
    import torch

    torch.cuda._sleep(int(seconds * 2.0e9) + 1)


class Result(NamedTuple):
    """What a program saw, and how long the host took to ask for it."""

    seen: list[float]
    asked: float


def twice(program: Callable[[float], Callable[[], Any]]) -> Result:
    """Runs a program that asks for work with a delay, and gives what reads the values when all is asked for."""
    program(0.0)()
    begin = time.perf_counter()
    read = program(SECONDS)
    asked = time.perf_counter() - begin
    return Result(sorted(set(read())), asked)


def in_order(program: Callable[[float], Callable[[], Any]], wanted: float = 1.0, waits: bool = False) -> str:
    """The values are those of the slow kernel, and the host has not waited for it (`waits`: it may). How long the host took."""
    result = twice(program)
    assert result.seen == [wanted], f"it read {result.seen[:4]} instead of [{wanted}]: not in order behind the slow kernel"
    took = f"the host took {result.asked * 1e3:.1f} ms, of a kernel of {SECONDS * 1e3:.0f} ms"
    assert waits or result.asked < SECONDS / 2, f"{took}: it waits"
    return f"host {result.asked * 1e3:.2f} ms"


def can_fail(program: Callable[[float], Callable[[], Any]], wanted: float = 1.0) -> str:
    """The same where order was waived: whether a check by `in_order` could have failed."""
    try:
        seen = twice(program).seen
    except Exception as error:
        return f"without order: {type(error).__name__}: {error}"
    if seen == [wanted]:
        return "without order the values were right, too: nothing is shown"
    return "without order: old values, as there should be"


def fresh(value: float) -> nm.Tensor:
    """A tensor of ours on the device, done."""
    tensor = nm.full(COUNT, value).to("cuda:0")
    tensor.synchronize()
    return tensor
