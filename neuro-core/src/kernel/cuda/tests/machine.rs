//! A machine as programs here see it: devices by numbers of their own, pools, streams of others. Of the simulated driver, or of the driver that
//! this machine has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cuda_sim::{Entered, World};

use super::calls::{self, Speaks};
use crate::backend::cuda::tests::{driver, driver_of_the_machine, shown_by};
use crate::backend::cuda::{CudaDevice, driver::Driver};
use crate::device::Device;
use crate::pool::device::{Engine, Lent, lend};

/// Devices of tests are numbered from here on, so that none is taken for one of the machine.
static NEXT: AtomicU32 = AtomicU32::new(5000);

pub(crate) struct Machine {
    /// Its driver's; where that is this machine's own, a world that nobody is in.
    pub(crate) world: World,
    /// It is that of this machine.
    is_here: bool,
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
        let ordinals: Vec<u32> = (0..devices as u32).collect();
        Self::of(driver, world, &ordinals, false)
    }

    /// The machine that the test runs on, if it has a device, as two: its first two, or the same twice. Also whether they are simulated ones.
    pub(crate) fn here() -> Option<(Self, bool)> {
        let driver = driver_of_the_machine()?;
        let (count, is_simulated) = shown_by(driver);
        let second = u32::from(count > 1);
        Some((Self::of(driver, World::new(0), &[0, second], true), is_simulated))
    }

    fn of(driver: &'static Driver, world: World, ordinals: &[u32], is_here: bool) -> Self {
        let entered = world.enter();
        let numbers: Vec<Device> = (ordinals.iter())
            .map(|_| Device::Cuda(NEXT.fetch_add(1, Ordering::Relaxed)))
            .collect();
        let engines: Vec<Arc<Engine>> = (ordinals.iter())
            .zip(&numbers)
            .map(|(&ordinal, &device)| Arc::new(Engine::new(device, CudaDevice::simulated(driver, ordinal))))
            .collect();
        let lent = engines.iter().map(|engine| lend(Arc::clone(engine))).collect();
        drop(entered);
        Self {
            world,
            is_here,
            devices: numbers,
            engines,
            _lent: lent,
        }
    }

    /// From here on this thread's own calls of the driver are to the machine's, as long as what this returns lives.
    pub(crate) fn enter(&self) -> (Entered, Speaks) {
        (self.world.enter(), calls::speak(self.is_here))
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
