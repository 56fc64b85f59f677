//! `Function`: a kernel, and its launches.
//!
//! A launch is a piece of work like the library's own: ordered behind what else uses its tensors, and before what uses them next, on
//! whatever queue. What the kernel does beside that is its author's to promise, so [`Function::launch`] is unsafe.

use std::fmt;
use std::sync::Arc;

use super::arguments::{Arg, check};
use super::grid::Grid;
use super::module::Loaded;
use super::signature::Parameter;
use crate::backend::Queue;
use crate::backend::raw_cuda::{Launch, RawCuda};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::pool::device::cuda_turn;

/// A kernel of a [`Module`](super::Module), which stays loaded as long as this lives.
#[derive(Clone)]
pub struct Function {
    module: Arc<Loaded>,
    /// `CUfunction`.
    handle: usize,
    name: Arc<str>,
    parameters: Arc<[Parameter]>,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("name", &self.name)
            .field("parameters", &self.parameters)
            .field("device", &self.device())
            .finish_non_exhaustive()
    }
}

impl Function {
    pub(super) fn new(module: Arc<Loaded>, handle: usize, name: &str, parameters: Vec<Parameter>) -> Self {
        Self {
            module,
            handle,
            name: name.into(),
            parameters: parameters.into(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its parameters.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The device that runs it.
    pub fn device(&self) -> Device {
        self.module.engine.device()
    }

    /// Runs the kernel on the device, in order with all else that is done with the tensors, before and after. Nobody waits: it is under
    /// way when this returns, and the tensors may be dropped.
    ///
    /// A tensor goes to a pointer as the address of its element `[0, 0, …]`: it lies on the kernel's device, has the pointer's type,
    /// is contiguous, and not read-only where the pointer is not `const`. One without elements goes as an address that is not to be
    /// followed. A number becomes one of the parameter's type: floats are rounded to the nearest, and nothing else may be lost.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a grid that no device has, and for more or fewer arguments than parameters;
    /// [`Error::KernelArgument`] for an argument that does not go with its parameter; [`Error::Driver`], [`Error::DeviceLost`]. Nothing is under
    /// way then.
    ///
    /// # Safety
    /// - The parameters that were given or found are the kernel's own.
    /// - The kernel, run so, reads and writes only elements of the tensors that it is given and memory of its own, writes none through
    ///   a pointer that is `const`, and ends.
    /// - A `bool` that it writes to a tensor is 0 or 1.
    /// - Of tensors that it writes nobody copies one to the host in another thread while this hands the launch over, as for all unsafe
    ///   functions of [`DynTensor`](crate::DynTensor).
    pub unsafe fn launch(&self, grid: &Grid, arguments: &[Arg<'_>]) -> Result<()> {
        // SAFETY: forwarded contract.
        unsafe { self.launch_to(Queue::COMPUTE, grid, arguments) }
    }

    /// As [`launch`](Self::launch), on the stream of a queue.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn launch_to(&self, queue: Queue, grid: &Grid, arguments: &[Arg<'_>]) -> Result<()> {
        grid.check(&self.name)?;
        let engine = &self.module.engine;
        engine.check()?;
        let cuda = engine.backend().cuda().ok_or_else(|| engine.not_cuda("launch"))?;
        let mut checked = check(&self.name, &self.parameters, engine, arguments, &|span| {
            cuda.address(span)
        })?;
        let params = checked.pointers();
        let launch = Launch {
            function: self.handle,
            grid: grid.blocks,
            block: grid.threads,
            shared_bytes: grid.shared_bytes,
            params: &params,
        };
        let work = |cuda: &dyn RawCuda, stream: usize| {
            // SAFETY: there are as many parameters as the kernel has, each at an address that is aligned for, and has room for, any type
            // that is known; `checked` stays where it is until this is through. What the kernel uses is by contract.
            unsafe { cuda.launch(stream, &launch) }.map_err(|refusal| {
                let wanted = format!(
                    "kernel {}, blocks {:?} of {:?} threads and {} B of shared memory",
                    self.name, grid.blocks, grid.threads, grid.shared_bytes
                );
                self.module.error(refusal, &wanted)
            })
        };
        // SAFETY: the blocks are of this engine, which `check` has seen to; the launch goes to the stream that it is given, or is refused;
        // what it uses are bytes of these blocks, as the parameters say, by contract.
        let (ticket, ()) = unsafe { cuda_turn::<(), Error>(engine, queue, &checked.blocks, work) }?;
        self.module.note(ticket);
        Ok(())
    }
}
