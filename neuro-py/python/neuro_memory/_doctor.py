"""`python -m neuro_memory doctor`: what works here, what is missing, and how to get it. A line each.

Whatever is there is used, not only looked at: a tensor is made, an array hooked, bytes sent to each device and back, a child forked.
What is missing is no failure; what is there and does not work is.
"""

import importlib
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import neuro_memory as nm

from . import _neuro_memory

OK, MISSING, BROKEN = "OK", "MISSING", "BROKEN"

# No multiple of anything that copies are cut into.
ROUND_TRIP_BYTES = (1 << 20) + 3
CHILD_SECONDS = 20
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

Finding = tuple[str, str, str]
"""OK, MISSING or BROKEN; of what; and in words."""


def doctor() -> int:
    """Prints what was found; 1 if something that is there does not work, else 0."""
    broken = 0
    for status, what, words in findings():
        print(f"{status:8} {what:16} {words}", flush=True)
        broken += status == BROKEN
    print(f"{broken} broken" if broken else "all that is there works")
    return min(broken, 1)


def findings() -> Iterator[Finding]:
    """Every finding, in turn."""
    yield _tried("extension", _extension)
    yield from _numpy()
    yield _huge_pages()
    devices, missing = nm.devices()
    for kind, there in (("cuda", "the driver"), ("vulkan", "the loader")):
        if kind in missing:
            yield MISSING, kind, missing[kind]
        else:
            count = sum(device["device"].startswith(kind) for device in devices)
            yield OK, kind, f"{there} is there, and has {count} {'device' if count == 1 else 'devices'}"
    yield _nvrtc()
    usable = [device["device"] for device in devices if not device["unusable"]]
    for device in devices:
        name, about = device["device"], f"{device['name']} ({device['kind']}), {device['driver']}"
        if device["unusable"]:
            yield MISSING, name, f"{about}: {device['unusable']}"
        else:
            yield _tried(name, partial(_round_trip, name, about))
    yield _tried("fork", partial(_fork, usable))


def _tried(what: str, check: Callable[[], str]) -> Finding:
    """What `check` says if it works; else what it raised. It is never the doctor who falls ill."""
    try:
        return OK, what, check()
    except Exception as wrong:
        return BROKEN, what, f"{type(wrong).__name__}: {wrong}"


def _must(condition: bool, words: str) -> None:
    if not condition:
        raise RuntimeError(words)


def _extension() -> str:
    pool = nm.MemoryPool(1 << 20)
    tensor = pool.ones(1000)
    _must(tensor.tolist() == [1.0] * 1000 and pool.stats().live_blocks == 1, "a tensor of ones holds something else")
    del tensor
    _must(pool.stats().live_blocks == 0, "a tensor that was dropped is still counted")
    return f"neuro_memory {nm.__version__}, {_neuro_memory.__file__}"


def _numpy() -> Iterator[Finding]:
    try:
        numpy = importlib.import_module("numpy")
    except ImportError as wrong:
        yield MISSING, "numpy", f"{wrong}; pip install numpy. Tensors do without, hooks.numpy does not"
        return
    what = f"numpy {numpy.__version__}"

    def exchange() -> str:
        array = numpy.arange(1000, dtype="float32")
        _must(bool((nm.asarray(array).numpy() == array).all()), "an array came back as another")
        return "arrays and tensors share memory"

    def hook() -> str:
        pool = nm.MemoryPool(1 << 20)
        with nm.hooks.numpy(pool):
            array = numpy.ones(1000)
        _must(nm.hooks.numpy.owns(array) and pool.stats().live_blocks == 1, "an array made under the hook is not in the pool")
        del array
        _must(pool.stats().live_blocks == 0, "an array that was dropped is still in the pool")
        return "arrays made under hooks.numpy lie in a pool (it knows NumPy 1.22 to 2.x)"

    yield _tried(what, exchange)
    try:
        nm.hooks.numpy(nm.MemoryPool(1 << 20))
    except ImportError as wrong:
        yield MISSING, "numpy hook", str(wrong)
        return
    yield _tried("numpy hook", hook)


def _huge_pages() -> Finding:
    """Pools ask for huge pages beyond the first 2 MiB; whether they get them is the system's to say."""
    what = "huge pages"
    try:
        choice = HUGE_PAGES.read_text(encoding="ascii")
    except OSError as wrong:
        return MISSING, what, f"{wrong}; a kernel with CONFIG_TRANSPARENT_HUGEPAGE has them. Large tensors are slower without"
    if "[never]" in choice:
        return MISSING, what, f"switched off; as root: echo madvise > {HUGE_PAGES}. Large tensors are slower without"
    return OK, what, f"pools get them where they ask ({choice.strip()})"


def _nvrtc() -> Finding:
    """The compiler of CUDA C needs no device."""
    what = "nvrtc"
    try:
        major, minor = nm.cuda.nvrtc_version()
    except nm.NeuroMemoryError as wrong:
        return MISSING, what, f"{wrong}. Kernels in CUDA C need it, tensors do not"

    def compiles() -> str:
        made = _neuro_memory._cuda_ptx('extern "C" __global__ void doctor() {}', "doctor.cu", [])
        _must(b".entry doctor" in made, "what it made of a kernel has no kernel in it")
        return f"NVRTC {major}.{minor} compiles CUDA C"

    return _tried(what, compiles)


def _round_trip(device: str, about: str) -> str:
    sent = bytes((7 * i + i // 251) % 256 for i in range(ROUND_TRIP_BYTES))
    there = nm.from_buffer(sent).to(device)
    back = bytes(memoryview(there.to("cpu")))
    _must(back == sent, f"{about}: what came back is not what was sent")
    return f"{about}; {len(sent)} bytes there and back"


def _fork(usable: list[str]) -> str:
    """A child uses the memory of the host, and is refused that of the devices, which its parent has used by now."""
    kept = nm.ones(1000)
    with warnings.catch_warnings():
        # Python warns of a fork beside threads, those of drivers included. This child only does what is promised to work.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(CHILD_SECONDS)
        os._exit(_in_child(kept, usable))
    status = os.waitpid(child, 0)[1]
    _must(not os.WIFSIGNALED(status), f"a forked child was ended by signal {status & 127}")
    said = os.waitstatus_to_exitcode(status)
    _must(said != 1, "a forked child cannot use the memory that it inherited")
    _must(said == 0, "a forked child was not refused a device of its parent")
    return "a child has the memory of the host, and no devices" if usable else "a child has the memory of the host"


def _in_child(kept: "nm.Tensor", usable: list[str]) -> int:
    try:
        if kept.tolist() != [1.0] * 1000 or nm.zeros(1000).tolist() != [0.0] * 1000:
            return 1
    except Exception:
        return 1
    for device in usable:
        try:
            kept.to(device)
        except nm.NeuroMemoryError:
            continue
        except Exception:
            pass
        return 2
    return 0
