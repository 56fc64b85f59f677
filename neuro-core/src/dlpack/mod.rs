//! Exchange of tensors with other libraries, without a copy, by DLPack: the old structure and the versioned one.
//!
//! `ffi` is the C layout, `export` hands our tensors out, `import` takes foreign ones in, after `described` has checked what they say.
//!
//! Memory of a Vulkan device (kDLVulkan) goes out and comes back in within one copy of this library, and no further: DLPack does not say
//! what the data pointer of such memory points to, and no two libraries agree (one points to an object of its own with the buffer
//! in it). So ours holds [`NOT_AN_ADDRESS`](export::NOT_AN_ADDRESS), which nobody can take for more than it is, and what comes in is
//! known by its deleter alone (D4).
//!
//! Invariants:
//! - D1: an exported tensor holds a handle to its storage until its deleter is called; the deleter may be called on any
//!   thread, and touches nothing but that handle.
//! - D2: export marks the storage as exposed: no safe borrow or write made afterwards in Rust meets a foreign write. A slice
//!   that was borrowed before is not ended by it; whoever holds one must not hand the export to anyone who may write.
//! - D3: import checks everything before it takes anything: on an error the foreign tensor is untouched and its deleter
//!   uncalled; on success the deleter is called once, when the last handle is dropped.
//! - D4: a structure whose deleter is that of this file's exports has a context that this file made, since the deleter takes it for
//!   one. So an export is known again without a look at anything that a stranger may have put there.
//!
//! - D5: memory of a CUDA device is on loan to the consumer's stream while it is exported, and to the default stream while it is imported
//!   (`pool/device/loan.rs`): neither side waits on the host, and memory is reused behind the work of both.
//!
//! Absent on purpose: Python capsules and their names (the Python module), and streams of Vulkan: it has none that libraries share.

mod described;
mod export;
mod ffi;
mod import;
#[cfg(test)]
mod tests;

pub use crate::pool::device::Ready;
pub use export::{Consumer, export, export_to, export_versioned, export_versioned_to};
pub use ffi::{
    DL_CPU, DL_CUDA, DL_CUDA_HOST, DL_VULKAN, DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned,
    DLPACK_FLAG_BITMASK_IS_COPIED, DLPACK_FLAG_BITMASK_READ_ONLY, DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION,
    DLPackVersion, DLTensor,
};
pub use import::{import, import_ready, import_versioned, import_versioned_ready, run_deleters_by};
