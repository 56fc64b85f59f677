//! Blocks of random sizes in slots; a step frees the block in a random slot and puts another there.

use std::ops::RangeInclusive;

use bench_worker::{Clock, Random, Result, Work, chunks};
use neuro_core::cuda::{Function, Grid, Module};
use neuro_core::{Arc, DType, DeviceMemory, DynTensor, Geometry};

use crate::blocks::{Blocks, Memory, timed};
use crate::training;

/// Before any that count: the pool has then all the memory that it will need.
const FIRST_STEPS: usize = 300_000;
/// Turns of all slots before any that count, with the blocks used.
const FIRST_TURNS: usize = 10;

struct Step {
    slot: u32,
    bytes: u32,
}

/// The slots.
struct Slots<B: Blocks> {
    blocks: B,
    full: Vec<Option<B::Block>>,
    sizes: RangeInclusive<u32>,
    random: Random,
}

impl<B: Blocks> Slots<B> {
    /// Settled.
    fn new(mut blocks: B, sizes: RangeInclusive<u32>, slots: u32) -> Result<Self> {
        let mut random = Random::new(1);
        let full: Vec<_> = (0..slots)
            .map(|_| blocks.allocate(random.size(*sizes.start(), *sizes.end())))
            .collect();
        if full.is_empty() || full.iter().any(Option::is_none) {
            return Err(format!("there are no {slots} slots that can be filled").into());
        }
        let mut slots = Self {
            blocks,
            full,
            sizes,
            random,
        };
        let first = slots.draw(FIRST_STEPS);
        take_turns(&mut slots.blocks, &mut slots.full, &first);
        Ok(slots)
    }

    fn size(&mut self) -> u32 {
        self.random.size(*self.sizes.start(), *self.sizes.end())
    }

    /// So many steps in random slots.
    fn draw(&mut self, steps: usize) -> Vec<Step> {
        let slots = self.full.len() as u32;
        let step = |_| Step {
            slot: self.random.below(slots),
            bytes: self.size(),
        };
        (0..steps).map(step).collect()
    }

    /// Each slot once, in random order.
    fn draw_each(&mut self) -> Vec<Step> {
        let mut order: Vec<u32> = (0..self.full.len() as u32).collect();
        self.random.shuffle(&mut order);
        order
            .into_iter()
            .map(|slot| Step {
                slot,
                bytes: self.size(),
            })
            .collect()
    }

    fn run(&mut self, steps: &[Step], clock: Clock) -> Result<f64> {
        let Self { blocks, full, .. } = self;
        timed(blocks, clock, |blocks| take_turns(blocks, full, steps))
    }
}

fn take_turns<B: Blocks>(blocks: &mut B, full: &mut [Option<B::Block>], steps: &[Step]) {
    for step in steps {
        let slot = &mut full[step.slot as usize];
        if let Some(block) = slot.take() {
            blocks.free(block);
        }
        *slot = Some(blocks.allocate(step.bytes).expect("there is room"));
    }
}

/// Nobody uses the blocks.
struct Replace<B: Blocks>(Slots<B>);

/// Slots that nobody uses.
///
/// # Errors
/// Where there is no slot, or no room.
pub fn replace<B: Blocks>(blocks: B, sizes: RangeInclusive<u32>, slots: u32) -> Result<Box<dyn Work>> {
    Ok(Box::new(Replace(Slots::new(blocks, sizes, slots)?)))
}

impl<B: Blocks> Work for Replace<B> {
    fn run(&mut self, steps: usize, clock: Clock) -> Result<f64> {
        let mut seconds = 0.0;
        for steps in chunks(steps) {
            let steps = self.0.draw(steps);
            seconds += self.0.run(&steps, clock)?;
        }
        self.0.blocks.check()?;
        Ok(seconds)
    }
}

/// A kernel uses each block, on the device's compute queue; then each slot's is freed and another put there, while the device may still be
/// at it. Only that is timed.
struct Used {
    slots: Slots<Memory>,
    kernel: Function,
    _module: Module,
}

/// Slots, and a kernel that uses them.
///
/// # Errors
/// Where there is no slot, or no room.
pub fn used(sizes: RangeInclusive<u32>, slots: u32) -> Result<Box<dyn Work>> {
    let (module, kernel) = training::kernel()?;
    let slots = Slots::new(Memory::new()?, sizes, slots)?;
    let mut work = Used {
        slots,
        kernel,
        _module: module,
    };
    for _ in 0..FIRST_TURNS {
        work.use_all()?;
        let steps = work.slots.draw_each();
        let Slots { blocks, full, .. } = &mut work.slots;
        take_turns(blocks, full, &steps);
    }
    Ok(Box::new(work))
}

impl Used {
    fn use_all(&mut self) -> Result<()> {
        const WORDS: usize = 16;
        let grid = Grid::for_elements(WORDS, WORDS as u32)?;
        let geometry = Geometry::contiguous("use", &[WORDS], DType::F32)?;
        for slot in &mut self.slots.full {
            let Some(memory) = slot.take() else { continue };
            let memory: Arc<DeviceMemory> = Arc::new(memory);
            // SAFETY: the kernel writes all elements first, and reads none; nobody else has the memory.
            let tensor = unsafe { DynTensor::from_memory("use", memory.clone(), 0, geometry.clone(), DType::F32) }?;
            // SAFETY: the kernel writes so many elements of its first parameter.
            unsafe { self.kernel.launch(&grid, &[(&tensor).into(), (WORDS as u32).into()]) }?;
            drop(tensor);
            *slot = Arc::try_unwrap(memory).ok();
        }
        Ok(())
    }
}

impl Work for Used {
    fn run(&mut self, steps: usize, clock: Clock) -> Result<f64> {
        let (mut seconds, mut done) = (0.0, 0);
        while done < steps {
            self.use_all()?;
            let turn = self.slots.draw_each();
            seconds += self.slots.run(&turn, clock)?;
            done += turn.len();
            // So that the work of a turn does not pile up.
            self.slots.blocks.check()?;
        }
        Ok(seconds * steps as f64 / done as f64)
    }
}
