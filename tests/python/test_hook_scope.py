"""`with hooks.numpy(...)`: what is inside, what is outside, how scopes nest."""

import asyncio
import contextvars
import itertools
import threading

import numpy as np
import pytest
from hook_tools import address, hooked, nothing_left  # noqa: F401  (a fixture)

import neuro_memory as nm


@pytest.mark.parametrize("alignment", [1, 32, 64, 128, 4096, 1 << 16, 2 << 20])
def test_arrays_are_aligned(alignment):
    with nm.hooks.numpy(alignment=alignment):
        arrays = [np.empty(size, np.uint8) for size in (1, 7, 64, 1000, 4097, 100_000)]
        arrays += [np.zeros((3, 5)), np.full(17, 2.5, np.float32), np.arange(10) + 1]
    for array in arrays:
        assert hooked(array)
        assert address(array) % max(alignment, 64) == 0


def test_the_pools_own_alignment_counts_where_none_is_given():
    pool = nm.MemoryPool(alignment=4096)
    with nm.hooks.numpy(pool):
        arrays = [np.empty(3) for _ in range(8)]
    with nm.hooks.numpy(pool, alignment=None):
        arrays += [np.empty(3) for _ in range(8)]
    assert all(address(array) % 4096 == 0 for array in arrays)
    with nm.hooks.numpy(pool, 64):
        arrays = [np.empty(3) for _ in range(8)]
    assert any(address(array) % 4096 for array in arrays)
    nm.hooks.numpy.install(pool)
    try:
        assert address(np.empty(3)) % 4096 == 0
    finally:
        nm.hooks.numpy.uninstall()


@pytest.mark.parametrize("alignment", [3, 4 << 20])
def test_a_pool_whose_alignment_cannot_be(alignment):
    pool = nm.MemoryPool(alignment=alignment)
    for use in (nm.hooks.numpy, nm.hooks.numpy.install):
        with pytest.raises(ValueError, match="the pool's alignment must be a power of two"):
            use(pool)


def test_only_inside_the_block():
    before = np.ones(100)
    with nm.hooks.numpy() as pool:
        inside = np.ones(100)
        assert pool.stats().live_blocks == 1
    after = np.ones(100)
    assert (hooked(before), hooked(inside), hooked(after)) == (False, True, False)
    assert np._core.multiarray.get_handler_name(inside) == "neuro_memory"
    assert np._core.multiarray.get_handler_name(after) == "default_allocator"


def test_scope_gives_the_pool_it_was_given():
    mine = nm.MemoryPool()
    with nm.hooks.numpy(mine) as pool:
        assert pool is mine
        array = np.empty(1000)
    assert mine.stats().live_blocks == 1
    del array
    assert mine.stats().live_blocks == 0


def test_ten_thousand_arrays_and_views():
    pool = nm.MemoryPool()
    with nm.hooks.numpy(pool):
        arrays = [np.full(i % 300, i, np.int64) for i in range(10_000)]
    views = [array[::2] for array in arrays]
    views += [view[1:] for view in views]
    stats = pool.stats()
    assert stats.live_blocks == 10_000
    assert stats.live_bytes >= sum(array.nbytes for array in arrays)
    assert all(address(array) % 64 == 0 for array in arrays)
    del arrays
    assert pool.stats().live_blocks == 10_000  # the views keep them
    for i, view in enumerate(views[:10_000]):
        assert (view == i).all()
    del views, view
    assert pool.stats().live_blocks == 0
    assert pool.stats().live_bytes == 0


def test_scopes_nest():
    outer, inner = nm.MemoryPool(), nm.MemoryPool()
    with nm.hooks.numpy(outer, alignment=128):
        first = np.empty(10)
        with nm.hooks.numpy(inner, alignment=4096):
            second = np.empty(10)
        third = np.empty(10)
    assert outer.stats().live_blocks == 2
    assert inner.stats().live_blocks == 1
    assert address(second) % 4096 == 0
    assert address(first) % 128 == 0
    assert address(third) % 128 == 0


