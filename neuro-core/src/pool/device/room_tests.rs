//! What a device does not give: more than its driver leaves to this process, more than its longest slab, and staging memory.

use super::*;
use crate::backend::Queue;
use crate::backend::planted::{Omission, without};
use crate::backend::sim::Sim;
use crate::device::Device;
use crate::error::{Error, Result};

const MIB: u64 = 1 << 20;

fn pool(sim: Sim, limit: u64) -> (PoolOwner, &'static Sim) {
    let sim: &'static Sim = Box::leak(Box::new(sim));
    let engine = Arc::new(Engine::new(Device::Vulkan(3), sim));
    (DevicePool::make(engine, limit), sim)
}

fn take(pool: &DevicePool, bytes: u64) -> Result<PoolBlock> {
    pool.allocate(bytes as usize, 256, Queue::COMPUTE)
}

/// Takes and drops blocks at random while the budget goes up and down. What the device found, and how many requests were refused.
fn under_a_budget(seed: u64) -> (Vec<String>, usize) {
    let (pool, sim) = pool(Sim::new(seed), 64 * MIB);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let (mut blocks, mut refused, mut budget) = (Vec::new(), 0, 3 * MIB);
    for step in 0..200 {
        if step % 20 == 0 {
            budget = MIB + random(4 * MIB);
            sim.set_budget(Some(budget));
        }
        let bytes = 1 + random(MIB);
        match take(&pool, bytes) {
            Ok(block) => blocks.push(block),
            Err(Error::OutOfMemory { cause, .. }) => {
                let cause = cause.unwrap().to_string();
                assert!(
                    cause.contains("left to this process") && cause.contains(&budget.to_string()),
                    "{cause}"
                );
                refused += 1;
                blocks.drain(..blocks.len() / 2);
            }
            Err(error) => panic!("{error}"),
        }
        if step % 70 == 0 {
            pool.trim(0);
        }
    }
    (sim.findings(), refused)
}

/// Law: no pool takes more than its driver leaves to the process at that moment, and what it has it goes on using.
#[test]
fn pools_grow_within_the_budget() {
    let mut refused = 0;
    for seed in 1..40 {
        let (findings, times) = under_a_budget(seed);
        assert_eq!(findings, [""; 0], "seed {seed}");
        refused += times;
    }
    assert!(refused > 0, "nothing was refused: the budget was never reached");
    let found = (1..40).any(|seed| without(Omission::Budget, || under_a_budget(seed).0 != [""; 0]));
    assert!(found, "the omission is not found");
}

#[test]
fn all_of_the_budget_can_be_had() {
    let (pool, sim) = pool(Sim::new(1), 64 * MIB);
    sim.set_budget(Some(5 * MIB + 100));
    let blocks: Vec<_> = (0..5).map(|_| take(&pool, MIB).unwrap()).collect();
    assert_eq!(sim.calls().allocate, 1, "one slab, as long as the budget");
    let text = take(&pool, MIB).unwrap_err().to_string();
    for part in [
        "vulkan:3: out of memory",
        "asked for 1048576 B",
        "5242880 B live",
        "limit 67108864 B",
        "100 B of its memory are left",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Other processes have gone.
    sim.set_budget(Some(9 * MIB));
    let more = take(&pool, MIB).unwrap();
    // A driver that stops knowing is asked for the memory itself.
    sim.set_budget(None);
    let most = take(&pool, 20 * MIB).unwrap();
    drop((blocks, more, most));
    assert_eq!(sim.findings(), [""; 0]);
}

/// An empty slab stands in the way of the budget, too, and goes.
#[test]
fn empty_slabs_make_room_in_the_budget() {
    let (pool, sim) = pool(Sim::new(2), 64 * MIB);
    sim.set_budget(Some(4 * MIB));
    drop(take(&pool, MIB).unwrap());
    sim.set_budget(Some(8 * MIB));
    drop(take(&pool, 8 * MIB).unwrap());
    assert_eq!((sim.calls().allocate, sim.slabs()), (2, 1));
    assert_eq!(sim.findings(), [""; 0]);
}

/// What no slab can hold is refused by the name of the limit, at once: nothing is given back or waited for.
#[test]
fn too_long_for_any_slab() {
    let mut sim = Sim::new(3);
    sim.facts_mut().max_slab_bytes = 2 * MIB + 4;
    let (pool, sim) = pool(sim, 1 << 40);
    drop(take(&pool, 2 * MIB).unwrap());
    for asked in [2 * MIB + 1, 1 << 50] {
        let error = take(&pool, asked).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        let text = error.to_string();
        for part in [
            "vulkan:3",
            "longer than 2097152 B (the simulated limit)",
            "divide the tensor",
            &asked.to_string(),
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    assert_eq!((sim.calls().allocate, sim.calls().free), (1, 0));
    // As long as it gets; and then it is the pool that is full.
    let whole = take(&pool, 2 * MIB).unwrap();
    sim.set_limit(0);
    let text = take(&pool, MIB).unwrap_err().to_string();
    assert!(!text.contains("divide the tensor"), "{text}");
    drop(whole);
}

/// Copies need memory of their own, once; where there is none, that is said as what it is.
#[test]
fn no_memory_to_stage_in() {
    let (pool, sim) = pool(Sim::new(4), 64 * MIB);
    let staging = super::ring::RING;
    sim.set_limit(2 * MIB);
    let block = take(&pool, 2 * MIB).unwrap();
    let bytes = vec![7; 2 << 20];
    for _ in 0..2 {
        let error = crate::transfer::upload(&bytes, &block).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, Error::OutOfMemory { device: Device::Vulkan(3), asked, .. } if asked == staging),
            "{text}"
        );
        assert!(
            text.contains("to stage copies") && text.contains("raise the limit"),
            "{text}"
        );
    }
    sim.set_limit(2 * MIB + 2 * staging as u64);
    crate::transfer::upload(&bytes, &block).unwrap();
    let mut back = vec![0; 2 << 20];
    crate::transfer::download(&block, 0, &mut back).unwrap();
    assert!(back == bytes);
    assert_eq!(sim.findings(), [""; 0]);
}
