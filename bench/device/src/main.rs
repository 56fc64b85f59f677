//! `device-worker ARM [ORDINAL]`: the measured process of `bench/device.py`; `bench_worker` has the protocol. `ORDINAL` is the
//! device's number as neuro-core counts them.
//!
//! - `blocks/`: device memory handed out and taken back, by us and by a peer.
//! - `transfer/`: copies to the device and back, ours and by hand.
//! - `storm.rs`: many threads at once, contents checked.
//! - `gpu.rs`: a Vulkan device of its own for what is not ours; `mistake.rs`: a race that the validation layer has to report.

mod blocks;
mod gpu;
mod mistake;
mod storm;
mod transfer;

use bench_worker::{Result, serve};
use neuro_core::Device;
use serde::Deserialize;
use serde_json::{Value, json};

/// What is timed. Sizes in bytes.
#[derive(Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
enum Spec {
    /// `slots` slots, all full. A step puts another block of a size between `low` and `high` into a random one.
    Replace { low: u32, high: u32, slots: u32 },
    /// A step is a copy of so many bytes.
    Copy { bytes: usize, way: transfer::Way },
}

/// What is not a time of a batch.
#[derive(Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
enum Fact {
    /// What a device is.
    Device,
    /// Single pairs of one allocation and one free.
    Single { case: blocks::Case, pairs: usize },
    /// Many tensors are made, some of them freed, and others made.
    Many { tensors: usize },
    /// Threads at once.
    Storm(storm::Storm),
    /// Two copies that race.
    Mistake,
}

type Ability = bench_worker::Ability<Spec, Fact>;

/// The device that all arms use.
fn device() -> Result<Device> {
    let ordinal = std::env::args().nth(2).map_or(Ok(0), |ordinal| ordinal.parse())?;
    Ok(Device::Vulkan(ordinal))
}

fn find(arm: &str) -> Option<Ability> {
    Some(match arm {
        "tensor" => blocks::ability::<blocks::Tensors>(),
        "block" => blocks::ability::<blocks::Memory>(),
        "heap" => blocks::ability::<blocks::Heap>(),
        "gpu-allocator" => blocks::ability::<blocks::GpuAllocator>(),
        "none" => blocks::ability::<blocks::Nothing>(),
        "staging loop" => transfer::ability::<transfer::StagingLoop<false>>(),
        "staging loop, new buffer" => transfer::ability::<transfer::StagingLoop<true>>(),
        "memcpy" => transfer::ability::<transfer::Memcpy>(),
        "pageable" => transfer::ability::<transfer::Ours<transfer::Pageable>>(),
        "gpu support" => transfer::ability::<transfer::Ours<transfer::GpuSupport>>(),
        "storm" => Ability {
            prepare: |_| Err("nothing here is timed".into()),
            tell: |fact| match fact {
                Fact::Device => describe(),
                Fact::Storm(storm) => storm.run(device()?),
                Fact::Mistake => mistake::make(device()?),
                Fact::Single { .. } | Fact::Many { .. } => Err("it hands out no blocks".into()),
            },
        },
        _ => return None,
    })
}

fn describe() -> Result<Value> {
    let found = neuro_core::devices();
    let device = device()?;
    let Some(info) = found.devices.iter().find(|info| info.device == device) else {
        let there: Vec<_> = found.devices.iter().map(|info| info.device.to_string()).collect();
        let vulkan = found.missing.iter().find(|(what, _)| *what == "vulkan");
        let why = vulkan.map_or_else(|| format!("there are: {}", there.join(", ")), |(_, why)| why.clone());
        return Err(format!("no {device}; {why}").into());
    };
    let shared = gpu::Gpu::open(device)?.is_shared();
    Ok(json!({
        "name": info.name,
        "kind": info.kind,
        "driver": info.driver,
        "api": info.api,
        "memory": info.heaps.iter().filter(|heap| heap.device_local).map(|heap| heap.bytes).sum::<u64>(),
        "shared": shared,
    }))
}

fn main() -> Result<()> {
    let arm = std::env::args().nth(1).unwrap_or_default();
    let ability = find(&arm).ok_or_else(|| format!("no arm {arm:?}"))?;
    serve(&arm, &ability)
}
