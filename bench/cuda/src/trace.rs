//! Memory as training asks for it: a pass forward allocates activations of sizes that come again with every layer; the pass back frees them
//! in reverse, while it allocates gradients, some of which stay until the end.

use bench_worker::{Clock, Result, Work};

use crate::blocks::{Blocks, timed};

/// Activations of one layer, in bytes.
const LAYER: [u32; 8] = [
    4 << 20,
    4 << 20,
    12 << 20,
    4 << 20,
    64 << 10,
    4 << 20,
    16 << 20,
    1 << 20,
];
const LAYERS: usize = 25;
const ACTIVATIONS: usize = LAYER.len() * LAYERS;
/// Each activation has a gradient.
const PAIRS: usize = 2 * ACTIVATIONS;
/// Of how many gradients one is that of a weight, which is kept to the end.
const KEPT: usize = 4;
/// Before any that count.
const FIRST_PASSES: usize = 10;

pub struct Trace<B: Blocks> {
    blocks: B,
    activations: Vec<B::Block>,
    kept: Vec<B::Block>,
}

impl<B: Blocks> Trace<B> {
    pub fn new(blocks: B) -> Self {
        let mut trace = Self {
            blocks,
            activations: Vec::with_capacity(ACTIVATIONS),
            kept: Vec::with_capacity(ACTIVATIONS),
        };
        for _ in 0..FIRST_PASSES {
            let Self {
                blocks,
                activations,
                kept,
            } = &mut trace;
            pass(blocks, activations, kept);
        }
        trace
    }
}

fn pass<B: Blocks>(blocks: &mut B, activations: &mut Vec<B::Block>, kept: &mut Vec<B::Block>) {
    for at in 0..ACTIVATIONS {
        activations.push(blocks.allocate(LAYER[at % LAYER.len()]).expect("there is room"));
    }
    let mut above = None;
    for at in (0..ACTIVATIONS).rev() {
        let gradient = blocks.allocate(LAYER[at % LAYER.len()]).expect("there is room");
        blocks.free(activations.pop().expect("there is one of each"));
        if at % KEPT == 0 {
            kept.push(gradient);
        } else if let Some(above) = above.replace(gradient) {
            blocks.free(above);
        }
    }
    kept.drain(..).chain(above).for_each(|block| blocks.free(block));
}

impl<B: Blocks> Work for Trace<B> {
    fn run(&mut self, steps: usize, clock: Clock) -> Result<f64> {
        let passes = steps.div_ceil(PAIRS);
        let Self {
            blocks,
            activations,
            kept,
        } = self;
        let seconds = timed(blocks, clock, |blocks| {
            for _ in 0..passes {
                pass(blocks, activations, kept);
            }
        })?;
        self.blocks.check()?;
        Ok(seconds * steps as f64 / (passes * PAIRS) as f64)
    }
}
