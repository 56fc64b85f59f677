//! What a pool promises, checked against plain models, from many threads, and where the system says no.

mod decay;
mod modes;
mod owners;
mod programs;
mod regressions;
mod threads;

use std::ptr::NonNull;

use proptest::prelude::*;

use super::record::GRANULE;
use super::region::{Kind, LARGE, Placed, Reach, Region};
use super::*;
use crate::backend::host::{STEP, os};
use crate::error::{Error, Result};

/// A block as the model keeps it: where, how long, and the byte it was filled with.
struct Owned {
    ptr: NonNull<u8>,
    bytes: usize,
    fill: u8,
    /// Bytes that it takes in the pool.
    occupied: usize,
}

/// A small block takes a multiple of its alignment, any other a multiple of the granule.
fn occupies(bytes: usize, alignment: usize) -> usize {
    let small = bytes.max(1).next_multiple_of(alignment.max(GRANULE));
    if small <= 4096 {
        small
    } else {
        bytes.max(1).next_multiple_of(GRANULE)
    }
}

impl Owned {
    fn take(pool: &MemoryPool, bytes: usize, alignment: Option<usize>, init: Init, fill: u8) -> Result<Self> {
        let ptr = pool.allocate_bytes(bytes, alignment, init)?;
        let owned = Owned {
            ptr,
            bytes,
            fill,
            occupied: occupies(bytes, alignment.unwrap_or(GRANULE)),
        };
        if init == Init::Zeroed {
            assert!(
                owned.contents().iter().all(|&byte| byte == 0),
                "a zeroed block holds something"
            );
        }
        // SAFETY: the block is ours and has `bytes` bytes.
        unsafe { ptr.write_bytes(fill, bytes) };
        Ok(owned)
    }

    fn contents(&self) -> &[u8] {
        // SAFETY: the block is ours, live, and was written (or zeroed) by `take`.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.bytes) }
    }

    fn give_back(self) {
        assert!(
            self.contents().iter().all(|&byte| byte == self.fill),
            "a block was written by somebody else"
        );
        // SAFETY: the block is ours and not used after this.
        unsafe { MemoryPool::free(self.ptr) }.unwrap();
    }

    fn resize(self, bytes: usize) -> Self {
        let kept = bytes.min(self.bytes);
        // SAFETY: the block is ours; only the returned address is used from here on.
        let ptr = unsafe { MemoryPool::reallocate(self.ptr, bytes, None) }.unwrap();
        // SAFETY: the block is ours.
        let occupied = unsafe { MemoryPool::block_of(ptr.as_ptr()) }.unwrap();
        assert!(occupied >= bytes);
        let resized = Owned {
            ptr,
            bytes: kept,
            fill: self.fill,
            occupied,
        };
        assert!(
            resized.contents().iter().all(|&byte| byte == self.fill),
            "a resize lost contents"
        );
        // SAFETY: the block has `bytes` bytes now.
        unsafe { ptr.write_bytes(self.fill, bytes) };
        Owned { bytes, ..resized }
    }
}

fn valid(pool: &MemoryPool) {
    pool.state().assert_valid(pool.inner());
}

