"""Page-locked memory: ours in other libraries' hands, theirs in ours, and NumPy arrays that lie in such a pool of ours."""

import time
from typing import Any

from lines import DEVICE, ON_HOST, Skip, check, main

LARGE = 64 << 20  # elements of float32: long enough that the time of a call and the time of its copy are far apart


def pinned_pool() -> Any:
    """A pool of page-locked memory."""
    import neuro_memory as nm

    pool = nm.MemoryPool(1 << 30, gpu_support=True)
    if not ON_HOST and DEVICE not in pool.gpu_support:
        raise AssertionError(f"a pool with GPU support names {pool.gpu_support}, not {DEVICE}: {pool.gpu_support_reason}")
    return pool


def returns_at_once(copy: Any, settled: Any) -> str:
    """A copy is under way when the call returns: what pageable memory cannot have. The best of some, since others use the machine."""
    shares = []
    for _ in range(4):
        settled()
        begin = time.perf_counter()
        kept = copy()
        asked = time.perf_counter() - begin
        settled()
        shares.append(asked / (time.perf_counter() - begin))
        del kept
    assert min(shares) < 0.5, f"the call took {min(shares):.0%} of the copy's time: the host waits for it"
    return f"the call takes {min(shares):.1%} of the copy's time"


@check("torch", "device")
def torch_takes_our_pinned_tensors() -> None:
    import numpy as np
    import torch
    from exchange import sample

    values = sample("float32")
    mine = pinned_pool().empty(values.shape)
    mine.copy_from(values)
    # Not by the number of page-locked memory: torch takes none of that, and finds out itself.
    assert mine.__dlpack_device__() == (1, 0)
    theirs = torch.from_dlpack(mine)
    assert theirs.device.type == "cpu" and theirs.data_ptr() == mine.data_ptr and np.array_equal(theirs.numpy(), values)
    theirs.mul_(2)
    assert np.array_equal(mine.numpy(), 2 * values)
    if ON_HOST:
        return
    assert mine.is_pinned and theirs.is_pinned() and theirs[3:, 5:].is_pinned(), "torch does not see that the memory is page-locked"
    assert np.array_equal(theirs.to(DEVICE, non_blocking=True).cpu().numpy(), 2 * values)


@check("torch", "cuda")
def torch_copies_from_it_without_waiting() -> dict[str, str]:
    import torch

    mine = pinned_pool().empty(LARGE)
    mine.fill(3)
    theirs = torch.from_dlpack(mine)
    there = torch.empty(LARGE, device=DEVICE)
    said = returns_at_once(lambda: there.copy_(theirs, non_blocking=True), torch.cuda.synchronize)
    assert there.eq(3).all()
    there.fill_(4)
    back = returns_at_once(lambda: theirs.copy_(there, non_blocking=True), torch.cuda.synchronize)
    assert mine.numpy().min() == mine.numpy().max() == 4
    return {"detail": f"to the device: {said}; back: {back}"}


@check("torch", "device")
def we_take_torchs_pinned_tensors() -> None:
    import numpy as np
    import torch
    from exchange import our_values, sample

    import neuro_memory as nm

    values = sample("float32")
    theirs = torch.from_numpy(values.copy())
    theirs = theirs if ON_HOST else theirs.pin_memory()
    mine = nm.from_dlpack(theirs)
    assert mine.device == "cpu" and mine.data_ptr == theirs.data_ptr() and np.array_equal(mine.numpy(), values)
    there = mine.to(DEVICE)
    assert np.array_equal(our_values(there), values)
    mine.copy_from(there.to("cpu").numpy() * 3)
    assert np.array_equal(theirs.numpy(), 3 * values)
    del theirs
    assert np.array_equal(mine.numpy(), 3 * values), "torch gave the memory back under us"


@check("torch", "cuda")
def arrays_of_numpy_in_a_pinned_pool() -> dict[str, str]:
    """What users gain without a line changed: `.to("cuda", non_blocking=True)` of arrays does not wait."""
    import numpy as np
    import torch

    import neuro_memory as nm

    with nm.hooks.numpy(pinned_pool()):
        array = np.full(LARGE, 5, "float32")
    theirs = torch.from_numpy(array)
    assert theirs.is_pinned(), "an array of the pool is not page-locked to torch"
    said = returns_at_once(lambda: theirs.to("cuda", non_blocking=True), torch.cuda.synchronize)
    there = theirs.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    assert there.eq(5).all()
    return {"detail": said}


@check("torch", "cuda")
def tensors_in_what_small_ones_had_locked_before() -> None:
    """A single copy of others, which knows nothing of how the pool's memory was locked."""
    import torch

    pool = pinned_pool()
    for size in (3 << 20, 5 << 20, 20 << 20, 7 << 20, 50 << 20):
        parts = [pool.empty(size // 8, "uint8") for _ in range(8)]
        del parts
        mine = pool.empty(size, "uint8")
        mine.fill(7)
        there = torch.from_dlpack(mine).to(DEVICE, non_blocking=True)
        torch.cuda.synchronize()
        assert there.eq(7).all(), size
        assert mine.to(DEVICE).to("cpu").numpy().min() == 7, size


@check("cupy", "cuda")
def cupy_copies_from_ours_and_we_from_cupys() -> None:
    import cupy
    import cupyx
    import numpy as np
    from exchange import our_values, sample

    import neuro_memory as nm

    values = sample("float32")
    mine = pinned_pool().empty(values.shape)
    mine.copy_from(values)
    side = cupy.cuda.Stream(non_blocking=True)
    there = cupy.empty(values.shape, "float32")
    there.set(mine.numpy(), stream=side)
    side.synchronize()
    assert np.array_equal(cupy.asnumpy(there), values)
    (there * 2).get(out=mine.numpy())
    assert np.array_equal(mine.numpy(), 2 * values)
    theirs = cupyx.empty_like_pinned(values)
    theirs[...] = values
    taken = nm.asarray(theirs, copy=False)
    assert taken.data_ptr == theirs.ctypes.data and np.array_equal(our_values(taken.to(DEVICE)), values)


@check("torch", "device")
def who_asks_for_pinned_memory_by_its_number() -> dict[str, str]:
    """A consumer that names kDLCUDAHost, as DLPack calls page-locked memory."""
    from exchange import all_back, live_blocks, refused

    import neuro_memory as nm

    before = live_blocks()
    mine = pinned_pool().zeros(8)
    if ON_HOST:
        raise Skip("needs a CUDA device: nothing is page-locked without one")
    kinds = {}
    for asked in (None, (1, 0), (3, 0)):
        capsule = mine.__dlpack__(dl_device=asked, max_version=(1, 0))
        kinds[asked] = device_of(capsule)
        same = nm.from_dlpack(capsule)
        assert same.data_ptr == mine.data_ptr and same.device == "cpu", asked
        del same, capsule
    assert kinds == {None: (1, 0), (1, 0): (1, 0), (3, 0): (3, 0)}, kinds
    said = refused(lambda: nm.zeros(8).__dlpack__(dl_device=(3, 0), copy=False))
    del mine
    all_back(before)
    return {"detail": f"{kinds}; pageable memory: {said}"}


def device_of(capsule: Any) -> tuple[int, int]:
    """What a versioned capsule says of its device: behind version, context, deleter, flags and address."""
    import ctypes

    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    managed = get(capsule, b"dltensor_versioned")
    return ctypes.c_int32.from_address(managed + 40).value, ctypes.c_int32.from_address(managed + 44).value


if __name__ == "__main__":
    main()
