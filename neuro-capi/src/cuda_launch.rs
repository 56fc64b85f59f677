//! Launches of kernels of the caller: over what they run, and their arguments, which are checked before anything is submitted.
//!
//! Invariant: of an argument only the fields that its checked `kind` names are looked at (C4).

use neuro_core::cuda::{Arg, Grid, Stream};
use neuro_core::{DynTensor, Scalar};

use crate::cuda::neuro_cuda_stream_t;
use crate::cuda_kernel::{Kernel, neuro_cuda_kernel_t};
use crate::guard;
use crate::status::{Failure, Result, neuro_status_t};
use crate::structs::{self, SizedStruct};
use crate::tensor::neuro_tensor_t;

/// How many blocks of how many threads run a kernel. Set it to zeros, then `struct_size`, then the rest.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_cuda_grid_t {
    /// `sizeof(neuro_cuda_grid_t)`.
    pub struct_size: usize,
    /// Blocks along x, y and z. 0 along y or z counts as 1.
    pub blocks: [u32; 3],
    /// Threads of a block along x, y and z. 0 along y or z counts as 1.
    pub threads: [u32; 3],
    /// Bytes of shared memory of a block, beside what the kernel declares. Devices have 48 KiB at
    /// least, the kernel's own included, and some have more.
    pub shared_bytes: u64,
}

// SAFETY: repr(C), integers without padding, `struct_size` first.
unsafe impl SizedStruct for neuro_cuda_grid_t {}

/// `tensor`, for a pointer.
pub const NEURO_CUDA_ARGUMENT_TENSOR: u32 = 1;
/// `integer`, as one with a sign.
pub const NEURO_CUDA_ARGUMENT_INT: u32 = 2;
/// `integer`, as one without: of a `uint64_t` the same bits.
pub const NEURO_CUDA_ARGUMENT_UINT: u32 = 3;
/// `real`.
pub const NEURO_CUDA_ARGUMENT_FLOAT: u32 = 4;
/// `real` and `imaginary`.
pub const NEURO_CUDA_ARGUMENT_COMPLEX: u32 = 5;

/// An argument of a kernel: what `kind` says, the other fields are not looked at. As in
/// `{.kind = NEURO_CUDA_ARGUMENT_FLOAT, .real = 0.5}`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_cuda_argument_t {
    /// `NEURO_CUDA_ARGUMENT_…`.
    pub kind: u32,
    /// 0.
    pub reserved: u32,
    /// A tensor.
    pub tensor: *const neuro_tensor_t,
    /// An integer, or 0 or 1 for `bool`.
    pub integer: i64,
    /// A number, or the real part of one.
    pub real: f64,
    /// The imaginary part.
    pub imaginary: f64,
}

/// Blocks of `threads` threads, of which there are at least `elements`: the kernel leaves out those that are too many. For no elements it
/// is one block. Set `out->struct_size` first; the rest of `*out` is 0 after a failure.
///
/// # Safety
/// `out` is NULL or writable for its `struct_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_grid_for_elements(
    elements: usize,
    threads: u32,
    out: *mut neuro_cuda_grid_t,
) -> neuro_status_t {
    let make = || {
        let grid = Grid::for_elements(elements, threads)?;
        Ok(neuro_cuda_grid_t {
            struct_size: size_of::<neuro_cuda_grid_t>(),
            blocks: grid.blocks,
            threads: grid.threads,
            shared_bytes: grid.shared_bytes.into(),
        })
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give_struct("neuro_cuda_grid_for_elements", out, make) }
}