def test_one_scope_can_be_entered_again():
    pool = nm.MemoryPool()
    scope = nm.hooks.numpy(pool)
    with scope:
        with scope:
            first = np.empty(10)
        second = np.empty(10)
    with scope:
        third = np.empty(10)
    outside = np.empty(10)
    assert [hooked(a) for a in (first, second, third, outside)] == [True, True, True, False]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_scopes_can_be_left_in_any_order(order):
    pools = [nm.MemoryPool() for _ in range(3)]
    scopes = [nm.hooks.numpy(pool) for pool in pools]
    for scope in scopes:
        scope.__enter__()
    entered = [0, 1, 2]
    for place in order:
        scopes[place].__exit__(None, None, None)
        entered.remove(place)
        array = np.empty(10)
        assert [pool.stats().live_blocks for pool in pools] == [int(entered[-1:] == [i]) for i in range(3)]
        del array
    assert np._core.multiarray.get_handler_name() == "default_allocator"


def test_generators_closed_in_any_order_leave_the_hook_off():
    def inside(pool):
        with nm.hooks.numpy(pool):
            yield

    outer, inner = inside(nm.MemoryPool()), inside(nm.MemoryPool())
    next(outer)
    next(inner)
    outer.close()
    assert hooked(np.empty(10))
    inner.close()
    assert not hooked(np.empty(10))

    generator = inside(nm.MemoryPool())
    with nm.hooks.numpy():
        next(generator)
    assert hooked(np.empty(10))
    generator.close()
    assert not hooked(np.empty(10))


def test_a_scope_entered_twice_is_left_twice_in_any_order():
    mine, other = nm.MemoryPool(), nm.MemoryPool()
    scope, between = nm.hooks.numpy(mine), nm.hooks.numpy(other)
    for each in (scope, between, scope):
        each.__enter__()
    between.__exit__(None, None, None)
    for _ in range(2):
        array = np.empty(10)
        assert mine.stats().live_blocks == 1
        del array
        scope.__exit__(None, None, None)
    assert not hooked(np.empty(10))


def test_leaving_a_scope_that_is_not_entered_says_so():
    scope = nm.hooks.numpy()
    with pytest.raises(RuntimeError, match="not entered"):
        scope.__exit__(None, None, None)
    with scope, nm.hooks.numpy():
        thread_says = []

        def leave():
            with pytest.raises(RuntimeError, match="not entered"):
                scope.__exit__(None, None, None)
            thread_says.append(True)

        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
        assert thread_says and hooked(np.empty(10))
    with pytest.raises(RuntimeError, match="not entered"):
        scope.__exit__(None, None, None)
    assert not hooked(np.empty(10))


def test_an_exception_leaves_the_scope():
    with pytest.raises(KeyError), nm.hooks.numpy():
        raise KeyError("x")
    assert not hooked(np.empty(10))


def test_a_scope_is_for_one_thread():
    seen = {}
    with nm.hooks.numpy():
        plain = threading.Thread(target=lambda: seen.update(plain=hooked(np.empty(10))))
        context = contextvars.copy_context()
        copied = threading.Thread(target=lambda: context.run(lambda: seen.update(copied=hooked(np.empty(10)))))
        for thread in (plain, copied):
            thread.start()
            thread.join()
    assert seen == {"plain": False, "copied": True}


def test_tasks_inherit_a_scope_and_keep_their_own():
    async def own_scope(pool, steps):
        arrays = []
        with nm.hooks.numpy(pool):
            for _ in range(steps):
                arrays.append(np.empty(100))
                await asyncio.sleep(0)
        arrays.append(np.empty(100))
        return arrays

    async def inherits():
        await asyncio.sleep(0)
        return np.empty(100)

    async def main():
        pools = [nm.MemoryPool() for _ in range(5)]
        plain = asyncio.create_task(inherits())
        owners = [asyncio.create_task(own_scope(pool, 20)) for pool in pools]
        with nm.hooks.numpy() as outer:
            start = outer.stats().live_blocks
            inherited = asyncio.create_task(inherits())
            array = await inherited
            assert outer.stats().live_blocks == start + 1
            assert hooked(array)
        for task, pool in zip(owners, pools, strict=True):
            arrays = await task
            assert pool.stats().live_blocks == 20
            assert not hooked(arrays[-1])
        assert not hooked(await plain)

    asyncio.run(main())


def test_the_last_array_frees_the_pool():
    # The pool object goes first; its memory must not. Then the array, and with it capsule, handle and pool.
    import weakref

    pool = nm.MemoryPool()
    gone = weakref.ref(pool)
    with nm.hooks.numpy(pool):
        array = np.arange(1000)
    del pool
    assert gone() is None
    assert nm.stats().live_blocks >= 1
    assert array.sum() == 499_500
    array.resize(2000, refcheck=False)
    assert array[:1000].sum() == 499_500
