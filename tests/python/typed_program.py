"""A program whose types must check: what the stubs promise to users."""

import numpy as np

import neuro_memory as nm

pool: nm.MemoryPool = nm.MemoryPool(limit=1 << 20, alignment=4096)
tensor: nm.Tensor = pool.full((2, 3), 1.5, np.float64)
address: int = tensor.data_ptr
part: nm.Tensor = tensor.reshape(3, -1).transpose(1, 0)
tensor[0, ...] = 2
tensor.copy_from(np.zeros((2, 3)))
view: memoryview = memoryview(tensor)
array = np.from_dlpack(tensor)
shared: nm.Tensor = nm.from_dlpack(array, copy=False)
loaded: dict[str, nm.Tensor] = nm.load_file("weights.safetensors", pool, mmap=False)
nm.save_file({"a": tensor, "b": array}, "weights.safetensors", metadata={"k": "v"})
roomy: nm.MemoryPool = nm.MemoryPool(
    None, prefault=True, decay=None, keep=1 << 20, soft_limit=1 << 30, on_soft_limit=lambda stats: stats.caches, debug=True
)
with roomy.scope() as scope:
    most: int = scope.counters().requested.peak
    allocations: nm.Usage = scope.counters().blocks
    scope.reset()
try:
    roomy.fail_nth(0)
    roomy.check()
except nm.CorruptedError as spoilt:
    base: nm.NeuroMemoryError = spoilt
broken: float = roomy.stats().fragmentation
live: int = pool.stats().live_bytes + nm.stats().peak_blocks
try:
    nm.zeros((2, 3), "float32", device="cpu", pool=pool)
except nm.OutOfMemoryError as error:
    everything: MemoryError = error


class TorchStream:
    cuda_stream: int = 0


stream: nm.cuda.Stream = nm.cuda.Stream("cuda:0", TorchStream())
stream.wait_for(tensor.to("cuda:0", non_blocking=True))
there: nm.Tensor = stream.empty((2, 3), "float16")
stream.record(there, write=True)
module: nm.cuda.Module = nm.cuda.compile("source", options=["-DN=4"], instances=["f<float>"])
kernel: nm.cuda.Kernel = nm.cuda.load(b"ptx", "cuda:1").kernel("f", "float *x, int n")
kernel.launch(*nm.cuda.grid_for(1000), there, 3, shared=16, stream=stream)
kernel.launch((4, 1), np.int64(256), there, np.float32(3))
capability: tuple[int, int] = nm.cuda.handles().capability
where: int = nm.cuda.pointer(there)
