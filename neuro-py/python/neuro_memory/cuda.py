"""CUDA: streams of other libraries, and kernels of one's own on tensors where they lie.

Loaded when first named. A kernel is ordered behind what else uses its tensors, and before what uses them next; nobody waits.

    import neuro_memory as nm

    source = '''
    extern "C" __global__ void scale(float *x, float by, unsigned n) {
        unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < n) x[i] *= by;
    }'''
    x = nm.ones(1000, device="cuda:0")
    scale = nm.cuda.compile(source).kernel("scale")
    scale.launch(*nm.cuda.grid_for(1000), x, 3, 1000)
    x.to("cpu")  # behind the kernel

What a kernel does beside using its tensors as its parameters say, and that a stream is one, is the caller's promise.
"""

import importlib.util
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, SupportsIndex, TypeAlias

from . import _neuro_memory as _core
from ._neuro_memory import Tensor
from ._neuro_memory import _CudaKernel as Kernel
from ._neuro_memory import _CudaModule as Module
from ._neuro_memory import _CudaStream as Stream

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "Handles",
    "Kernel",
    "Module",
    "Stream",
    "add_nvrtc_path",
    "compile",
    "grid_for",
    "handles",
    "load",
    "nvrtc_version",
    "pointer",
]

# Where NVIDIA's packages have NVRTC, below `nvidia`: of CUDA 13, and of 11 and 12.
NVRTC_FOLDERS = (os.path.join("cu13", "lib"), os.path.join("cuda_nvrtc", "lib"))


class HasCudaStream(Protocol):
    """A stream that is shown by the protocol which libraries share."""

    def __cuda_stream__(self) -> tuple[int, int]:
        """Version of the protocol, which is 0, and address of the CUstream."""
        ...


class TorchStream(Protocol):
    """A stream as PyTorch shows it."""

    @property
    def cuda_stream(self) -> int:
        """Address of the CUstream."""
        ...


class CupyStream(Protocol):
    """A stream as CuPy shows it."""

    @property
    def ptr(self) -> int:
        """Address of the CUstream."""
        ...


SomeStream: TypeAlias = SupportsIndex | HasCudaStream | TorchStream | CupyStream


class Handles(NamedTuple):
    """What CUDA calls a device that is open; addresses are ints. They stay valid until the process ends."""

    device: int
    """CUdevice."""
    context: int
    """CUcontext: the device's primary context, in which the CUDA runtime and what is built on it work, too."""
    compute: int
    """CUstream that kernels run on. It does not wait for the default stream, nor that for it."""
    upload: int
    """CUstream for copies from the host."""
    download: int
    """CUstream for copies to the host."""
    capability: tuple[int, int]
    """Compute capability, as (9, 0)."""
    driver_version: int
    """Version of the driver's interface, as 13000 for 13.0."""


def handles(device: str = "cuda:0") -> Handles:
    """What CUDA calls a device, which is opened if it was not."""
    return Handles(*_core._cuda_handles(device))


def pointer(tensor: Tensor) -> int:
    """CUdeviceptr of a tensor's first element. It is good as long as the tensor lives; see Stream for work that uses it."""
    return _core._cuda_pointer(tensor)


def compile(
    source: str,
    device: str = "cuda:0",
    options: Sequence[str] = (),
    name: str | None = None,
    *,
    instances: Sequence[str] = (),
) -> Module:
    """Compiles CUDA C with NVRTC for a device, and loads it there. ValueError has what the compiler said.

    options: of NVRTC, as "--use_fast_math" or "-DN=4".
    name: what the source is called in messages (None: "kernel.cu").
    instances: of templates, as "scale<float>", and kernels that are not extern "C": only these are found by such names.

    NVRTC is looked for on the loader's path, among installed packages (pip install nvidia-cuda-nvrtc), where add_nvrtc_path said, and
    where the CUDA toolkit is; the environment variable NEURO_NVRTC names another. NeuroMemoryError says where it was looked for.
    """
    _find_nvrtc()
    return _core._cuda_compile(source, device, _texts("options", options), name, _texts("instances", instances))


def load(image: "str | Buffer", device: str = "cuda:0") -> Module:
    """Loads PTX, or a binary of nvcc -cubin or -fatbin, which has to be whole."""
    return _core._cuda_load(image.encode() if isinstance(image, str) else bytes(memoryview(image)), device)


def grid_for(n: int, threads: int = 256) -> tuple[int, int]:
    """Blocks, and threads of each, of which there are at least n: launch(*grid_for(n), ...). The kernel leaves out those too many."""
    return _core._cuda_grid_for(n, threads)


def add_nvrtc_path(path: str | os.PathLike[str]) -> None:
    """Has NVRTC be looked for in one more place: a file, or the folder that it is in. No effect on one that is in use."""
    _core._cuda_add_nvrtc_path(path)


def nvrtc_version() -> tuple[int, int]:
    """Version of the NVRTC that is found, as (13, 0). NeuroMemoryError where there is none says where it was looked for."""
    _find_nvrtc()
    return _core._cuda_nvrtc_version()


def _texts(what: str, texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError(f"{what} is a list of str; give [{texts!r}]")
    return list(texts)


_looked = False


def _find_nvrtc() -> None:
    """Names the folders of NVIDIA's packages, the first time that NVRTC is needed."""
    global _looked
    if _looked:
        return
    _looked = True
    try:
        packages = importlib.util.find_spec("nvidia")
    except ValueError:  # somebody made a module of that name by hand
        packages = None
    for place in (packages and packages.submodule_search_locations) or ():
        for folder in NVRTC_FOLDERS:
            path = os.path.join(place, folder)
            if os.path.isdir(path):
                _core._cuda_add_nvrtc_path(path)
