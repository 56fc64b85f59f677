//! What code that speaks CUDA needs to use tensors of a CUDA device where they lie.

mod nvrtc;
#[cfg(all(test, not(loom)))]
mod tests;

pub use self::nvrtc::{Compiled, add_nvrtc_path, compile, nvrtc_version};
pub use crate::backend::raw_cuda::Handles;
pub use crate::pool::device::Access;
