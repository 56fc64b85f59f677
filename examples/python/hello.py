"""One block of pooled memory, seen as a tensor, a NumPy array and a JAX array at once."""

import numpy as np

import neuro_memory as nm

pool = nm.MemoryPool(limit=64 << 20)
tensor = pool.zeros((1000, 1000), "float32")

array = np.from_dlpack(tensor)  # no copy
array += 1
assert tensor[999, 999] == 1.0 and array.ctypes.data == tensor.data_ptr

print(tensor, "aligned to", tensor.alignment, "B")
print("live:", pool.stats().live_bytes, "B")

del tensor, array
assert pool.stats().live_bytes == 0  # nothing leaked
