"""Tensors on their way while the program goes on, and memory that both sides reach. Without a Vulkan device a test is SKIPPED, unless
NEURO_REQUIRE_VULKAN is set."""

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from hook_tools import run_python

import neuro_memory as nm

GPU = "vulkan:0"
pytestmark = pytest.mark.usefixtures("gpu")


@pytest.fixture
def unraisable(monkeypatch):
    """What callables raised."""
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: seen.append((what.exc_value, what.object)))
    yield seen
    seen.clear()


class Held:
    """Keeps the thread that brings tensors to the device busy until the block ends."""

    def __enter__(self):
        self._go, inside, here = threading.Event(), threading.Event(), threading.get_ident()

        def hold(_):
            if threading.get_ident() != here:
                inside.set()
                self._go.wait(60)

        nm.zeros(3_000_000).to(GPU, non_blocking=True).then(hold)
        while not inside.wait(0.5):  # it was over too early, and called here
            nm.zeros(3_000_000).to(GPU, non_blocking=True).then(hold)
        return self

    def let_go(self):
        self._go.set()

    def __exit__(self, *_):
        self._go.set()


def numbers(length, seed=0):
    return (np.arange(length, dtype=np.uint32) * 31 + seed).astype(np.uint8)


def until(condition):
    for _ in range(2000):
        if condition():
            return True
        time.sleep(0.005)
    return False


@pytest.mark.parametrize("length", [0, 1, 3, 255, 257, 4097, 1_000_003, (9 << 20) + 5])
def test_there_and_back(length):
    array = numbers(length)
    up = nm.asarray(array).to(GPU, non_blocking=True)
    assert isinstance(up, nm.Transfer)
    there = up.wait()
    assert up.wait() is there and up.done() and repr(up) == "Transfer(done)"
    assert (there.device, there.shape) == (GPU, (length,))
    there.synchronize()
    assert np.array_equal(there.to("cpu", non_blocking=True).wait().numpy(), array)
    pool = nm.MemoryPool(16 << 20)
    assert np.array_equal(there.to(pool=pool, non_blocking=True).wait().numpy(), array)


def test_what_is_there_is_over():
    tensor = nm.asarray(numbers(100))
    transfer = tensor.to("cpu", non_blocking=True)
    assert transfer.done()
    assert transfer.wait().data_ptr == tensor.data_ptr
    assert tensor.to("cpu") is tensor
    for copy in (tensor.to("cpu", copy=True), tensor.to("cpu", copy=True, non_blocking=True).wait()):
        assert copy.data_ptr != tensor.data_ptr and copy.tolist() == tensor.tolist()
    there = tensor.to(GPU)
    assert there.to(GPU) is there
    again = there.to(GPU, copy=True)
    assert again is not there and again.to("cpu").tolist() == tensor.tolist()


