//! The end of it all, for programs that want their devices back before they end: everything that was made is destroyed, in the
//! reverse of the order in which it was made. It happens with nobody inside ([`life`](crate::backend::life)), and for good.

use std::sync::atomic::Ordering;

use super::{OPEN, VulkanDevice, loader};
use crate::backend::SlabId;
use crate::sync::global::lock;

impl VulkanDevice {
    /// Waits until the device is idle, and destroys what was made of it; the device itself only if this library made it, and if no slab
    /// of `keep`, which somebody looks into, is left.
    ///
    /// # Safety
    /// Nobody is inside, or comes in again.
    pub(super) unsafe fn destroy(&self, keep: &[SlabId]) {
        if self.is_shut.swap(true, Ordering::Relaxed) {
            return;
        }
        let device = &self.lines.device;
        if self.is_adopted {
            // Its owner may be at work on it.
            self.lines.finish();
        } else {
            // SAFETY: the device lives, and nobody submits to it. Lost devices are idle, too.
            let _ = unsafe { device.device_wait_idle() };
        }
        // SAFETY: it is idle, and nobody uses anything of it.
        let left = unsafe {
            self.lines.destroy();
            self.slabs.destroy(keep)
        };
        if !left && !self.is_adopted {
            // SAFETY: all that was made of it is destroyed.
            unsafe { device.destroy_device(None) };
            self.is_gone.store(true, Ordering::Relaxed);
        }
    }
}

/// Destroys the instance, if no device of it is left.
///
/// # Safety
/// Nobody is inside, or comes in again, and every device was destroyed or is to stay.
pub(crate) unsafe fn close() {
    let open = lock(&OPEN);
    // What was adopted and never used has not been shut down.
    // SAFETY: forwarded contract; nobody looks into what nobody used.
    open.values().for_each(|device| unsafe { device.destroy(&[]) });
    let own = loader::instance();
    let left = open.values().any(|device| {
        let of_ours = !device.is_adopted || own == Some(device.handles.instance);
        of_ours && !device.is_gone.load(Ordering::Relaxed)
    });
    if !left {
        // SAFETY: forwarded contract.
        unsafe { loader::close() };
    }
}
