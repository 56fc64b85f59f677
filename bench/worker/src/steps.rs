//! Work in steps. They are drawn and run in chunks; only running is timed. A chunk is short enough to stay in the processor's
//! second cache, and long enough that what drawing it pushed out of there matters little.

use crate::clock::Clock;
use crate::serve::Result;

/// Steps.
const CHUNK: usize = 1 << 15;

/// `steps` steps as chunks: how many are in each.
pub fn chunks(steps: usize) -> impl Iterator<Item = usize> {
    (0..steps).step_by(CHUNK).map(move |done| CHUNK.min(steps - done))
}

/// Something that is ready to be timed.
pub trait Work {
    /// Seconds that `steps` steps take.
    ///
    /// # Errors
    /// Where a step could not be done, or what it did was found to be wrong.
    fn run(&mut self, steps: usize, clock: Clock) -> Result<f64>;
}

/// What one thread does.
pub trait Part: Send {
    /// Draws what the next `steps` steps are; not timed.
    fn draw(&mut self, steps: usize);

    /// Does them.
    fn run(&mut self);
}

/// A part by itself.
pub struct Solo(pub Box<dyn Part>);

impl Work for Solo {
    fn run(&mut self, steps: usize, clock: Clock) -> Result<f64> {
        let mut seconds = 0.0;
        for steps in chunks(steps) {
            self.0.draw(steps);
            let start = clock.seconds();
            self.0.run();
            seconds += clock.seconds() - start;
        }
        Ok(seconds)
    }
}
