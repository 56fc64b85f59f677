"""A kernel in CUDA C on a tensor of a pool, where it lies: nobody waits before the result is read.

It needs NVRTC (pip install nvidia-cuda-nvrtc). Without a CUDA device it says SKIPPED, or fails where NEURO_REQUIRE_CUDA is set."""

import os
import sys

import neuro_memory as nm

SOURCE = """
extern "C" __global__ void scale(float *x, float by, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= by;
}
"""

found, missing = nm.devices()
if not any(device["device"] == "cuda:0" for device in found) and "NEURO_REQUIRE_CUDA" not in os.environ:
    print(f"SKIPPED: examples/python/cuda.py: needs hardware: {missing['cuda']}")
    sys.exit()

scale = nm.cuda.compile(SOURCE, "cuda:0").kernel("scale")
pool = nm.MemoryPool(64 << 20, device="cuda:0")
numbers = pool.full(1_000_000, 1.5)
scale.launch(*nm.cuda.grid_for(numbers.size), numbers, 2, numbers.size)
doubled = numbers.to("cpu").numpy()  # behind the kernel
assert (doubled == 3.0).all()
print(f"{scale}: 1.5, doubled: {doubled[0]}")
