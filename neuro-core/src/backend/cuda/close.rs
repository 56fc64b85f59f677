//! The end of it all, for programs that want their devices back before they end. It happens with nobody inside
//! ([`life`](crate::backend::life)), and for good.

use super::refuse::SUCCESS;
use super::{CudaDevice, OPEN};
use crate::backend::{OWN_QUEUES, QUEUES, SlabId};
use crate::sync::global::{Ordering, lock};

impl CudaDevice {
    /// Waits for all work that was handed over here, gives back what was made, all slabs but those of `keep` included, and lets go of the
    /// context if none of those is left.
    ///
    /// # Safety
    /// Nobody is inside, or comes in again.
    pub(super) unsafe fn destroy(&self, keep: &[SlabId]) {
        if self.shared.is_shut.load(Ordering::Relaxed) {
            return;
        }
        let driver = self.shared.driver;
        if let Ok(_current) = self.shared.make_current() {
            for queue in QUEUES {
                let mut line = self.line(queue);
                let last = line.last().number;
                // Of others' streams only what went through here is waited for; a lost device is not.
                let is_over = match line.moment(&self.shared, last) {
                    Ok(None) => true,
                    // SAFETY: an event of this context.
                    Ok(Some(moment)) => unsafe { (driver.event_synchronize)(moment.event.handle()) == SUCCESS },
                    Err(_) => false,
                };
                if !is_over {
                    // The only other way to know that its work is done. The context is current.
                    // SAFETY: takes nothing.
                    unsafe { (driver.context_synchronize)() };
                }
                line.note_done(last);
                if let Some(stream) = line.stream.take()
                    && OWN_QUEUES.contains(&queue)
                {
                    // SAFETY: made here, and nobody uses it any more.
                    unsafe { (driver.stream_destroy)(stream) };
                }
            }
            for event in lock(&self.shared.spare_events).drain(..) {
                // SAFETY: as above.
                unsafe { (driver.event_destroy)(event) };
            }
        }
        let left = match self.shared.make_current() {
            // SAFETY: all work is done, and nobody uses anything but `keep`.
            Ok(_current) => unsafe { self.slabs.free_all(&self.shared, keep) },
            Err(_) => true,
        };
        self.shared.is_shut.store(true, Ordering::Relaxed);
        if !left {
            // SAFETY: retained once, by `make`, and all that was made in it is gone.
            // What a lost device says to that is nobody's business.
            let _ = unsafe { (driver.context_release)(self.number) };
        }
    }
}

/// Lets go of devices that were opened and never used.
///
/// # Safety
/// Nobody is inside, or comes in again, and every device that was used has been shut down.
pub(crate) unsafe fn close() {
    // SAFETY: forwarded contract; nobody looks into what nobody used.
    lock(&OPEN).values().for_each(|device| unsafe { device.destroy(&[]) });
}
