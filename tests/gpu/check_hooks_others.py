"""Our pools under CuPy, RMM and cuda.core."""

from typing import Any

from lines import DEVICE, check, main

MIB = 1 << 20


def our_pool(limit: int = 256 * MIB) -> Any:
    """A pool of the check's own."""
    import neuro_memory as nm

    return nm.MemoryPool(limit, device=DEVICE)


def out_of_memory(call: Any, *kinds: type[BaseException]) -> str:
    """What the error says that tells of too little memory."""
    try:
        call()
    except kinds as error:
        assert "memory" in str(error).lower(), error
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    raise AssertionError("there was more memory than the pool's limit")


@check("cupy", "cuda", limit=30)
def cupys_arrays_lie_in_the_pool() -> dict[str, str]:
    import gc

    import cupy

    import neuro_memory as nm

    pool = our_pool()
    outside = cupy.ones(1000, "float32")
    with nm.hooks.cupy(pool) as inside:
        assert inside.stats() == pool.stats()
        array = cupy.arange(100_000, dtype="float64")
        assert pool.stats().live_blocks >= 1 and pool.stats().live_bytes >= 800_000
        assert float(array.sum()) == 100_000 * 99_999 / 2
        assert cupy.array_equal((array.reshape(100, 1000) @ cupy.ones((1000, 3)))[0], cupy.full(3, 499_500.0))
        said = out_of_memory(lambda: cupy.empty(512 * MIB, "uint8"), MemoryError)
        assert cupy.empty(100 * MIB, "uint8").size  # it goes on
    live = pool.stats().live_bytes
    after = cupy.ones(1000, "float32")
    assert pool.stats().live_bytes == live and float((outside + after).sum()) == 2000
    part = array[5:]
    del array
    assert float(part[0]) == 5.0
    del part
    gc.collect()
    # What libraries below CuPy keep is kept in its own pool, or for as long as the process is.
    assert pool.stats().live_blocks == 0, f"{pool.stats().live_blocks} blocks of {pool.stats().live_bytes} bytes are left"
    return {"detail": said}


@check("cupy", "cuda", limit=30)
def cupy_in_the_whole_process_and_no_more() -> None:
    import threading

    import cupy

    import neuro_memory as nm

    pool = our_pool()
    nm.hooks.cupy.install(pool)
    assert nm.hooks.cupy.installed
    wrong: list[BaseException] = []

    def work(number: int) -> None:
        try:
            stream = cupy.cuda.Stream(non_blocking=True)
            with stream:
                for turn in range(50):
                    arrays = [cupy.full(1000 * (turn % 7 + 1), number * 100 + turn, "float32") for _ in range(4)]
                    for array in arrays:
                        assert bool((array == number * 100 + turn).all())
            stream.synchronize()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    assert pool.stats().total_allocations >= 5 * 50 * 4
    nm.hooks.cupy.uninstall()
    assert not nm.hooks.cupy.installed
    total = pool.stats().total_allocations
    assert float(cupy.ones(10).sum()) == 10 and pool.stats().total_allocations == total


def cupy_side_stream(recorded: bool) -> int:
    """Of some tries, those in which an array that a side stream still read was overwritten."""
    import cupy
    from slow import COUNT, cupy_copy

    import neuro_memory as nm

    spoiled = 0
    first, side = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    with nm.hooks.cupy(our_pool()):
        for seconds in (0.0, 0.03, 0.03, 0.03, 0.03):
            with first:
                given, seen = cupy.ones(COUNT, "float32"), cupy.zeros(COUNT, "float32")
            first.synchronize()
            with side:
                cupy_copy(given, seen, seconds)
            if recorded:
                nm.hooks.cupy.record_stream(given, side)
            del given
            with first:
                others = [cupy.full(COUNT, 2, "float32") for _ in range(4)]
            first.synchronize()
            side.synchronize()
            spoiled += not bool((seen == 1).all())
            del others, seen
    return spoiled


