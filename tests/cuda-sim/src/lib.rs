//! A CUDA driver that is not there, for tests on machines without a GPU. As a Rust library it is a table of the driver's calls
//! ([`address_of`]); as a shared library it is `libcuda.so.1`, for programs in C and Python, numba-cuda and cuda.core
//! among them.
//!
//! # What it does
//!
//! - *Worlds.* All state belongs to a [`World`], so that tests run side by side. Every handle leads to its world; what has none is about
//!   the world of the thread ([`World::enter`]), which is number 0 otherwise. World 0 is described by variables of the environment:
//!   `NEURO_CUDA_SIM_SEED`, `_DEVICES`, `_MEMORY` (bytes of each device), `_PEERS` (0 or 1), `_FAIL_NTH` and `_FAIL_CODE` (the n-th
//!   call that may fail does), `_PROTECT` (0: pages are not protected).
//! - *Lazy streams.* Work waits in its stream until somebody asks how far it is; then a seed decides which of the streams that may go
//!   on does its next piece. Page-locked memory is read when a copy is done, pageable memory when it is submitted.
//! - *Checks*, by vector clocks that come from the submissions (crate `races`): races; use after free; pointers that are wild, out of
//!   bounds, or of a device without access; bytes that nobody wrote; memory, ranges and modules that are freed while work uses them that
//!   the host does not know to be done; handles that are gone, of another kind, or of another context. Loads and stores of the host in
//!   page-locked memory are caught by the protection of its pages (see `protect`), and so is a host that follows a device's pointer.
//! - *Faults.* Memory ends; the n-th call fails, with any code; the device is lost; the process ends; it is forked.
//!
//! What is wrong with a program is a *finding*, in words: [`World::findings`]. If nobody asks, that is, in a process with no world but
//! number 0, findings are printed when it ends, and its status is 86.
//!
//! # Rules that are stricter than the driver's
//!
//! - `cuEventQuery` and `cuStreamQuery` may say "not ready" although all is done soon; freeing memory brings its device to its end, as in
//!   CUDA, but the host does not know that: a program that relies on it is found.
//! - A copy whose end lies partly in page-locked memory is refused; what is registered consists of whole pages.
//! - The context of a stream ought to be current where work is submitted to it.
//! - Addresses are not given again soon, so that a use after free is told from a use.
//!
//! # What it leaves out on purpose
//!
//! Speed, numerics of a GPU, graphs, pools of the driver's own (`cuMemAllocAsync`), arrays and textures, sharing with other processes,
//! contexts other than the one of each device, races within one launch, and what the host does with pages that are not protected.

mod arena;
mod calls;
mod check;
mod codes;
mod contents;
mod device;
mod event;
mod exports;
mod faults;
mod gate;
mod handle;
mod host_function;
mod kernel;
mod leaks;
mod life;
mod perform;
mod protect;
pub mod ptx;
mod random;
mod ranges;
mod registry;
mod space;
mod state;
mod stream;
mod world;

#[cfg(test)]
mod tests;

pub use calls::Calls;
pub use codes::Code;
pub use exports::address_of;
pub use life::forked_calls;
pub use world::{Entered, World, can_protect};
