//! Views: slice, select, permute, and reshape where no byte has to move.

use smallvec::SmallVec;

use super::{Dims, Geometry, Strides, check_ndim, dense_strides, out_of_range};
use crate::error::{Error, Result};

/// Backwards other ends are allowed than the length alone would say.
const BACKWARDS_START: &str = "with a negative step, ends lie between -1 and the length less 1: start";
const BACKWARDS_END: &str = "with a negative step, ends lie between -1 and the length less 1: end";

impl Geometry {
    /// The indices `start`, `start + step`, … of `axis` that lie before `end` (above it, for a negative `step`), and how
    /// many elements the first of them lies from the old first. Nothing between `start` and `end` gives a length of 0.
    ///
    /// Forwards, both ends lie in `0..=len`; backwards in `-1..=len - 1`, where `end == -1` includes index 0. This is what
    /// Python's `slice.indices` returns; negative numbers are not counted from the back here.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for an axis or an end outside; [`Error::InvalidArgument`] for a step of 0.
    ///
    /// # Examples
    /// ```
    /// # use neuro_core::{DType, Geometry};
    /// let row = Geometry::contiguous("example", &[5], DType::F32)?;
    /// let (backwards, offset) = row.slice("example", 0, 4, -1, -2)?;
    /// assert_eq!((backwards.shape(), backwards.strides(), offset), (&[3][..], &[-2][..], 4));
    /// # Ok::<(), neuro_core::Error>(())
    /// ```
    pub fn slice(&self, op: &'static str, axis: usize, start: isize, end: isize, step: isize) -> Result<(Self, isize)> {
        let len = self.axis_len(op, axis)?;
        if step == 0 {
            return Err(Error::InvalidArgument {
                op,
                what: "a step of 0 never gets anywhere; give another".to_owned(),
            });
        }
        // For a negative step both ends are one lower. `len` fits: G2.
        let (lowest, start_name, end_name) = if step < 0 {
            (-1, BACKWARDS_START, BACKWARDS_END)
        } else {
            (0, "start", "end")
        };
        let highest = len.cast_signed() + lowest;
        for (what, at) in [(start_name, start), (end_name, end)] {
            if !(lowest..=highest).contains(&at) {
                return Err(Error::OutOfRange {
                    op,
                    what,
                    index: at,
                    len,
                });
            }
        }
        let distance = if step > 0 { end - start } else { start - end };
        let count = if distance <= 0 {
            0
        } else {
            (distance.cast_unsigned() - 1) / step.unsigned_abs() + 1
        };
        let mut view = self.clone();
        view.shape[axis] = count;
        if count > 1 {
            // No overflow: two elements `step` apart are both among the old ones (G3); an empty tensor's strides are dense
            // and smaller still.
            view.strides[axis] *= step;
        }
        let offset = if view.is_empty() { 0 } else { start * self.strides[axis] };
        Ok((view, offset))
    }

    /// Index `index` of `axis`, without that axis, and how many elements its first lies from the old first.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for an axis or an index outside.
    pub fn select(&self, op: &'static str, axis: usize, index: usize) -> Result<(Self, isize)> {
        let len = self.axis_len(op, axis)?;
        if index >= len {
            return Err(out_of_range(op, "index", index, len));
        }
        let mut view = self.clone();
        view.shape.remove(axis);
        let stride = view.strides.remove(axis);
        let offset = if view.is_empty() {
            0
        } else {
            index.cast_signed() * stride
        };
        Ok((view, offset))
    }

    /// Dimension `i` of the view is dimension `axes[i]` of this.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless `axes` names each axis once.
    pub fn permute(&self, op: &'static str, axes: &[usize]) -> Result<Self> {
        let mut seen: SmallVec<[bool; 4]> = SmallVec::from_elem(false, self.ndim());
        let each_once = axes.len() == self.ndim()
            && axes
                .iter()
                .all(|&axis| seen.get_mut(axis).is_some_and(|seen| !std::mem::replace(seen, true)));
        if !each_once {
            return Err(Error::InvalidArgument {
                op,
                what: format!("axes {axes:?} do not name each of the {} axes once", self.ndim()),
            });
        }
        Ok(Self {
            shape: axes.iter().map(|&axis| self.shape[axis]).collect(),
            strides: axes.iter().map(|&axis| self.strides[axis]).collect(),
        })
    }

    /// The axes in reverse order.
    pub fn reversed(&self) -> Self {
        Self {
            shape: self.shape.iter().rev().copied().collect(),
            strides: self.strides.iter().rev().copied().collect(),
        }
    }

    /// The same elements in the same row-major order under another shape; `None` where that takes a copy.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where `shape` has another number of elements.
    pub fn reshape(&self, op: &'static str, shape: &[usize]) -> Result<Option<Self>> {
        check_ndim(op, shape.len())?;
        let numel = self.numel();
        let wanted = shape
            .iter()
            .filter(|&&dim| dim != 0)
            .try_fold(1usize, |product, &dim| product.checked_mul(dim))
            // The strides of an empty shape are products of these.
            .filter(|&product| isize::try_from(product).is_ok())
            .map(|product| if shape.contains(&0) { 0 } else { product });
        if wanted != Some(numel) {
            return Err(Error::ShapeMismatch {
                op,
                expected: format!("a shape of {numel} elements, as {:?} has", self.shape()),
                got: shape.to_vec(),
            });
        }
        let strides = if self.is_contiguous() {
            Some(dense_strides(shape))
        } else {
            self.reshaped_strides(shape)
        };
        Ok(strides.map(|strides| Self {
            shape: Dims::from_slice(shape),
            strides,
        }))
    }

    /// Strides for `shape`, which has as many elements (at least one), if they exist.
    ///
    /// Old and new dimensions are paired off in the smallest groups of equal product. Inside a group the old dimensions must
    /// run on from one another (each stride = next stride × next length); the new ones then divide that run.
    fn reshaped_strides(&self, shape: &[usize]) -> Option<Strides> {
        let old: SmallVec<[(usize, isize); 4]> = self
            .shape
            .iter()
            .copied()
            .zip(self.strides.iter().copied())
            .filter(|&(dim, _)| dim != 1)
            .collect();
        let mut strides: Strides = SmallVec::from_elem(1, shape.len());
        let (mut old_from, mut new_from) = (0, 0);
        while old_from < old.len() {
            let (mut old_to, mut new_to) = (old_from + 1, new_from + 1);
            let (mut old_product, mut new_product) = (old[old_from].0, shape[new_from]);
            // Both products end at `numel`, so the smaller one always has a next factor.
            while old_product != new_product {
                if old_product < new_product {
                    old_product *= old[old_to].0;
                    old_to += 1;
                } else {
                    new_product *= shape[new_to];
                    new_to += 1;
                }
            }
            let runs_on = old[old_from..old_to]
                .windows(2)
                .all(|pair| pair[1].1.checked_mul(pair[1].0.cast_signed()) == Some(pair[0].1));
            if !runs_on {
                return None;
            }
            let mut stride = old[old_to - 1].1;
            for i in (new_from..new_to).rev() {
                strides[i] = stride;
                // The last product of a group is never used, and may be one stride beyond G3.
                stride = stride.wrapping_mul(shape[i].cast_signed());
            }
            (old_from, new_from) = (old_to, new_to);
        }
        Some(strides)
    }

    fn axis_len(&self, op: &'static str, axis: usize) -> Result<usize> {
        self.shape
            .get(axis)
            .copied()
            .ok_or_else(|| out_of_range(op, "axis", axis, self.ndim()))
    }
}
