//! Pools whose memory devices lock in place, on the simulated device: whatever is asked, no page is locked twice, nothing races, and all
//! is given back.

use std::ptr::NonNull;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::backend::Queue;
use crate::backend::host::STEP;
use crate::backend::sim::{Locked, Sim};
use crate::device::Device;
use crate::pool::Init;
use crate::pool::device::{Engine, Face};

/// Two devices of one driver, with a pool each, and a pool of the host that the first locks.
struct Machine {
    locked: &'static Locked,
    sims: [&'static Sim; 2],
    engines: [Arc<Engine>; 2],
    pools: [MemoryPool; 2],
}

fn machine(seed: u64) -> Machine {
    let locked = Locked::new();
    let sims = [seed, seed + 1].map(|seed| Sim::locking(seed, locked));
    let mut ordinal = 0..;
    let engines = sims.map(|sim| Arc::new(Engine::new(Device::Cuda(ordinal.next().unwrap()), sim)));
    let pools = [0, 1].map(|at| MemoryPool::of_engine(Arc::clone(&engines[at]), 64 << 20));
    Machine {
        locked,
        sims,
        engines,
        pools,
    }
}

impl Machine {
    fn near(&self) -> MemoryPool {
        MemoryPool::unlimited()
            .with_gpu_support(true)
            .locked_by(&self.engines[0])
    }

    fn holds(&self, tensor: &DynTensor) -> bool {
        let start = tensor.data_ptr().addr() as u64;
        self.locked.has(start..start + tensor.nbytes() as u64)
    }

