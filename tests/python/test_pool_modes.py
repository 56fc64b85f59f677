"""What a pool can do besides making tensors: its options, scopes, injected failures, debug mode, all of its figures."""

import ctypes
import gc
import mmap
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neuro_memory as nm

MIB = 1 << 20


def comes_down_to(pool: nm.MemoryPool, size: int, seconds: float) -> bool:
    """Whether at most so many bytes are committed before the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if pool.stats().committed_bytes <= size:
            return True
        time.sleep(0.02)
    return False


def use_and_free(pool: nm.MemoryPool, mib: int) -> None:
    pool.full(mib * MIB, 1, "uint8")
    assert pool.stats().live_bytes == 0


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (ValueError, "decay -1 is out of range", {"decay": -1.0}),
        (ValueError, "decay NaN is out of range", {"decay": float("nan")}),
        (ValueError, "decay inf is out of range", {"decay": float("inf")}),
        (TypeError, "decay", {"decay": "1"}),
        (ValueError, "keep -1 is out of range", {"keep": -1}),
        (ValueError, "soft_limit needs on_soft_limit", {"soft_limit": 5}),
        (ValueError, "on_soft_limit needs soft_limit", {"on_soft_limit": print}),
        (TypeError, "cannot be called", {"soft_limit": 5, "on_soft_limit": 7}),
        (ValueError, "soft_limit -1 is out of range", {"soft_limit": -1, "on_soft_limit": print}),
        (TypeError, "prefault", {"prefault": 3.5}),
        (TypeError, "gpu", {"gpu": True}),
    ],
)
def test_wrong_options_are_refused(error: type[Exception], words: str, options: dict[str, Any]) -> None:
    with pytest.raises(error, match=words):
        nm.MemoryPool(**options)


def test_the_extremes_of_options_are_taken() -> None:
    most = 2**64 - 1
    pool = nm.MemoryPool(most, prefault=True, decay=1e9, keep=most, soft_limit=most, on_soft_limit=print, debug=True)
    assert pool.limit == most and pool.ones(3 * MIB, "uint8")[-1] == 1
    assert nm.MemoryPool(decay=0).zeros(3).tolist() == [0, 0, 0]


def test_unused_memory_goes_back_by_itself() -> None:
    usual, never = nm.MemoryPool(), nm.MemoryPool(decay=None)
    keeps = nm.MemoryPool(decay=0.05, keep=8 * MIB)
    for pool in (usual, keeps, never):
        use_and_free(pool, 64)
    assert comes_down_to(usual, 2 * MIB, 3)
    assert comes_down_to(keeps, 10 * MIB, 3)
    time.sleep(0.2)
    assert keeps.stats().committed_bytes >= 8 * MIB
    assert never.stats().committed_bytes == never.stats().cached_bytes >= 64 * MIB
    assert never.trim() >= 62 * MIB


def test_memory_is_there_before_its_first_use() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    pool, before = nm.MemoryPool(prefault=True), resident()
    tensor = pool.empty(64 * MIB, "uint8")
    assert resident() - before >= 60 * MIB
    del tensor


def test_a_soft_limit_calls_once_for_each_rise() -> None:
    seen: list[int] = []
    spare: list[nm.Tensor] = []

    def on_soft_limit(stats: nm.PoolStats) -> None:
        assert isinstance(stats, nm.PoolStats)
        seen.append(stats.live_bytes)
        spare.clear()
        pool.trim()
        pool.zeros(10)

    pool = nm.MemoryPool(soft_limit=MIB, on_soft_limit=on_soft_limit)
    kept = [pool.empty(600_000, "uint8")]
    assert not seen
    kept.append(pool.empty(600_000, "uint8"))
    assert len(seen) == 1 and MIB < seen[0] < 2 * MIB
    kept.append(pool.empty(600_000, "uint8"))
    assert len(seen) == 1
    kept.clear()
    spare.append(pool.empty(600_000, "uint8"))
    assert len(seen) == 1
    kept.append(pool.empty(600_000, "uint8"))
    assert len(seen) == 2 and not spare and pool.stats().live_blocks == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_the_callback_raises_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append((unraisable.exc_value, unraisable.object)))

    def on_soft_limit(stats: nm.PoolStats) -> None:
        raise KeyError("on purpose")

    pool = nm.MemoryPool(soft_limit=MIB, on_soft_limit=on_soft_limit)
    assert pool.zeros(2 * MIB, "uint8").nbytes == 2 * MIB
    assert len(told) == 1 and isinstance(told[0][0], KeyError) and told[0][1] is on_soft_limit
    told.clear()


def test_the_callback_runs_on_threads_that_have_left_the_interpreter() -> None:
    """`zeros` and `full` of much memory run detached; several threads at once must not wait for each other for ever."""
    threads: set[int] = set()

    def on_soft_limit(stats: nm.PoolStats) -> None:
        threads.add(threading.get_ident())
        time.sleep(0.001)  # lets others have the interpreter in the middle of it
        pool.trim()

    pool = nm.MemoryPool(soft_limit=MIB, on_soft_limit=on_soft_limit)

    def work() -> None:
        for _ in range(50):
            pool.full(2 * MIB, 1, "uint8")

    workers = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert threads and pool.stats().live_bytes == 0


def test_a_callback_that_names_its_pool_does_not_keep_it() -> None:
    class Owner:
        def __init__(self) -> None:
            self.pool = nm.MemoryPool(soft_limit=MIB, on_soft_limit=self.low)
            self.calls = 0

        def low(self, stats: nm.PoolStats) -> None:
            self.calls += 1
            self.pool.trim()

    owner = Owner()
    tensor = owner.pool.zeros(2 * MIB, "uint8")
    assert owner.calls == 1
    gone = weakref.ref(owner), weakref.ref(owner.pool)
    del owner
    gc.collect()
    assert gone[0]() is None and gone[1]() is None
    assert tensor.nbytes == 2 * MIB  # its memory lives on


def test_numpy_arrays_meet_the_soft_limit_too() -> None:
    calls: list[int] = []
    pool = nm.MemoryPool(soft_limit=MIB, on_soft_limit=lambda stats: calls.append(np.zeros(5).size))
    with nm.hooks.numpy(pool):
        array = np.zeros(4 * MIB, "uint8")
    assert calls == [5] and array.sum() == 0
    del array


def test_scopes_count_exactly_and_for_themselves() -> None:
    pool = nm.MemoryPool()
    before = pool.empty(500, "uint8")
    with pool.scope() as scope:
        counters = scope.counters()
        assert (counters.requested.current, counters.requested.peak, counters.requested.total) == (500, 500, 0)
        small, large = pool.empty(100, "uint8"), pool.empty(100_000, "uint8")
        inner = pool.scope()
        del large
        counters = scope.counters()
        assert (counters.requested.current, counters.requested.peak, counters.requested.total) == (600, 100_600, 100_100)
        assert (counters.blocks.current, counters.blocks.peak, counters.blocks.total) == (2, 3, 2)
        assert counters.allocated.current == pool.stats().live_bytes == 512 + 128
        assert counters.allocated.total == 128 + 100_032
        scope.reset()
        counters = scope.counters()
        assert (counters.requested.current, counters.requested.peak, counters.requested.total) == (600, 600, 0)
        assert inner.counters().requested.peak == 100_600 == pool.stats().peak_requested_bytes
    pool.zeros(1000)
    assert scope.counters() == counters and "ended" in repr(scope)
    assert inner.counters().requested.total == 4000 and "counting" in repr(inner)
    with pytest.raises(ValueError, match="the scope has ended"):
        scope.reset()
    scope.end()
    inner.end()
    assert repr(counters.blocks) == "Usage(current=2, peak=2, total=0)"
    assert repr(counters).startswith("Counters(requested=Usage(current=600, peak=600, total=0), allocated=")
    assert counters != inner.counters() and counters.blocks != counters.requested
    del before, small


def test_a_scope_ends_with_its_block_and_keeps_its_pool() -> None:
    with pytest.raises(KeyError), nm.MemoryPool().scope() as scope:
        raise KeyError
    assert scope.counters().blocks.total == 0 and "ended" in repr(scope)
    pool = nm.MemoryPool()
    scope, tensor = pool.scope(), pool.zeros(10)
    del pool
    del tensor
    assert scope.counters().blocks.total == 1 and scope.counters().blocks.current == 0


def test_a_scope_counts_what_all_threads_do() -> None:
    pool = nm.MemoryPool()
    with pool.scope() as scope:
        workers = [threading.Thread(target=lambda: [pool.zeros(25) for _ in range(500)]) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    counters = scope.counters()
    assert (counters.blocks.total, counters.requested.total) == (2000, 200_000)
    assert counters.blocks.current == 0 and counters.allocated.total == 2000 * 128


def test_the_nth_allocation_fails_and_no_other() -> None:
    pool = nm.MemoryPool()
    pool.fail_nth(3)
    kept = [pool.zeros(5), pool.ones(5)]
    with pytest.raises(MemoryError, match="fail_nth") as caught:
        pool.full(5, 1)
    assert isinstance(caught.value, nm.OutOfMemoryError)
    kept.append(pool.zeros(5))
    pool.fail_nth(1)
    pool.fail_nth(0)
    assert pool.stats().live_blocks == 3 and pool.empty(5).size == 5
    for wrong in (-1, 2**64):
        with pytest.raises(ValueError, match="out of range: give 0 to"):
            pool.fail_nth(wrong)
    with pytest.raises(TypeError):
        pool.fail_nth("1")  # type: ignore[arg-type]


def test_numpy_sees_an_injected_failure() -> None:
    pool = nm.MemoryPool()
    with nm.hooks.numpy(pool):
        pool.fail_nth(1)
        with pytest.raises(MemoryError):
            np.empty(100_000)
        assert np.ones(100_000).sum() == 100_000


@pytest.mark.parametrize("size", [1, 64, 1000, 100_000])
def test_debug_mode_finds_wrong_writes(size: int, capfd: pytest.CaptureFixture[str]) -> None:
    pool = nm.MemoryPool(debug=True)
    tensor = pool.zeros(size, "uint8")
    pool.check()
    ctypes.memset(tensor.data_ptr + size, 1, 1)
    with pytest.raises(nm.CorruptedError, match=f"1 B were written behind the {size} B of the block") as caught:
        pool.check()
    assert isinstance(caught.value, nm.NeuroMemoryError)
    del tensor  # nobody can be told but standard error
    assert f"behind the {size} B" in capfd.readouterr().err
    assert pool.stats().live_blocks == 0
    pool.check()

    tensor = pool.ones(size, "uint8")
    address = tensor.data_ptr
    del tensor
    poison = ctypes.string_at(address, 1)
    ctypes.memset(address, 0, 1)
    with pytest.raises(nm.CorruptedError, match=r"was written: 1 B, the first at byte 0"):
        pool.check()
    ctypes.memmove(address, poison, 1)
    pool.check()
    assert pool.zeros(size, "uint8").numpy().sum() == 0
    nm.default_pool().check()


def check_figures(stats: nm.PoolStats) -> None:
    assert stats.requested_bytes <= stats.live_bytes <= stats.committed_bytes <= stats.reserved_bytes
    assert stats.requested_bytes <= stats.peak_requested_bytes <= stats.total_requested_bytes
    assert stats.live_bytes <= stats.peak_bytes <= stats.total_bytes
    assert stats.committed_bytes <= stats.peak_committed_bytes <= stats.total_committed_bytes
    assert stats.reserved_bytes <= stats.peak_reserved_bytes <= stats.total_reserved_bytes
    assert stats.cached_bytes == stats.committed_bytes - stats.live_bytes
    assert stats.largest_hole_bytes <= stats.hole_bytes and 0 <= stats.fragmentation < 1
    assert stats.cache_bytes + stats.slab_free_bytes <= stats.committed_bytes
    assert stats.pinned_bytes == 0


def test_figures_answer_leak_or_cache_or_holes() -> None:
    pool = nm.MemoryPool(decay=None)
    check_figures(pool.stats())
    small = [pool.empty(100, "uint8") for _ in range(1000)]
    large = [pool.empty(MIB, "uint8") for _ in range(10)]
    check_figures(pool.stats())
    assert pool.stats().requested_bytes == pool.stats().total_requested_bytes == 100_000 + 10 * MIB
    small.clear()
    del large[::2]
    stats = pool.stats()
    check_figures(stats)
    assert stats.requested_bytes == stats.live_bytes == 5 * MIB and stats.total_allocations == 1010
    assert 4 * MIB <= stats.hole_bytes and MIB <= stats.largest_hole_bytes < 2 * MIB
    assert 0.5 <= stats.fragmentation == pytest.approx(1 - stats.largest_hole_bytes / stats.hole_bytes)
    assert stats.caches == 1 and stats.cache_blocks > 0 and stats.cache_bytes == 128 * stats.cache_blocks
    large.clear()
    assert pool.stats().live_bytes == pool.stats().requested_bytes == pool.stats().fragmentation == 0
    named = stats.asdict()
    assert named["fragmentation"] == stats.fragmentation and named["cached_bytes"] == stats.cached_bytes
    assert set(named) == {name for name in dir(stats) if not name.startswith("_")} - {"asdict"}
    assert f"largest_hole_bytes={stats.largest_hole_bytes}" in repr(stats)
    everything = nm.stats()
    assert everything.total_requested_bytes >= stats.total_requested_bytes and everything.limit_bytes is None


def test_one_thread_makes_and_another_releases() -> None:
    pool = nm.MemoryPool()
    ready: list[list[nm.Tensor]] = []
    made = threading.Semaphore(0)

    def release() -> None:
        for _ in range(200):
            assert made.acquire(timeout=60)
            ready.pop().clear()

    other = threading.Thread(target=release)
    other.start()
    for batch in range(200):
        ready.append([pool.empty(1 + (batch * 7919 + i * 104_729) % 5000, "uint8") for i in range(100)])
        made.release()
    other.join(60)
    stats = pool.stats()
    assert (stats.live_blocks, stats.live_bytes, stats.requested_bytes) == (0, 0, 0)
    assert stats.total_allocations == 20_000


def test_a_program_may_end_in_the_middle_of_everything() -> None:
    """At exit there may be scopes, soft limits, cached memory, and a thread that gives it back."""
    program = """
        import threading
        import neuro_memory as nm
        pool = nm.MemoryPool(soft_limit=1 << 20, on_soft_limit=lambda stats: pool.trim(), decay=0.02, debug=True)
        scope = pool.scope()
        def work():
            while True:
                pool.full(2 << 20, 1, "uint8")
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        kept = [pool.zeros(1 << 20, "uint8") for _ in range(20)]
        print("done")
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
