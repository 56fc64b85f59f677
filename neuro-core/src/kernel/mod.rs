//! Kernels on tensors where they lie.
//!
//! - `cuda/`: the same for CUDA, and kernels of the caller's compiled, loaded and launched.
//! - `vulkan.rs`: what somebody needs who brings shaders of his own, and what engines need whose device is to be used.
//!
//! Absent on purpose: kernels of this library's own.

mod blocks;
pub mod cuda;
pub mod vulkan;
