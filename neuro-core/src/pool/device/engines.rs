//! The devices of this process that are in use, and the pools of their memory that are public.

use std::sync::Arc;

use super::{DevicePool, Engine, ask};
use crate::backend::{close_drivers, life};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::pool::MemoryPool;
use crate::sync::global::{Mutex, lock};

/// Opened once each, and kept to the end of the process: what is on a device may outlive every handle.
static ENGINES: Mutex<Vec<Arc<Engine>>> = Mutex::new(Vec::new());

/// # Errors
/// [`Error::DeviceLost`] in a forked child, after [`shutdown`], and when the process ends.
fn enter(device: Device) -> Result<life::Inside> {
    life::enter().map_err(|reason| Error::DeviceLost { device, reason })
}

/// The device, opened if it was not.
///
/// # Errors
/// [`Error::Unavailable`] with what was looked for.
pub(crate) fn engine_of(device: Device) -> Result<Arc<Engine>> {
    // Also keeps a forked child from a lock that a thread may have had which is not there.
    let _inside = enter(device)?;
    let mut engines = lock(&ENGINES);
    if let Some(engine) = engines.iter().find(|engine| engine.device() == device) {
        return Ok(Arc::clone(engine));
    }
    let unavailable = |reason: String| Error::Unavailable {
        what: device.to_string(),
        reason,
    };
    let backend = crate::backend::open(device).map_err(unavailable)?;
    let engine = Arc::new(Engine::new(device, backend));
    engines.push(Arc::clone(&engine));
    Ok(engine)
}

/// Gives all devices back before the process ends: waits until they are idle, frees their memory, and lets the drivers go, for the rest
/// of the process. Nobody has to call this; a process may end with whatever it has on devices.
///
/// From then on everything that needs a device says [`Error::DeviceLost`] or [`Error::Unavailable`]; tensors that are left can be
/// dropped, and what they held is lost. Transfers under way end with an error. Memory into which a [mapped](crate::DynTensor::map)
/// tensor looks stays until the process ends, and so does its device. Host memory is untouched; instances and devices that were
/// adopted stay, less what was made of them.
///
/// Any thread may call this, but none that has a turn on a device's queue. A second call does nothing.
pub fn shutdown() {
    static ONCE: Mutex<()> = Mutex::new(());
    // A forked child has no devices, and the lock may be another thread's in the parent.
    if life::enter().is_err() {
        return;
    }
    let _once = lock(&ONCE);
    if life::enter().is_err() {
        return;
    }
    life::shut();
    let mut engines: Vec<Arc<Engine>> = lock(&ENGINES).clone();
    engines.sort_by_key(|engine| engine.domain().is_led_by(engine)); // others use what those locked
    for engine in engines {
        // SAFETY: the door is shut.
        unsafe { engine.shut_down() };
    }
    // SAFETY: as above.
    unsafe { close_drivers() };
}

/// The device that page-locks host memory for all that want it: the first that can be opened. Loads its driver.
pub(crate) fn page_locker() -> Option<Arc<Engine>> {
    let devices = crate::backend::devices_that_lock().into_iter();
    let mut engines = devices.filter_map(|device| engine_of(device).ok());
    engines.find(|engine| engine.backend().import_domain().is_some())
}

/// Whether this process may speak to devices at all.
pub(crate) fn may_enter() -> bool {
    life::enter().is_ok()
}

/// Why `device`, if it is in use, could not use host memory where it lies when it was tried.
pub(crate) fn import_refused(device: Device) -> Option<String> {
    let _inside = life::enter().ok()?;
    let engines = lock(&ENGINES);
    engines
        .iter()
        .find(|engine| engine.device() == device)?
        .import_refused()
}

/// A device of a test that is known by its number as long as this lives.
#[cfg(all(test, not(loom)))]
pub(crate) struct Lent(Device);

/// Has a device that a test has made be known by its number.
#[cfg(all(test, not(loom)))]
pub(crate) fn lend(engine: Arc<Engine>) -> Lent {
    let device = engine.device();
    lock(&ENGINES).push(engine);
    Lent(device)
}

#[cfg(all(test, not(loom)))]
impl Drop for Lent {
    fn drop(&mut self) {
        lock(&ENGINES).retain(|engine| engine.device() != self.0);
    }
}

impl MemoryPool {
    /// A pool of `device`'s memory, whose blocks take at most `limit_bytes` (rounded down to 256) together. For the CPU it is
    /// [`MemoryPool::new`].
    ///
    /// Blocks are reused in the order of the device's work: a freed one may be handed out again while that work is under way, and
    /// what comes next on it is ordered behind.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where there is no such device, with what was looked for.
    pub fn new_gpu(device: Device, limit_bytes: usize) -> Result<Self> {
        if device == Device::Cpu {
            return Ok(Self::new(limit_bytes));
        }
        let pool = DevicePool::make(engine_of(device)?, limit_bytes as u64);
        ask::enter(&pool);
        Ok(Self::make(Some(limit_bytes), Some(pool)))
    }

    /// The pool that tensors on `device` come from where none is named: its limit is the device's memory.
    ///
    /// # Errors
    /// As [`MemoryPool::new_gpu`].
    pub fn of_device(device: Device) -> Result<Self> {
        static POOLS: Mutex<Vec<MemoryPool>> = Mutex::new(Vec::new());
        if device == Device::Cpu {
            return Ok(Self::global().clone());
        }
        let _inside = enter(device)?; // as in `engine_of`
        let mut pools = lock(&POOLS);
        if let Some(pool) = pools.iter().find(|pool| pool.device() == device) {
            return Ok(pool.clone());
        }
        let bytes = engine_of(device)?.backend().facts().memory_bytes;
        let pool = Self::new_gpu(device, usize::try_from(bytes).unwrap_or(usize::MAX))?;
        pools.push(pool.clone());
        Ok(pool)
    }

    /// Where its memory lies.
    pub fn device(&self) -> Device {
        self.device_pool().map_or(Device::Cpu, |pool| pool.engine().device())
    }

    pub(crate) fn device_pool(&self) -> Option<&DevicePool> {
        self.inner().device.as_deref()
    }

    /// A pool of a device that a test has made. It is not among all pools, so that tests do not trim each other's.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn of_engine(engine: Arc<Engine>, limit_bytes: usize) -> Self {
        Self::make(Some(limit_bytes), Some(DevicePool::make(engine, limit_bytes as u64)))
    }
}
