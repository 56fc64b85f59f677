//! Tests: each kind of finding from a small program, which has none when it is in order.

mod driver;
mod faults;
mod handles;
mod host;
mod kernels;
mod life;
mod memory;
mod order;
mod peers;
mod programs;
mod protect;
mod ranges;
