"""`hooks.torch`, `cupy`, `rmm`, `numba`, `cuda_core`: CUDA pools as allocators of frameworks.

numba-cuda and cuda.core run as they are. PyTorch, CuPy and RMM need a driver that is one: stand-ins make the calls that those make, with the same types,
through the same file. What needs a CUDA device is SKIPPED without one, unless NEURO_REQUIRE_CUDA is set.
"""

import contextlib
import ctypes
import gc
import re
import subprocess
import sys
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cuda_calls import Driver

import neuro_memory as nm
from neuro_memory import _neuro_memory as core
from neuro_memory.hooks._cupy import CupyHook
from neuro_memory.hooks._rmm import RmmHook
from neuro_memory.hooks._torch import TorchHook

HOOKS = ("torch", "cupy", "rmm", "numba", "cuda_core")
WORDS = 1000
BYTES = 4 * WORDS


@pytest.fixture
def driver(cuda: None) -> Iterator[Driver]:
    made = Driver()
    yield made
    gc.collect()
    made.close()


def pool_of(limit: int = 1 << 20) -> nm.MemoryPool:
    return nm.MemoryPool(limit, device="cuda:0")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


# ---- everywhere ---------------------------------------------------------------------------------------------------


def test_no_framework_is_imported_before_it_is_hooked():
    code = "import sys, neuro_memory.hooks as h; print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'cupy', 'rmm', 'numba', 'cuda'}))"
    assert run(code) == "[]"


@pytest.mark.parametrize("name", HOOKS)
def test_a_framework_that_is_missing_is_named(monkeypatch, name):
    for module in ("torch", "cupy", "rmm", "numba", "numba.cuda", "cuda", "cuda.core"):
        monkeypatch.setitem(sys.modules, module, None)
    hook = getattr(nm.hooks, name)
    with pytest.raises(ImportError, match=f"hooks.{name} needs "):
        hook.install(None)
    assert hook.installed is False


def test_what_is_no_pool_of_a_cuda_device_is_refused(monkeypatch):
    fake_torch(monkeypatch)
    for hook in (TorchHook(), TorchHook().install):
        with pytest.raises(TypeError, match="pool must be a MemoryPool or None, not int"):
            hook(7)
        with pytest.raises(ValueError, match="the pool is of cpu, and memory of a CUDA device is needed"):
            hook(nm.MemoryPool())
    for make in (core._CudaHook, lambda pool: core._TorchSlot(pool, False)):
        with pytest.raises(ValueError, match="the pool is of cpu"):
            make(nm.MemoryPool())


# ---- hooks of one's own -------------------------------------------------------------------------------------------


def test_blocks_go_back_by_their_address(driver):
    pool, stream, side = pool_of(), driver.stream(), driver.stream()
    hook = core._CudaHook(pool)
    first = hook.allocate(BYTES, stream)
    assert first % 256 == 0 and hook.live_blocks == pool.stats().live_blocks == 1
    driver.fill(first, 1, WORDS, stream)
    hook.free(first)
    assert hook.allocate(BYTES, stream) == first  # at once
    driver.synchronize(stream)
    driver.fill(first, 2, WORDS, side)
    hook.record_stream(first, side)
    hook.free(first, stream)
    again = hook.allocate(BYTES, stream)
    driver.fill(again, 3, WORDS, stream)
    refused = nm.hooks.refused_frees()
    with pytest.raises(nm.NeuroMemoryError, match="no live block of this hook"):
        hook.free(again + 256)
    assert nm.hooks.refused_frees() == refused + 1
    with pytest.raises(nm.OutOfMemoryError, match="limit 1048576 B"):
        hook.allocate(2 << 20, stream)
    hook.free(again)
    block = hook.block(BYTES, stream)
    assert pool.stats().live_blocks == 1 and block.ptr
    del block
    assert hook.allocate(0, stream) == 0 and pool.stats().live_blocks == 0


