//! The strided copy loop.
//!
//! A plan is made first: dimensions of 1 dropped, destination strides made positive, dimensions sorted so that the
//! destination is written in address order, neighbours that run on merged. What is left inside is one `memcpy`, a loop over
//! elements of a fixed size, or, where source and destination run along different dimensions, a plane in blocks.

use smallvec::{SmallVec, smallvec};

/// Side of a block in elements: a block of both sides stays in the first cache, whatever the element.
const BLOCK: usize = 32;

/// One dimension of a plan: its length, and the bytes between neighbours on both sides.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Level {
    len: usize,
    dst: isize,
    src: isize,
}

/// How to walk both sides, outermost level first, and where the first element of the walk lies.
struct Plan {
    /// At least one.
    levels: SmallVec<[Level; 4]>,
    /// How many of the innermost make what is copied at once: 1 for a run, 2 for a plane.
    leaf: usize,
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
        let leaf = if bring_plane_together(&mut merged, item) { 2 } else { 1 };
        if merged.is_empty() {
            merged = smallvec![Level {
                len: 1,
                dst: item,
                src: item
            }];
        }
        Self {
            levels: merged,
            leaf,
            dst_offset,
            src_offset,
        }
    }
}

/// Where the source is dense along another level than the innermost, moves that level next to it.
fn bring_plane_together(levels: &mut SmallVec<[Level; 4]>, item: isize) -> bool {
    let Some((inner, outer)) = levels.split_last() else {
        return false;
    };
    if inner.src.abs() <= item {
        return false;
    }
    let Some(at) = outer.iter().position(|level| level.src.abs() == item) else {
        return false;
    };
    let rows = levels.remove(at);
    levels.insert(levels.len() - 1, rows);
    true
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
    let (outer, leaf) = plan.levels.split_at(plan.levels.len() - plan.leaf);
    // Offsets of the leaf now copied; they wander as the indices of the outer levels count up.
    let (mut dst_at, mut src_at) = (plan.dst_offset, plan.src_offset);
    let mut index: SmallVec<[usize; 4]> = SmallVec::from_elem(0, outer.len());
    loop {
        // SAFETY: both offsets are those of an element (of the first in this leaf), so they stay inside the caller's
        // allocations; the leaf's further elements are its levels' steps away, and are the caller's too.
        unsafe {
            let (dst, src) = (dst.offset(dst_at), src.offset(src_at));
            match *leaf {
                [rows, columns] => copy_plane(dst, src, rows, columns, item),
                _ => copy_run(dst, src, leaf[0], item),
            }
        }
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

/// Copies two levels block by block, so that a cache line of the source, which runs along `rows`, is used up while it is
/// at hand.
///
/// # Safety
/// As [`copy_strided`], for the elements of two levels.
unsafe fn copy_plane(dst: *mut u8, src: *const u8, rows: Level, columns: Level, item: usize) {
    for row_block in (0..rows.len).step_by(BLOCK) {
        for column in (0..columns.len).step_by(BLOCK) {
            let run = Level {
                len: BLOCK.min(columns.len - column),
                ..columns
            };
            for row in row_block..rows.len.min(row_block + BLOCK) {
                let (row, column) = (row.cast_signed(), column.cast_signed());
                // SAFETY: `row` and `column` are indices of an element, and so are those of the run behind it.
                unsafe {
                    copy_run(
                        dst.offset(row * rows.dst + column * columns.dst),
                        src.offset(row * rows.src + column * columns.src),
                        run,
                        item,
                    );
                }
            }
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
