//! How much a device gives at all: its longest slab, what its driver leaves to this process, and the words for what it does not give.

use std::io;
use std::sync::Arc;

use super::Engine;
use super::region::GRANULE;
use crate::backend::budget::within;
use crate::backend::planted::{Omission, omitted};
use crate::error::{Error, PoolFigures};

impl Engine {
    /// Bytes of the longest slab that a pool can have.
    pub(super) fn longest_slab(&self) -> u64 {
        let longest = self.backend().facts().max_slab_bytes.min(u64::from(u32::MAX) * GRANULE);
        longest / GRANULE * GRANULE
    }

    /// How much of the device's memory may be taken that should be `want` bytes and must be `need`, in multiples of `unit`; `None`: the
    /// driver leaves less to this process.
    pub(super) fn within_budget(&self, need: u64, want: u64, unit: u64) -> Option<u64> {
        if omitted(Omission::Budget) {
            return Some(want);
        }
        within(self.backend().budget(), need, want, unit)
    }

    /// Why the device gives no more for a request of `asked` bytes, as far as it is known.
    pub(super) fn why_no_memory(&self, asked: usize) -> Option<Arc<io::Error>> {
        let longest = self.longest_slab();
        let mut words = Vec::new();
        if asked as u64 > longest {
            words.push(format!(
                "no piece of memory of {} is longer than {longest} B ({}), whatever its pools' limits: divide the tensor",
                self.device(),
                self.backend().facts().longest_by
            ));
        }
        if let Some(budget) = self.backend().budget() {
            words.push(format!("the driver of {} says that {budget}", self.device()));
        }
        (!words.is_empty()).then(|| Arc::new(io::Error::other(words.join("; "))))
    }

    /// The device has no memory to stage copies in. That is no pool's, so its figures are zeros.
    pub(super) fn no_staging(&self, asked: usize) -> Error {
        let left = self
            .backend()
            .budget()
            .map_or_else(String::new, |budget| format!("; {budget}"));
        Error::OutOfMemory {
            device: self.device(),
            asked,
            alignment: self.backend().facts().alignment as usize,
            figures: Box::new(PoolFigures::default()),
            cause: Some(Arc::new(io::Error::other(format!(
                "the device has none left to stage copies from and to the host in, which takes {asked} B once, beside its pools{left}"
            )))),
        }
    }
}
