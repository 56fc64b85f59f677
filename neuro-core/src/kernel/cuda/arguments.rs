//! What a kernel is given: tensors and numbers, checked against its parameters, as the bytes that the driver takes.
//!
//! Absent on purpose: the driver. All of this is done before anything is submitted.

use std::ffi::c_void;
use std::sync::Arc;

use half::{bf16, f16};
use num_complex::Complex;
use smallvec::SmallVec;

use super::signature::{Parameter, ParameterKind};
use crate::backend::Span;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::pool::device::{Access, DeviceBlock, Engine};
use crate::tensor::{DynTensor, Scalar};

const OP: &str = "launch";

/// An argument of a kernel. Numbers and borrowed tensors become one by `into()`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Arg<'a> {
    /// The address of element `[0, 0, …]`.
    Tensor(&'a DynTensor),
    /// A number, which becomes one of the parameter's type.
    Scalar(Scalar),
}

impl<'a> From<&'a DynTensor> for Arg<'a> {
    fn from(tensor: &'a DynTensor) -> Self {
        Self::Tensor(tensor)
    }
}

macro_rules! from {
    ($($type:ty),*) => {
        $(
            impl From<$type> for Arg<'_> {
                fn from(value: $type) -> Self {
                    Self::Scalar(value.into())
                }
            }
        )*
    };
}

from!(
    bool,
    u8,
    u16,
    u32,
    u64,
    i8,
    i16,
    i32,
    i64,
    f16,
    bf16,
    f32,
    f64,
    Complex<f32>,
    Complex<f64>,
    Scalar
);

/// The bytes of one argument, where a type of any alignment can lie.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
struct Slot([u8; 16]);

impl Slot {
    fn of(bytes: &[u8]) -> Self {
        let mut slot = [0; 16];
        slot[..bytes.len()].copy_from_slice(bytes);
        Self(slot)
    }
}

/// Arguments that go with their parameters.
pub(super) struct Checked<'a> {
    slots: SmallVec<[Slot; 8]>,
    /// The blocks that the kernel uses.
    pub(super) blocks: SmallVec<[(&'a DeviceBlock, Access); 4]>,
}

impl Checked<'_> {
    /// Where each argument lies, as long as this is not moved.
    pub(super) fn pointers(&mut self) -> SmallVec<[*mut c_void; 8]> {
        self.slots.iter_mut().map(|slot| slot.0.as_mut_ptr().cast()).collect()
    }
}

/// Checks arguments against the parameters of a kernel of a module on `engine`'s device. `address_of` says where a span lies.
///
/// # Errors
/// [`Error::InvalidArgument`] where there are more or fewer than parameters; [`Error::KernelArgument`] for one that does not go with its
/// parameter.
pub(super) fn check<'a>(
    kernel: &str,
    parameters: &[Parameter],
    engine: &Arc<Engine>,
    arguments: &[Arg<'a>],
    address_of: &dyn Fn(Span) -> u64,
) -> Result<Checked<'a>> {
    if arguments.len() != parameters.len() {
        let listed: Vec<String> = parameters.iter().map(ToString::to_string).collect();
        return Err(Error::InvalidArgument {
            op: OP,
            what: format!(
                "kernel {kernel} has {} parameters ({}), and {} arguments are given",
                parameters.len(),
                listed.join(", "),
                arguments.len()
            ),
        });
    }
    let mut checked = Checked {
        slots: SmallVec::new(),
        blocks: SmallVec::new(),
    };
    for (place, (parameter, argument)) in parameters.iter().zip(arguments).enumerate() {
        let slot = match (parameter.kind, *argument) {
            (ParameterKind::Pointer { dtype, writes }, Arg::Tensor(tensor)) => block_of(engine, tensor, dtype, writes)
                .map(|block| {
                    let access = if writes { Access::Write } else { Access::Read };
                    checked.blocks.push((block, access));
                    Slot::of(&address_of(block.part(tensor.offset_bytes(), tensor.nbytes())).to_ne_bytes())
                }),
            (ParameterKind::Scalar(dtype), Arg::Scalar(value)) => number(value, dtype),
            (ParameterKind::Pointer { .. }, Arg::Scalar(value)) => Err(Error::InvalidArgument {
                op: OP,
                what: format!("{value} is given where a tensor is needed"),
            }),
            (ParameterKind::Scalar(dtype), Arg::Tensor(tensor)) => Err(Error::InvalidArgument {
                op: OP,
                what: format!(
                    "a tensor of shape {:?} is given where a number ({dtype}) is needed; read it with item()",
                    tensor.shape()
                ),
            }),
        };
        checked.slots.push(slot.map_err(|why| Error::KernelArgument {
            kernel: kernel.to_owned(),
            position: place + 1,
            parameter: parameter.to_string(),
            why: Box::new(why),
        })?);
    }
    Ok(checked)
}

/// The block of a tensor that may be passed for a pointer.
fn block_of<'a>(
    engine: &Arc<Engine>,
    tensor: &'a DynTensor,
    dtype: Option<DType>,
    writes: bool,
) -> Result<&'a DeviceBlock> {
    let storage: &'a crate::rc::Arc<_> = tensor.storage();
    let block = storage
        .device_block()
        .filter(|block| Arc::ptr_eq(block.engine(), engine));
    let refused = |what: String| Error::InvalidArgument { op: OP, what };
    let block = block.ok_or_else(|| {
        refused(format!(
            "the tensor lies on {}, and the kernel on {}; move the tensor first (to_device)",
            tensor.device(),
            engine.device()
        ))
    })?;
    if let Some(asked) = dtype.filter(|&dtype| dtype != tensor.dtype()) {
        return Err(Error::DTypeMismatch {
            op: OP,
            asked,
            got: tensor.dtype(),
        });
    }
    if !tensor.is_contiguous() {
        return Err(Error::NotContiguous {
            op: OP,
            shape: tensor.shape().to_vec(),
            strides: tensor.strides().to_vec(),
        });
    }
    if writes && tensor.is_readonly() {
        return Err(Error::ReadOnly { op: OP });
    }
    // Two numbers side by side are read as one by CUDA, on a multiple of both.
    if tensor.numel() > 0 && tensor.alignment() < tensor.dtype().size() {
        return Err(refused(format!(
            "the tensor begins on a multiple of {} B, and CUDA needs one of {} B for {}; copy it first",
            tensor.alignment(),
            tensor.dtype().size(),
            tensor.dtype()
        )));
    }
    Ok(block)
}

/// A number as one of `dtype`. Floats are rounded to the nearest; nothing else may be lost.
fn number(value: Scalar, dtype: DType) -> Result<Slot> {
    let pattern = value.to_pattern(OP, dtype)?;
    let exact = match (value, dtype) {
        (Scalar::Int(value), DType::F16) => f16::from_f64(value as f64).to_f64() as i128 == value,
        (Scalar::Int(value), DType::BF16) => bf16::from_f64(value as f64).to_f64() as i128 == value,
        (Scalar::Int(value), DType::F32 | DType::C64) => value as f32 as i128 == value,
        (Scalar::Int(value), DType::F64 | DType::C128) => value as f64 as i128 == value,
        _ => true,
    };
    if exact {
        return Ok(Slot::of(pattern.bytes()));
    }
    Err(Error::InvalidArgument {
        op: OP,
        what: format!("{dtype} does not hold the integer {value} exactly; give the float that is meant"),
    })
}
