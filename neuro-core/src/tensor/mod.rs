//! `DynTensor`: shape, strides and dtype, known at run time, over shared storage.
//!
//! Invariants of every `DynTensor`:
//! - T1: every element `geometry` names lies inside `storage`, at `offset + dtype.size() * element offset` bytes.
//! - T2: element `[0, 0, …]`, and so every other, is aligned for `dtype`.
//! - T3: its bytes are initialised: born zeroed, written whole, given fixed unknown values (`element::settle`), or foreign
//!   and vouched for by whoever wrapped them.
//! - T4: safe writes need the only handle to the storage, never exposed: then nothing else in the process can name the bytes.
//!   Safe calls on shared or exposed storage only read, and only while the call lasts (a borrowed slice, which may last
//!   longer, needs storage that was never exposed). Whoever writes through a raw pointer or an unsafe function keeps all
//!   other reads and writes of those bytes away meanwhile, those of safe functions included.
//!
//! Unsafe code stands in `element.rs` (access to elements) and `strided.rs` (the copy loop); the unsafe functions of
//! `copy.rs` and `fill.rs` pass the caller's promise on to it.
//!
//! Absent on purpose: arithmetic, broadcasting, conversion between dtypes.

use std::fmt;

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::memory::DeviceMemory;
use crate::rc::Arc;
use crate::shape::Geometry;

mod copy;
#[deny(unsafe_code)]
mod create;
#[deny(unsafe_code)]
mod device;
mod element;
mod fill;
#[deny(unsafe_code)]
mod scalar;
mod share;
mod strided;
#[deny(unsafe_code)]
mod transfer;
#[cfg(test)]
mod tests;
#[deny(unsafe_code)]
mod view;

pub use scalar::Scalar;
pub use share::Exported;
pub use transfer::Transfer;

/// An n-dimensional array of one dtype, or a view of a part of one.
///
/// Cloning and viewing share the storage; the storage goes back to its pool (or foreign owner) with the last handle, on
/// whatever thread drops it.
///
/// `Send` and `Sync` follow from its parts: `DeviceMemory` gives threads the address only, and T4 keeps safe writers alone.
///
/// # Examples
/// ```
/// # use neuro_core::{DType, DynTensor, Scalar};
/// let mut image = DynTensor::zeros(&[2, 3], DType::F32)?;
/// image.fill(Scalar::Float(0.5))?;
/// let row = image.select(0, 1)?;
/// assert_eq!(row.to_vec::<f32>()?, [0.5; 3]);
/// assert_eq!(image.refcount(), 2);
/// # Ok::<(), neuro_core::Error>(())
/// ```
#[derive(Clone)]
pub struct DynTensor {
    storage: Arc<DeviceMemory>,
    geometry: Geometry,
    /// Bytes from the start of the storage to element `[0, 0, …]`.
    offset: usize,
    dtype: DType,
}

impl DynTensor {
    /// A tensor over memory that exists: element `[0, 0, …]` lies `offset_bytes` from the start of `memory`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where an element would lie outside `memory`, or where the first is not aligned for
    /// `dtype`; [`Error::SizeOverflow`] for a shape that is too large for `dtype`.
    ///
    /// # Safety
    /// The bytes of all elements are initialised, or will be before anything reads them. Whoever else can write them obeys
    /// the last sentence of T4 (see the module's text): not while a safe function reads or writes the tensor.
    pub unsafe fn from_memory(
        op: &'static str,
        memory: Arc<DeviceMemory>,
        offset_bytes: usize,
        geometry: Geometry,
        dtype: DType,
    ) -> Result<Self> {
        // `geometry` may have been checked for a smaller dtype: G2 again.
        if geometry
            .numel()
            .checked_mul(dtype.size())
            .is_none_or(|bytes| isize::try_from(bytes).is_err())
        {
            return Err(Error::SizeOverflow {
                op,
                shape: geometry.shape().to_vec(),
                dtype,
            });
        }
        let extent = geometry.extent();
        let first = isize::try_from(offset_bytes).ok();
        let reach = |elements: isize| {
            elements
                .checked_mul(dtype.size().cast_signed())
                .and_then(|bytes| first?.checked_add(bytes))
        };
        let inside = reach(extent.start).is_some_and(|low| low >= 0)
            && reach(extent.end).is_some_and(|high| high.cast_unsigned() <= memory.bytes());
        if !inside {
            return Err(Error::InvalidArgument {
                op,
                what: format!(
                    "shape {:?} with strides {:?} ({dtype} elements), from byte {offset_bytes} on, reaches outside the \
                     {} B of memory",
                    geometry.shape(),
                    geometry.strides(),
                    memory.bytes()
                ),
            });
        }
        let address = memory.ptr().as_ptr().addr() + offset_bytes;
        if !address.is_multiple_of(dtype.align()) {
            return Err(Error::InvalidArgument {
                op,
                what: format!(
                    "address {address:#x} is not aligned to the {} B that {dtype} needs; copy the data first",
                    dtype.align()
                ),
            });
        }
        Ok(Self::from_parts(memory, geometry, offset_bytes, dtype))
    }

