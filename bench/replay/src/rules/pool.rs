//! "pool": a [`MemoryPool`] without a limit, as users have it: lock, address table, memory and all.

use std::ops::Range;
use std::ptr::NonNull;

use neuro_core::{Init, MemoryPool};

use super::Rule;

pub(crate) struct Pool(MemoryPool);

impl Rule for Pool {
    const NAME: &'static str = "pool";
    type Handle = Option<NonNull<u8>>;

    fn new() -> Self {
        Self(MemoryPool::unlimited())
    }

    #[inline]
    fn allocate(&mut self, bytes: u64) -> Result<Self::Handle, String> {
        match self.0.allocate_bytes(bytes as usize, None, Init::Uninit) {
            Ok(block) => Ok(Some(block)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[inline]
    fn free(&mut self, handle: Self::Handle) {
        let block = handle.expect("a live block");
        // SAFETY: the block is this pool's and nobody uses it: a replay writes to no block.
        unsafe { MemoryPool::free(block) }.expect("a live block");
    }

    fn addresses(&self, handle: Self::Handle) -> Option<Range<u64>> {
        let start = handle?.as_ptr();
        // SAFETY: the pool is alive: this is a handle of it.
        let bytes = unsafe { MemoryPool::block_of(start) }?;
        let start = start.addr() as u64;
        Some(start..start + bytes as u64)
    }

    /// Small blocks have regions of their own, so the extent is that of each region, added up.
    fn reserved(&self) -> Option<u64> {
        Some(self.0.stats().extent_bytes as u64)
    }

    fn side_bytes(&self) -> Option<usize> {
        Some(self.0.stats().side_bytes)
    }
}
