//! What code that speaks CUDA needs to use tensors of a CUDA device where they lie.
//!
//! Kernels of yours, as CUDA C that is compiled when the program runs, or as what a compiler made elsewhere: [`Module`].
//!
//! - `nvrtc/`: the compiler; `options.rs`: how it is asked; `module.rs`: what a device has of it.
//! - `tokens.rs`, `signature.rs`, `prototype.rs`: a kernel's parameters, as C writes them, and as a source has them.
//! - `grid.rs`, `arguments.rs`, `launch.rs`: what is checked before a launch, and the launch.

mod arguments;
mod grid;
mod launch;
mod module;
mod nvrtc;
mod options;
mod prototype;
mod signature;
#[cfg(all(test, not(loom)))]
mod tests;
mod tokens;

pub use self::arguments::Arg;
pub use self::grid::Grid;
pub use self::launch::Function;
pub use self::module::Module;
pub use self::nvrtc::{Compiled, add_nvrtc_path, compile, nvrtc_version};
pub use self::options::CompileOptions;
pub use self::signature::{Parameter, ParameterKind};
pub use crate::backend::raw_cuda::Handles;
pub use crate::pool::device::Access;
