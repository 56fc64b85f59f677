"""Our pool under Numba: its memory manager, for good and before the first use of the device, so that this is a program of its own."""

from functools import cache
from typing import Any

from lines import DEVICE, check, main, python

MIB = 1 << 20


@cache
def hooked() -> Any:
    """The pool that Numba has its memory from."""
    import neuro_memory as nm

    pool = nm.MemoryPool(256 * MIB, device=DEVICE)
    nm.hooks.numba.install(pool)
    assert nm.hooks.numba.installed
    return pool


@check("numba", "cuda", limit=30)
def numbas_arrays_lie_in_the_pool() -> dict[str, str]:
    import gc

    import numpy as np
    from numba import cuda

    pool = hooked()
    values = np.arange(100_000, dtype="float32")
    cuda.to_device(values)  # what Numba keeps for good
    gc.collect()
    before = pool.stats().live_blocks
    array = cuda.to_device(values)
    empty = cuda.device_array((1000, 1000), "float32")
    assert pool.stats().live_blocks == before + 2 and pool.stats().live_bytes >= 4_400_000
    assert np.array_equal(array.copy_to_host(), values)
    empty.copy_to_device(np.ones((1000, 1000), "float32"))
    assert float(empty.copy_to_host().sum()) == 1e6
    part = array[10:]
    del array
    assert np.array_equal(part.copy_to_host(), values[10:])
    free, total = cuda.current_context().get_memory_info()
    assert 0 <= free <= total
    del part, empty
    gc.collect()
    cuda.current_context().deallocations.clear()
    assert pool.stats().live_blocks == before, f"{pool.stats().live_blocks - before} blocks are left"
    return {"detail": f"memory info: {free >> 20} of {total >> 20} MiB free"}


@check("numba", "cuda", limit=30)
def numbas_out_of_memory() -> dict[str, str]:
    from numba import cuda

    hooked()
    try:
        cuda.device_array(512 * MIB, "uint8")
    except Exception as error:  # whatever Numba makes of it
        said = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        assert "memory" in str(error).lower(), said
    else:
        raise AssertionError("512 MiB from a pool of 256")
    assert cuda.device_array(100 * MIB, "uint8").size == 100 * MIB
    return {"detail": said}


@check("numba", "cuda", limit=60)
def numba_too_late_and_at_the_end() -> dict[str, str]:
    late = "from numba import cuda; import numpy as np; x = cuda.to_device(np.ones(9)); import neuro_memory as nm\n"
    late += "try: nm.hooks.numba.install(nm.MemoryPool(device='cuda:0'))\nexcept RuntimeError as error: print('refused:', error)"
    done = python("-W", "ignore", "-c", late)
    assert done.returncode == 0 and "refused:" in done.stdout, (done.stdout, done.stderr[-1000:])
    end = "import neuro_memory as nm\nnm.hooks.numba.install(nm.MemoryPool(device='cuda:0'))\n"
    end += "from numba import cuda; import numpy as np; x = [cuda.to_device(np.ones(9))]; x.append(x)"
    ended = python("-W", "ignore", "-c", end)
    assert (ended.returncode, ended.stderr) == (0, ""), (ended.returncode, ended.stderr[-1500:])
    return {"detail": done.stdout.strip()[:200]}


if __name__ == "__main__":
    main()
