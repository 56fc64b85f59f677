//! `cuda-worker ARM`: the measured process of `bench/cuda.py`; `bench_worker` has the protocol. It runs on the simulated driver
//! (`tests/cuda-sim`), whose own time is never part of what is timed.
//!
//! - `blocks.rs`: device memory handed out and taken back; `slots.rs`: in slots, used by the device or not; `trace.rs`: as training does.
//! - `training.rs`: what a steady program of uploads, kernels and downloads asks the driver for.
//! - `weights.rs`: how much memory is page-locked for the weights of a model.
//! - `driver.rs`: what the simulated driver counts, and streams of it.

mod blocks;
mod driver;
mod slots;
mod trace;
mod training;
mod weights;

use bench_worker::{Result, serve};
use neuro_core::Device;
use serde::Deserialize;
use serde_json::{Value, json};

/// The device of all arms.
const DEVICE: Device = Device::Cuda(0);

/// What is timed: a step is a block that is allocated and freed. Sizes in bytes.
#[derive(Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
enum Spec {
    /// `slots` slots, all full. A step puts another block of a size between `low` and `high` into a random one.
    Replace { low: u32, high: u32, slots: u32 },
    /// The same slots; each block is used by a kernel before it is freed.
    Used { low: u32, high: u32, slots: u32 },
    /// Activations, then gradients, of sizes that come again.
    Trace,
}

/// What is not a time.
#[derive(Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
enum Fact {
    /// What the device is.
    Device,
    /// What so many steps of training ask the driver for, with so many more blocks freed in each.
    Training { steps: u32, blocks: u32 },
    /// What is page-locked for the weights of a model.
    Weights,
}

type Ability = bench_worker::Ability<Spec, Fact>;

fn find(arm: &str) -> Option<Ability> {
    Some(match arm {
        "pool" => Ability {
            prepare: |spec| match spec {
                Spec::Replace { low, high, slots } => slots::replace(blocks::Memory::new()?, low..=high, slots),
                Spec::Used { low, high, slots } => slots::used(low..=high, slots),
                Spec::Trace => Ok(Box::new(trace::Trace::new(blocks::Memory::new()?))),
            },
            tell: |fact| match fact {
                Fact::Device => describe(),
                Fact::Training { steps, blocks } => training::tell(steps, blocks),
                Fact::Weights => weights::tell(),
            },
        },
        "none" => Ability {
            prepare: |spec| match spec {
                Spec::Replace { low, high, slots } => slots::replace(blocks::Nothing::default(), low..=high, slots),
                Spec::Used { .. } => Err("it has no blocks that a kernel could use".into()),
                Spec::Trace => Ok(Box::new(trace::Trace::new(blocks::Nothing::default()))),
            },
            tell: |_| Err("it only hands out numbers".into()),
        },
        _ => return None,
    })
}

fn describe() -> Result<Value> {
    let found = neuro_core::devices();
    let info = found.devices.iter().find(|info| info.device == DEVICE);
    let info = info.ok_or_else(|| format!("no {DEVICE}: {:?}", found.missing))?;
    // Its counts are what it is asked for; a driver of hardware has none.
    driver::Driver::open()?;
    Ok(json!({ "name": info.name, "driver": info.driver }))
}

fn main() -> Result<()> {
    let arm = std::env::args().nth(1).unwrap_or_default();
    let ability = find(&arm).ok_or_else(|| format!("no arm {arm:?}"))?;
    serve(&arm, &ability)
}
