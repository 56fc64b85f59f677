//! Placement rules: ours, and models of others' that compute addresses and touch no memory.

mod best_fit;
mod heap;
mod pool;
mod power_of_two;
#[cfg(test)]
mod tests;
mod torch_like;

use std::ops::Range;

pub(crate) use best_fit::BestFit;
pub(crate) use heap::Heap;
pub(crate) use pool::Pool;
pub(crate) use power_of_two::PowerOfTwo;
pub(crate) use torch_like::TorchLike;

/// Bytes to which the pool, its heap and the models of like granularity round each size.
const GRANULE: u64 = 64;

/// One way to place blocks.
pub(crate) trait Rule {
    const NAME: &'static str;
    /// What a live block is known by between its allocation and its free.
    type Handle: Copy + Default;

    fn new() -> Self;

    /// Places a block of `bytes`, above 0.
    ///
    /// # Errors
    /// Why there is no room, where that can be.
    fn allocate(&mut self, bytes: u64) -> Result<Self::Handle, String>;

    /// Takes back a block that was allocated by this very value, and not freed before.
    fn free(&mut self, handle: Self::Handle);

    /// The addresses that the live block occupies, from any fixed origin; `None` if it is not live.
    fn addresses(&self, handle: Self::Handle) -> Option<Range<u64>>;

    /// Bytes reserved so far, for a rule that takes memory in segments; others reserve the extent of their addresses.
    fn reserved(&self) -> Option<u64> {
        None
    }

    /// Bytes of bookkeeping at this moment; `None` for models, which are not built to be small.
    fn side_bytes(&self) -> Option<usize> {
        None
    }
}
