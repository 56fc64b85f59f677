//! The C interface: `libneuro_memory.so`, `libneuro_memory.a`, and the functions that the Python extension exports again.
//!
//! A map of the crate, lowest floor first. The upper half is machinery, the lower half is what C sees, one file a subject:
//!
//! - `status`: the status codes, and each thread's last error
//! - `handles`: what a handle is, and how a wrong one is told from a right one
//! - `structs`: option structs that begin with their size
//! - `guard`: the way in and out of every function: panics, NULL, handles, arrays, strings
//! - `version`, `dtype`, `device`: numbers and names; `discovery`: which devices there are
//! - `pool`: pools and blocks; `options`: how a pool is made; `stats`: what pools hold; `scope`: counts from one moment on
//! - `tensor`: tensors and references to them; `facts`: their shape and data; `view`: tensors that share storage;
//!   `contents`: filling and copying; `transfer`: on the way to another device
//! - `dlpack`: exchange with other libraries
//! - `safetensors`: files
//! - `share`: memory of devices that goes to other processes
//! - `access`: what work of the caller does with tensors
//! - `vulkan`: shaders of the caller on tensors, and devices of the caller
//! - `cuda`: streams of the caller; `cuda_kernel`: kernels of the caller; `cuda_launch`: kernels on tensors
//! - `cuda_hook`: pools as allocators of others; `torch_hook`: as PyTorch's; `throw`: exceptions of C++
//! - `function`: all of these by name
//!
//! Rules, the same for every function:
//! - C1: no panic crosses: each body runs inside `guard`. An exception of C++ leaves `torch_hook` only, from outside of `guard`.
//! - C2: nothing that C hands in is dereferenced before it was compared with NULL, and no handle before its table knows it.
//! - C3: out parameters are set before anything can fail.
//! - C4: numbers that stand for an enum cross as fixed-width integers and are checked.
//!
//! `include/neuro_memory.h` is generated from these files: what stands in the comments here is what a C programmer reads.
//!
//! Absent on purpose: logic that the core or Python would need too.
#![allow(non_camel_case_types, reason = "the names are those of the C header")]

pub mod access;
pub mod contents;
pub mod cuda;
pub mod cuda_hook;
pub mod cuda_kernel;
pub mod cuda_launch;
pub mod device;
pub mod discovery;
pub mod dlpack;
pub mod dtype;
pub mod facts;
pub mod function;
mod guard;
mod handles;
pub mod options;
pub mod pool;
pub mod safetensors;
pub mod scope;
pub mod share;
pub mod stats;
pub mod status;
mod structs;
pub mod tensor;
mod throw;
pub mod torch_hook;
pub mod transfer;
pub mod version;
pub mod view;
pub mod vulkan;
