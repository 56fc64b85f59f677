//! Blocks of random sizes in slots; a step frees the block in a random slot and puts another there.

use std::ops::RangeInclusive;

use bench_worker::{Part, Random, Result};

use super::Blocks;

/// Of each slot, before any that count.
const FIRST_STEPS: usize = 10;

struct Step {
    slot: u32,
    bytes: u32,
}

/// The slots, and the steps to come.
pub struct Replace<B: Blocks> {
    blocks: B,
    slots: Vec<Option<B::Block>>,
    steps: Vec<Step>,
    sizes: RangeInclusive<u32>,
    random: Random,
}

impl<B: Blocks> Replace<B> {
    /// Ready to run: settled.
    ///
    /// # Errors
    /// Where there is no slot.
    pub fn new(blocks: B, sizes: RangeInclusive<u32>, slots: u32) -> Result<Self> {
        let mut part = Self::fresh(blocks, sizes, slots)?;
        part.draw(FIRST_STEPS * slots as usize);
        part.run();
        Ok(part)
    }

    /// As [`new`](Self::new), without the steps that settle it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn fresh(mut blocks: B, sizes: RangeInclusive<u32>, slots: u32) -> Result<Self> {
        if slots == 0 {
            return Err("a slot at least".into());
        }
        let mut random = Random::new(1);
        let slots = (0..slots).map(|_| blocks.allocate(random.size(*sizes.start(), *sizes.end())));
        Ok(Self {
            slots: slots.collect(),
            blocks,
            steps: Vec::new(),
            sizes,
            random,
        })
    }

    /// Step `at` of those that were drawn.
    #[inline]
    pub fn step(&mut self, at: usize) {
        let Step { slot, bytes } = self.steps[at];
        let slot = &mut self.slots[slot as usize];
        if let Some(block) = slot.take() {
            self.blocks.free(block);
        }
        *slot = Some(self.blocks.allocate(bytes).expect("there is room"));
    }
}

impl<B: Blocks> Part for Replace<B> {
    fn draw(&mut self, steps: usize) {
        let (random, sizes, slots) = (&mut self.random, &self.sizes, self.slots.len() as u32);
        self.steps.clear();
        self.steps.extend((0..steps).map(|_| Step {
            slot: random.below(slots),
            bytes: random.size(*sizes.start(), *sizes.end()),
        }));
    }

    fn run(&mut self) {
        for at in 0..self.steps.len() {
            self.step(at);
        }
    }
}
