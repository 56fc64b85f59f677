"""`neuro_memory.cuda`: streams of others, kernels of one's own, and the compiler of CUDA C. What needs a CUDA device is SKIPPED without
one, unless NEURO_REQUIRE_CUDA is set; what needs the compiler, unless NEURO_REQUIRE_NVRTC is."""

import ctypes
import gc
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

import neuro_memory as nm
from neuro_memory import _neuro_memory as core

GPU = "cuda:0"
COUNT = 1000

# As a compiler writes it.
TWICE = """
.version 6.4
.target sm_52
.address_size 64
.visible .entry twice(.param .u64 twice_x, .param .u32 twice_n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<5>;
    .reg .f32 %f<3>;
    ld.param.u64 %rd1, [twice_x];
    ld.param.u32 %r1, [twice_n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra $END;
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r5, 4;
    add.s64 %rd4, %rd2, %rd3;
    ld.global.f32 %f1, [%rd4];
    add.f32 %f2, %f1, %f1;
    st.global.f32 [%rd4], %f2;
$END:
    ret;
}
"""

SCALE = """
extern "C" __global__ void scale(float *x, float by, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= by * FACTOR;
}
template <typename T> __global__ void add(const T *x, T *y, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += x[i];
}
"""


class Foreign:
    """A stream of the program's own, as PyTorch, CuPy or the protocol show one."""

    def __init__(self, shown: str) -> None:
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.driver.cuCtxSetCurrent.argtypes = [ctypes.c_void_p]
        self.driver.cuStreamDestroy_v2.argtypes = self.driver.cuStreamSynchronize.argtypes = [ctypes.c_void_p]
        self.driver.cuMemsetD32Async.argtypes = [ctypes.c_uint64, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p]
        assert self.driver.cuCtxSetCurrent(nm.cuda.handles(GPU).context) == 0
        raw = ctypes.c_void_p()
        assert self.driver.cuStreamCreate(ctypes.byref(raw), 1) == 0
        self.address = raw.value
        assert self.address
        if shown in ("cuda_stream", "ptr"):
            setattr(self, shown, self.address)
        if shown == "__cuda_stream__":
            self.__cuda_stream__ = lambda: (0, self.address)

    def fill(self, tensor: nm.Tensor, value: float) -> None:
        bits = int(np.float32(value).view(np.uint32))
        assert self.driver.cuMemsetD32Async(nm.cuda.pointer(tensor), bits, tensor.size, self.address) == 0

    def close(self) -> None:
        assert self.driver.cuStreamSynchronize(self.address) == 0
        assert self.driver.cuStreamDestroy_v2(self.address) == 0


@pytest.fixture
def foreign(cuda, request):
    """A stream that is shown as the test says."""
    stream = Foreign(getattr(request, "param", "ptr"))
    yield stream
    gc.collect()
    stream.close()


def made() -> nm.Tensor:
    """0, 1, 2, … on the device."""
    return nm.asarray(np.arange(COUNT, dtype="float32")).to(GPU)


def values(tensor):
    return tensor.to("cpu").numpy().tolist()


def test_what_is_refused_everywhere():
    here = nm.zeros(3)
    for call in (nm.cuda.handles, lambda device: nm.cuda.Stream(device, 0), lambda device: nm.cuda.load(TWICE, device)):
        with pytest.raises(ValueError, match="cpu is no CUDA device"):
            call("cpu")
        with pytest.raises(nm.NeuroMemoryError, match="cuda:998"):
            call("cuda:998")
        with pytest.raises(TypeError):
            call(7)
    with pytest.raises(ValueError, match="lies on cpu"):
        nm.cuda.pointer(here)
    with pytest.raises(TypeError):
        nm.cuda.pointer("a tensor")
    for wrong in (None, "0", 1.5, object()):
        with pytest.raises(TypeError, match="a stream is an int"):
            nm.cuda.Stream(GPU, wrong)
    for wrong in (-1, 1 << 64):
        with pytest.raises(ValueError, match="no address of a stream"):
            nm.cuda.Stream(GPU, wrong)

    class Newer:
        def __cuda_stream__(self):
            return (1, 0)

    with pytest.raises(ValueError, match="version 1"):
        nm.cuda.Stream(GPU, Newer())
    with pytest.raises(ValueError, match="the path is empty"):
        nm.cuda.add_nvrtc_path("")
    with pytest.raises(TypeError):
        nm.cuda.load(5)
    for options in ({"options": "-DN=4"}, {"instances": "f<int>"}):
        with pytest.raises(TypeError, match=r"is a list of str; give \['"):
            nm.cuda.compile(SCALE, **options)
    with pytest.raises(TypeError):
        nm.cuda.compile(SCALE, options=[3])


def test_grids():
    assert nm.cuda.grid_for(1000) == (4, 256)
    assert nm.cuda.grid_for(0, threads=32) == (1, 32)
    with pytest.raises(ValueError, match="1025 are asked for"):
        nm.cuda.grid_for(5, 1025)
    with pytest.raises((ValueError, OverflowError)):
        nm.cuda.grid_for(-1)


