//! Streams of the caller's: work that he hands to CUDA himself, in order with all else that is done with tensors.

use std::sync::Arc;

use super::{Arg, Function, Grid, engine_of_cuda};
use crate::backend::raw_cuda::RawCuda;
use crate::backend::{Queue, Refusal, Ticket};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernel::blocks::{block_of, blocks_of};
use crate::pool::MemoryPool;
use crate::pool::device::{Access, DeviceBlock, Engine, cuda_turn, note_elsewhere};
use crate::tensor::{DynTensor, Transfer};

pub(super) const KIND: &str = "a CUDA device";

/// A stream of yours, as this library knows it. Clones of it, and others of the same `CUstream`, are the same.
///
/// What was submitted to it through this, or said to be by [`record`](Self::record), is known, so that memory which it uses is handed out
/// again behind it, and work elsewhere waits for it, on the device and not on the host. Any thread may use it, as any may submit to a
/// stream.
///
/// # Examples
/// ```no_run
/// use neuro_core::cuda::{Access, Stream};
/// use neuro_core::{DType, Device, DynTensor};
///
/// # fn my_stream() -> usize { 0 }
/// # fn my_kernel(_stream: usize, _x: u64) -> Result<(), neuro_core::Error> { Ok(()) }
/// let x = DynTensor::zeros_on(Device::Cuda(0), &[1000], DType::F32)?;
/// // SAFETY: a stream of cuda:0's primary context, which outlives this.
/// let stream = unsafe { Stream::of(Device::Cuda(0), my_stream())? };
/// let pointer = neuro_core::cuda::pointer(&x)?;
/// // SAFETY: the kernel writes this tensor, and is submitted to this stream only.
/// unsafe { stream.submit(&[(&x, Access::Write)], |raw| my_kernel(raw, pointer))? };
/// let host = x.to_device(Device::Cpu)?; // behind the kernel
/// # Ok::<(), neuro_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Stream {
    engine: Arc<Engine>,
    queue: Queue,
    raw: usize,
}

impl Stream {
    /// The `CUstream` that is given as a number: of the device's primary context, as those of the CUDA runtime are; 0 and 1 are the legacy
    /// default stream. The default stream of a thread (2) is refused: it is another one on each thread. While a stream is captured into a graph
    /// it is refused, too. At most five different ones are open on a device at a time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where there is no such device, [`Error::Driver`] where the stream is of another context or too many are open.
    ///
    /// # Safety
    /// It is a stream of that context, and stays until this was dropped.
    pub unsafe fn of(device: Device, stream: usize) -> Result<Self> {
        let engine = engine_of_cuda("cuda::Stream::of", device)?;
        let raw = cuda(&engine)?;
        // SAFETY: forwarded contract.
        let queue = unsafe { raw.open_stream(stream) }.map_err(|refusal| engine.error(refusal))?;
        Ok(Self {
            engine,
            queue,
            raw: stream,
        })
    }

    /// `CUstream`, as a number.
    pub fn raw(&self) -> usize {
        self.raw
    }

    /// The device that it is of.
    pub fn device(&self) -> Device {
        self.engine.device()
    }

    /// Has `work` submit to the stream, behind what else uses `tensors`; what uses them next is behind it. Nobody waits. A tensor that is
    /// named more than once is written if it is once. While `work` runs the tensors are held: it only submits, and calls nothing of this
    /// library. The device's context is current then, and is so when it returns.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where no tensor is named, or one is not on the stream's device; [`Error::ReadOnly`];
    /// [`Error::DeviceLost`]: `work` was not called then. Else what `work` says.
    ///
    /// # Panics
    /// Where `work` does. Nothing else is changed then.
    ///
    /// # Safety
    /// Where `work` returns `Ok`, all that it has submitted is on the stream it was given, and touches only bytes of elements of
    /// `tensors`, writing only those that are named with [`Access::Write`]. Else it has submitted nothing. No other thread copies a
    /// tensor to the host while this hands over work that writes it.
    pub unsafe fn submit<T, E: From<Error>>(
        &self,
        tensors: &[(&DynTensor, Access)],
        work: impl FnOnce(usize) -> Result<T, E>,
    ) -> Result<T, E> {
        const OP: &str = "cuda::Stream::submit";
        let blocks = blocks_of(OP, KIND, tensors)?;
        for (block, _) in &blocks {
            self.check(OP, block)?;
        }
        // SAFETY: forwarded contract.
        unsafe { cuda_turn(&self.engine, self.queue, &blocks, |_, stream| work(stream)) }.map(|(_, answer)| answer)
    }

