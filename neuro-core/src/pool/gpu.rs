//! GPU support: host pools whose memory devices reach where it lies. What the pool has to do for that; the rest is in
//! `device/import.rs`.
//!
//! A region that devices use is *pinned*: none of its memory goes back to the system, since a device would go on with the old
//! pages. [`MemoryPool::trim`] gives up what no device uses at that moment.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::state::State;
use super::{Inner, MemoryPool, device, lock_state, locking, table};
use crate::backend::host::STEP;
use crate::backend::info::devices;
use crate::device::Device;

impl MemoryPool {
    /// Lets devices reach the pool's memory where it lies: a tensor of such a pool goes to a device that shares the host's memory
    /// without a copy, and to others by a copy of the device's own, which nobody has to wait for. Where that cannot be, copies go
    /// through staging memory as they do from any pool, and [`gpu_support`](Self::gpu_support) says why.
    ///
    /// Where there is a CUDA device, blocks lie in page-locked memory from the first: the pages of the blocks, and for those below 256 KiB
    /// those of whole steps of 2 MiB, locked once for all such devices, and for whoever else uses CUDA in the process.
    /// [`PoolStats::pinned_bytes`](crate::PoolStats) counts it. To lock pages takes time, so this is for pools that are used again and
    /// again. A block never reaches out of what was locked at once, so a copy of it, or of a part, is one to the driver.
    ///
    /// Memory that devices have reached stays with the pool until it is trimmed or gone.
    #[must_use]
    pub fn with_gpu_support(self, support: bool) -> Self {
        let inner = self.inner();
        let mut state = lock_state(inner);
        inner.gpu_support.store(support, Ordering::Relaxed);
        state.options.exact = support;
        inner.locking.note_grown(); // what is there already
        drop(state);
        self
    }

    /// The devices that reach this pool's memory where it lies. Loads the drivers, the first time.
    ///
    /// # Errors
    /// Why none does: the pool was not told to, there is none, or none can; or why a device refused when it was tried.
    pub fn gpu_support(&self) -> Result<Vec<Device>, String> {
        if self.device() != Device::Cpu {
            return Err(format!("the pool's own memory is that of {}", self.device()));
        }
        if !self.inner().has_gpu_support() {
            return Err("the pool was made without it; make it with_gpu_support(true)".to_owned());
        }
        let found = devices();
        let mut reasons: Vec<String> = found
            .missing
            .iter()
            .map(|(what, why)| format!("{what}: {why}"))
            .collect();
        let mut reached = Vec::new();
        for info in &found.devices {
            let extension = match info.device {
                Device::Cuda(_) => "cuMemHostRegister",
                _ => "VK_EXT_external_memory_host",
            };
            let refused = device::import_refused(info.device);
            match (&info.unusable, info.host_import_alignment, refused) {
                (Some(why), ..) => reasons.push(format!("{}: {why}", info.device)),
                (None, None, _) => reasons.push(format!(
                    "{} ({}): its driver cannot use host memory where it lies ({extension})",
                    info.device, info.name
                )),
                (None, Some(align), _) if align > STEP as u64 => reasons.push(format!(
                    "{} ({}): it wants host memory on multiples of {align} B, and the pool's begins on {STEP} B",
                    info.device, info.name
                )),
                (None, Some(_), Some(why)) => reasons.push(why),
                (None, Some(_), None) => reached.push(info.device),
            }
        }
        if reached.is_empty() {
            return Err(reasons.join("; "));
        }
        Ok(reached)
    }

    /// The number of the pool that the live block at `address` is of, and the addresses of its region, if devices may reach it.
    pub(super) fn gpu_region_of(address: NonNull<u8>) -> Option<(u64, Range<usize>)> {
        // SAFETY: the region lives while a block of it does, which the caller has.
        let head = unsafe { table::find(address.addr().get())?.as_ref() };
        // SAFETY: as above, of its pool.
        let pool = unsafe { head.pool.as_ref() };
        pool.has_gpu_support().then(|| (pool.number, head.addresses()))
    }

    /// Pins the region of the live block at `address`; whether there is one.
    pub(super) fn pin_region_of(address: NonNull<u8>) -> bool {
        let Some(head) = table::find(address.addr().get()) else {
            return false;
        };
        // SAFETY: as in `gpu_region_of`.
        let pool = unsafe { head.as_ref().pool.as_ref() };
        let mut state = lock_state(pool);
        pool.gpu_reached.store(true, Ordering::Relaxed);
        let region = state.region_of(address.addr().get());
        region.map(|region| region.pinned = true).is_some()
    }
}

impl State {
    /// Lets go of regions of which nothing is imported any more.
    pub(super) fn unpin(&mut self, pool: &Inner) {
        if pool.is_gpu_reached() {
            for region in self.regions.iter_mut().filter(|region| region.pinned) {
                region.pinned = device::is_imported(&region.addresses());
            }
        }
    }
}

/// Gives up what devices do not use at this moment, where more than `keep` bytes are cached. No lock is held.
pub(super) fn release(pool: &Inner, keep: usize) {
    if pool.is_gpu_reached() {
        device::release_imports(Some(pool.number));
        locking::release(pool, keep);
    }
}

/// Waits for devices that still use freed blocks of `pool`, and unlocks what is free, which a block may reach across then; whether there may
/// be room now. No lock is held.
#[cold]
pub(super) fn finish(pool: &Inner) -> bool {
    if !pool.is_gpu_reached() {
        return false;
    }
    let waited = device::finish_imports(pool.number);
    locking::release(pool, 0) || waited
}
