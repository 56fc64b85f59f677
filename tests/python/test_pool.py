"""Pools: limits, alignment, and counts that are exact."""

import gc

import numpy as np
import pytest

import neuro_memory as nm


def test_counts_follow_what_is_live(pool: nm.MemoryPool) -> None:
    assert pool.stats().live_bytes == pool.stats().live_blocks == pool.stats().total_allocations == 0
    first = pool.zeros(1000)
    second = pool.zeros(1000, "float64")
    stats = pool.stats()
    assert stats.live_blocks == 2 and 12000 <= stats.live_bytes <= 12000 + 2 * 64
    assert stats.peak_bytes >= stats.live_bytes and stats.total_allocations == 2
    assert stats.committed_bytes <= stats.reserved_bytes
    del first, second
    stats = pool.stats()
    assert stats.live_bytes == stats.live_blocks == 0 and stats.peak_blocks == 2
    assert stats.free_runs == stats.regions
    pool.reset_peak()
    assert pool.stats().peak_bytes == pool.stats().peak_blocks == 0


def test_views_and_shares_are_no_blocks(pool: nm.MemoryPool) -> None:
    tensor = pool.zeros((10, 10))
    others = [tensor[1:], tensor.T, tensor.reshape(100), np.asarray(tensor), np.from_dlpack(tensor), memoryview(tensor)]
    assert pool.stats().live_blocks == 1
    del tensor
    assert pool.stats().live_blocks == 1
    others.clear()
    assert pool.stats().live_blocks == 0


def test_a_limit_is_reached_and_recovered_from() -> None:
    pool = nm.MemoryPool(limit=1 << 20)
    kept = pool.empty(1 << 19, "uint8")
    for _ in range(3):
        with pytest.raises(nm.OutOfMemoryError, match="limit 1048576 B") as caught:
            pool.empty((1 << 19) + 1, "uint8")
        assert isinstance(caught.value, MemoryError) and isinstance(caught.value, nm.NeuroMemoryError)
    rest = pool.empty(1 << 19, "uint8")
    with pytest.raises(nm.OutOfMemoryError):
        pool.empty(1, "uint8")
    del kept, rest
    assert pool.stats().live_bytes == 0
    assert pool.empty(1 << 20, "uint8").nbytes == 1 << 20


@pytest.mark.parametrize("make", ["zeros", "ones", "empty"])
def test_every_maker_obeys_the_limit(make: str) -> None:
    pool = nm.MemoryPool(limit=4096)
    assert getattr(pool, make)(1024).nbytes == 4096
    with pytest.raises(nm.OutOfMemoryError):
        getattr(pool, make)(1025)
    with pytest.raises(nm.OutOfMemoryError):
        pool.full(1025, 1)
    assert pool.stats().live_blocks == 0


def test_memory_is_recycled(pool: nm.MemoryPool) -> None:
    address = pool.empty(100_000).data_ptr
    for _ in range(100):
        assert pool.empty(100_000).data_ptr == address
    assert pool.stats().peak_blocks == 1


def test_zeros_are_zero_in_recycled_memory(pool: nm.MemoryPool) -> None:
    for size in (10, 100_000, 1_000_000):
        pool.full(size, 7)
        assert not pool.zeros(size).numpy().any()


def test_trim_gives_memory_back(pool: nm.MemoryPool) -> None:
    pool.full(8 << 20, 1, "uint8")
    committed = pool.stats().committed_bytes
    assert committed >= 8 << 20
    assert pool.trim() > 0
    assert pool.stats().committed_bytes < committed
    assert pool.zeros(8 << 20, "uint8").numpy().sum() == 0
    assert nm.trim(keep=0) >= 0


def test_facts_and_names() -> None:
    pool = nm.MemoryPool(1000, 4096)
    assert (pool.limit, pool.alignment) == (1000, 4096)
    assert (nm.MemoryPool().limit, nm.MemoryPool().alignment) == (None, 64)
    assert repr(nm.MemoryPool()) == "MemoryPool(limit=None, alignment=64, live_bytes=0, live_blocks=0)"
    stats = pool.stats()
    assert stats == pool.stats() and stats != nm.MemoryPool().stats()
    assert stats.asdict()["limit_bytes"] == 1000 == stats.limit_bytes
    assert repr(stats).startswith("PoolStats(limit_bytes=1000, alignment=4096, live_bytes=0")


def test_the_process_counts_all_pools() -> None:
    before = nm.stats()
    tensors = [nm.MemoryPool(1 << 20).zeros(100), nm.MemoryPool().zeros(100), nm.zeros(100)]
    assert nm.stats().live_blocks - before.live_blocks == 3
    assert nm.stats().live_bytes - before.live_bytes >= 1200
    tensors.clear()
    gc.collect()
    assert nm.stats().live_blocks == before.live_blocks


def test_the_default_pool_serves_those_who_name_none(pool: nm.MemoryPool) -> None:
    default = nm.default_pool()
    before = default.stats().live_blocks
    kept = [nm.empty(3), nm.zeros(3), nm.ones(3), nm.full(3, 3), nm.asarray(np.ones(3), copy=True), pool.ones(3).copy()]
    assert default.stats().live_blocks == before + 6
    named = [nm.empty(3, pool=pool), nm.zeros(3, pool=pool), nm.ones(3, pool=pool), nm.full(3, 3, pool=pool)]
    assert default.stats().live_blocks == before + 6 and pool.stats().live_blocks == 4
    del kept, named


def test_a_thousand_pools() -> None:
    pools = [nm.MemoryPool(1 << 20) for _ in range(1000)]
    tensors = [pool.full(100, i) for i, pool in enumerate(pools)]
    assert [tensor[99] for tensor in tensors] == list(range(1000))
    del tensors
    assert all(pool.stats().live_blocks == 0 for pool in pools)
