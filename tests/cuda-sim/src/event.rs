//! Events: moments of streams.

use races::Clock;

use crate::codes::{Answer, INVALID_HANDLE};
use crate::handle::Handle;
use crate::state::State;

/// `CU_EVENT_DISABLE_TIMING`.
pub(crate) const WITHOUT_TIMES: u32 = 2;

/// What an event stands for: the end of a piece of work, and all that lies behind that.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) stream: u32,
    pub(crate) number: u64,
    pub(crate) clock: Clock,
}

#[derive(Debug)]
pub(crate) struct EventState {
    pub(crate) device: u32,
    pub(crate) flags: u32,
    pub(crate) moment: Option<Moment>,
    /// When it was reached.
    pub(crate) at: Option<u64>,
}

impl State {
    /// The number of an event.
    ///
    /// # Errors
    /// `INVALID_HANDLE`, which is a finding.
    pub(crate) fn event(&mut self, call: &str, handle: Handle) -> Answer<u32> {
        self.events.find(handle).or_else(|_| {
            let words = self.events.wrong(handle);
            self.wrong(format!("{call} is given {words}"), INVALID_HANDLE)
        })
    }

    /// What an event stands for, if it was recorded.
    pub(crate) fn moment(&self, event: u32) -> Option<Moment> {
        self.events.get(event)?.moment.clone()
    }

    /// Whether a moment is over.
    pub(crate) fn is_over(&self, stream: u32, number: u64) -> bool {
        // A stream that was destroyed is gone when all of its work is done.
        self.streams.get(stream).is_none_or(|stream| stream.done >= number)
    }
}