def test_who_owns_a_stream_is_kept_while_it_is_known(driver):
    class Owner:
        pass

    hook, stream, owner = core._CudaHook(pool_of()), driver.stream(), Owner()
    gone = weakref.ref(owner)
    hook.free(hook.allocate(BYTES, stream, owner))
    del owner
    gc.collect()
    assert gone() is not None
    hook.forget_stream(stream)
    gc.collect()
    assert gone() is None


# ---- PyTorch ------------------------------------------------------------------------------------------------------

ALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
FREE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
RECORD = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
RESET = ctypes.CFUNCTYPE(None)


class FakeRawAllocator:
    """`torch._C._cuda_CUDAAllocator`."""

    def __init__(self) -> None:
        self.set: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        if name in ("set_record_stream_fn", "set_reset_fn", "set_begin_allocate_to_pool"):
            return lambda address: self.set.__setitem__(name, address)
        raise AttributeError(name)


class FakeAllocator:
    """`torch.cuda.memory.CUDAPluggableAllocator`, which finds its functions as the real one does."""

    def __init__(self, path_to_so_file: str, alloc_fn_name: str, free_fn_name: str) -> None:
        library = ctypes.CDLL(path_to_so_file)
        self.alloc = ALLOC(ctypes.cast(getattr(library, alloc_fn_name), ctypes.c_void_p).value)
        self.free = FREE(ctypes.cast(getattr(library, free_fn_name), ctypes.c_void_p).value)
        self._raw = FakeRawAllocator()
        self._raw.owner = self

    def allocator(self) -> FakeRawAllocator:
        return self._raw


def fake_torch(monkeypatch, initialized: bool = False) -> types.ModuleType:
    torch, cuda, memory = (types.ModuleType(name) for name in ("torch", "torch.cuda", "torch.cuda.memory"))
    torch.__version__, torch.cuda, cuda.memory = "0.0", cuda, memory
    cuda.log = []

    class MemPool:
        def __init__(self, allocator: FakeRawAllocator) -> None:
            self.allocator = allocator.owner

    @contextlib.contextmanager
    def use_mem_pool(mem_pool, device=None):
        cuda.log.append(("begin", mem_pool, device))
        yield
        cuda.log.append(("end", mem_pool, device))

    cuda.MemPool, cuda.use_mem_pool = MemPool, use_mem_pool
    cuda.device = lambda device: contextlib.nullcontext()
    cuda.current_device = lambda: 0
    cuda.is_initialized = lambda: initialized
    memory.CUDAPluggableAllocator = FakeAllocator
    memory.change_current_allocator = lambda allocator: cuda.log.append(("changed", allocator))
    for module in (torch, cuda, memory):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return torch


def test_a_scope_of_torch_is_a_mem_pool_over_the_pool(monkeypatch, driver):
    torch, pool, stream = fake_torch(monkeypatch), pool_of(), driver.stream()
    scope = TorchHook()(pool)
    other = TorchHook()(pool)
    assert scope.slot == other.slot, "one pool, one number"
    with scope as entered, scope:
        assert entered is pool
        assert [what for what, *_ in torch.cuda.log] == ["begin", "begin"]
        assert torch.cuda.log[0][1:] == (scope.mem_pool, 0)
    assert [what for what, *_ in torch.cuda.log] == ["begin", "begin", "end", "end"]
    with pytest.raises(RuntimeError, match="not entered in this thread"):
        scope.__exit__(None, None, None)

    functions = scope.mem_pool.allocator
    block = functions.alloc(BYTES, 0, stream)
    driver.fill(block, 1, WORDS, stream)
    assert pool.stats().live_blocks == 1
    assert functions.alloc(2 << 20, 0, stream) is None, "torch looks, and asks again"
    # The number stays bound while a block lives.
    mem_pool, number = scope.mem_pool, scope.slot
    del scope, other, mem_pool
    torch.cuda.log.clear()
    gc.collect()
    functions.free(block, BYTES, 0, stream)
    assert pool.stats().live_blocks == 0
    assert TorchHook()(pool_of()).slot == number, "and is free afterwards"


