//! The safetensors format: named tensors, loaded into a pool, mapped without a copy, or saved.
//!
//! A file is 8 bytes of header length, a JSON header, and the tensors' bytes side by side, row-major and little-endian.
//!
//! Invariants:
//! - S1: nothing that a file says is believed before it is checked: lengths against the file's own, offsets to cover the
//!   data once and whole, sizes against shape and dtype.
//! - S2: a file is written under another name and renamed when whole: whoever reads the old one, or has it mapped, keeps
//!   it, and a failure leaves it as it was.
//!
//! Absent on purpose: files in several parts with an index, and element types the library does not have (`F8_…`, `F4`).

use std::collections::HashMap;

use crate::tensor::DynTensor;

mod header;
mod read;
#[cfg(test)]
mod tests;
#[deny(unsafe_code)]
mod write;

pub use read::{load, map};
pub use write::save;

#[cfg(target_endian = "big")]
compile_error!("safetensors files are little-endian; swapping bytes on big-endian machines is not built");

/// What a file holds.
#[derive(Debug)]
pub struct SafeTensorsFile {
    /// Names and tensors, in the order of their bytes in the file; those of no bytes, which may share a place, by name.
    pub tensors: Vec<(String, DynTensor)>,
    /// The texts that the writer put beside them; `None` where it put none.
    pub metadata: Option<HashMap<String, String>>,
}
