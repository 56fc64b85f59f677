//! Typed access to elements: borrowed slices, copies out, single values, and the first bytes of a new tensor.

use std::io;
use std::mem::MaybeUninit;
use std::slice;

use half::{bf16, f16};
use num_complex::Complex;

use super::strided::copy_strided;
use super::{DynTensor, Scalar};
use crate::device::Device;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::shape::Geometry;

impl DynTensor {
    /// The elements in row-major order, borrowed.
    ///
    /// # Errors
    /// [`Error::DTypeMismatch`]; [`Error::NotContiguous`]; [`Error::Shared`] where the address left Rust or came from
    /// outside (take a copy: [`to_vec`](Self::to_vec)); [`Error::InvalidArgument`] where a byte of a bool tensor is neither
    /// 0 nor 1; [`Error::Unavailable`] for memory the processor cannot reach.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        self.check_host("as_slice")?;
        self.check_dtype("as_slice", T::DTYPE)?;
        self.check_contiguous("as_slice")?;
        self.check_unexposed("as_slice")?;
        // SAFETY: `from_raw_parts` requires:
        // - non-null, readable, one allocation, aligned: T1 (contiguous: the elements are these bytes) and T2;
        // - at most `isize::MAX` bytes: G2;
        // - initialised: T3. Bytes are valid as `u8`;
        // - no writes while borrowed: safe writers need the only handle, by `&mut` (T4), and this borrow holds one; unsafe
        //   ones have promised it; nobody outside Rust has the address.
        let bytes = unsafe { slice::from_raw_parts(self.data_ptr(), self.nbytes()) };
        check_bools::<T>("as_slice", bytes)?;
        // SAFETY: as above; and as `T`: same size and alignment (E1), and valid (E3, bools just checked).
        Ok(unsafe { slice::from_raw_parts(bytes.as_ptr().cast::<T>(), self.numel()) })
    }

    /// The elements in row-major order, borrowed for writing.
    ///
    /// # Errors
    /// As [`DynTensor::as_slice`]; also [`Error::Shared`] unless this is the only handle to its storage, and
    /// [`Error::ReadOnly`].
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T]> {
        self.check_dtype("as_mut_slice", T::DTYPE)?;
        self.check_contiguous("as_mut_slice")?;
        self.check_sole("as_mut_slice")?;
        // SAFETY: as in `as_slice`; writable, and the only, unexposed handle, borrowed by `&mut`: nobody else can reach the
        // bytes while the slice lives (T4).
        let bytes = unsafe { slice::from_raw_parts_mut(self.data_ptr(), self.nbytes()) };
        check_bools::<T>("as_mut_slice", bytes)?;
        // SAFETY: as above; and as `T`: same size and alignment (E1), and valid (E3, bools just checked). What is written
        // through the slice is a `T`, so initialised (E2): T3 holds on.
        Ok(unsafe { slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<T>(), self.numel()) })
    }

    /// A copy of the elements in row-major order.
    ///
    /// # Errors
    /// [`Error::DTypeMismatch`]; [`Error::InvalidArgument`] where a byte of a bool tensor is neither 0 nor 1;
    /// [`Error::Unavailable`] for memory the processor cannot reach; [`Error::OutOfMemory`] where the process has no room for
    /// the copy, as for a view that repeats few elements many times.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.check_host("to_vec")?;
        self.check_dtype("to_vec", T::DTYPE)?;
        let dense = Geometry::contiguous("to_vec", self.shape(), self.dtype)?;
        let mut values: Vec<T> = Vec::new();
        values.try_reserve_exact(self.numel()).map_err(|error| {
            // The copy is Rust's own memory and no pool's, so there are no figures of a pool to tell.
            Error::OutOfMemory {
                device: Device::Cpu,
                asked: self.nbytes(),
                alignment: align_of::<T>(),
                figures: Box::default(),
                cause: Some(
                    io::Error::new(
                        io::ErrorKind::OutOfMemory,
                        format!("no room for a Vec outside all pools ({error})"),
                    )
                    .into(),
                ),
            }
        })?;
        let room = values.as_mut_ptr().cast::<u8>();
        // SAFETY: `room` has a place for each element (E1), and is ours alone; the source is readable while the call lasts
        // (T1, T3, T4); strides in bytes fit (G3).
        unsafe {
            copy_strided(
                self.shape(),
                room,
                dense.strides(),
                self.data_ptr(),
                self.strides(),
                self.dtype.size(),
            );
        }
        // SAFETY: these bytes were just written, and `values` lends them to nobody else.
        check_bools::<T>("to_vec", unsafe { slice::from_raw_parts(room, self.nbytes()) })?;
        // SAFETY: within the capacity, all written, and valid as `T` (E3, bools just checked).
        unsafe { values.set_len(self.numel()) };
        Ok(values)
    }

    /// The element at `index`.
    ///
    /// # Errors
    /// As [`DynTensor::to_vec`]; [`Error::OutOfRange`] for an index outside; [`Error::InvalidArgument`] unless there is one
    /// index for each dimension.
    pub fn item<T: Element>(&self, index: &[usize]) -> Result<T> {
        self.check_host("item")?;
        self.check_dtype("item", T::DTYPE)?;
        let offset = self.geometry.offset_of("item", index)? * self.dtype.size().cast_signed();
        let mut value = MaybeUninit::<T>::uninit();
        let room = value.as_mut_ptr().cast::<u8>();
        // SAFETY: an element's bytes lie inside the storage (T1), are initialised (T3) and readable while the call lasts
        // (T4); `room` has as many (E1).
        let bytes = unsafe {
            room.copy_from_nonoverlapping(self.data_ptr().offset(offset), size_of::<T>());
            slice::from_raw_parts(room, size_of::<T>())
        };
        check_bools::<T>("item", bytes)?;
        // SAFETY: written above, and valid as `T` (E3, bools just checked).
        Ok(unsafe { value.assume_init() })
    }

    /// The element at `index`, whatever its dtype.
    ///
    /// # Errors
    /// As [`DynTensor::item`], but for the dtype.
    ///
    /// # Examples
    /// ```
    /// # use neuro_core::{DynTensor, Scalar};
    /// let tensor = DynTensor::from_slice(&[2], &[1.5f32, 2.5])?;
    /// assert_eq!(tensor.scalar(&[1])?, Scalar::Float(2.5));
    /// # Ok::<(), neuro_core::Error>(())
    /// ```
    pub fn scalar(&self, index: &[usize]) -> Result<Scalar> {
        Ok(match self.dtype {
            DType::Bool => self.item::<bool>(index)?.into(),
            DType::U8 => self.item::<u8>(index)?.into(),
            DType::U16 => self.item::<u16>(index)?.into(),
            DType::U32 => self.item::<u32>(index)?.into(),
            DType::U64 => self.item::<u64>(index)?.into(),
            DType::I8 => self.item::<i8>(index)?.into(),
            DType::I16 => self.item::<i16>(index)?.into(),
            DType::I32 => self.item::<i32>(index)?.into(),
            DType::I64 => self.item::<i64>(index)?.into(),
            DType::F16 => self.item::<f16>(index)?.into(),
            DType::BF16 => self.item::<bf16>(index)?.into(),
            DType::F32 => self.item::<f32>(index)?.into(),
            DType::F64 => self.item::<f64>(index)?.into(),
            DType::C64 => self.item::<Complex<f32>>(index)?.into(),
            DType::C128 => self.item::<Complex<f64>>(index)?.into(),
        })
    }

    /// Lends the bytes of a contiguous tensor, exposed or not, for the length of one call (T4).
    pub(crate) fn with_bytes<R>(&self, op: &'static str, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.check_host(op)?;
        self.check_contiguous(op)?;
        // SAFETY: contiguous: the elements are these bytes (T1, G2), initialised (T3), and not written while a safe call
        // reads them (T4).
        Ok(read(unsafe { slice::from_raw_parts(self.data_ptr(), self.nbytes()) }))
    }

    /// The bytes of a contiguous tensor that is this handle's alone.
    pub(crate) fn as_bytes_mut(&mut self, op: &'static str) -> Result<&mut [u8]> {
        self.check_contiguous(op)?;
        self.check_sole(op)?;
        // SAFETY: as in `as_mut_slice`; any byte may be written: readers check bools (E3).
        Ok(unsafe { slice::from_raw_parts_mut(self.data_ptr(), self.nbytes()) })
    }

    /// Writes a fresh, contiguous tensor whole (its T3), from as many values of its dtype.
    pub(super) fn write_values_alone<T: Element>(&mut self, values: &[T]) {
        assert!(self.check_sole("write_values").is_ok() && self.is_contiguous());
        assert!(self.dtype == T::DTYPE && self.numel() == values.len());
        // SAFETY: room for as many elements of the same size (T1, E1), which nobody else can reach (T4); `values` is other
        // memory, since these bytes were never lent.
        unsafe {
            self.data_ptr()
                .copy_from_nonoverlapping(values.as_ptr().cast::<u8>(), self.nbytes());
        }
    }

    /// Gives the bytes of a fresh tensor that nothing was written to their T3: some value each, the same from now on.
    ///
    /// To the language such bytes are "uninitialised", and reading them is undefined behaviour even though the system has
    /// given every one of them a value. The empty assembly block is, to the compiler, code that may write all memory it can
    /// reach: behind it the bytes hold what they hold. Miri and other machines get zeros.
    pub(super) fn settle(&self) {
        let (start, len) = (self.data_ptr(), self.nbytes());
        #[cfg(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            let _ = len;
            // SAFETY: the block has no instruction; it stands for writing to each byte of the new block, which is ours
            // alone, the value already there.
            unsafe { std::arch::asm!("/* {0} */", in(reg) start, options(nostack, preserves_flags)) };
        }
        #[cfg(not(all(not(miri), any(target_arch = "x86_64", target_arch = "aarch64"))))]
        {
            // SAFETY: the tensor is new, so its bytes are ours alone; they are contiguous (T1).
            unsafe { start.write_bytes(0, len) };
        }
    }
}

/// Refuses bytes that are no `bool` where `T` is (E3).
fn check_bools<T: Element>(op: &'static str, bytes: &[u8]) -> Result<()> {
    if T::DTYPE != DType::Bool {
        return Ok(());
    }
    match bytes.iter().position(|&byte| byte > 1) {
        None => Ok(()),
        Some(at) => Err(Error::InvalidArgument {
            op,
            what: format!(
                "element {at} of a bool tensor holds the byte {:#04x}; only 0 and 1 are bools: fill the tensor, or read \
                 it as uint8 where it comes from",
                bytes[at]
            ),
        }),
    }
}
