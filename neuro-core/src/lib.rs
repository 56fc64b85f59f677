//! Pooled, aligned, reference-counted memory for ML code.
//!
//! Floors, lowest first; a module names only those above it in this list.

#[deny(unsafe_code)]
pub mod error;
#[deny(unsafe_code)]
pub mod device;
pub mod dtype;

pub use device::Device;
pub use dtype::{DType, Element};
pub use error::{Error, Result};