#[derive(Clone, Debug)]
enum Step {
    Take {
        bytes: usize,
        log2_alignment: u32,
        zeroed: bool,
    },
    GiveBack(usize),
    Resize(usize, usize),
    Trim(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![4 => 0usize..5000, 1 => 0usize..6 * STEP];
    prop_oneof![
        4 => (bytes.clone(), 0u32..22, any::<bool>())
            .prop_map(|(bytes, log2_alignment, zeroed)| Step::Take { bytes, log2_alignment, zeroed }),
        3 => any::<usize>().prop_map(Step::GiveBack),
        1 => (any::<usize>(), bytes).prop_map(|(which, bytes)| Step::Resize(which, bytes)),
        1 => (0usize..4 * STEP).prop_map(Step::Trim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Laws: blocks are aligned, never overlap, keep their contents, and zeroed ones are zero, whatever was trimmed and
    /// reused in between; the figures agree with a list of the blocks; freeing everything heals every region.
    #[test]
    fn any_program_keeps_every_promise(steps in proptest::collection::vec(any_step(), 1..120)) {
        let pool = MemoryPool::unlimited();
        let mut owned: Vec<Owned> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let fill = (number % 255) as u8 + 1;
            match step {
                Step::Take { bytes, log2_alignment, zeroed } => {
                    let alignment = 1usize << log2_alignment;
                    let init = if zeroed { Init::Zeroed } else { Init::Uninit };
                    let block = Owned::take(&pool, bytes, Some(alignment), init, fill).unwrap();
                    prop_assert!(block.ptr.as_ptr().addr().is_multiple_of(alignment.max(GRANULE)));
                    owned.push(block);
                }
                Step::GiveBack(which) if !owned.is_empty() => {
                    let which = which % owned.len();
                    owned.swap_remove(which).give_back();
                }
                Step::Resize(which, bytes) if !owned.is_empty() => {
                    let which = which % owned.len();
                    let block = owned.swap_remove(which).resize(bytes);
                    owned.push(block);
                }
                Step::Trim(keep) => {
                    let before = pool.stats();
                    let given_back = pool.trim(keep);
                    let after = pool.stats();
                    prop_assert_eq!(before.committed_bytes - given_back, after.committed_bytes);
                }
                Step::GiveBack(_) | Step::Resize(..) => {}
            }
            valid(&pool);
            let stats = pool.stats();
            let live: usize = owned.iter().map(|block| block.occupied).sum();
            prop_assert_eq!((stats.live_bytes, stats.live_blocks), (live, owned.len()));
            prop_assert!(stats.live_bytes <= stats.committed_bytes && stats.committed_bytes <= stats.reserved_bytes);
            prop_assert!(stats.live_bytes <= stats.peak_bytes);
        }
        owned.into_iter().for_each(Owned::give_back);
        valid(&pool); // returns what caches and empty slabs hold
        let stats = pool.stats();
        prop_assert_eq!((stats.live_bytes, stats.live_blocks), (0, 0));
        prop_assert_eq!(stats.free_runs, stats.regions);
        pool.trim(0);
        let stats = pool.stats();
        prop_assert_eq!((stats.committed_bytes, stats.reserved_bytes, stats.regions), (0, 0, 0));
    }
}

#[test]
fn a_limit_is_reachable_to_the_last_granule_and_not_beyond() {
    for limit in [1, 64, 100, 64 * 1000, 5 * STEP + 64] {
        let pool = MemoryPool::new(limit);
        let whole = pool.allocate::<u8>(limit).unwrap();
        let error = pool.allocate::<u8>(1).unwrap_err().to_string();
        assert!(
            error.contains("out of memory: asked for 1 B") && error.contains(&format!("limit {limit} B")),
            "{error}"
        );
        drop(whole);
        let granules: Vec<_> = (0..limit.div_ceil(GRANULE))
            .map(|_| pool.allocate::<u8>(GRANULE).unwrap())
            .collect();
        assert!(pool.allocate::<u8>(1).is_err());
        assert_eq!(pool.stats().live_bytes, limit.next_multiple_of(GRANULE));
        drop(granules);
        assert!(pool.allocate::<u8>(limit.next_multiple_of(GRANULE) + 1).is_err());
        valid(&pool);
    }
    assert!(MemoryPool::new(0).allocate::<u8>(1).is_err());
}

#[test]
fn impossible_requests_are_refused_and_lose_nothing() {
    let pool = MemoryPool::unlimited();
    for count in [usize::MAX, usize::MAX / 8, isize::MAX as usize, 1 << 47] {
        let error = pool.allocate::<u64>(count).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    }
    let live = pool.allocate::<u8>(100).unwrap();
    // SAFETY: the block is live; on an error it stays as it was.
    let error = unsafe { MemoryPool::reallocate(live.as_non_null(), usize::MAX, None) }.unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    drop(live);
    assert_eq!(pool.stats().live_blocks, 0);
    for alignment in [0, 3, 48, 4 << 20, usize::MAX] {
        let error = pool
            .allocate_bytes(1, Some(alignment), Init::Uninit)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("alignment {alignment} B")), "{error}");
    }
    let bad = MemoryPool::new(1000).with_alignment(33);
    assert!(
        bad.allocate::<u8>(1)
            .unwrap_err()
            .to_string()
            .contains("alignment 33 B")
    );
}

