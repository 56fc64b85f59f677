//! Device memory handed out and taken back: by a pool of the device; and by nobody, which is the cost of the loop.

use std::hint::black_box;

use bench_worker::Result;
use neuro_core::{DeviceMemory, Init, MemoryPool};

use crate::DEVICE;
use crate::driver::{Counts, Driver};

/// Most bytes of a pool here: more than any program here has live.
const LIMIT: usize = 4 << 30;

/// Something that hands out memory.
pub trait Blocks: Send + 'static {
    /// A live block.
    type Block: Send;

    /// `None` where there is no room.
    fn allocate(&mut self, bytes: u32) -> Option<Self::Block>;

    fn free(&mut self, block: Self::Block) {
        drop(block);
    }

    /// Calls of the driver so far, where there is one.
    fn calls(&self) -> Option<Counts> {
        None
    }

    /// # Errors
    /// What the driver has found to be wrong.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A pool of the device.
pub struct Memory {
    pub pool: MemoryPool,
    driver: Driver,
}

impl Memory {
    /// # Errors
    /// Where there is no such device.
    pub fn new() -> Result<Self> {
        Ok(Self {
            pool: MemoryPool::new_gpu(DEVICE, LIMIT)?,
            driver: Driver::open()?,
        })
    }
}

impl Blocks for Memory {
    type Block = DeviceMemory;

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<DeviceMemory> {
        DeviceMemory::from_pool(&self.pool, bytes as usize, None, Init::Uninit).ok()
    }

    fn calls(&self) -> Option<Counts> {
        Some(self.driver.all())
    }

    fn check(&self) -> Result<()> {
        self.driver.check()
    }
}

/// Hands out ever new numbers.
#[derive(Default)]
pub struct Nothing(u64);

impl Blocks for Nothing {
    type Block = u64;

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<u64> {
        self.0 += u64::from(bytes);
        Some(black_box(self.0))
    }

    #[inline]
    fn free(&mut self, block: u64) {
        black_box(block);
    }
}

/// Runs `work` and gives the seconds that it took. What is measured asks the driver for nothing, or it is no measurement of the pool.
///
/// # Errors
/// Where it did.
pub fn timed<B: Blocks>(blocks: &mut B, clock: bench_worker::Clock, work: impl FnOnce(&mut B)) -> Result<f64> {
    let before = blocks.calls();
    let start = clock.seconds();
    work(blocks);
    let seconds = clock.seconds() - start;
    if let (Some(before), Some(after)) = (before, blocks.calls())
        && before != after
    {
        let calls = after.since(&before);
        return Err(format!("the driver was called while blocks were allocated and freed: {calls}").into());
    }
    Ok(seconds)
}
