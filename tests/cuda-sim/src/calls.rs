//! What was called how often, and how much memory there was.

use std::collections::BTreeMap;

/// Counts of a world.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    /// How often each call was made, by its name; those that were refused count as well.
    pub counts: BTreeMap<&'static str, u64>,
    /// Copies from or to memory of the host that is not page-locked, which the call waits for.
    pub pageable: u64,
    /// How often a whole device had to come to its end: `cuCtxSynchronize`, and freeing and unregistering memory.
    pub device_syncs: u64,
    /// Page-locked memory, and the most of it that there was.
    pub pinned_bytes: u64,
    /// The most page-locked memory that there was.
    pub peak_pinned_bytes: u64,
    /// Memory of all devices.
    pub device_bytes: u64,
}

impl Calls {
    /// How often `name` was called.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn pin(&mut self, bytes: u64) {
        self.pinned_bytes += bytes;
        self.peak_pinned_bytes = self.peak_pinned_bytes.max(self.pinned_bytes);
    }
}
