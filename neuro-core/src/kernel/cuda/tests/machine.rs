//! A machine of the simulated driver, as programs here see it: devices by numbers of their own, pools, streams of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cuda_sim::World;

use crate::backend::cuda::{CudaDevice, driver::Driver, tests::driver};
use crate::device::Device;
use crate::pool::device::{Engine, Lent, lend};

/// Devices of tests are numbered from here on, so that none is taken for one of the machine.
static NEXT: AtomicU32 = AtomicU32::new(5000);

pub(crate) struct Machine {
    pub(crate) world: World,
    pub(crate) devices: Vec<Device>,
    pub(crate) engines: Vec<Arc<Engine>>,
    /// What the library knows these devices by.
    _lent: Vec<Lent>,
}

impl Machine {
    pub(crate) fn new(seed: u64, devices: usize, peers: bool) -> Self {
        Self::with(driver(), seed, devices, peers)
    }

    /// With a driver that may lack calls.
    pub(crate) fn with(driver: &'static Driver, seed: u64, devices: usize, peers: bool) -> Self {
        let world = World::with_devices(seed, devices, peers);
        let _here = world.enter();
        let numbers: Vec<Device> = (0..devices)
            .map(|_| Device::Cuda(NEXT.fetch_add(1, Ordering::Relaxed)))
            .collect();
        let engines: Vec<Arc<Engine>> = (0..)
            .zip(&numbers)
            .map(|(ordinal, &device)| Arc::new(Engine::new(device, CudaDevice::simulated(driver, ordinal))))
            .collect();
        let lent = engines.iter().map(|engine| lend(Arc::clone(engine))).collect();
        Self {
            world,
            devices: numbers,
            engines,
            _lent: lent,
        }
    }

    /// Gives the devices back: what the driver found, and what was left with it.
    pub(crate) fn end(self, with_faults: bool) -> Vec<String> {
        // What waits for work goes when that is done; it may leave other things waiting.
        for _ in 0..2 {
            for engine in &self.engines {
                engine.finish_kept();
            }
        }
        for engine in &self.engines {
            // SAFETY: the test has dropped all that it had on the devices, and its threads are gone.
            unsafe { engine.shut_down() };
        }
        let mut findings = self.world.findings();
        // Where the end of a stream's work could not be marked, a kernel that it ran stays loaded until its context goes.
        let leaks = self.world.leaks().into_iter();
        findings.extend(leaks.filter(|leak| !(with_faults && leak.starts_with("module "))));
        findings
    }
}
