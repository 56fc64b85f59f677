//! Device memory handed out and taken back, by us and by a peer, each called directly.
//!
//! - `ours.rs`: blocks and tensors of a pool of the device, and the heap inside such a pool.
//! - `peers.rs`: gpu-allocator; and nothing, the cost of the loop.
//! - `replace.rs`: the random program; `single.rs`: single pairs, and the worst of them; `many.rs`: tensors by the thousand.

mod many;
mod ours;
mod peers;
mod replace;
mod single;

use bench_worker::{Result, Solo};
use neuro_core::Device;

pub use ours::{Heap, Memory, Tensors};
pub use peers::{GpuAllocator, Nothing};
pub use single::Case;

use crate::{Ability, Fact, Spec, describe, device};

/// Something that hands out device memory.
pub trait Blocks: Send + Sized + 'static {
    /// A live block.
    type Block: Send;

    /// As a program would have it that makes one and keeps it.
    ///
    /// # Errors
    /// Where there is no such device.
    fn new(device: Device) -> Result<Self>;

    /// `None` where there is no room.
    fn allocate(&mut self, bytes: u32) -> Option<Self::Block>;

    fn free(&mut self, block: Self::Block);

    /// How many pieces of memory it has from the driver.
    fn pieces(&self) -> usize;
}

pub const fn ability<B: Blocks>() -> Ability {
    Ability {
        prepare: |spec| match spec {
            Spec::Replace { low, high, slots } => {
                let part = replace::Replace::new(B::new(device()?)?, low..=high, slots)?;
                Ok(Box::new(Solo(Box::new(part))))
            }
            Spec::Copy { .. } => Err("it copies nothing".into()),
        },
        tell: |fact| match fact {
            Fact::Device => describe(),
            Fact::Single { case, pairs } => single::tell::<B>(case, pairs),
            Fact::Many { tensors } => many::tell::<B>(tensors),
            Fact::Storm(_) | Fact::Mistake => Err("the arm \"storm\" does that".into()),
        },
    }
}