    /// All is given back, and nothing was wrong.
    fn assert_empty(&self) {
        assert_eq!(self.locked.findings(), [""; 0]);
        let (ranges, bytes, _) = self.locked.figures();
        assert_eq!((ranges, bytes), (0, 0));
    }
}

fn bytes(pool: &MemoryPool, len: usize, salt: u8) -> (DynTensor, Vec<u8>) {
    let values: Vec<u8> = (0..len).map(|at| (at % 251) as u8 ^ salt).collect();
    (DynTensor::from_slice_in(pool, &[len], &values).unwrap(), values)
}

/// Blocks of every size lie in memory that was locked by one call as soon as they are handed out, and no more is locked than the pool holds.
#[test]
fn blocks_are_locked_from_the_first() {
    let there = machine(1);
    let near = there.near();
    let mut kept = Vec::new();
    for round in 0..300usize {
        let len = [1, 100, 4000, 5000, 70_000, 300_000, 3 << 20][round % 7] + round;
        let (tensor, _) = bytes(&near, len, 0);
        assert!(there.holds(&tensor), "{len} B");
        if round % 3 > 0 {
            kept.push(tensor);
        }
        let stats = near.stats();
        assert!(stats.pinned_bytes <= stats.committed_bytes);
        assert_eq!(there.locked.figures().1, stats.pinned_bytes as u64);
    }
    let (_, _, calls) = there.locked.figures();
    assert!(calls <= 300, "{calls}");
    let before = there.locked.figures();
    for _ in 0..100 {
        drop(bytes(&near, 5000, 1));
    }
    assert_eq!(there.locked.figures(), before, "memory that is locked costs nothing");
    assert_eq!(MemoryPool::unlimited().stats().pinned_bytes, 0);
    drop((kept, near));
    there.assert_empty();
}

/// Regression: a block lay across the border of what was locked for it and for the one before, where a driver refuses one copy of it. Nor
/// does one that is given memory which several had before, or that grows where it lies.
#[test]
fn no_block_reaches_across_what_was_locked_at_once() {
    let there = machine(11);
    let near = there.near();
    let apart: Vec<_> = (0..6).map(|at| bytes(&near, 3 * STEP / 2 + at * 1000, 0).0).collect();
    assert!(apart.iter().all(|tensor| there.holds(tensor)));
    assert!(
        near.stats().pinned_bytes <= 6 * (3 * STEP / 2 + 3 * 4096),
        "{:?}: each to the end of its page",
        near.stats()
    );
    drop(apart);
    for len in [3 * STEP, STEP, 5 * STEP, 100] {
        let (tensor, _) = bytes(&near, len, 1);
        assert!(there.holds(&tensor), "{len} B");
    }
    let block = near.allocate_bytes(STEP / 2, None, Init::Uninit).unwrap();
    let behind = near.allocate_bytes(STEP / 2, None, Init::Uninit).unwrap();
    // SAFETY: live blocks, and ours, and each is freed once.
    unsafe {
        MemoryPool::free(behind).unwrap();
        let block = MemoryPool::reallocate(block, STEP, None).unwrap();
        let start = block.addr().get() as u64;
        assert!(there.locked.has(start..start + STEP as u64));
        MemoryPool::free(block).unwrap();
    }
    drop(near);
    there.assert_empty();
}

/// What was locked in many parts does not stand in the way of a block as long as the limit allows.
#[test]
fn a_full_pool_joins_what_was_locked_apart() {
    let there = machine(12);
    let near = MemoryPool::new(8 << 20)
        .with_gpu_support(true)
        .locked_by(&there.engines[0]);
    for round in 0..3 {
        let parts: Vec<_> = (0..8).map(|salt| bytes(&near, 1 << 20, salt).0).collect();
        assert!(parts.iter().all(|tensor| there.holds(tensor)), "round {round}");
        drop(parts);
        let (whole, _) = bytes(&near, 8 << 20, 9);
        assert!(there.holds(&whole));
    }
    let calls = there.locked.figures().2;
    assert!(calls <= 9, "{calls}: in the second round it is in one piece");
    drop(near);
    there.assert_empty();
}

/// Nor does it stay in small parts in a pool without a limit: what is free side by side is one when the pool grows, and then it stays so.
#[test]
fn what_was_locked_apart_is_joined_when_the_pool_grows() {
    let there = machine(13);
    let near = there.near();
    let parts: Vec<_> = (0..4).map(|salt| bytes(&near, 1 << 20, salt).0).collect();
    let (kept, _) = bytes(&near, 1 << 20, 4);
    drop(parts);
    assert_eq!(there.locked.figures().0, 5);
    for round in 0..5 {
        let large = [5, 6].map(|salt| bytes(&near, 4 << 20, salt).0);
        assert!(large.iter().all(|tensor| there.holds(tensor)) && there.holds(&kept));
        let (ranges, locked, calls) = there.locked.figures();
        assert_eq!((ranges, locked, calls), (3, 9 << 20, 7), "round {round}");
    }
    drop((kept, near));
    there.assert_empty();
}

/// Both devices use what one has locked, and copy from where it lies, across the borders of what was locked at once.
#[test]
fn one_locks_for_all() {
    let there = machine(2);
    let near = there.near();
    let small: Vec<_> = (0..5).map(|salt| bytes(&near, 3 * STEP / 4, salt)).collect();
    let calls = there.locked.figures().2;
    for (tensor, values) in &small {
        for pool in &there.pools {
            let back = tensor.to_pool(pool).unwrap().to_pool(&near).unwrap();
            assert_eq!(back.to_vec::<u8>().unwrap(), *values);
        }
    }
    assert!(there.locked.figures().2 <= calls + 1, "for the copies that came back");
    assert_eq!(there.sims.map(|sim| sim.calls().import > 0), [true, false]);
    assert_eq!(
        there.sims.map(|sim| sim.calls().allocate),
        [1, 1],
        "the pools' slabs, and no staging"
    );
    drop((small, near));
    there.assert_empty();
}

/// What a device refuses to lock is handed out all the same, and copied through staging memory; after a trim it is asked again.
#[test]
fn a_limit_of_locked_memory_is_no_error() {
    let there = machine(3);
    let near = there.near();
    there.locked.set_limit(Some(3 * STEP as u64));
    let (first, _) = bytes(&near, 2 * STEP, 1);
    let (second, values) = bytes(&near, 4 * STEP, 2);
    assert_eq!((there.holds(&first), there.holds(&second)), (true, false));
    let calls = there.locked.figures().2;
    let (third, _) = bytes(&near, 9 * STEP, 3);
    assert_eq!(there.locked.figures().2, calls, "it has said so");
    let back = second.to_pool(&there.pools[1]).unwrap().to_pool(&near).unwrap();
    assert_eq!(back.to_vec::<u8>().unwrap(), values);
    let why = there.engines[1].import_refused().unwrap();
    assert!(why.contains("no more memory may be locked"), "{why}");
    assert!(near.stats().pinned_bytes < near.stats().committed_bytes);
    drop(third);
    assert!(near.trim(0) >= 9 * STEP, "what is not locked goes back");
    there.locked.set_limit(None);
    let (again, _) = bytes(&near, 100, 4);
    assert!(
        [&first, &second, &back, &again]
            .iter()
            .all(|tensor| there.holds(tensor))
    );
    drop((first, second, back, again, near));
    there.assert_empty();
}

/// A trim gives back what nobody uses, and leaves the rest locked; nothing goes back by itself.
#[test]
fn a_trim_unlocks_what_is_free() {
    let there = machine(4);
    let near = there.near();
    let (kept, _) = bytes(&near, 3 * STEP, 1);
    let (gone, _) = bytes(&near, 5 * STEP, 2);
    let used = gone.to_pool(&there.pools[1]).unwrap(); // and it still may be
    drop(gone);
    let all = near.stats().pinned_bytes;
    near.trim(usize::MAX);
    assert_eq!(near.stats().pinned_bytes, all, "that much may stay");
    there.engines[1].finish_kept();
    assert!(near.trim(0) >= 4 * STEP);
    assert!(there.holds(&kept));
    assert!(near.stats().pinned_bytes <= all - 4 * STEP);
    let (again, _) = bytes(&near, 7 * STEP, 3);
    assert!(there.holds(&again));
    MemoryPool::trim_all(0);
    assert!(there.holds(&again) && there.holds(&kept));
    drop((kept, again, used, near));
    there.assert_empty();
}

/// What was locked at once is unlocked at once: until nothing is live in it, none of it goes back.
#[test]
fn a_trim_leaves_what_is_locked_beside_a_live_block() {
    let there = machine(9);
    let near = there.near();
    drop(bytes(&near, 9 * STEP, 1));
    let (kept, _) = bytes(&near, 100_000, 2);
    near.trim(0);
    let stats = near.stats();
    assert!(
        stats.pinned_bytes >= 9 * STEP && stats.committed_bytes >= stats.pinned_bytes,
        "{stats:?}"
    );
    drop(kept);
    near.trim(0);
    assert_eq!((near.stats().pinned_bytes, near.stats().committed_bytes), (0, 0));
    there.assert_empty();
}

/// A full pool waits for whichever device has the rest of it.
#[test]
fn a_full_pool_waits_for_a_device_that_locked_nothing() {
    let there = machine(10);
    let near = MemoryPool::new(1 << 20)
        .with_gpu_support(true)
        .locked_by(&there.engines[0]);
    for salt in 0..6 {
        let (tensor, values) = bytes(&near, 800_000, salt);
        let copy = DynTensor::zeros_in(&there.pools[1], None, &[800_000], DType::U8).unwrap();
        let start = NonNull::new(tensor.data_ptr()).unwrap();
        let face = Face::of(&there.engines[1], start, 800_000, || Box::new(tensor)).unwrap();
        let block = copy.storage.device_block().unwrap();
        crate::transfer::copy(Queue::COMPUTE, &face, 0, block, 800_000).unwrap();
        drop(face);
        assert_eq!(near.stats().live_blocks, 1, "in use on the device");
        let (next, _) = bytes(&near, 800_000, salt + 1);
        drop(next);
        assert_eq!(
            copy.to_pool(&MemoryPool::unlimited()).unwrap().to_vec::<u8>().unwrap(),
            values
        );
    }
    drop(near);
    there.assert_empty();
}

/// Support that comes late locks what is there.
#[test]
fn late_support_locks_what_is_there() {
    let there = machine(5);
    let near = MemoryPool::unlimited().locked_by(&there.engines[1]);
    let (early, _) = bytes(&near, 3 * STEP - 400_000, 1);
    assert_eq!(there.locked.figures(), (0, 0, 0));
    let near = near.with_gpu_support(true);
    let (late, _) = bytes(&near, 300_000, 2); // the pool has room
    assert!(there.holds(&early) && there.holds(&late));
    // In place, into memory that is new.
    let block = near.allocate_bytes(100_000, None, Init::Uninit).unwrap();
    // SAFETY: the block is live and ours, and it is freed once, by its new address.
    unsafe {
        let block = MemoryPool::reallocate(block, 9 * STEP, None).unwrap();
        let start = block.addr().get() as u64;
        assert!(there.locked.has(start..start + 9 * STEP as u64));
        MemoryPool::free(block).unwrap();
    }
    drop((early, late, near));
    there.assert_empty();
}

#[derive(Clone, Debug)]
enum Step {
    Make { len: usize, zeroed: bool },
    Drop(usize),
    Up { tensor: usize, device: usize },
    Down { tensor: usize, device: usize },
    Trim(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![1usize..5000, 5000usize..400_000, 400_000usize..(5 << 20)];
    prop_oneof![
        4 => (len, any::<bool>()).prop_map(|(len, zeroed)| Step::Make { len, zeroed }),
        3 => any::<usize>().prop_map(Step::Drop),
        3 => (any::<usize>(), 0..2usize).prop_map(|(tensor, device)| Step::Up { tensor, device }),
        2 => (any::<usize>(), 0..2usize).prop_map(|(tensor, device)| Step::Down { tensor, device }),
        1 => prop_oneof![Just(0usize), Just(4 << 20), Just(usize::MAX)].prop_map(Step::Trim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whatever_is_asked_nothing_is_locked_twice(steps in prop::collection::vec(step(), 1..60), seed in 1u64..1000, limited in any::<bool>()) {
        let there = machine(seed);
        let near = if limited {
            MemoryPool::new(64 << 20).with_gpu_support(true).locked_by(&there.engines[0])
        } else {
            there.near()
        };
        let mut tensors: Vec<(DynTensor, Vec<u8>)> = Vec::new();
        for (salt, step) in steps.into_iter().enumerate() {
            match step {
                Step::Make { len, zeroed: false } => {
                    if let Ok(values) = DynTensor::from_slice_in(&near, &[len], &vec![salt as u8; len]) {
                        tensors.push((values, vec![salt as u8; len]));
                    }
                }
                Step::Make { len, zeroed: true } => {
                    if let Ok(zeros) = DynTensor::zeros_in(&near, None, &[len], DType::U8) {
                        tensors.push((zeros, vec![0; len]));
                    }
                }
                Step::Drop(at) if !tensors.is_empty() => drop(tensors.swap_remove(at % tensors.len())),
                Step::Up { tensor, device } if !tensors.is_empty() => {
                    let (tensor, values) = &tensors[tensor % tensors.len()];
                    // A part, and nobody waits: the block may be freed while it is under way.
                    let part = tensor.slice(0, (values.len() / 3) as isize, values.len() as isize, 1).unwrap();
                    drop(part.to_pool(&there.pools[device]).unwrap());
                }
                Step::Down { tensor, device } if !tensors.is_empty() => {
                    let (tensor, values) = &tensors[tensor % tensors.len()];
                    let back = tensor.to_pool(&there.pools[device]).unwrap().to_pool(&near);
                    let values = values.clone();
                    if let Ok(back) = back {
                        prop_assert!(back.to_vec::<u8>().unwrap() == values);
                        tensors.push((back, values));
                    }
                }
                Step::Trim(keep) => _ = near.trim(keep),
                _ => {}
            }
            prop_assert!(tensors.iter().all(|(tensor, _)| there.holds(tensor)));
            let stats = near.stats();
            prop_assert_eq!(there.locked.figures().1, stats.pinned_bytes as u64);
            prop_assert!(stats.pinned_bytes <= stats.committed_bytes, "what is locked does not go back");
            prop_assert_eq!(there.locked.findings(), [""; 0]);
        }
        for (tensor, values) in &tensors {
            prop_assert!(tensor.to_vec::<u8>().unwrap() == *values);
        }
        drop((tensors, near));
        there.engines.iter().for_each(|engine| _ = engine.finish_kept());
        there.assert_empty();
    }
}

/// Many threads at once, and both devices.
#[test]
fn many_threads_lock_at_once() {
    let there = machine(6);
    let near = there.near();
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (near, there) = (&near, &there);
            scope.spawn(move || {
                for round in 0..30usize {
                    let len = 1 + (thread * 7919 + round * 104_729) % if round % 2 == 0 { 900_000 } else { 5000 };
                    let (tensor, values) = bytes(near, len, round as u8);
                    assert!(there.holds(&tensor));
                    let copy = tensor.to_pool(&there.pools[(thread + round) % 2]).unwrap();
                    drop(tensor);
                    if round % 10 == thread {
                        near.trim(0);
                    }
                    let back = copy.to_pool(near).unwrap();
                    assert!(there.holds(&back) && back.to_vec::<u8>().unwrap() == values);
                }
            });
        }
    });
    there.engines.iter().for_each(|engine| _ = engine.finish_kept());
    drop(near);
    there.assert_empty();
}

/// The weights of a transformer of 20.4 GiB, of 4 KiB to 512 MiB, touched by nobody: what is locked is what was asked for. Powers of two
/// would lock 32 GiB.
#[test]
fn pinned_memory_has_the_size_that_was_asked_for() {
    let there = machine(7);
    let near = there.near();
    let (hidden, inner, layers) = (5120, 13824, 40);
    let mut lengths = vec![hidden * 2; 2 * layers + 1]; // norms
    lengths.extend([512 << 20, 312 << 20]); // words, in and out
    for _ in 0..layers {
        lengths.extend([hidden * hidden * 2; 4]);
        lengths.extend([hidden * inner * 2; 3].map(|bytes| bytes * 3 / 4));
        lengths.extend([4096, hidden * 2, hidden * 6, 81_920]);
    }
    let mut asked: usize = 0;
    let mut tensors = Vec::new();
    while asked < (204 << 30) / 10 {
        let at = tensors.len() * 7919 % lengths.len();
        let bytes = lengths[at] + tensors.len() % 3 * 96;
        tensors.push(near.allocate::<u8>(bytes).unwrap());
        asked += bytes;
    }
    let stats = near.stats();
    let ratio = stats.pinned_bytes as f64 / asked as f64;
    let rounded: usize = tensors.iter().map(|tensor| tensor.len().next_power_of_two()).sum();
    println!(
        "{} tensors, {asked} B asked, {} B pinned in {} ranges: {ratio:.5}; powers of two: {:.3}",
        tensors.len(),
        stats.pinned_bytes,
        there.locked.figures().0,
        rounded as f64 / asked as f64
    );
    assert!(stats.requested_bytes == asked && stats.pinned_bytes >= asked);
    assert!(ratio <= 1.01, "{ratio}");
    drop((tensors, near));
    there.assert_empty();
}

/// A forked child goes on with its copy of the pool, and asks the driver for nothing: what is locked is the parent's.
#[test]
fn a_forked_child_leaves_the_driver_alone() {
    let there = machine(8);
    let near = there.near();
    let (kept, values) = bytes(&near, 3 * STEP, 1);
    let (gone, _) = bytes(&near, 2 * STEP, 2);
    let before = there.locked.figures();
    // SAFETY: the child only does what the library allows there, and ends without running anything of the parent's.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let works = || {
            drop(gone);
            let (more, more_values) = bytes(&near, 5 * STEP, 3);
            let right = more.to_vec::<u8>().ok()? == more_values && kept.to_vec::<u8>().ok()? == values;
            drop(more);
            let given_back = near.trim(0) >= 4 * STEP;
            drop((kept, near));
            let asked = there.sims.iter().any(|sim| sim.calls().free > 0);
            (right && given_back && !asked && there.locked.figures() == before).then_some(())
        };
        let code = i32::from(works().is_none());
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: a child of this process, and room for its status.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert!(
        waited == child && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "{status:#x}"
    );
    assert_eq!(there.locked.figures(), before);
    drop((gone, kept, near));
    there.assert_empty();
}