def test_torch_is_installed_once_and_before_it_uses_cuda(monkeypatch, driver):
    torch, pool, stream, side = fake_torch(monkeypatch), pool_of(), driver.stream(), driver.stream()
    hook = TorchHook()
    assert not hook.installed
    assert hook.install(pool) is pool and hook.install(pool) is pool and hook.installed
    with pytest.raises(RuntimeError, match="another pool is installed"):
        hook.install(pool_of())
    [(_, allocator)] = torch.cuda.log
    library = ctypes.CDLL(core.__file__)
    number = hook._installed[1].number

    def address(name):
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value

    registered = allocator.allocator().set
    assert registered == {
        "set_record_stream_fn": address(f"neuro_torch_record_stream_{number}"),
        "set_reset_fn": address(f"neuro_torch_empty_cache_{number}"),
        "set_begin_allocate_to_pool": address("neuro_torch_refuse_graph"),
    }
    block = allocator.alloc(BYTES, 0, stream)
    driver.fill(block, 1, WORDS, stream)
    driver.synchronize(stream)
    driver.fill(block, 2, WORDS, side)
    RECORD(registered["set_record_stream_fn"])(block, side)
    allocator.free(block, BYTES, 0, stream)
    again = allocator.alloc(BYTES, 0, stream)
    driver.fill(again, 3, WORDS, stream)
    allocator.free(again, BYTES, 0, stream)
    driver.synchronize(stream)
    driver.synchronize(side)
    assert pool.stats().committed_bytes > 0
    RESET(registered["set_reset_fn"])()
    assert pool.stats().committed_bytes == 0


def test_torch_that_used_cuda_is_left_alone(monkeypatch, cuda):
    torch = fake_torch(monkeypatch, initialized=True)
    with pytest.raises(RuntimeError, match="PyTorch has used CUDA already"):
        TorchHook().install(pool_of())
    torch.cuda.is_initialized = lambda: False

    def refuse(allocator):
        raise RuntimeError("Can't swap an already initialized allocator")

    torch.cuda.memory.change_current_allocator = refuse
    hook = TorchHook()
    with pytest.raises(RuntimeError, match="does not change its allocator any more .Can't swap"):
        hook.install(pool_of())
    assert not hook.installed and torch.cuda.log == []
    del torch.cuda.MemPool
    with pytest.raises(RuntimeError, match="needs torch.cuda.MemPool, which PyTorch 0.0 has not"):
        hook(pool_of())


def test_a_seventeenth_pool_is_refused(cuda):
    pools = [pool_of() for _ in range(17)]
    slots = [core._TorchSlot(pool, False) for pool in pools[:16]]
    assert sorted(slot.number for slot in slots) == list(range(16))
    with pytest.raises(nm.NeuroMemoryError, match="16 pools are bound"):
        core._TorchSlot(pools[16], False)
    del slots[3]
    assert core._TorchSlot(pools[16], True).number == 3


# ---- CuPy ---------------------------------------------------------------------------------------------------------


class FakeStream:
    def __init__(self, ptr: int) -> None:
        self.ptr = ptr


def fake_cupy(monkeypatch) -> types.ModuleType:
    cupy, cuda = types.ModuleType("cupy"), types.ModuleType("cupy.cuda")
    cupy.cuda, cuda.allocator, cuda.stream, cuda.device = cuda, "its own", FakeStream(0), 0

    class UnownedMemory:
        def __init__(self, ptr, size, owner, device_id=-1):
            self.ptr, self.size, self._owner, self.device_id = ptr, size, owner, device_id

    class MemoryPointer:
        def __init__(self, mem, offset):
            self.mem, self.ptr = mem, mem.ptr + offset

    @contextlib.contextmanager
    def using_allocator(allocator=None):
        before, cuda.allocator = cuda.allocator, allocator
        yield
        cuda.allocator = before

    cuda.UnownedMemory, cuda.MemoryPointer, cuda.using_allocator = UnownedMemory, MemoryPointer, using_allocator
    cuda.runtime = types.SimpleNamespace(getDevice=lambda: cuda.device)
    cuda.get_current_stream = lambda: cuda.stream
    cuda.get_allocator = lambda: cuda.allocator
    cuda.set_allocator = lambda allocator: setattr(cuda, "allocator", allocator)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


