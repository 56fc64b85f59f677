//! What is timed: pieces of work, each written once and compiled for every peer.
//!
//! - `live.rs`: blocks of random sizes that live for a random time.
//! - `touch.rs`: one large block, taken, written to, and freed, over and over.
//! - `handoff.rs`: one thread allocates, another frees.
//! - `drive.rs`: runs two at once on two threads.

mod drive;
mod handoff;
mod live;
pub mod touch;

use bench_worker::{Result, Solo, Work};
use serde::Deserialize;

use crate::peers::Peer;
use drive::Duo;
use live::LiveSet;
use touch::TouchLoop;

/// A piece of work as `bench/pool.py` names it. Sizes in bytes.
#[derive(Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Spec {
    /// `slots` slots, half of them full on average. A step frees the block in a random slot, or puts one there, of a size
    /// between `low` and `high`; with `touch` it writes to the first 64 bytes. Each of the threads has its own slots.
    LiveSet {
        low: u32,
        high: u32,
        slots: u32,
        touch: bool,
        threads: usize,
    },
    /// A step takes a block, writes one byte to each of its pages, and frees it.
    TouchLoop { bytes: u32 },
    /// A step is a block that one thread allocates and another frees.
    Handoff { low: u32, high: u32 },
}

pub fn prepare<P: Peer>(spec: Spec) -> Result<Box<dyn Work>> {
    let peer = P::new()?;
    match spec {
        Spec::LiveSet {
            low,
            high,
            slots,
            touch,
            threads: 1,
        } => Ok(Box::new(Solo(LiveSet::boxed(peer, low..=high, slots, touch, 1)?))),
        Spec::LiveSet {
            low,
            high,
            slots,
            touch,
            threads: 2,
        } => {
            let twin = peer.twin().ok_or("serves one thread only")?;
            Ok(Box::new(Duo::new(
                move || LiveSet::boxed(peer, low..=high, slots, touch, 1),
                move || LiveSet::boxed(twin, low..=high, slots, touch, 2),
            )?))
        }
        Spec::LiveSet { threads, .. } => Err(format!("one thread or two, not {threads}").into()),
        Spec::TouchLoop { bytes } => Ok(Box::new(Solo(TouchLoop::boxed(peer, bytes)?))),
        Spec::Handoff { low, high } => {
            let twin = peer.twin().ok_or("serves one thread only")?;
            let (maker, taker) = handoff::pair(peer, twin, low..=high);
            Ok(Box::new(Duo::new(
                move || Ok(Box::new(maker)),
                move || Ok(Box::new(taker)),
            )?))
        }
    }
}
