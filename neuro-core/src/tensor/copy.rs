//! The strided copy loop, and copies between tensors.
//!
//! A plan is made first: dimensions of 1 dropped, destination strides made positive, dimensions sorted so that the
//! destination is written in address order, neighbours that run on merged. What is left inside is one `memcpy`, or a loop
//! over elements of a fixed size.

use smallvec::SmallVec;

use super::DynTensor;
use crate::error::{Error, Result};
use crate::pool::{Init, MemoryPool};
use crate::shape::Geometry;

/// One dimension of a plan: its length, and the bytes between neighbours on both sides.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Level {
    len: usize,
    dst: isize,
    src: isize,
}

/// How to walk both sides, outermost level first, and where the first element of the walk lies.
struct Plan {
    levels: SmallVec<[Level; 4]>,
    dst_offset: isize,
    src_offset: isize,
}

impl Plan {
    /// `strides` in elements of `item` bytes, both for `shape`, which is not empty.
    fn new(shape: &[usize], dst: &[isize], src: &[isize], item: usize) -> Self {
        let item = item.cast_signed();
        let (mut dst_offset, mut src_offset) = (0, 0);
        let mut levels: SmallVec<[Level; 4]> = SmallVec::new();
        for ((&len, &dst), &src) in shape.iter().zip(dst).zip(src) {
            if len == 1 {
                continue;
            }
            let (mut dst, mut src) = (dst * item, src * item);
            if dst < 0 {
                // Walk it from the other end.
                let last = (len - 1).cast_signed();
                dst_offset += last * dst;
                src_offset += last * src;
                (dst, src) = (-dst, -src);
            }
            levels.push(Level { len, dst, src });
        }
        levels.sort_by_key(|level| std::cmp::Reverse(level.dst));
        let mut merged: SmallVec<[Level; 4]> = SmallVec::new();
        for level in levels {
            match merged.last_mut() {
                Some(outer) if runs_on(outer.dst, level.dst, level.len) && runs_on(outer.src, level.src, level.len) => {
                    *outer = Level {
                        len: outer.len * level.len,
                        ..level
                    };
                }
                _ => merged.push(level),
            }
        }
        Self {
            levels: merged,
            dst_offset,
            src_offset,
        }
    }
}

/// Whether `len` steps of `inner` make one of `outer`.
fn runs_on(outer: isize, inner: isize, len: usize) -> bool {
    inner.checked_mul(len.cast_signed()) == Some(outer)
}

/// Copies elements of `item` bytes from `src` to `dst`, whose strides are in elements. A `src` stride of 0 repeats an
/// element.
///
/// # Safety
/// For both pointers, every element that `shape` and the strides name is valid for reads (`src`) or writes (`dst`) and
/// lies in one allocation with the pointer; no byte of one side belongs to the other; nobody else writes either side, or
/// reads `dst`, meanwhile. `item` is a power of two up to 16, and no stride times `item` overflows where the length is
/// above 1.
pub(super) unsafe fn copy_strided(
    shape: &[usize],
    dst: *mut u8,
    dst_strides: &[isize],
    src: *const u8,
    src_strides: &[isize],
    item: usize,
) {
    if shape.contains(&0) {
        return;
    }
    let plan = Plan::new(shape, dst_strides, src_strides, item);
    let (outer, inner) = match plan.levels.split_last() {
        Some((inner, outer)) => (outer, *inner),
        None => (
            &[][..],
            Level {
                len: 1,
                dst: item.cast_signed(),
                src: item.cast_signed(),
            },
        ),
    };
    // Offsets of the run now copied; they wander as the indices of the outer levels count up.
    let (mut dst_at, mut src_at) = (plan.dst_offset, plan.src_offset);
    let mut index: SmallVec<[usize; 4]> = SmallVec::from_elem(0, outer.len());
    loop {
        // SAFETY: both offsets are those of an element (of the first in this run), so they stay inside the caller's
        // allocations; the run's further elements are `inner`'s steps away, and are the caller's too.
        unsafe { copy_run(dst.offset(dst_at), src.offset(src_at), inner, item) };
        let mut level = outer.len();
        loop {
            if level == 0 {
                return;
            }
            level -= 1;
            let Level { len, dst, src } = outer[level];
            index[level] += 1;
            if index[level] < len {
                dst_at += dst;
                src_at += src;
                break;
            }
            index[level] = 0;
            dst_at -= dst * (len - 1).cast_signed();
            src_at -= src * (len - 1).cast_signed();
        }
    }
}

/// # Safety
/// As [`copy_strided`], for the elements of one level.
unsafe fn copy_run(dst: *mut u8, src: *const u8, level: Level, item: usize) {
    let dense = item.cast_signed();
    // SAFETY: the caller's promise covers every element of the run; dense on both sides, they are one range of bytes.
    unsafe {
        match item {
            _ if level.dst == dense && level.src == dense => dst.copy_from_nonoverlapping(src, level.len * item),
            1 => copy_elements::<1>(dst, src, level),
            2 => copy_elements::<2>(dst, src, level),
            4 => copy_elements::<4>(dst, src, level),
            8 => copy_elements::<8>(dst, src, level),
            _ => copy_elements::<16>(dst, src, level),
        }
    }
}