def test_cupy_allocates_in_the_order_of_its_current_stream(monkeypatch, driver):
    cupy, pool, hook = fake_cupy(monkeypatch), pool_of(), CupyHook()
    streams = [FakeStream(driver.stream()) for _ in range(7)]
    with hook(pool) as entered:
        assert entered is pool
        for value in range(30):
            cupy.cuda.stream = streams[value % 7]
            pointer = cupy.cuda.allocator(BYTES)
            assert (pointer.mem.size, pointer.mem.device_id, pool.stats().live_blocks) == (BYTES, 0, 1)
            driver.fill(pointer.ptr, value, WORDS, cupy.cuda.stream.ptr)
            if value % 5 == 0:
                side = streams[(value + 1) % 7]
                driver.synchronize(cupy.cuda.stream.ptr)
                driver.fill(pointer.ptr, value, WORDS, side.ptr)
                hook.record_stream(types.SimpleNamespace(data=pointer), side)
            del pointer
        assert cupy.cuda.allocator(0).ptr == 0
        with pytest.raises(nm.OutOfMemoryError):
            cupy.cuda.allocator(2 << 20)
        cupy.cuda.device = 1
        with pytest.raises(RuntimeError, match="memory of cuda:1 was asked for"):
            cupy.cuda.allocator(8)
        foreign = types.SimpleNamespace(data=types.SimpleNamespace(mem=types.SimpleNamespace(ptr=256)))
        with pytest.raises(ValueError, match="is not from a hooked pool"):
            hook.record_stream(foreign, streams[0])
    assert cupy.cuda.allocator == "its own"
    cupy.cuda.stream = None


def test_cupy_is_installed_and_uninstalled(monkeypatch, cuda):
    cupy, pool, hook = fake_cupy(monkeypatch), pool_of(), CupyHook()
    assert hook.install(pool) is pool and hook.installed
    array = cupy.cuda.allocator(BYTES)
    hook.install(pool_of())
    hook.uninstall()
    hook.uninstall()
    assert cupy.cuda.allocator == "its own" and not hook.installed
    assert pool.stats().live_blocks == 1, "arrays outlive it"
    del array
    assert pool.stats().live_blocks == 0


# ---- RMM ----------------------------------------------------------------------------------------------------------


def test_rmm_takes_the_pool_as_a_resource(monkeypatch, driver):
    rmm = types.ModuleType("rmm")
    resources = {0: "its own"}

    class CallbackMemoryResource:
        def __init__(self, allocate_func, deallocate_func):
            self.allocate, self.deallocate = allocate_func, deallocate_func

    rmm.mr = types.SimpleNamespace(
        CallbackMemoryResource=CallbackMemoryResource,
        get_per_device_resource=resources.__getitem__,
        set_per_device_resource=resources.__setitem__,
    )
    monkeypatch.setitem(sys.modules, "rmm", rmm)
    raw, pool, hook = driver.stream(), pool_of(), RmmHook()
    stream = types.SimpleNamespace(__cuda_stream__=lambda: (0, raw))
    with hook(pool):
        resource = resources[0]
        ptr = resource.allocate(BYTES, stream)
        driver.fill(ptr, 1, WORDS, raw)
        assert pool.stats().live_blocks == 1
        with pytest.raises(MemoryError):  # which RMM makes std::bad_alloc of
            resource.allocate(2 << 20, stream)
        resource.deallocate(ptr, BYTES, stream)
        with pytest.warns(RuntimeWarning, match="no live block of this hook"):
            resource.deallocate(ptr, BYTES, stream)
    assert resources[0] == "its own"
    assert hook.install(pool) is pool and hook.installed and resources[0] != "its own"
    hook.uninstall()
    assert resources[0] == "its own" and not hook.installed
    assert isinstance(hook.resource(pool), CallbackMemoryResource)


