//! Pooled, aligned, reference-counted memory for ML code.
//!
//! The modules stand in the order of their floors: each names only those before it.

#[deny(unsafe_code)]
pub mod error;
#[deny(unsafe_code)]
pub mod device;
pub mod dtype;
#[deny(unsafe_code)]
pub mod shape;
#[deny(unsafe_code)]
mod sync;
#[deny(unsafe_code)]
mod ledger;
pub mod rc;
mod backend;
#[deny(unsafe_code)]
pub mod heap;
pub mod pool;
pub mod memory;
mod transfer;
pub mod tensor;
pub mod io;
pub mod dlpack;
mod kernel;

pub use backend::info::{DeviceInfo, Discovery, HeapInfo, devices};
pub use device::Device;
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use kernel::{cuda, vulkan};
pub use ledger::{Counters, Usage};
pub use memory::DeviceMemory;
pub use pool::{Init, MemoryPool, PoolPtr, PoolStats, Scope, shutdown};
pub use rc::{Arc, Weak};
pub use shape::Geometry;
pub use tensor::{DynTensor, Exported, Scalar, Transfer};

/// The README's Rust program, compiled and run as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
