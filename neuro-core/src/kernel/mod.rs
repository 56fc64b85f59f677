//! Kernels on tensors where they lie.
//!
//! - `cuda/`: kernels in CUDA C, compiled here or elsewhere, and launched.
//! - `vulkan.rs`: what somebody needs who brings shaders of his own, and what engines need whose device is to be used.
//!
//! Absent on purpose: kernels of this library's own.

pub mod cuda;
pub mod vulkan;