# ---- numba-cuda and cuda.core, as they are ------------------------------------------------------------------------


def test_numba_runs_on_a_pool(cuda):
    run("""
import numpy as np, pytest, neuro_memory as nm
from numba import cuda
pool = nm.MemoryPool(1 << 20, device="cuda:0")
hook = nm.hooks.numba
assert hook.install(pool) is pool and hook.install(pool) is pool and hook.installed
x = np.arange(1000, dtype="float32")
there = cuda.to_device(x)
assert pool.stats().live_blocks == 1 and (there.copy_to_host() == x).all()
streams = [0, cuda.stream(), cuda.stream()]
for round in range(30):
    on = streams[round % 3]
    array = cuda.device_array(1000, "float32", stream=on)
    array.copy_to_device(x + round, stream=on)
    if round % 4 == 0:
        back = array.copy_to_host(stream=on)
        cuda.synchronize()
        assert (back == x + round).all()
    del array
assert cuda.current_context().get_memory_info() == ((1 << 20) - pool.stats().live_bytes, 1 << 20)
with pytest.raises(nm.OutOfMemoryError, match="limit 1048576 B"):
    cuda.device_array(2 << 20, "uint8")
with pytest.raises(NotImplementedError, match="IPC"):
    there.get_ipc_handle()
with pytest.raises(RuntimeError, match="Numba uses a device already"):
    hook.install(nm.MemoryPool(1 << 20, device="cuda:0"))
del there
cuda.synchronize()
assert pool.stats().live_blocks == 0 and nm.hooks.refused_frees() == 0
""")


def test_cuda_core_runs_on_a_pool(cuda):
    run("""
import gc, pytest, neuro_memory as nm
from cuda.core import Device, MemoryResource
pool = nm.MemoryPool(1 << 20, device="cuda:0")
device = Device(0)
device.set_current()
hook = nm.hooks.cuda_core
resource = hook.resource(pool)
assert isinstance(resource, MemoryResource)
assert (resource.device_id, resource.is_device_accessible, resource.is_host_accessible) == (0, True, False)
streams = [device.create_stream() for _ in range(7)]
for round in range(30):
    on = streams[round % 7]
    buffer = resource.allocate(4000, stream=on)
    assert (buffer.size, pool.stats().live_blocks, buffer.device_id) == (4000, 1, 0)
    buffer.fill(round, stream=on)
    if round % 3 == 0:
        on.sync()
        buffer.fill(7, stream=streams[(round + 1) % 7])
        buffer.close(streams[(round + 1) % 7])
    elif round % 3 == 1:
        buffer.close()
    del buffer
gc.collect()
assert pool.stats().live_blocks == 0
assert resource.allocate(0, stream=streams[0]).size == 0
with pytest.raises(nm.OutOfMemoryError, match="limit 1048576 B"):
    resource.allocate(2 << 20, stream=streams[0])
small = nm.MemoryPool(1 << 20, device="cuda:0")
hook.install(pool)
with hook(small):
    inside = device.allocate(100, stream=streams[0])
    assert small.stats().live_blocks == 1
device.allocate(100, stream=streams[0]).close()
assert hook.installed and pool.stats().total_allocations > 30
inside.close()
for stream in streams:
    stream.sync()
assert small.stats().live_blocks == pool.stats().live_blocks == 0 and nm.hooks.refused_frees() == 0
""")


def test_what_the_document_shows(cuda):
    page = Path(__file__).parents[2] / "docs" / "hooks.md"
    if not page.exists():
        pytest.skip("a bundle for a card has no documents")
    text = page.read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(programs) == 6
    ran = [run(program) for program in programs if compile(program, "docs/hooks.md", "exec") and re.search("numba|cuda_core", program)]
    assert len(ran) == 2
