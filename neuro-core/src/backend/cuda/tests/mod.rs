//! The backend on the simulated driver: the contract, what older drivers lack, and what drivers say.

use super::driver::Driver;
use super::*;

/// The simulated driver's table; each is a driver of its own to the library, as each world is.
pub(crate) fn driver() -> &'static Driver {
    // SAFETY: the simulated driver has the calls of these names, of these types, as long as the process lives.
    Box::leak(Box::new(
        unsafe { Driver::of(cuda_sim::address_of) }.expect("it has all calls"),
    ))
}

impl CudaDevice {
    /// A device of the world that this thread is in.
    pub(crate) fn simulated(driver: &'static Driver, ordinal: u32) -> &'static Self {
        Self::simulated_with(driver, ordinal).expect("it is there")
    }

    fn simulated_with(driver: &'static Driver, ordinal: u32) -> Result<&'static Self, String> {
        loader::start(driver)?;
        Self::make(driver, ordinal).map(|device| &*Box::leak(Box::new(device)))
    }
}

#[test]
fn a_moment_is_behind_what_is_asked_for_however_many_marks_are_done_meanwhile() {
    for seed in 1..20 {
        let world = cuda_sim::World::new(seed);
        let _here = world.enter();
        let device = CudaDevice::simulated(driver(), 0);
        let _current = device.shared.make_current().unwrap();
        for _ in 0..100 {
            // A piece of nothing: what counts is its number, for which nobody has asked before.
            // SAFETY: nothing is submitted, and nothing used.
            let counted = unsafe { device.in_stream(Queue::COMPUTE, &[], |_| Ok(Some(()))) };
            let (ticket, ()) = counted.unwrap().unwrap();
            let moment = device.line(Queue::COMPUTE).moment(&device.shared, ticket.number);
            let behind = moment.unwrap().map(|moment| moment.ticket);
            assert_eq!(behind, Some(ticket), "seed {seed}");
        }
    }
}
