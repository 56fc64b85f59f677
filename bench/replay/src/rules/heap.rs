//! "heap": the pool's placement alone, an [`OffsetHeap`] in granules without lock, table or memory.

use std::ops::Range;

use neuro_core::heap::{OffsetHeap, Tag};

use super::{GRANULE, Rule};

pub(crate) struct Heap(OffsetHeap);

impl Rule for Heap {
    const NAME: &'static str = "heap";
    type Handle = u32;

    fn new() -> Self {
        Self(OffsetHeap::new(u32::MAX))
    }

    #[inline]
    fn allocate(&mut self, bytes: u64) -> Result<u32, String> {
        let units = u32::try_from(bytes.div_ceil(GRANULE)).ok();
        match units.and_then(|units| self.0.allocate(units, 1, Tag::IDLE)) {
            Some(block) => Ok(block.offset),
            None => Err(format!(
                "no room for {bytes} B in a heap of {} units of {GRANULE} B",
                u32::MAX
            )),
        }
    }

    #[inline]
    fn free(&mut self, offset: u32) {
        self.0.free(offset, Tag::IDLE).expect("a live block");
    }

    fn addresses(&self, offset: u32) -> Option<Range<u64>> {
        let start = u64::from(offset);
        let end = start + u64::from(self.0.len_of(offset)?);
        Some(start * GRANULE..end * GRANULE)
    }

    fn side_bytes(&self) -> Option<usize> {
        Some(self.0.side_bytes())
    }
}
