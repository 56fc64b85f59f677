//! What the measured processes of `bench/*.py` share. Such a process does what it is told on standard input, one JSON line a
//! request, one a reply, as `bench/compare/worker.py` does for Python:
//!
//! - `{"exec": {…}}` prepares a piece of work; once a process.
//! - `{"time": null, "times": n, "clock": "wall"}` does `n` steps of it; the reply is in seconds.
//! - `{"eval": {…}}` asks for what is not a time.
//!
//! It waits in a blocking read between requests, so while another process is measured this one uses no processor.
//!
//! - `serve.rs`: the protocol; `steps.rs`: work in steps; `clock.rs`: the clocks of a batch; `ticks.rs`: the clock of single
//!   operations; `random.rs`: random programs.

mod clock;
mod random;
mod serve;
mod steps;
pub mod ticks;

pub use clock::Clock;
pub use random::Random;
pub use serve::{Ability, Result, serve};
pub use steps::{Part, Solo, Work, chunks};
