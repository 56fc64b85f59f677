//! What work of the caller's does with tensors, on a device of whatever kind.

use neuro_core::DynTensor;
use neuro_core::vulkan::Access;

use crate::guard;
use crate::status::{Failure, Result};
use crate::tensor::neuro_tensor_t;

/// Work reads a tensor, and leaves it as it is.
pub const NEURO_ACCESS_READ: u32 = 1;
/// Work writes a tensor, and may read it, too.
pub const NEURO_ACCESS_WRITE: u32 = 2;

/// What `access` means.
pub(crate) fn parse(op: &'static str, access: u32) -> Result<Access> {
    match access {
        NEURO_ACCESS_READ => Ok(Access::Read),
        NEURO_ACCESS_WRITE => Ok(Access::Write),
        other => {
            let what =
                format_args!("access {other} is unknown; known are NEURO_ACCESS_READ (1), NEURO_ACCESS_WRITE (2)");
            Err(Failure::argument(op, what))
        }
    }
}

/// The tensors that a call names, each with what is done with it.
///
/// # Safety
/// Live tensors are not released during `'a`; `tensors` and `access` are NULL or readable for `count`.
pub(crate) unsafe fn named<'a>(
    op: &'static str,
    tensors: *const *const neuro_tensor_t,
    access: *const u32,
    count: usize,
) -> Result<Vec<(&'a DynTensor, Access)>> {
    // SAFETY: forwarded condition.
    let (tensors, access) = unsafe {
        (
            guard::array(op, "tensors", tensors, count)?,
            guard::array(op, "access", access, count)?,
        )
    };
    tensors
        .iter()
        .zip(access)
        .map(|(&tensor, &access)| {
            let access = parse(op, access)?;
            // SAFETY: forwarded condition.
            Ok((unsafe { guard::live(op, tensor) }?, access))
        })
        .collect()
}
