//! CUDA's own names for what tensors lie in, and code of yours that uses them there.
//!
//! Handles are numbers here, as C would cast them.
//!
//! - [`handles`]: device, context and streams of a device that this library opened; [`pointer`]: where a tensor lies.
//! - [`Stream`]: a stream of yours, whose work is in order with everything else that is done with tensors.
//! - [`Hook`]: a pool as the allocator of a framework; [`HookSlot`]: the same by a number.
//! - [`Module`], [`Function`]: kernels of yours, compiled here or loaded, and launched on tensors; [`Stream::launch`] does it on a stream of
//!   yours.

mod arguments;
mod grid;
mod launch;
mod module;
mod nvrtc;
mod options;
mod prototype;
mod signature;
mod stream;
#[cfg(all(test, not(loom)))]
pub(crate) mod tests;
mod tokens;

use std::sync::Arc;

use super::blocks::block_of;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::pool::device::{Engine, Theirs, engine_of};
use crate::tensor::DynTensor;

pub use self::arguments::Arg;
pub use self::grid::Grid;
pub use self::launch::Function;
pub use self::module::Module;
pub use self::nvrtc::{Compiled, add_nvrtc_path, compile, nvrtc_version};
pub use self::options::CompileOptions;
pub use self::signature::{Parameter, ParameterKind};
pub use self::stream::Stream;
pub use crate::backend::raw_cuda::Handles;
pub use crate::pool::device::{Access, Hook, HookSlot, Keeper, OnFailure, SLOTS, SlotUse, refused_frees};

/// What CUDA calls `device`, which is opened if it was not. The handles stay valid until the process ends, or [`shutdown`](crate::shutdown).
///
/// # Errors
/// [`Error::Unavailable`] where there is no such device, [`Error::InvalidArgument`] where it is none of CUDA's.
pub fn handles(device: Device) -> Result<Handles> {
    const OP: &str = "cuda::handles";
    let engine = engine_of_cuda(OP, device)?;
    engine.check()?;
    Ok(engine.backend().cuda().ok_or_else(|| not_cuda(OP, device))?.handles())
}

/// `CUdeviceptr` of element `[0, 0, …]`. It is good as long as a handle of the storage lives, and for work that was handed over with the
/// tensor ([`Stream::submit`]).
///
/// # Errors
/// [`Error::InvalidArgument`] for a tensor that is not on a CUDA device.
pub fn pointer(tensor: &DynTensor) -> Result<u64> {
    const OP: &str = "cuda::pointer";
    let block = block_of(OP, stream::KIND, tensor)?;
    let engine = block.engine();
    engine.check()?;
    let cuda = engine.backend().cuda().ok_or_else(|| not_cuda(OP, engine.device()))?;
    Ok(cuda.address(block.part(tensor.offset_bytes(), 0)))
}

/// [`pointer`] for code that uses the tensor on the default stream until its memory goes, and says nothing more of it: that stream is behind
/// what was done with the tensor so far, work that is submitted here later is behind what the stream has by then, and the stream's later
/// work behind that. Nobody waits on the host.
///
/// # Errors
/// As [`pointer`]; [`Error::Driver`], [`Error::DeviceLost`].
pub fn share(tensor: &DynTensor) -> Result<u64> {
    share_with(tensor, Theirs::legacy)
}

/// [`share`] for code that works on the stream of kernels ([`Handles::compute`]).
///
/// # Errors
/// As [`share`].
pub fn share_on_compute(tensor: &DynTensor) -> Result<u64> {
    share_with(tensor, Theirs::compute)
}

fn share_with(tensor: &DynTensor, stream: impl FnOnce(&Arc<Engine>) -> Result<std::sync::Arc<Theirs>>) -> Result<u64> {
    let address = pointer(tensor)?;
    let block = block_of("cuda::share", stream::KIND, tensor)?;
    let access = if tensor.is_readonly() {
        Access::Read
    } else {
        Access::Write
    };
    block.lend_for_good(stream(block.engine())?, access)?;
    tensor.storage().mark_exposed();
    Ok(address)
}

/// The CUDA device whose memory lies at `address`, a `CUdeviceptr`; `None` where CUDA knows of nothing there. Opens the first device.
///
/// # Errors
/// [`Error::Unavailable`] where there is no CUDA device; [`Error::DeviceLost`].
pub fn device_at(address: u64) -> Result<Option<Device>> {
    let engine = engine_of(Device::Cuda(0))?;
    engine.check()?;
    let cuda = engine
        .backend()
        .cuda()
        .ok_or_else(|| engine.not_cuda("cuda::device_at"))?;
    let found = cuda.device_at(address).map_err(|refusal| engine.error(refusal))?;
    Ok(found.map(Device::Cuda))
}

fn engine_of_cuda(op: &'static str, device: Device) -> Result<Arc<Engine>> {
    match device {
        Device::Cuda(_) => engine_of(device),
        _ => Err(not_cuda(op, device)),
    }
}

fn not_cuda(op: &'static str, device: Device) -> Error {
    Error::InvalidArgument {
        op,
        what: format!("{device} is no CUDA device; name one, as cuda:0"),
    }
}
