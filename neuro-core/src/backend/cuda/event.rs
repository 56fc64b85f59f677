//! Events: marks in streams that others wait for. Made once, and used again.
//!
//! Invariant V1: an event that somebody has is not recorded again: it comes back to the spare ones when its last owner lets it go. A
//! stream that was told to wait keeps what the event stood for at that moment, as CUDA has it.

use std::sync::Arc;

use super::Shared;
use super::driver::Handle;
use crate::backend::Refusal;
use crate::backend::planted::{Omission, omitted};
use crate::sync::global::lock;

/// `CU_EVENT_DISABLE_TIMING`: cheaper, and nobody asks for times.
const WITHOUT_TIMES: u32 = 2;

/// Recorded once, in some stream.
#[derive(Debug)]
pub(super) struct Event {
    handle: Handle,
    home: Arc<Shared>,
}

impl Event {
    pub(super) fn handle(&self) -> Handle {
        self.handle
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        lock(&self.home.spare_events).push(self.handle);
    }
}

impl Shared {
    /// An event, recorded behind all that was submitted to `stream`. The context is current.
    ///
    /// # Errors
    /// What the driver said.
    pub(super) fn mark(self: &Arc<Self>, stream: Handle) -> Result<Arc<Event>, Refusal> {
        let spare = lock(&self.spare_events).pop();
        let handle = match spare {
            Some(handle) => handle,
            None => {
                let mut handle = 0;
                // SAFETY: there is room for a handle, and the context is current.
                let code = unsafe { (self.driver.event_create)(&mut handle, WITHOUT_TIMES) };
                self.answer("cuEventCreate", code)?;
                handle
            }
        };
        // SAFETY: nobody else has the event (V1); the stream is of this context.
        let code = unsafe { (self.driver.event_record)(handle, stream) };
        if let Err(refusal) = self.answer("cuEventRecord", code) {
            // It may be the event that is wrong, which would then be tried again and again.
            // SAFETY: as above.
            unsafe { (self.driver.event_destroy)(handle) };
            return Err(refusal);
        }
        let event = Event {
            handle,
            home: Arc::clone(self),
        };
        if omitted(Omission::EventIsSpare) {
            lock(&self.spare_events).push(handle);
        }
        Ok(Arc::new(event))
    }
}