@check("cupy", "cuda", limit=30)
def cupys_side_stream_is_waited_for_when_recorded() -> dict[str, str]:
    spoiled, without = cupy_side_stream(True), cupy_side_stream(False)
    assert not spoiled, f"{spoiled} arrays were overwritten while a side stream read them"
    return {"detail": f"recorded 0 of 5; not recorded: {without} of 5 overwritten"}


@check("rmm", "cuda", limit=30)
def rmms_buffers_lie_in_the_pool() -> dict[str, str]:
    import gc

    import rmm

    import neuro_memory as nm

    pool = our_pool()
    stream = rmm.pylibrmm.stream.Stream()
    with nm.hooks.rmm(pool):
        buffer = rmm.DeviceBuffer.to_device(bytes(range(256)))
        other = rmm.DeviceBuffer(size=5 * MIB, stream=stream)
        assert pool.stats().live_blocks == 2 and pool.stats().live_bytes >= 5 * MIB
        assert buffer.tobytes() == bytes(range(256))
        other.resize(9 * MIB, stream=stream)
        said = out_of_memory(lambda: rmm.DeviceBuffer(size=512 * MIB), MemoryError, RuntimeError)
    kept = rmm.DeviceBuffer(size=100, mr=nm.hooks.rmm.resource(pool))
    assert pool.stats().live_blocks == 3
    del buffer, other, kept
    gc.collect()
    assert pool.stats().live_blocks == 0
    nm.hooks.rmm.install(pool)
    again = rmm.DeviceBuffer(size=100)
    assert nm.hooks.rmm.installed and pool.stats().live_blocks == 1
    nm.hooks.rmm.uninstall()
    del again
    assert pool.stats().live_blocks == 0 and rmm.DeviceBuffer(size=100).size == 100
    return {"detail": said}


@check("cuda.core", "cuda", limit=30)
def cuda_cores_buffers_lie_in_the_pool() -> dict[str, str]:
    import gc

    from interface import core

    import neuro_memory as nm

    pool = our_pool()
    device = core().Device(0)
    device.set_current()
    stream = device.create_stream()
    resource = nm.hooks.cuda_core.resource(pool)
    assert resource.is_device_accessible and not resource.is_host_accessible and resource.device_id == 0
    buffers = [resource.allocate(size, stream=stream) for size in (1000, 1 * MIB, 3 * MIB)]
    assert pool.stats().live_blocks == 3 and buffers[1].size == MIB
    for number, buffer in enumerate(buffers):
        copy_back(buffer, number + 1, stream)
    said = out_of_memory(lambda: resource.allocate(512 * MIB, stream=stream), MemoryError, RuntimeError, Exception)
    buffers.pop().close(stream)
    buffers.clear()
    gc.collect()
    assert pool.stats().live_blocks == 0
    before = device.memory_resource
    with nm.hooks.cuda_core(pool):
        inside = device.allocate(1000, stream=stream)
        assert pool.stats().live_blocks == 1
    assert device.memory_resource is before or type(device.memory_resource) is type(before)
    inside.close(stream)
    assert pool.stats().live_blocks == 0
    return {"detail": said}


def copy_back(buffer: Any, value: int, stream: Any) -> None:
    """Fills a buffer on its stream, by the driver, and reads it."""
    import ctypes

    driver = ctypes.CDLL("libcuda.so.1")
    address, size, on = ctypes.c_uint64(int(buffer.handle)), ctypes.c_size_t(buffer.size), ctypes.c_void_p(int(stream.handle))
    host = ctypes.create_string_buffer(buffer.size)
    assert driver.cuMemsetD8Async(address, ctypes.c_ubyte(value), size, on) == 0
    assert driver.cuMemcpyDtoHAsync_v2(host, address, size, on) == 0
    stream.sync()
    assert host.raw == bytes([value]) * buffer.size


if __name__ == "__main__":
    main()
