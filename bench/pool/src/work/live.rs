//! Blocks of random sizes that live for a random time.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use bench_worker::{Part, Random, Result};

use crate::peers::{ALIGN, Peer};

/// Before any that count, from empty slots: each slot's state is as good as random then, and the allocators that need long
/// to settle have done so. (mimalloc with blocks of 256 KiB to 64 MiB: 375 ns a step, then 250, and 220 after a million.)
const FIRST_STEPS: usize = 300_000;

struct Block<H> {
    handle: H,
    bytes: NonZeroU32,
}

struct Step {
    slot: u32,
    /// Of the block, if one is made.
    bytes: NonZeroU32,
}

/// The slots, and the steps to come. `TOUCH`: whether new blocks are written to.
pub struct LiveSet<P: Peer, const TOUCH: bool> {
    peer: P,
    slots: Vec<Option<Block<P::Handle>>>,
    steps: Vec<Step>,
    sizes: RangeInclusive<u32>,
    random: Random,
}

impl<P: Peer> LiveSet<P, false> {
    /// Ready to run: half the slots are full.
    ///
    /// # Errors
    /// Where the peer has no memory to be touched, or its blocks overlap or are not aligned.
    pub fn boxed(peer: P, sizes: RangeInclusive<u32>, slots: u32, touch: bool, stream: u64) -> Result<Box<dyn Part>> {
        Ok(match touch {
            true => Box::new(LiveSet::<P, true>::new(peer, sizes, slots, stream)?),
            false => Box::new(LiveSet::<P, false>::new(peer, sizes, slots, stream)?),
        })
    }
}

impl<P: Peer, const TOUCH: bool> LiveSet<P, TOUCH> {
    fn new(peer: P, sizes: RangeInclusive<u32>, slots: u32, stream: u64) -> Result<Self> {
        if *sizes.start() < ALIGN as u32 || slots == 0 {
            return Err(format!("sizes from {ALIGN} bytes on, and a slot at least").into());
        }
        let mut set = Self {
            peer,
            slots: (0..slots).map(|_| None).collect(),
            steps: Vec::new(),
            sizes,
            random: Random::new(stream),
        };
        set.draw(FIRST_STEPS);
        set.run();
        set.check()?;
        Ok(set)
    }

    /// A peer that is fast because it is wrong would be found here.
    fn check(&self) -> Result<()> {
        let spans = self
            .slots
            .iter()
            .flatten()
            .map(|block| (P::place(block.handle), block.bytes.get() as usize));
        let mut spans: Vec<_> = spans.collect();
        spans.sort_unstable();
        if spans.windows(2).any(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
            return Err("live blocks overlap".into());
        }
        if spans.iter().any(|span| !span.0.is_multiple_of(ALIGN)) {
            return Err(format!("a block is not aligned to {ALIGN} bytes").into());
        }
        if TOUCH
            && self
                .slots
                .iter()
                .flatten()
                .any(|block| P::memory(block.handle).is_none())
        {
            return Err("there is no memory to touch".into());
        }
        Ok(())
    }
}

impl<P: Peer, const TOUCH: bool> Part for LiveSet<P, TOUCH> {
    fn draw(&mut self, steps: usize) {
        let (random, sizes, slots) = (&mut self.random, &self.sizes, self.slots.len() as u32);
        self.steps.clear();
        self.steps.extend((0..steps).map(|_| Step {
            slot: random.below(slots),
            bytes: NonZeroU32::new(random.size(*sizes.start(), *sizes.end())).expect("at least ALIGN"),
        }));
    }

    fn run(&mut self) {
        for step in &self.steps {
            let slot = &mut self.slots[step.slot as usize];
            match slot.take() {
                // SAFETY: out of its slot, the block is nobody's; the slot had what `allocate` gave for so many bytes.
                Some(block) => unsafe { self.peer.free(block.handle, block.bytes.get()) },
                None => {
                    let handle = self.peer.allocate(step.bytes.get()).expect("there is room");
                    if TOUCH && let Some(memory) = P::memory(handle) {
                        // SAFETY: the block is ours, and has 64 bytes at least.
                        unsafe { memory.write_bytes(1, ALIGN) };
                    }
                    *slot = Some(Block {
                        handle,
                        bytes: step.bytes,
                    });
                }
            }
        }
    }
}
