//! The context of a device, current for one call: what the thread had stays as it was.

use super::Shared;
use crate::backend::Refusal;
use crate::sync::global::Ordering;

/// The device's context is current on this thread as long as this lives.
pub(super) struct Current<'a>(&'a Shared);

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let mut was = 0;
        // SAFETY: there is room for a handle. It takes off what `make_current` has put on, or what work of the caller's has put in its
        // place.
        let _ = unsafe { (self.0.driver.context_pop)(&mut was) };
    }
}

impl Shared {
    /// # Errors
    /// What the driver said.
    pub(super) fn make_current(&self) -> Result<Current<'_>, Refusal> {
        if self.is_shut.load(Ordering::Relaxed) {
            return Err(Refusal::Lost("the device was shut down".to_owned()));
        }
        // SAFETY: the context is retained until the device is shut down.
        let code = unsafe { (self.driver.context_push)(self.context) };
        self.answer("cuCtxPushCurrent", code)?;
        Ok(Current(self))
    }
}