#[test]
fn wild_inner_and_double_frees_are_told() {
    let pool = MemoryPool::unlimited();
    let (kept, block) = (
        pool.allocate::<u8>(64).unwrap(),
        pool.allocate_bytes(640, None, Init::Uninit).unwrap(),
    );
    let on_the_stack = 0u8;
    let cases = [
        (NonNull::from(&on_the_stack), "it lies in no pool"),
        (NonNull::dangling(), "it lies in no pool"),
        // SAFETY: within the block.
        (unsafe { block.add(1) }, "no block of the pool starts there"),
        // SAFETY: within the block.
        (unsafe { block.add(64) }, "no block of the pool starts there"),
    ];
    for (address, reason) in cases {
        // SAFETY: no live block starts at `address`, and the pool lives.
        let error = unsafe { MemoryPool::free(address) }.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    // SAFETY: the block is ours.
    unsafe { MemoryPool::free(block) }.unwrap();
    // SAFETY: the pool lives and has not handed the address out again.
    let error = unsafe { MemoryPool::free(block) }.unwrap_err();
    assert!(matches!(error, Error::InvalidFree { .. }), "{error}");
    assert_eq!(pool.stats().live_blocks, 1);
    valid(&pool);
    drop(kept);
}

#[test]
fn memory_outlives_the_handle_and_not_the_last_block() {
    let pool = MemoryPool::new(STEP);
    let mut block = pool.clone().allocate::<u64>(8).unwrap();
    let address = block.as_ptr();
    drop(pool);
    block.as_uninit_mut()[7].write(7);
    assert!(MemoryPool::owns(address.cast()));
    // SAFETY: the pool is kept by the block.
    assert_eq!(unsafe { MemoryPool::block_of(address.cast()) }, Some(64));
    std::thread::spawn(move || drop(block)).join().unwrap();
    assert!(
        !MemoryPool::owns(address.cast()),
        "the pool was not freed with its last block"
    );
}

#[test]
fn trim_keeps_what_it_is_told_to_and_what_is_live() {
    let pool = MemoryPool::unlimited();
    let blocks: Vec<_> = (0..8).map(|_| pool.allocate::<u8>(STEP).unwrap()).collect();
    let (kept, freed): (Vec<_>, Vec<_>) = blocks.into_iter().enumerate().partition(|(number, _)| number % 2 == 0);
    drop(freed);
    assert_eq!(pool.stats().cached_bytes(), 4 * STEP);
    assert_eq!(pool.trim(3 * STEP), STEP);
    assert_eq!(pool.trim(0), 3 * STEP);
    assert_eq!(pool.stats().committed_bytes, 4 * STEP);
    let highest = kept.iter().map(|(_, block)| block.as_ptr().addr()).max().unwrap();
    let zeroed = Owned::take(&pool, STEP, None, Init::Zeroed, 9).unwrap();
    assert!(zeroed.ptr.as_ptr().addr() < highest, "a trimmed hole was not reused");
    zeroed.give_back();
    drop(kept);
}

#[test]
fn big_zeroed_blocks_are_zero_after_use_and_small_ones_too() {
    let pool = MemoryPool::unlimited();
    for bytes in [100, 5000, STEP + 123, LARGE + 12345] {
        for _ in 0..3 {
            let odd = Owned::take(&pool, 192, None, Init::Zeroed, 1).unwrap();
            Owned::take(&pool, bytes, None, Init::Zeroed, 0xee).unwrap().give_back();
            odd.give_back();
        }
    }
}

#[test]
fn memory_that_was_never_handed_out_is_not_zeroed_again() {
    let units = (8 * STEP / GRANULE) as u32;
    let pool = MemoryPool::unlimited();
    let mut region = Region::new(Kind::Blocks, units, units, pool.0, 0).unwrap();
    let mut take = |units| region.allocate(units, 1, true, Reach::All).unwrap().unwrap();
    let dirty = |placed: &Placed| placed.dirty_from..placed.dirty_to;
    let (first, second) = (take(1), take(units / 2));
    assert!(dirty(&first).is_empty());
    assert!(
        dirty(&second).is_empty(),
        "{:?}: its first step was used for another block",
        dirty(&second)
    );
    region.free(second.block).unwrap();
    let longer = region.allocate(units - 1, 1, true, Reach::All).unwrap().unwrap();
    assert_eq!(dirty(&longer), 0..second.units as usize * GRANULE);
}

#[test]
fn large_blocks_are_laid_for_speed_where_there_is_no_limit() {
    let pool = MemoryPool::unlimited();
    let small = pool.allocate::<u8>(64).unwrap();
    let (first, second) = (pool.allocate::<u8>(LARGE).unwrap(), pool.allocate::<u8>(LARGE).unwrap());
    for block in [&first, &second] {
        assert!(block.as_ptr().addr().is_multiple_of(STEP));
    }
    let apart = first.as_ptr().addr().abs_diff(second.as_ptr().addr());
    assert!(!apart.is_multiple_of(LARGE), "{apart} B apart");
    drop((small, first, second));
    valid(&pool);
}

#[test]
fn a_limit_holds_as_many_large_blocks_as_fit_in_it() {
    for count in [1, 2, 4, 16] {
        let pool = MemoryPool::new(count * LARGE);
        let blocks: Vec<_> = (0..count).map(|_| pool.allocate::<u8>(LARGE).unwrap()).collect();
        assert!(pool.allocate::<u8>(1).is_err());
        drop(blocks);
    }
}

#[test]
fn a_block_grows_into_one_that_was_just_freed() {
    let pool = MemoryPool::new(1 << 20);
    let half = pool.allocate_bytes(1 << 19, None, Init::Uninit).unwrap();
    drop(pool.allocate::<u8>(64).unwrap());
    // SAFETY: the block is ours, and only the address returned is used afterwards.
    unsafe {
        let whole = MemoryPool::reallocate(half, 1 << 20, None).unwrap();
        assert_eq!(pool.stats().live_bytes, 1 << 20);
        MemoryPool::free(whole).unwrap();
    }
    valid(&pool);
}

#[test]
fn no_alignment_is_accepted_by_chance() {
    let block = MemoryPool::unlimited().allocate_bytes(64, None, Init::Uninit).unwrap();
    for alignment in [0, 3, 4 << 20] {
        // SAFETY: refused, so the block stays as it is.
        let error = unsafe { MemoryPool::reallocate(block, 32, Some(alignment)) }.unwrap_err();
        assert!(
            error.to_string().contains(&format!("alignment {alignment} B")),
            "{error}"
        );
        let pool = MemoryPool::unlimited().with_alignment(alignment);
        assert!(pool.allocate::<u128>(1).is_err(), "{alignment}");
    }
    // SAFETY: the block is ours.
    unsafe { MemoryPool::free(block) }.unwrap();
}

#[test]
fn ten_thousand_blocks_of_many_threads_leave_nothing() {
    let pool = MemoryPool::unlimited();
    let (send, receive) = std::sync::mpsc::channel::<PoolPtr<u8>>();
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (pool, send) = (&pool, send.clone());
            scope.spawn(move || {
                for number in 0..1250 {
                    let block = pool.allocate::<u8>((number * 7919 + thread) % 20_000).unwrap();
                    if number % 3 == 0 {
                        send.send(block).unwrap()
                    } else {
                        drop(block)
                    }
                }
            });
        }
        drop(send);
        scope.spawn(move || receive.into_iter().for_each(drop));
    });
    let stats = pool.stats();
    assert_eq!(
        (stats.live_bytes, stats.live_blocks, stats.total_allocations),
        (0, 0, 10_000)
    );
    valid(&pool); // returns what caches and empty slabs hold
    assert_eq!(pool.stats().free_runs, pool.stats().regions);
}

