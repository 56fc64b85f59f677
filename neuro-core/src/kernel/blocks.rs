//! The blocks that tensors lie in, for work that somebody else brings.

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::pool::device::{Access, DeviceBlock};
use crate::rc::Arc;
use crate::tensor::DynTensor;

/// Blocks that a piece of work uses.
pub(super) type Blocks<'a> = SmallVec<[(&'a DeviceBlock, Access); 4]>;

/// The block of a device that `tensor` lies in; `kind`: "a CUDA device", for the words.
///
/// # Errors
/// [`Error::InvalidArgument`] where it lies on the host.
pub(super) fn block_of<'a>(op: &'static str, kind: &str, tensor: &'a DynTensor) -> Result<&'a DeviceBlock> {
    let storage: &'a Arc<_> = tensor.storage();
    storage.device_block().ok_or_else(|| Error::InvalidArgument {
        op,
        what: format!(
            "the tensor lies on {}, and {kind} is needed; move it first (to_device)",
            tensor.device()
        ),
    })
}

/// The blocks of `tensors`, all on one device.
///
/// # Errors
/// [`Error::InvalidArgument`] where there is none, or they are not all on one device; [`Error::ReadOnly`].
pub(super) fn blocks_of<'a>(op: &'static str, kind: &str, tensors: &[(&'a DynTensor, Access)]) -> Result<Blocks<'a>> {
    let mut blocks = Blocks::new();
    for &(tensor, access) in tensors {
        let block = block_of(op, kind, tensor)?;
        if access == Access::Write && tensor.is_readonly() {
            return Err(Error::ReadOnly { op });
        }
        if let Some((first, _)) = blocks.first()
            && !std::sync::Arc::ptr_eq(first.engine(), block.engine())
        {
            let (one, other) = (first.engine().device(), block.engine().device());
            let what = format!("the tensors lie on {one} and on {other}; move them to one device first (to_device)");
            return Err(Error::InvalidArgument { op, what });
        }
        blocks.push((block, access));
    }
    if blocks.is_empty() {
        let what = "no tensor is named; name those that the work uses".to_owned();
        return Err(Error::InvalidArgument { op, what });
    }
    Ok(blocks)
}