def test_many_under_way_and_in_threads():
    failed = []

    def work(seed):
        sent = [numbers(1 + 7919 * n, seed + n) for n in range(25)]
        up = [nm.asarray(array).to(GPU, non_blocking=True) for array in sent]
        down = [transfer.wait().to("cpu", non_blocking=True) for transfer in up]
        for transfer, array in zip(reversed(down), reversed(sent), strict=True):
            if not np.array_equal(transfer.wait().numpy(), array):
                failed.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_one_transfer_many_waiters():
    array = numbers(3_000_000)
    with Held() as held:
        transfer = nm.asarray(array).to(GPU, non_blocking=True)
        assert not transfer.done() and repr(transfer) == "Transfer(under way)"
        seen = []
        threads = [threading.Thread(target=lambda: seen.append(transfer.wait())) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert seen == []
        held.let_go()
        for thread in threads:
            thread.join()
    assert len(seen) == 8 and all(tensor is seen[0] for tensor in seen)
    assert np.array_equal(seen[0].to("cpu").numpy(), array)


def test_nobody_keeps_them():
    pool = nm.MemoryPool(64 << 20, device=GPU)
    called = []
    for n in range(10):
        nm.asarray(numbers(200_000, n)).to(pool=pool, non_blocking=True)
        nm.asarray(numbers(200_000, n)).to(pool=pool, non_blocking=True).then(
            lambda transfer: called.append(transfer.wait().to("cpu"))
        )
    assert until(lambda: len(called) == 10)
    assert all(np.array_equal(tensor.numpy(), numbers(200_000, n)) for n, tensor in enumerate(called))
    assert until(lambda: pool.stats().live_blocks == 0)


def test_errors_are_raised_by_wait_and_known_to_callables():
    tensor, pool = nm.asarray(numbers(100_000)), nm.MemoryPool(1 << 20, device=GPU)
    there = tensor.to(pool=pool)
    transfer = there.to(pool=nm.MemoryPool(4096), non_blocking=True)
    seen = []

    def look(transfer):
        try:
            transfer.wait()
        except nm.OutOfMemoryError as error:
            seen.append(str(error))

    transfer.then(look)
    for _ in range(2):
        with pytest.raises(nm.OutOfMemoryError, match="asked for 100000 B"):
            transfer.wait()
    assert until(lambda: seen) and "asked for 100000 B" in seen[0]
    # What is known at once is said at once.
    with pytest.raises(nm.OutOfMemoryError, match=GPU):
        nm.zeros(1 << 20).to(pool=pool, non_blocking=True)
    with pytest.raises(nm.NeuroMemoryError, match="vulkan:99"):
        tensor.to("vulkan:99", non_blocking=True)
    with pytest.raises(TypeError, match="device or a pool"):
        tensor.to(non_blocking=True)
    with pytest.raises(TypeError, match="cannot be called"):
        transfer.then(5)


def test_callables_are_called_once_and_may_raise(unraisable):
    here = threading.get_ident()
    called = []

    def raises(transfer):
        called.append((transfer, threading.get_ident()))
        raise ValueError("on purpose")

    with Held() as held:
        transfer = nm.zeros(1000).to(GPU, non_blocking=True)
        for _ in range(3):
            transfer.then(raises)
        assert called == []
        held.let_go()
        assert until(lambda: len(unraisable) == 3)
    assert all(seen is transfer and thread != here for seen, thread in called)
    assert all(isinstance(error, ValueError) and what is raises for error, what in unraisable)
    # Over: at once, here, and an error that is being handled stays.
    try:
        raise KeyError("another")
    except KeyError:
        transfer.then(raises)
        assert isinstance(sys.exc_info()[1], KeyError)
    assert called[3] == (transfer, here) and len(unraisable) == 4
    called.clear()


def test_a_callable_that_names_its_transfer_is_no_leak():
    class Task:
        def over(self, transfer):
            self.seen = transfer

    tasks = []
    for _ in range(10):
        task = Task()
        task.transfer = nm.zeros(50_000).to(GPU, non_blocking=True)
        task.transfer.then(task.over)
        task.transfer.then(lambda transfer, task=task: setattr(task, "again", transfer))
        task.transfer.wait()
        assert until(lambda task=task: hasattr(task, "again"))
        assert task.seen is task.transfer
        tasks.append(weakref.ref(task))
        del task
    gc.collect()
    # The thread that called the last may still be about to let go.
    assert until(lambda: gc.collect() or not any(task() for task in tasks))


def test_ctrl_c_ends_a_wait_and_not_the_transfer():
    array = numbers(10_000)
    with Held() as held:
        transfer = nm.asarray(array).to(GPU, non_blocking=True)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            transfer.wait()
        timer.join()
        assert not transfer.done()
        held.let_go()
        assert np.array_equal(transfer.wait().to("cpu").numpy(), array)


def test_await():
    async def there_and_back(n):
        array = numbers(1 + 30_011 * n, n)
        there = await nm.asarray(array).to(GPU, non_blocking=True)
        assert there.device == GPU
        return np.array_equal((await there.to("cpu", non_blocking=True)).numpy(), array)

    async def main():
        assert all(await asyncio.gather(*(there_and_back(n) for n in range(30))))
        transfer = nm.zeros(10).to("cpu", non_blocking=True)
        assert await transfer is await transfer
        there = await nm.asarray(numbers(100_000)).to(GPU, non_blocking=True)
        with pytest.raises(nm.OutOfMemoryError, match="asked for 100000 B"):
            await there.to(pool=nm.MemoryPool(4096), non_blocking=True)

    asyncio.run(main())


def test_await_is_cancelled_or_outlived(unraisable):
    async def forever(transfer):
        return await transfer

    async def main(transfer):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(forever(transfer), 0.1)
        assert not transfer.done()
        return [asyncio.ensure_future(forever(transfer)) for _ in range(3)]

    with Held() as held:
        transfer = nm.zeros(1000).to(GPU, non_blocking=True)
        # Its loop is closed when the transfer is over.
        left = asyncio.run(main(transfer))
        assert all(task.cancelled() for task in left)
        held.let_go()
        assert transfer.wait().device == GPU
    assert asyncio.run(forever(transfer)) is transfer.wait()
    # What was to wake the closed loop has been called by now: the lane does one after the other.
    nm.zeros(10).to(GPU, non_blocking=True).wait()
    assert unraisable == []
    with pytest.raises(RuntimeError, match="no running event loop"), Held():
        next(nm.zeros(1000).to(GPU, non_blocking=True).__await__())


def test_memory_that_both_reach():
    pool = nm.MemoryPool(64 << 20, gpu_support=True)
    assert GPU in pool.gpu_support and pool.gpu_support_reason is None
    here = pool.full(70_001, 3, "int16")
    assert pool.stats().pinned_bytes % (2 << 20) == 0
    for there in (here.to(GPU), here.to(GPU, non_blocking=True).wait()):
        back, mapped = there.to("cpu"), there.map()
        assert there.device == GPU and (back.device, mapped.device) == ("cpu", "cpu")
        assert np.array_equal(back.numpy(), here.numpy()) and np.array_equal(mapped.numpy(), here.numpy())
    if "NEURO_REQUIRE_VULKAN" in os.environ:  # lavapipe, then
        assert back.data_ptr == mapped.data_ptr == here.data_ptr
    if back.data_ptr == here.data_ptr:
        here.numpy()[70_000] = 8
        assert there.to("cpu", copy=True)[70_000] == there.to(pool=nm.default_pool())[70_000] == 8
    assert 140_002 <= pool.stats().pinned_bytes <= pool.stats().committed_bytes
    copy = here.to(GPU, copy=True)
    here.numpy()[:] = 5
    assert copy.to("cpu")[0] == 3
    # What cannot be shared is copied: a view with gaps.
    assert np.array_equal(here[::3].to(GPU).to("cpu").numpy(), here.numpy()[::3])
    assert here.map() is here


def test_why_there_is_no_gpu_support():
    pool = nm.MemoryPool(1 << 20)
    assert pool.gpu_support == () and "gpu_support" in pool.gpu_support_reason
    there = nm.MemoryPool(1 << 20, device=GPU)
    assert there.gpu_support == () and GPU in there.gpu_support_reason
    with pytest.raises(ValueError, match="no option but its limit"):
        nm.MemoryPool(1 << 20, device=GPU, gpu_support=True)


def test_memory_of_the_device_is_mapped_or_the_words_say_what_to_do():
    there = nm.asarray(numbers(10_001)).to(GPU)
    try:
        mapped = there.map()
    except nm.NeuroMemoryError as error:
        assert "copy the tensor" in str(error)
        return
    assert np.array_equal(mapped.numpy(), numbers(10_001))
    mapped.numpy()[7] = 99
    assert there.to("cpu")[7] == 99


def test_numpys_own_arrays_go_from_where_they_lie():
    pool = nm.MemoryPool(256 << 20, gpu_support=True)
    with nm.hooks.numpy(pool):
        arrays = [numbers(length, length) for length in (1, 15, 4097, 70_001, 3_000_001)]
    assert all(nm.hooks.numpy.owns(array) for array in arrays)
    for array in arrays:
        blocking = nm.asarray(array).to(GPU)
        later = nm.asarray(array).to(GPU, non_blocking=True).wait()
        part = nm.asarray(array[1 : len(array) - 1]).to(GPU)
        expected = array.copy()
        later.synchronize()
        array[:] = 0  # a copy: the device has its own
        assert np.array_equal(blocking.to("cpu").numpy(), expected)
        assert np.array_equal(later.to("cpu", non_blocking=True).wait().numpy(), expected)
        assert np.array_equal(part.to("cpu").numpy(), expected[1 : len(array) - 1])
    # Freed while the device may still read them: memory that is used again is not what arrives.
    for seed in range(30):
        with nm.hooks.numpy(pool):
            array = numbers(1_000_003, seed)
        transfer = nm.asarray(array).to(GPU, non_blocking=True)
        del array
        with nm.hooks.numpy(pool):
            other = np.zeros(1_000_003, np.uint8)
        assert np.array_equal(transfer.wait().to("cpu").numpy(), numbers(1_000_003, seed)) and not other.any()
    del arrays, other, expected
    pool.trim()


def test_pools_of_devices_are_asked_as_others():
    pool = nm.MemoryPool(4 << 20, device=GPU)
    pool.fail_nth(2)
    kept = pool.zeros(1000)
    with pytest.raises(nm.OutOfMemoryError, match="fail_nth"):
        pool.zeros(1000)
    with pool.scope() as scope:
        del kept
        pool.zeros(2000)
    counters = scope.counters()
    assert (counters.requested.current, counters.requested.peak, counters.requested.total) == (0, 8000, 8000)
    assert pool.stats().peak_bytes >= 8000
    pool.reset_peak()
    assert (pool.stats().peak_bytes, pool.stats().peak_blocks) == (0, 0)
    before = nm.stats().live_blocks
    kept = pool.zeros(10)
    assert nm.stats().live_blocks == before + 1
    kept.synchronize()
    del kept
    committed = pool.stats().committed_bytes
    assert committed > 0 and pool.trim(committed) == 0
    assert nm.trim() >= committed and pool.stats().committed_bytes == 0


LEAVE = f"""
    import threading, time
    import neuro_memory as nm
    called = []
    def slow(transfer):
        called.append(transfer)
        time.sleep(0.01)
        len([n for n in range(1000)])
    kept = []
    for n in range(12):
        transfer = nm.zeros(1_000_000 + n).to({GPU!r}, non_blocking=True)
        transfer.then(slow)
        if n % 2:
            transfer.then(lambda transfer: kept.append(transfer))
            kept.append(transfer)
    {{more}}
    print("left")
"""


@pytest.mark.parametrize(
    "more", ["", "kept[0].wait()", "time.sleep(0.05)", "nm.shutdown()", "import sys; kept.append(sys); sys.exit(0) if print('left') else None"]
)
def test_exit_with_transfers_under_way_and_callables_pending(more):
    for _ in range(8):
        done = run_python(LEAVE.format(more=more))
        assert done.stdout.startswith("left\n") and done.stderr == "", done.stderr


def test_shutdown_refuses_devices_from_then_on():
    done = run_python(f"""
        import neuro_memory as nm
        there = nm.ones(1000, device={GPU!r})
        mapped = nm.full(5, 2.0, device={GPU!r})
        try:
            mapped = mapped.map()
        except nm.NeuroMemoryError:
            mapped = nm.full(5, 2.0)
        nm.shutdown()
        nm.shutdown()
        for use in (lambda: there.to("cpu"), lambda: nm.zeros(3, device={GPU!r}), lambda: there.to("cpu", non_blocking=True).wait()):
            try:
                use()
            except nm.NeuroMemoryError as error:
                assert "shut down" in str(error), error
            else:
                raise SystemExit("a device was used")
        assert nm.devices()[0] == [] and "shut down" in nm.devices()[1]["vulkan"]
        assert nm.ones(3).data_ptr and list(memoryview(mapped)) == [2.0] * 5
        print("left")
    """)
    assert (done.stdout, done.stderr) == ("left\n", "")


def test_exit_waits_for_a_callable_that_runs():
    done = run_python(f"""
        import threading, time
        import neuro_memory as nm
        inside = threading.Event()
        def slow(transfer):
            inside.set()
            time.sleep(0.5)
            print("to its end", flush=True)
        nm.zeros(100_000).to({GPU!r}, non_blocking=True).then(slow)
        inside.wait()
    """)
    assert (done.stdout, done.stderr) == ("to its end\n", "")


def test_a_forked_child_is_told():
    done = run_python(f"""
        import os, time
        import neuro_memory as nm
        transfer = nm.zeros(3_000_000).to({GPU!r}, non_blocking=True)
        transfer.then(lambda transfer: time.sleep(0.3))
        child = os.fork()
        if child == 0:
            assert transfer.done()
            transfer.then(print)
            try:
                transfer.wait()
            except nm.NeuroMemoryError as error:
                assert "forked" in str(error)
                print("told", flush=True)
        else:
            print(transfer.wait().device, os.waitpid(child, 0)[1])
    """)
    assert (done.stdout, done.stderr) == ("told\nvulkan:0 0\n", "")
