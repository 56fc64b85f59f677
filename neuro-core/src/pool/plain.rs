//! What nearly every block of the heap needs, and no more: no mode of the pool is on, nothing waits to be taken back, and a
//! region has the room in memory that it holds. Whoever finds it otherwise goes the long way (`state.rs`), which does all of it.

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use super::Inner;
use super::head::Head;
use super::record::{BlockWord, GRANULE};
use super::region::Kind;
use super::slab::SMALL_UNITS;
use super::state::State;

impl State {
    /// Neither scopes, guard, injected failures, overdraft, soft limit nor end: and nothing is pending.
    #[inline]
    fn is_plain(&self, pool: &Inner) -> bool {
        self.slow == 0 && self.options.soft.is_none() && pool.pending.is_empty()
    }

    /// Hands out a block of `units` granules for `requested` bytes, with the end of the part of it that may hold something;
    /// `None`, with nothing changed, where that is not plain.
    #[inline]
    pub(super) fn allocate_plainly(
        &mut self,
        pool: &Inner,
        units: usize,
        requested: usize,
    ) -> Option<(NonNull<u8>, usize)> {
        let units = u32::try_from(units).ok().filter(|&units| units > SMALL_UNITS)?;
        if !self.is_plain(pool) {
            return None;
        }
        if self.room() < u64::from(units) {
            return None;
        }
        let roomy = self.options.is_roomy();
        for region in self.regions.iter_mut().filter(|region| region.kind == Kind::Blocks) {
            if let Some(placed) = region.reuse(units, 1, roomy) {
                let bytes = placed.units as usize * GRANULE;
                let word = BlockWord::new(placed.block, placed.units, requested, true);
                let address = placed.ptr.addr().get();
                if !region.head().record(address, placed.units, word) {
                    pool.odd().insert(address, word);
                }
                self.fold_own(pool);
                self.counters.add_block(requested, bytes);
                self.watch_peak();
                return Some((placed.ptr, placed.dirty_to.min(requested)));
            }
        }
        None
    }

    /// Takes back the live block at `ptr`, whose `word` stands at `place` in the records of `head`; false, with nothing
    /// changed, where that is not plain.
    #[inline]
    pub(super) fn free_plainly(
        &mut self,
        pool: &Inner,
        head: &Head,
        ptr: NonNull<u8>,
        word: BlockWord,
        place: &AtomicU64,
    ) -> bool {
        if !self.is_plain(pool) {
            return false;
        }
        if let Some((requested, bytes)) = self.give_recorded_back(head, ptr, word, place) {
            self.fold_own(pool);
            self.counters.remove_block(requested, bytes);
        }
        true
    }
}
