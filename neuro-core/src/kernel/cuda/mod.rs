//! What code that speaks CUDA needs to use tensors of a CUDA device where they lie.

pub use crate::backend::raw_cuda::Handles;
pub use crate::pool::device::Access;