    /// Runs a kernel as [`Function::launch`] does, but on this stream.
    ///
    /// # Errors
    /// As there; [`Error::InvalidArgument`] where the kernel is of another device.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn launch(&self, function: &Function, grid: &Grid, arguments: &[Arg<'_>]) -> Result<()> {
        if function.device() != self.device() {
            return Err(Error::InvalidArgument {
                op: "cuda::Stream::launch",
                what: format!(
                    "the kernel is of {}, and the stream of {}",
                    function.device(),
                    self.device()
                ),
            });
        }
        // SAFETY: forwarded contract.
        unsafe { function.launch_to(self.queue, grid, arguments) }
    }

    /// Has all that is submitted to the stream from now on wait for what was submitted on `tensor`: for its writes, if that reads; for its
    /// reads, too, if that writes. What then uses it is told by [`record`](Self::record), or goes through [`submit`](Self::submit), which
    /// does both.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where the tensor is not on the stream's device; [`Error::DeviceLost`].
    pub fn wait_for(&self, tensor: &DynTensor, access: Access) -> Result<()> {
        const OP: &str = "cuda::Stream::wait_for";
        let block = block_of(OP, KIND, tensor)?;
        self.check(OP, block)?;
        let waits = block.waits_of_host(access)?;
        self.hold(&waits)
    }

    /// The same for a tensor on its way to the device: waits on the host until its copy was submitted, and on the device until it is there.
    ///
    /// # Errors
    /// What went wrong with the transfer; [`Error::InvalidArgument`] where it goes to another device.
    pub fn wait_for_transfer(&self, transfer: &Transfer) -> Result<()> {
        let Some((device, waits)) = transfer.wait_until_submitted()? else {
            return Ok(());
        };
        if device != self.device() {
            return Err(Error::InvalidArgument {
                op: "cuda::Stream::wait_for_transfer",
                what: format!(
                    "the transfer is on {device}, and the stream on {}; wait for the transfer itself",
                    self.device()
                ),
            });
        }
        self.hold(&waits)
    }

    /// Says that what was submitted to the stream up to now uses `tensor`, so that its memory is handed out again behind that, and what
    /// is done with it elsewhere waits. Costs no call of the driver, unless it says that this wrote what another stream may still be writing:
    /// then what is submitted to this stream later waits for the other. The framework's `record_stream` says the same.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where the tensor is not on the stream's device; [`Error::ReadOnly`]; [`Error::DeviceLost`].
    pub fn record(&self, tensor: &DynTensor, access: Access) -> Result<()> {
        const OP: &str = "cuda::Stream::record";
        let block = block_of(OP, KIND, tensor)?;
        self.check(OP, block)?;
        if access == Access::Write && tensor.is_readonly() {
            return Err(Error::ReadOnly { op: OP });
        }
        let so_far = |before: Option<Ticket>| {
            let known = self.engine.done();
            let other =
                before.filter(|ticket| ticket.queue != self.queue && ticket.number > known[ticket.queue.index()]);
            let ordered = other.map_or(Ok(()), |other| self.hold(&[other]));
            let ticket = cuda(&self.engine)?.so_far(self.queue);
            ticket
                .map(|ticket| (ticket, ordered))
                .map_err(|refusal| self.engine.error(refusal))
        };
        note_elsewhere(block, access, so_far)
    }

    /// A tensor of `pool` whose elements hold anything, to be used on this stream first: it may be memory that work of this stream uses
    /// still, which that work needs no wait for.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where the pool is not of the stream's device; [`Error::OutOfMemory`].
    pub fn empty(&self, pool: &MemoryPool, shape: &[usize], dtype: DType) -> Result<DynTensor> {
        let of_this = pool
            .device_pool()
            .filter(|pool| Arc::ptr_eq(pool.engine(), &self.engine));
        let Some(of_this) = of_this else {
            return Err(Error::InvalidArgument {
                op: "cuda::Stream::empty",
                what: format!("the pool is of {}, and the stream of {}", pool.device(), self.device()),
            });
        };
        DynTensor::on_queue(of_this, self.queue, shape, dtype)
    }

    fn hold(&self, waits: &[Ticket]) -> Result<()> {
        let held = cuda(&self.engine)?.hold(self.queue, waits);
        held.map_err(|refusal| self.engine.error(refusal))
    }

    fn check(&self, op: &'static str, block: &DeviceBlock) -> Result<()> {
        if Arc::ptr_eq(block.engine(), &self.engine) {
            return Ok(());
        }
        let there = block.engine().device();
        Err(Error::InvalidArgument {
            op,
            what: format!(
                "the tensor lies on {there}, and the stream is of {}; move it first (to_device)",
                self.device()
            ),
        })
    }
}

fn cuda(engine: &Engine) -> Result<&dyn RawCuda> {
    engine.check()?;
    engine.backend().cuda().ok_or_else(|| {
        engine.error(Refusal::Call {
            call: "cuda",
            code: 0,
            meaning: "the device is none of CUDA's".to_owned(),
        })
    })
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Ok(raw) = cuda(&self.engine) {
            raw.close_stream(self.queue);
        }
    }
}
