"""The calls of CUDA that tests make themselves, as a framework would."""

import ctypes

import neuro_memory as nm


class Driver:
    """cuda:0's context, current on this thread, and streams of its own."""

    def __init__(self) -> None:
        self.calls = ctypes.CDLL("libcuda.so.1")
        self.calls.cuCtxSetCurrent.argtypes = [ctypes.c_void_p]
        for name in ("cuStreamDestroy_v2", "cuStreamSynchronize"):
            getattr(self.calls, name).argtypes = [ctypes.c_void_p]
        self.calls.cuMemsetD32Async.argtypes = [ctypes.c_uint64, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p]
        assert self.calls.cuCtxSetCurrent(nm.cuda.handles("cuda:0").context) == 0
        self._streams: list[int] = []

    def stream(self) -> int:
        """A new stream that waits for no other."""
        raw = ctypes.c_void_p()
        assert self.calls.cuStreamCreate(ctypes.byref(raw), 1) == 0
        assert raw.value
        self._streams.append(raw.value)
        return raw.value

    def fill(self, address: int, value: int, words: int, stream: int) -> None:
        """Submits a fill."""
        assert self.calls.cuMemsetD32Async(address, value, words, stream) == 0

    def synchronize(self, stream: int) -> None:
        """Waits for a stream."""
        assert self.calls.cuStreamSynchronize(stream) == 0

    def close(self) -> None:
        """Waits for all streams, and destroys them."""
        for stream in self._streams:
            self.synchronize(stream)
            assert self.calls.cuStreamDestroy_v2(stream) == 0
