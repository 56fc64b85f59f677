//! What tests ask of the simulated device, and what they order it to do.

use super::Sim;
use crate::backend::{Facts, Queue};

/// How often the pool and the transfers asked for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) allocate: usize,
    pub(crate) free: usize,
    pub(crate) submit: usize,
    pub(crate) wait: usize,
    pub(crate) import: usize,
    pub(crate) extend: usize,
    pub(crate) shorten: usize,
}

impl Sim {
    /// What was wrong so far.
    pub(crate) fn findings(&self) -> Vec<String> {
        self.state().findings.clone()
    }

    pub(crate) fn calls(&self) -> Calls {
        self.state().calls
    }

    /// What the device is said to be, before it is used.
    pub(crate) fn facts_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }

    /// Pieces of its ranges are multiples of this, or it has none; before it is used.
    pub(crate) fn set_granularity(&mut self, bytes: Option<u64>) {
        self.granularity = bytes;
    }

    /// The device has so much memory.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.state().limit = bytes;
    }

    /// The device says that one may have so much of its memory, or nothing. To take more is wrong.
    pub(crate) fn set_budget(&self, bytes: Option<u64>) {
        self.state().budget = bytes;
    }

    /// The n-th call from now that can be refused is; 0: none.
    pub(crate) fn fail_nth(&self, n: u32) {
        self.state().fail_in = Some(n).filter(|&n| n > 0);
    }

    /// From now on the host reaches the device's own memory, or not.
    pub(crate) fn set_visible(&self, visible: bool) {
        self.state().visible = visible;
    }

    pub(crate) fn lose(&self) {
        self.state().lost = true;
    }

    /// The last number of a queue.
    pub(crate) fn submitted(&self, queue: Queue) -> u64 {
        self.state().queues[queue.index()].submitted
    }

    /// Slabs that were not given back.
    pub(crate) fn slabs(&self) -> usize {
        self.state().slabs.len()
    }
}
