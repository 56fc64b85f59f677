//! Copies on the simulated device, in adversarial orders; and that each planted omission is found.

use super::*;
use crate::backend::sim::Sim;
use crate::device::Device;
use crate::pool::device::{DevicePool, Engine, PoolBlock, PoolOwner, without};
use std::sync::Arc;

fn pool(seed: u64) -> (PoolOwner, &'static Sim) {
    let sim: &'static Sim = Box::leak(Box::new(Sim::new(seed)));
    let engine = Arc::new(Engine::new(Device::Vulkan(0), sim));
    (DevicePool::make(engine, 4 << 20), sim)
}

fn pattern(bytes: usize, salt: u8) -> Vec<u8> {
    (0..bytes)
        .map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ salt)
        .collect()
}

fn take(pool: &DevicePool, bytes: usize) -> PoolBlock {
    pool.allocate(bytes, 256, Queue::UPLOAD).unwrap()
}

/// Up, across and down again, of every awkward length: what comes back is what went.
fn round_trip(seed: u64, bytes: usize, visible: bool) -> Vec<String> {
    let (pool, sim) = pool(seed);
    sim.set_visible(visible);
    let [a, b] = [(); 2].map(|()| take(&pool, bytes));
    for salt in 0..3 {
        let sent = pattern(bytes, salt);
        upload(&sent, &a).unwrap();
        copy(Queue::COMPUTE, &a, 0, &b, bytes).unwrap();
        let mut back = vec![0; bytes];
        download(&b, 0, &mut back).unwrap();
        if back != sent {
            return vec![format!("{bytes} B came back changed")];
        }
        let from = bytes / 3;
        let mut part = vec![0; bytes - from];
        download(&a, from, &mut part).unwrap();
        if part != sent[from..] {
            return vec![format!("{bytes} B from {from} on came back changed")];
        }
        copy(Queue::COMPUTE, &a, 0, &b, bytes).unwrap(); // under way when the next round writes
    }
    sim.findings()
}

#[test]
fn what_goes_up_comes_down() {
    for bytes in [0, 1, 3, 4, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17, 9 * CHUNK] {
        for visible in [false, true] {
            for seed in 1..if bytes < CHUNK { 20 } else { 3 } {
                assert_eq!(
                    round_trip(seed, bytes, visible),
                    [""; 0],
                    "{bytes} B, {visible}, seed {seed}"
                );
            }
        }
    }
}

#[test]
fn omissions_are_found() {
    for (omission, visible) in [
        (Omission::ChunkInUse, false),
        (Omission::WaitBeforeHostReads, false),
        (Omission::WaitBeforeHostReads, true),
        (Omission::WaitBeforeHostWrites, true),
        (Omission::WaitForWrite, false),
        (Omission::NoteWrite, true),
    ] {
        let run = |seed| {
            without(omission, || round_trip(seed, 10 * CHUNK + 4, visible))
                .into_iter()
                .next()
        };
        let found = (1..20).find_map(run);
        assert!(found.is_some(), "{omission:?}, {visible} was not found");
    }
}

#[test]
fn zeros_are_zeros() {
    let (pool, sim) = pool(3);
    let block = take(&pool, 1001);
    block.zero().unwrap();
    let mut back = vec![1; 1001];
    download(&block, 0, &mut back).unwrap();
    assert!(back.iter().all(|&byte| byte == 0));
    assert_eq!(sim.findings(), [""; 0]);
}

/// More threads than the ring has chunks: each gets its turn.
#[test]
fn many_threads_share_the_ring() {
    let (pool, sim) = pool(4);
    std::thread::scope(|scope| {
        for thread in 0..12u8 {
            let pool = &pool;
            scope.spawn(move || {
                let sent = pattern(2 * CHUNK + 100, thread);
                let block = take(pool, sent.len());
                upload(&sent, &block).unwrap();
                let mut back = vec![0; sent.len()];
                download(&block, 0, &mut back).unwrap();
                assert!(back == sent, "{thread}");
            });
        }
    });
    assert_eq!((sim.findings(), pool.stats().live_blocks), (vec![], 0));
}

/// Each call refused once: an error, nothing lost, and the chunks come back.
#[test]
fn every_call_may_fail() {
    let sent = pattern(3 * CHUNK, 1);
    for n in 1..14 {
        let (pool, sim) = pool(5 + u64::from(n));
        let run = || -> Result<()> {
            let block = pool.allocate(sent.len(), 256, Queue::UPLOAD)?;
            upload(&sent, &block)?;
            download(&block, 0, &mut vec![0; sent.len()])
        };
        sim.fail_nth(n);
        assert_eq!(run().is_err(), n <= 9, "{n}");
        sim.fail_nth(0);
        (0..3).for_each(|_| run().unwrap());
        assert_eq!((sim.findings(), pool.stats().live_blocks), (vec![], 0), "{n}");
    }
}