/// # Safety
/// As [`copy_strided`], for the elements of one level, of `N` bytes each.
unsafe fn copy_elements<const N: usize>(dst: *mut u8, src: *const u8, level: Level) {
    // Byte arrays: the compiler makes one unaligned move of each, right whatever the alignment is.
    let (dst, src) = (dst.cast::<[u8; N]>(), src.cast::<[u8; N]>());
    if level.dst == N.cast_signed() && level.src == 0 {
        // SAFETY: `src` is valid for reading an element, and all of `dst`'s lie side by side.
        unsafe {
            let value = src.read();
            for i in 0..level.len {
                dst.add(i).write(value);
            }
        }
        return;
    }
    for i in 0..level.len.cast_signed() {
        // SAFETY: `i` steps from the first element is an element, on both sides.
        unsafe {
            dst.byte_offset(i * level.dst)
                .write(src.byte_offset(i * level.src).read())
        };
    }
}

impl DynTensor {
    /// A contiguous, writable copy in `pool`, aligned to `alignment` bytes (the pool's own where `None`).
    ///
    /// # Errors
    /// As [`DynTensor::copy`]; [`Error::InvalidArgument`] for an alignment that the pool cannot give.
    pub fn copy_in(&self, pool: &MemoryPool, alignment: Option<usize>) -> Result<Self> {
        self.check_host("copy")?;
        let geometry = Geometry::contiguous("copy", self.shape(), self.dtype)?;
        let copy = Self::allocate(pool, alignment, geometry, self.dtype, Init::Uninit)?;
        // SAFETY: the new block is nobody else's; this tensor is readable while the call lasts (T1, T3, T4). All of the new
        // one is written, which is its T3.
        unsafe { copy.copy_elements_from(self) };
        Ok(copy)
    }

    /// Copies the elements of `source`, which has the same shape and dtype.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::DTypeMismatch`]; [`Error::Shared`] unless this is the only handle to its storage
    /// and its address never left Rust; [`Error::ReadOnly`]; [`Error::Unavailable`] for memory the processor cannot reach.
    pub fn copy_from(&mut self, source: &DynTensor) -> Result<()> {
        self.check_sole("copy_from")?;
        self.check_like("copy_from", source)?;
        // SAFETY: the only, unexposed handle: nobody else can reach these bytes (T4), `source` least of all.
        unsafe { self.copy_elements_from(source) };
        Ok(())
    }

    /// As [`DynTensor::copy_from`], into storage that others may hold too. Overlapping tensors are copied as if `source`
    /// were copied elsewhere first.
    ///
    /// # Errors
    /// As [`DynTensor::copy_from`], but for [`Error::Shared`]; [`Error::OutOfMemory`] where an overlap needs a copy.
    ///
    /// # Safety
    /// Meanwhile nobody else reads or writes the elements of this tensor, or writes those of `source`; no slice of this
    /// storage is borrowed.
    pub unsafe fn copy_from_shared(&self, source: &DynTensor) -> Result<()> {
        self.check_host("copy_from")?;
        self.check_writable("copy_from")?;
        self.check_like("copy_from", source)?;
        let (to, from) = (self.address_range(), source.address_range());
        if to.start < from.end && from.start < to.end {
            if self.data_ptr() == source.data_ptr() && self.strides() == source.strides() {
                return Ok(());
            }
            let elsewhere = source.copy()?;
            // SAFETY: the caller's promise; the copy is ours alone.
            unsafe { self.copy_elements_from(&elsewhere) };
        } else {
            // SAFETY: the caller's promise; the two do not overlap.
            unsafe { self.copy_elements_from(source) };
        }
        Ok(())
    }

    /// # Safety
    /// Same shape, same dtype, both on the host, no overlap, this one writable, and nobody else reads or writes these
    /// bytes, or writes those of `source`, meanwhile.
    unsafe fn copy_elements_from(&self, source: &DynTensor) {
        // SAFETY: every element lies inside its storage (T1), strides in bytes fit (G3); the rest is the caller's promise.
        unsafe {
            copy_strided(
                self.shape(),
                self.data_ptr(),
                self.strides(),
                source.data_ptr(),
                source.strides(),
                self.dtype.size(),
            );
        }
    }

    fn check_like(&self, op: &'static str, source: &DynTensor) -> Result<()> {
        source.check_host(op)?;
        self.check_dtype(op, source.dtype)?;
        if self.shape() != source.shape() {
            return Err(Error::ShapeMismatch {
                op,
                expected: format!("a source of shape {:?}", self.shape()),
                got: source.shape().to_vec(),
            });
        }
        Ok(())
    }

    /// Addresses of the bytes between the lowest and the highest element.
    fn address_range(&self) -> std::ops::Range<usize> {
        let (extent, item) = (self.geometry.extent(), self.dtype.size().cast_signed());
        let first = self.data_ptr().addr();
        // T1: the sums are addresses inside the storage.
        first.wrapping_add_signed(extent.start * item)..first.wrapping_add_signed(extent.end * item)
    }
}