    /// The parts put together; the caller has seen to T1–T3.
    pub(crate) fn from_parts(storage: Arc<DeviceMemory>, geometry: Geometry, offset: usize, dtype: DType) -> Self {
        Self {
            storage,
            geometry,
            offset,
            dtype,
        }
    }

    /// Lengths of the dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        self.geometry.shape()
    }

    /// Distances between neighbours along each dimension, in elements.
    pub fn strides(&self) -> &[isize] {
        self.geometry.strides()
    }

    /// Number of dimensions; 0 for a single element.
    pub fn ndim(&self) -> usize {
        self.geometry.ndim()
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.geometry.numel()
    }

    /// Bytes of all elements, laid side by side.
    pub fn nbytes(&self) -> usize {
        self.geometry.nbytes(self.dtype)
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the storage lies.
    pub fn device(&self) -> Device {
        self.storage.device()
    }

    /// Shape and strides.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Address of element `[0, 0, …]` on the tensor's device; not to be followed where there are no elements.
    ///
    /// Writing through it is the caller's to justify (T4). Code that hands it out of Rust for good calls
    /// [`DeviceMemory::mark_exposed`] on [`storage`](Self::storage).
    pub fn data_ptr(&self) -> *mut u8 {
        // `wrapping_add` needs no proof; T1 says that it stays inside the storage.
        self.storage.ptr().as_ptr().wrapping_add(self.offset)
    }

    /// Whether the elements lie side by side in row-major order.
    pub fn is_contiguous(&self) -> bool {
        self.geometry.is_contiguous()
    }

    /// Whether writing is forbidden.
    pub fn is_readonly(&self) -> bool {
        self.storage.is_readonly()
    }

    /// The largest power of two that divides the address of the first element, in bytes; at most 2 MiB. On a device its place in
    /// the piece of memory that the driver gave, which is what kernels are told.
    pub fn alignment(&self) -> usize {
        let place = match self.storage.device_block() {
            Some(block) => block.part(self.offset, 0).offset,
            None => self.data_ptr().addr() as u64,
        };
        1 << place.trailing_zeros().min(21)
    }

    /// How many handles, this one included, share the storage.
    pub fn refcount(&self) -> usize {
        Arc::strong_count(&self.storage)
    }

    /// Bytes from the start of the storage to element `[0, 0, …]`.
    pub(crate) fn offset_bytes(&self) -> usize {
        self.offset
    }

    /// The shared memory.
    pub fn storage(&self) -> &Arc<DeviceMemory> {
        &self.storage
    }

    /// Refuses memory that the processor cannot reach.
    fn check_host(&self, op: &'static str) -> Result<()> {
        match self.device() {
            Device::Cpu => Ok(()),
            device => Err(Error::Unavailable {
                what: format!("{op} on {device}"),
                reason: "the processor cannot reach this memory; copy the tensor to the cpu first".to_owned(),
            }),
        }
    }

    fn check_dtype(&self, op: &'static str, asked: DType) -> Result<()> {
        if self.dtype == asked {
            return Ok(());
        }
        Err(Error::DTypeMismatch {
            op,
            asked,
            got: self.dtype,
        })
    }

    fn check_contiguous(&self, op: &'static str) -> Result<()> {
        if self.is_contiguous() {
            return Ok(());
        }
        Err(Error::NotContiguous {
            op,
            shape: self.shape().to_vec(),
            strides: self.strides().to_vec(),
        })
    }

    fn check_writable(&self, op: &'static str) -> Result<()> {
        if self.is_readonly() {
            return Err(Error::ReadOnly { op });
        }
        Ok(())
    }

    fn check_unexposed(&self, op: &'static str) -> Result<()> {
        if self.storage.is_exposed() {
            return Err(Error::Shared {
                op,
                why: "its address was given to code outside Rust, or came from there",
            });
        }
        Ok(())
    }

    /// What a safe write needs (T4).
    fn check_sole(&mut self, op: &'static str) -> Result<()> {
        self.check_host(op)?;
        self.check_writable(op)?;
        // `get_mut` also counts weak handles, which could become strong ones at any time.
        if Arc::get_mut(&mut self.storage).is_none() {
            return Err(Error::Shared {
                op,
                why: "other tensors or views use it",
            });
        }
        // After `get_mut`, never before: until this handle is alone, another may expose the storage and go. Once it is,
        // every earlier mark happened before.
        self.check_unexposed(op)
    }
}

impl fmt::Debug for DynTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynTensor")
            .field("shape", &self.shape())
            .field("strides", &self.strides())
            .field("dtype", &self.dtype)
            .field("device", &self.device())
            .field("data_ptr", &self.data_ptr())
            .field("refcount", &self.refcount())
            .finish()
    }
}
