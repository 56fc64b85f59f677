//! "heap": the pool's placement alone, an [`OffsetHeap`] in granules without lock, table or memory.

use std::ops::Range;

use neuro_core::heap::{Block, OffsetHeap, Tag};

use super::{GRANULE, Rule};

pub(crate) struct Heap(OffsetHeap);

impl Rule for Heap {
    const NAME: &'static str = "heap";
    type Handle = Option<Block>;

    fn new() -> Self {
        Self(OffsetHeap::new(u32::MAX))
    }

    #[inline]
    fn allocate(&mut self, bytes: u64) -> Result<Option<Block>, String> {
        let units = u32::try_from(bytes.div_ceil(GRANULE)).ok();
        match units.and_then(|units| self.0.allocate(units, 1, Tag::IDLE)) {
            Some(block) => Ok(Some(block)),
            None => Err(format!(
                "no room for {bytes} B in a heap of {} units of {GRANULE} B",
                u32::MAX
            )),
        }
    }

    #[inline]
    fn free(&mut self, block: Option<Block>) {
        let freed = block.map(|block| self.0.free(block, Tag::IDLE));
        assert!(matches!(freed, Some(Ok(_))), "a live block");
    }

    fn addresses(&self, block: Option<Block>) -> Option<Range<u64>> {
        let block = block?;
        let start = u64::from(block.offset);
        let end = start + u64::from(self.0.len_of(block)?);
        Some(start * GRANULE..end * GRANULE)
    }

    fn side_bytes(&self) -> Option<usize> {
        Some(self.0.side_bytes())
    }
}