def test_it_is_loaded_when_it_is_named():
    code = "import sys, neuro_memory as nm; print('neuro_memory.cuda' in sys.modules, nm.cuda.__name__)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.split() == ["False", "neuro_memory.cuda"]
    for name in nm.cuda.__all__:
        assert getattr(nm.cuda, name).__doc__, name
    for kind in (nm.cuda.Stream, nm.cuda.Module, nm.cuda.Kernel):
        assert kind.__module__ == "neuro_memory.cuda"
        for name in dir(kind):
            assert name.startswith("_") or getattr(kind, name).__doc__, f"{kind.__name__}.{name}"


def test_nvrtc_needs_no_device(nvrtc):
    major, _ = nm.cuda.nvrtc_version()
    assert major >= 11
    made = core._cuda_ptx(SCALE, "scale.cu", ["-DFACTOR=1"])
    assert b".entry scale" in made
    with pytest.raises(ValueError, match=r"scale\.cu\(4\).*FACTOR"):
        core._cuda_ptx(SCALE, "scale.cu", [])


def test_nvrtc_is_found_among_packages(tmp_path):
    """In the folders of NVIDIA's packages, wherever `nvidia` is."""
    for folder in nm.cuda.NVRTC_FOLDERS:
        (tmp_path / "nvidia" / folder).mkdir(parents=True)
    code = "import neuro_memory as nm\ntry: nm.cuda.nvrtc_version()\nexcept nm.NeuroMemoryError as wrong: print(wrong)\nelse: print('found')"
    environment = {name: value for name, value in os.environ.items() if name != "NEURO_NVRTC"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment).stdout
    if out.strip() != "found":  # on the loader's path, or in this interpreter's own packages
        for folder in nm.cuda.NVRTC_FOLDERS:
            assert str(tmp_path / "nvidia" / folder) in out


def test_handles_and_pointers(cuda):
    ramp = made()
    handles = nm.cuda.handles(GPU)
    assert handles == nm.cuda.handles() and handles.context and handles.capability[0] > 0 and handles.driver_version >= 11000
    assert len({handles.compute, handles.upload, handles.download, 0}) == 4
    assert nm.cuda.pointer(ramp) % 256 == 0
    assert nm.cuda.pointer(ramp[500:]) == nm.cuda.pointer(ramp) + 2000


@pytest.mark.parametrize("foreign", ["cuda_stream", "ptr", "__cuda_stream__"], indirect=True)
def test_a_stream_of_another_library(foreign):
    ramp = made()
    stream = nm.cuda.Stream(GPU, foreign)
    assert (stream.device, stream.ptr, stream.__cuda_stream__()) == (GPU, foreign.address, (0, foreign.address))
    assert repr(stream) == f"Stream(cuda:0, {foreign.address:#x})"
    stream.wait_for(ramp, write=True)
    foreign.fill(ramp, 1.5)
    stream.record(ramp, write=True)
    assert values(ramp) == [1.5] * COUNT
    # It passes on what it is: another of ours, by address, by the protocol.
    assert nm.cuda.Stream(GPU, stream).ptr == nm.cuda.Stream(GPU, foreign.address).ptr == foreign.address


def test_the_owner_of_a_stream_is_kept(foreign):
    class Owner:
        ptr = foreign.address

    owner = Owner()
    gone = weakref.ref(owner)
    stream = nm.cuda.Stream(GPU, owner)
    del owner
    gc.collect()
    assert gone() is not None
    del stream
    gc.collect()
    assert gone() is None


def test_memory_of_a_stream(foreign):
    stream = nm.cuda.Stream(GPU, foreign)
    pool = nm.MemoryPool(1 << 20, device=GPU)
    for tensor in (stream.empty(COUNT), stream.empty((10, 100), "float32", pool)):
        assert (tensor.device, tensor.size) == (GPU, COUNT)
        foreign.fill(tensor, 2.5)
        stream.record(tensor, write=True)
        assert values(tensor.reshape(COUNT)) == [2.5] * COUNT
        del tensor
    with pytest.raises(ValueError, match="the pool is of cpu"):
        stream.empty(3, pool=nm.MemoryPool())
    with pytest.raises(nm.OutOfMemoryError):
        stream.empty(1 << 20, pool=pool)


def test_a_stream_waits_for_a_transfer(foreign):
    stream = nm.cuda.Stream(GPU, foreign)
    under_way = nm.zeros(COUNT).to(GPU, non_blocking=True)
    stream.wait_for(under_way)
    there = under_way.wait()
    foreign.fill(there, 7)
    stream.record(there, write=True)
    assert values(there) == [7.0] * COUNT


