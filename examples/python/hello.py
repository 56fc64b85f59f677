"""A pool, a tensor, NumPy arrays on the pool, and a file that is read back where it lies."""

import tempfile
from pathlib import Path

import neuro_memory as nm
import numpy as np

pool = nm.MemoryPool(64 << 20)

# A tensor and an array that is the same memory.
images = pool.zeros((8, 28, 28), "float32")
array = np.asarray(images)
array[0, 0] = 0.5
print(f"{images.dtype} {images.shape}, aligned to {images.alignment} B, NumPy sees the same memory: "
      f"{array.ctypes.data == images.data_ptr}")

# NumPy's own arrays, without a change to the code that makes them.
with nm.hooks.numpy(pool):
    bright = array * 2 + 1
print(f"made by NumPy: {bright.ctypes.data % 64} bytes past a multiple of 64")

# A limit is an error that says what was asked and what was there.
try:
    pool.empty((1 << 20, 100), "float64")
except nm.OutOfMemoryError as error:
    print(error)

with tempfile.TemporaryDirectory() as directory:
    path = Path(directory) / "images.safetensors"
    nm.save_file({"images": images}, path)
    print(f"read back: {list(nm.load_file(path))}")

del images, array, bright
stats = pool.stats()
print(f"at the end: {stats.live_bytes} B live in {stats.live_blocks} blocks, peak {stats.peak_bytes} B")
