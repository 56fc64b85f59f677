//! The backend on the simulated driver: the contract, what older drivers lack, and what drivers say.

use std::sync::OnceLock;

use super::driver::Driver;
use super::*;

/// The simulated driver's table.
pub(super) fn driver() -> &'static Driver {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    // SAFETY: the simulated driver has the calls of these names, of these types, as long as the process lives.
    DRIVER.get_or_init(|| unsafe { Driver::of(cuda_sim::address_of) }.expect("it has all calls"))
}

impl CudaDevice {
    /// A device of the world that this thread is in.
    pub(crate) fn simulated(ordinal: u32) -> &'static Self {
        Self::simulated_with(driver(), ordinal).expect("it is there")
    }

    pub(super) fn simulated_with(driver: &'static Driver, ordinal: u32) -> Result<&'static Self, String> {
        loader::start(driver)?;
        Self::make(driver, ordinal).map(|device| &*Box::leak(Box::new(device)))
    }
}