def test_what_a_stream_refuses(foreign):
    ramp = made()
    stream = nm.cuda.Stream(GPU, foreign)
    here = nm.zeros(3)
    for call in (stream.wait_for, stream.record):
        with pytest.raises(ValueError, match="lies on cpu"):
            call(here)
        with pytest.raises(TypeError):
            call(np.zeros(3))
    with pytest.raises(TypeError, match="a Tensor or a Transfer"):
        stream.wait_for(foreign)


def test_a_kernel_of_ptx(foreign):
    ramp = made()
    module = nm.cuda.load(TWICE, GPU)
    twice = module.kernel("twice", "float *x, unsigned n")
    assert (twice.name, twice.parameters, twice.device) == ("twice", ("float* x", "unsigned int n"), GPU)
    assert repr(twice) == "Kernel(twice(float* x, unsigned int n) on cuda:0)" and repr(module) == "Module(cuda:0)"
    assert module.log == ""
    twice.launch(*nm.cuda.grid_for(COUNT), ramp, COUNT)
    assert values(ramp) == [2.0 * i for i in range(COUNT)]
    stream = nm.cuda.Stream(GPU, foreign)
    twice.launch((4,), [256, 1, 1], ramp, np.int64(COUNT), stream=stream)
    twice.launch(np.int32(8), 128, ramp, float(COUNT), shared=64)
    del module
    assert values(ramp) == [8.0 * i for i in range(COUNT)]


def test_launches_from_many_threads(cuda):
    twice = nm.cuda.load(TWICE.encode(), GPU).kernel("twice", "float *x, unsigned n")
    wrong = []

    def work(number):
        for _ in range(5):
            tensor = nm.full(COUNT, number).to(GPU)
            for _ in range(3):
                twice.launch(4, 256, tensor, COUNT)
            if values(tensor) != [8.0 * number] * COUNT:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_a_launch_refuses(cuda):
    ramp = made()
    module = nm.cuda.load(TWICE, GPU)
    twice = module.kernel("twice", "float *x, unsigned n")
    for args, error, words in [
        ((nm.zeros(3), 3), ValueError, "lies on cpu"),
        ((ramp[::2], 3), ValueError, "not contiguous"),
        ((nm.zeros(3, "int32", device=GPU), 3), TypeError, "float32"),
        ((3, 3), ValueError, "where a tensor"),
        ((ramp, ramp), ValueError, "where a number"),
        ((ramp, -1), ValueError, "unsigned int n"),
        ((ramp, 0.5), ValueError, "0.5"),
        ((ramp, 1 << 200), ValueError, "outside what any dtype holds"),
        ((ramp,), ValueError, "1 arguments are given"),
        ((np.zeros(3), 3), TypeError, "a Tensor or a number"),
        (("x", 3), TypeError, "a Tensor or a number"),
        ((None, 3), TypeError, "a Tensor or a number"),
    ]:
        with pytest.raises(error, match=words):
            twice.launch(1, 1, *args)
    for grid, error, words in [
        (0, ValueError, "and 0 are asked for"),
        (-1, ValueError, "out of range"),
        (1 << 40, ValueError, "out of range"),
        ((), ValueError, "grid has 0 axes"),
        ((1, 1, 1, 1), ValueError, "grid has 4 axes"),
        ("1", TypeError, "grid is an int"),
        (1.0, TypeError, "grid is an int"),
        ((1, 1.0), TypeError, "grid is an int"),
    ]:
        with pytest.raises(error, match=words):
            twice.launch(grid, 1, ramp, 3)
    with pytest.raises(ValueError, match="1025 are asked for"):
        twice.launch(1, 1025, ramp, 3)
    with pytest.raises(TypeError):
        twice.launch(1, 1, ramp, 3, stream=7)
    with pytest.raises(ValueError, match="not compiled here"):
        module.kernel("twice")
    with pytest.raises(nm.NeuroMemoryError, match="kernel thrice"):
        module.kernel("thrice", "int n")
    with pytest.raises(nm.NeuroMemoryError, match="cuModuleLoadDataEx"):
        nm.cuda.load("no image", GPU)
    assert values(ramp) == [float(i) for i in range(COUNT)]


def test_kernels_in_cuda_c(nvrtc, cuda):
    ramp = made()
    module = nm.cuda.compile(SCALE, GPU, ["-DFACTOR=2"], "scale.cu", instances=["add<float>"])
    scale = module.kernel("scale")
    assert scale.parameters == ("float* x", "float by", "unsigned int n")
    scale.launch(*nm.cuda.grid_for(COUNT), ramp, 1.5, COUNT)
    assert values(ramp) == [3.0 * i for i in range(COUNT)]
    add = module.kernel("add<float>", "const float *x, float *y, unsigned n")
    add.launch(*nm.cuda.grid_for(COUNT, 128), ramp, ramp, COUNT)
    assert values(ramp) == [6.0 * i for i in range(COUNT)]
    with pytest.raises(ValueError, match=r"kernel\.cu\(4\).*FACTOR"):
        nm.cuda.compile(SCALE, GPU)
