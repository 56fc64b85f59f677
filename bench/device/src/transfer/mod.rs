//! Copies from the host to the device and back.
//!
//! - `ours.rs`: tensors that are put into a pool of the other side, each time a new one.
//! - `by_hand.rs`: the same through `staging.rs`, a staging loop written for one pair of buffers; and copies within the host.
//!
//! What is copied is changed before each batch and compared behind it, while no clock runs.

mod by_hand;
mod ours;
mod staging;

use bench_worker::{Clock, Result, Work};
use neuro_core::Device;
use serde::Deserialize;

pub use by_hand::{Memcpy, StagingLoop};
pub use ours::{GpuSupport, HOSTS, Ours, Pageable};

use crate::{Ability, Fact, Spec, describe, device};

/// Where to.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    Up,
    Down,
    /// Up, and down again.
    Trip,
}

/// Something that copies.
pub trait Copier: Sized + 'static {
    /// For so many bytes.
    ///
    /// # Errors
    /// What is not there.
    fn new(device: Device, bytes: usize) -> Result<Self>;

    /// The bytes to be copied up.
    ///
    /// # Errors
    /// Where they cannot be written to.
    fn source(&mut self) -> Result<&mut [u8]>;

    /// Copies the source up. It may be changed when this returns; the copy may still be under way.
    ///
    /// # Errors
    /// What the driver said.
    fn up(&mut self) -> Result<()>;

    /// Copies down again what was copied up last; all of it has arrived when this returns.
    ///
    /// # Errors
    /// What the driver said.
    fn down(&mut self) -> Result<()>;

    /// Waits for all that is under way.
    ///
    /// # Errors
    /// What the driver said.
    fn settle(&mut self) -> Result<()>;

    /// The source, and what came down last.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn both(&self) -> Result<(&[u8], &[u8])>;
}

struct Copies<C> {
    copier: C,
    way: Way,
    batch: u64,
}

impl<C: Copier> Copies<C> {
    fn step(&mut self) -> Result<()> {
        match self.way {
            Way::Up => self.copier.up(),
            Way::Down => self.copier.down(),
            Way::Trip => self.copier.up().and_then(|()| self.copier.down()),
        }
    }
}

impl<C: Copier> Work for Copies<C> {
    fn run(&mut self, steps: usize, clock: Clock) -> Result<f64> {
        self.batch += 1;
        mark(self.copier.source()?, self.batch);
        // One of each before the clock runs: it brings what is to be copied down, and memory that was given back meanwhile.
        self.copier.up()?;
        self.copier.down()?;
        self.step()?;
        self.copier.settle()?;
        let start = clock.seconds();
        for _ in 0..steps {
            self.step()?;
        }
        self.copier.settle()?;
        let seconds = clock.seconds() - start;
        if self.way == Way::Up {
            self.copier.down()?;
        }
        let (source, back) = self.copier.both()?;
        same(source, back).map(|()| seconds)
    }
}

/// # Errors
/// Which byte differs.
fn same(source: &[u8], back: &[u8]) -> Result<()> {
    if source == back {
        return Ok(());
    }
    let at = source.iter().zip(back).position(|(source, back)| source != back);
    let lengths = (source.len(), back.len());
    Err(format!(
        "of {} bytes {} came back, and byte {at:?} is another",
        lengths.0, lengths.1
    )
    .into())
}

/// Makes the bytes differ from those of every other batch, on every page.
fn mark(bytes: &mut [u8], batch: u64) {
    const PAGE: usize = 4096;
    for (page, bytes) in (0u64..).zip(bytes.chunks_mut(PAGE)) {
        let mark = (page << 24 ^ batch).wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
        let head = bytes.len().min(mark.len());
        bytes[..head].copy_from_slice(&mark[..head]);
        let tail = bytes.len() - head;
        bytes[tail..].copy_from_slice(&mark[..head]);
    }
}

pub const fn ability<C: Copier>() -> Ability {
    Ability {
        prepare: |spec| match spec {
            Spec::Copy { bytes, way } => Ok(Box::new(Copies {
                copier: C::new(device()?, bytes)?,
                way,
                batch: 0,
            })),
            Spec::Replace { .. } => Err("it hands out no blocks".into()),
        },
        tell: |fact| match fact {
            Fact::Device => describe(),
            _ => Err("it only copies".into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_an_earlier_batch_is_found_on_every_page() {
        for bytes in [1, 4, 4096, 4099, 20_000] {
            let marked = |batch| {
                let mut all = vec![7; bytes];
                mark(&mut all, batch);
                all
            };
            let (before, now) = (marked(1), marked(2));
            assert!(same(&now, &now).is_ok() && same(&before, &now).is_err(), "{bytes}");
            for start in (0..bytes).step_by(4096) {
                let page = start..bytes.min(start + 4096);
                let mut stale = now.clone();
                stale[page.clone()].copy_from_slice(&before[page]);
                assert!(same(&stale, &now).is_err(), "page at {start} of {bytes}");
            }
        }
    }
}
