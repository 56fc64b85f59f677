//! What code that speaks CUDA needs to use tensors of a CUDA device where they lie.

mod arguments;
mod grid;
mod launch;
mod module;
mod nvrtc;
mod prototype;
mod signature;
#[cfg(all(test, not(loom)))]
mod tests;
mod tokens;

pub use self::arguments::Arg;
pub use self::grid::Grid;
pub use self::launch::Function;
pub use self::module::{CompileOptions, Module};
pub use self::nvrtc::{Compiled, add_nvrtc_path, compile, nvrtc_version};
pub use self::signature::{Parameter, ParameterKind};
pub use crate::backend::raw_cuda::Handles;
pub use crate::pool::device::Access;
