"""Taking and giving back a block of the device's memory, called from C: our pool through the functions that PyTorch calls, PyTorch's own
allocator, and the driver's (cuMemAllocAsync with its threshold raised, so that it keeps what is freed). All on one stream of torch."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from typing import Any

from lines import DEVICE, QUICK, Skip, check, main
from rounds import at_most, figure, in_turn, ratio, spread

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = 5 if QUICK else 15
SIZES = {"512 B": 512, "64 KiB": 64 << 10, "1 MiB": 1 << 20, "20 MiB": 20 << 20}
# Taken before the first is given back.
BLOCKS = (1, 32)
RELEASE_THRESHOLD = 4  # CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
FLAGS = ("-O2", "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-shared", "-fPIC")


@cache
def loop() -> ctypes.CDLL:
    """loop.c, compiled before or here."""
    ready = os.path.join(HERE, "loop.so")
    if not os.path.exists(ready):
        compiler = shutil.which("cc") or shutil.which("gcc")
        if not compiler:
            raise Skip("loop.so is not there, and no C compiler either")
        ready = os.path.join(tempfile.mkdtemp(prefix="neuro-loop-"), "loop.so")
        done = subprocess.run([compiler, *FLAGS, "-o", ready, os.path.join(HERE, "loop.c")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    loops = ctypes.CDLL(ready)
    for name in ("loop_pluggable", "loop_torch", "loop_driver"):
        getattr(loops, name).restype = ctypes.c_double
    return loops


def turns(size: int, blocks: int) -> int:
    """Of about a quarter of a million blocks, fewer of long ones."""
    return max(1, (50_000 if QUICK or size > 1 << 20 else 250_000) // blocks)


Arm = Callable[[], float]


def counted(call: Callable[[], float]) -> Arm:
    """An arm, in nanoseconds of one block."""

    def arm() -> float:
        took = call()
        assert took > 0, f"out of memory, or a wrong number of blocks: {took}"
        return took

    return arm


def our_arm(scope: Any, stream: int) -> Callable[[int, int], Arm]:
    """The functions that torch calls for a pool of ours."""
    from neuro_memory import _neuro_memory as core

    library = ctypes.CDLL(core.__file__)
    take, give = (ctypes.cast(library[f"neuro_torch_{what}_{scope.slot}"], ctypes.c_void_p) for what in ("alloc", "free"))
    run = loop().loop_pluggable
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64]
    return lambda size, blocks: counted(lambda: run(take, give, size, 0, stream, blocks, turns(size, blocks)))


def torch_arm() -> Callable[[int, int], Arm]:
    """Torch's allocator by its C interface; it takes the current stream."""
    import torch

    library = ctypes.CDLL(os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cuda.so"))
    try:
        named = [library[f"aoti_torch_cuda_caching_allocator_raw_{what}"] for what in ("alloc", "delete")]
    except AttributeError:
        raise Skip(f"torch {torch.__version__} has no C functions for its allocator") from None
    take, give = (ctypes.cast(function, ctypes.c_void_p) for function in named)
    run = loop().loop_torch
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint64]
    return lambda size, blocks: counted(lambda: run(take, give, size, blocks, turns(size, blocks)))


def driver_arm(stream: int) -> Callable[[int, int], Arm]:
    """The driver's allocator, whose pool keeps all it has."""
    driver = ctypes.CDLL("libcuda.so.1")
    pool, everything = ctypes.c_void_p(), ctypes.c_uint64((1 << 64) - 1)
    assert driver.cuDeviceGetDefaultMemPool(ctypes.byref(pool), 0) == 0
    assert driver.cuMemPoolSetAttribute(pool, RELEASE_THRESHOLD, ctypes.byref(everything)) == 0
    take, give = (ctypes.cast(driver[name], ctypes.c_void_p) for name in ("cuMemAllocAsync", "cuMemFreeAsync"))
    run = loop().loop_driver
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64]
    return lambda size, blocks: counted(lambda: run(take, give, size, stream, blocks, max(1, turns(size, blocks) // 10)))


@check("torch", "cuda", limit=90)
def taking_and_giving_back() -> list[dict[str, Any]]:
    import torch

    import neuro_memory as nm

    lines = []
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.ones(1, device="cuda")  # it begins, and its context is current
        scope = nm.hooks.torch(nm.MemoryPool(device=DEVICE))
        makers: dict[str, Callable[[int, int], Arm]] = {"ours": our_arm(scope, side.cuda_stream), "driver": driver_arm(side.cuda_stream)}
        try:
            makers["torch"] = torch_arm()
        except Skip as why:
            lines.append({"check": "alloc + free beside torch", "skipped": str(why)})
        for name, size in SIZES.items():
            for blocks in BLOCKS:
                times = in_turn({arm: make(size, blocks) for arm, make in makers.items()}, ROUNDS)
                lines += compared(f"{name}, {blocks} at a time", times)
    torch.cuda.synchronize()
    return lines


def compared(name: str, times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Ours, and beside the others."""
    medians = {arm: f"{spread(took).median:.0f} ns" for arm, took in times.items()}
    lines = [at_most(f"pool alloc + free, {name}", spread(times["ours"]), 100, unit="ns")]
    if "torch" in times:
        beside = f"ours {medians['ours']}, torch {medians['torch']}"
        lines.append(at_most(f"alloc + free ÷ torch's, {name}", ratio(times["ours"], times["torch"]), 0.2, beside))
        lines.append(figure(f"torch's alloc + free, {name}", spread(times["torch"]), "ns"))
    beside = f"ours {medians['ours']}, driver {medians['driver']}"
    lines.append(at_most(f"alloc + free ÷ cuMemAllocAsync, {name}", ratio(times["ours"], times["driver"]), 0.1, beside))
    return lines


if __name__ == "__main__":
    main()