/// Runs the kernel on its device, in order with all else that is done with the tensors, before and after; on `stream`, or on the library's
/// own where that is NULL. Nobody waits: it is under way when this returns, and the tensors may be released.
///
/// A tensor goes to a pointer: it lies on the kernel's device, has the pointer's type, is contiguous, and not read-only where the pointer
/// is not `const`. A number becomes one of the parameter's type: floats are rounded to the nearest, and nothing else may be lost. The
/// message names the parameter that an argument does not go with, and nothing is under way then.
///
/// # Safety
/// Live handles are not released meanwhile; `grid` is NULL or readable for its `struct_size`; `arguments` is readable for `count`. The
/// parameters that were given or found are the kernel's own; run so, it reads and writes only elements of the tensors and memory of its
/// own, writes none through a pointer that is `const`, and no `bool` but 0 and 1, and it ends. No other thread copies to the host a tensor
/// that it writes while this hands it over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_kernel_launch(
    kernel: *const neuro_cuda_kernel_t,
    stream: *const neuro_cuda_stream_t,
    grid: *const neuro_cuda_grid_t,
    arguments: *const neuro_cuda_argument_t,
    count: usize,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_kernel_launch";
    guard::status(|| {
        // SAFETY: forwarded condition.
        let kernel: &Kernel = unsafe { guard::live(OP, kernel) }?;
        let stream: Option<&Stream> = match stream.is_null() {
            true => None,
            // SAFETY: forwarded condition.
            false => Some(unsafe { guard::live(OP, stream) }?),
        };
        if grid.is_null() {
            return Err(Failure::argument(OP, "grid is NULL"));
        }
        // SAFETY: forwarded condition.
        let (grid, arguments) = unsafe {
            (
                structs::read(OP, grid)?,
                guard::array(OP, "arguments", arguments, count)?,
            )
        };
        let grid = grid_of(OP, &grid)?;
        let arguments: Vec<Arg<'_>> = arguments
            .iter()
            .enumerate()
            // SAFETY: forwarded condition.
            .map(|(place, argument)| unsafe { argument_of(OP, place, argument) })
            .collect::<Result<_>>()?;
        let launched = match stream {
            // SAFETY: the caller vouches for what `Function::launch` asks: the texts say the same.
            Some(stream) => unsafe { stream.launch(&kernel.function, &grid, &arguments) },
            // SAFETY: as above.
            None => unsafe { kernel.function.launch(&grid, &arguments) },
        };
        Ok(launched?)
    })
}

fn grid_of(op: &'static str, grid: &neuro_cuda_grid_t) -> Result<Grid> {
    let shared_bytes = u32::try_from(grid.shared_bytes).map_err(|_| {
        let bytes = grid.shared_bytes;
        Failure::argument(
            op,
            format_args!("{bytes} B of shared memory are more than any device has"),
        )
    })?;
    let or_one = |[x, y, z]: [u32; 3]| [x, y.max(1), z.max(1)];
    Ok(Grid {
        blocks: or_one(grid.blocks),
        threads: or_one(grid.threads),
        shared_bytes,
    })
}

/// # Safety
/// As [`guard::live`], for a tensor.
unsafe fn argument_of<'a>(op: &'static str, place: usize, given: &neuro_cuda_argument_t) -> Result<Arg<'a>> {
    let refused = |what: String| Failure::argument(op, format_args!("argument {}: {what}", place + 1));
    if given.reserved != 0 {
        return Err(refused(format!("reserved is {}, and has to be 0", given.reserved)));
    }
    Ok(match given.kind {
        NEURO_CUDA_ARGUMENT_TENSOR => {
            // SAFETY: forwarded condition.
            let tensor: Result<&DynTensor> = unsafe { guard::live(op, given.tensor) };
            Arg::Tensor(tensor.map_err(|failure| Failure {
                message: format!("{} (argument {})", failure.message, place + 1),
                ..failure
            })?)
        }
        NEURO_CUDA_ARGUMENT_INT => Arg::Scalar(Scalar::Int(given.integer.into())),
        NEURO_CUDA_ARGUMENT_UINT => Arg::Scalar(Scalar::Int(given.integer.cast_unsigned().into())),
        NEURO_CUDA_ARGUMENT_FLOAT => Arg::Scalar(Scalar::Float(given.real)),
        NEURO_CUDA_ARGUMENT_COMPLEX => Arg::Scalar(Scalar::Complex(given.real, given.imaginary)),
        other => {
            return Err(refused(format!(
                "kind {other} is unknown; known are NEURO_CUDA_ARGUMENT_TENSOR (1) to NEURO_CUDA_ARGUMENT_COMPLEX (5)"
            )));
        }
    })
}
