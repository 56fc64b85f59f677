//! Kernels on tensors where they lie.
//!
//! - `vulkan.rs`: what somebody needs who brings shaders of his own, and what engines need whose device is to be used.
//!
//! Absent on purpose: kernels of this library's own.

pub mod cuda;
pub mod vulkan;
