//! A Vulkan layer for `bench/device.py`. It stands between a program and the driver:
//!
//! - It writes down each call for memory: a line `allocate BYTES` or `free` in the file that `NEURO_BENCH_CALLS` names.
//! - With `NEURO_BENCH_APART=1` memory that both the device and the host reach is shown as two kinds of memory, one for each, so
//!   that a device that shares the host's memory is to a program like a card with memory of its own.
//!
//! `chain.rs`: how the loader calls it, and where its calls go on; `calls.rs`: the calls that it stands in; `apart.rs`: two kinds
//! of memory out of one. All other calls go past it.

mod apart;
mod calls;
mod chain;