#[test]
fn ten_thousand_pools_at_once() {
    let pools: Vec<_> = (0..10_000)
        .map(|number| {
            if number % 2 == 0 {
                MemoryPool::unlimited()
            } else {
                MemoryPool::new(1 << 16)
            }
        })
        .collect();
    let blocks: Vec<_> = pools.iter().map(|pool| pool.allocate::<u8>(5000).unwrap()).collect();
    assert!(pools[0].stats().side_bytes < 16 << 10, "{:?}", pools[0].stats());
    // The rest of the process still has addresses to live on.
    assert!(os::address_space_left() > 1 << 40);
    drop(pools);
    assert!(MemoryPool::owns(blocks[9_999].as_ptr()));
    drop(blocks);
}

#[test]
fn a_hundred_thousand_holes() {
    let pool = MemoryPool::unlimited();
    const BYTES: usize = 65 * GRANULE; // too long for a slab
    let mut blocks: Vec<_> = (0..200_000)
        .map(|_| Some(pool.allocate::<u8>(BYTES).unwrap()))
        .collect();
    blocks.iter_mut().step_by(2).for_each(|block| drop(block.take()));
    valid(&pool);
    assert_eq!(pool.stats().free_runs, 100_001); // and the rest of the region
    let high = pool.stats().committed_bytes;
    let again: Vec<_> = (0..100_000).map(|_| pool.allocate::<u8>(BYTES).unwrap()).collect();
    assert_eq!(pool.stats().committed_bytes, high, "the holes were not reused");
    drop((again, blocks));
    valid(&pool);
    assert_eq!(pool.stats().free_runs, 1);
}

fn free(ptr: NonNull<u8>) -> Result<()> {
    // SAFETY: tests free what is theirs, or what is refused.
    unsafe { MemoryPool::free(ptr) }
}

fn take(pool: &MemoryPool, bytes: usize) -> NonNull<u8> {
    pool.allocate_bytes(bytes, Some(64), Init::Uninit).unwrap()
}

/// Runs `work` on a thread of its own; false if it is not done after some seconds (it then hangs for ever).
fn ends(work: impl FnOnce() + Send + 'static) -> bool {
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    wait.recv_timeout(std::time::Duration::from_secs(5)).is_ok()
}
