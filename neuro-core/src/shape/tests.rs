//! Laws of `Geometry` against a model that lists the offset of every element.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Offsets of all elements in row-major order, by nothing but the definition.
fn offsets(geometry: &Geometry) -> Vec<isize> {
    let mut offsets = vec![0];
    for (&dim, &stride) in geometry.shape().iter().zip(geometry.strides()) {
        offsets = offsets
            .iter()
            .flat_map(|&outer| (0..dim.cast_signed()).map(move |i| outer + i * stride))
            .collect();
    }
    offsets
}

/// All indices of `shape` in row-major order.
fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut indices = vec![vec![]];
    for &dim in shape {
        indices = indices
            .iter()
            .flat_map(|outer: &Vec<usize>| {
                (0..dim).map(move |i| outer.iter().copied().chain([i]).collect::<Vec<usize>>())
            })
            .collect();
    }
    indices
}

fn contiguous(shape: &[usize]) -> Geometry {
    Geometry::contiguous("test", shape, DType::F32).unwrap()
}

fn strided(shape: &[usize], strides: &[isize]) -> Geometry {
    Geometry::strided("test", shape, strides, DType::F32).unwrap()
}

prop_compose! {
    /// Up to four dimensions of up to 4 with arbitrary strides: negative, 0, overlapping.
    fn any_strides()(dims in prop::collection::vec((0usize..5, -20isize..20), 0..5)) -> Geometry {
        let (shape, strides): (Vec<_>, Vec<_>) = dims.into_iter().unzip();
        strided(&shape, &strides)
    }
}

prop_compose! {
    /// What views make of a contiguous tensor: some dimensions sliced by a step, reversed or cut, then permuted.
    fn any_view()(
        cuts in prop::collection::vec((1usize..7, 0usize..3, 1isize..3, any::<bool>()), 0..5),
        seed in any::<usize>(),
    ) -> Geometry {
        let shape: Vec<usize> = cuts.iter().map(|cut| cut.0).collect();
        let mut view = contiguous(&shape);
        for (axis, &(len, cut, step, back)) in cuts.iter().enumerate() {
            let (low, high) = (cut.min(len).cast_signed(), len.cast_signed());
            let (start, end, step) = if back { (high - 1, low - 1, -step) } else { (low, high, step) };
            view = view.slice("test", axis, start, end, step).unwrap().0;
        }
        if seed.is_multiple_of(2) { view } else { view.reversed() }
    }
}

/// Shapes with as many elements as `numel` (not 0), from its divisors and a few ones.
fn shapes_of(numel: usize, mut seed: usize) -> Vec<usize> {
    let (mut rest, mut shape) = (numel, vec![]);
    while rest > 1 {
        let divisors: Vec<usize> = (2..=rest).filter(|d| rest % d == 0).collect();
        let divisor = divisors[seed % divisors.len()];
        seed = seed / 3 + 7;
        shape.push(divisor);
        rest /= divisor;
        if seed.is_multiple_of(5) {
            shape.push(1);
        }
    }
    shape
}

proptest! {
    /// Law: extent, numel, is_contiguous and offset_of say what the list of offsets says.
    #[test]
    fn facts_agree_with_the_list(geometry in any_strides()) {
        let list = offsets(&geometry);
        prop_assert_eq!(geometry.numel(), list.len());
        prop_assert_eq!(geometry.nbytes(DType::F64), 8 * list.len());
        let (low, high) = (list.iter().min(), list.iter().max());
        prop_assert_eq!(geometry.extent(), low.map_or(0, |&low| low)..high.map_or(0, |&high| high + 1));
        prop_assert_eq!(geometry.is_contiguous(), list.iter().copied().eq(0..list.len().cast_signed()));
        for (index, &offset) in indices(geometry.shape()).iter().zip(&list) {
            prop_assert_eq!(geometry.offset_of("test", index).unwrap(), offset);
        }
    }

    /// Law: a slice names the elements whose index on the axis is in the arithmetic progression, in its order.
    #[test]
    fn slice_picks_the_progression(geometry in any_strides(), axis in 0usize..4, ends in any::<[u8; 2]>(), step in -6isize..7) {
        prop_assume!(axis < geometry.ndim() && step != 0);
        let len = geometry.shape()[axis];
        let lowest = if step < 0 { -1 } else { 0 };
        let [start, end] = ends.map(|end| lowest + (usize::from(end) % (len + 1)).cast_signed());
        let (view, offset) = geometry.slice("test", axis, start, end, step).unwrap();

        let mut picked = vec![];
        let mut at = start;
        while if step > 0 { at < end } else { at > end } {
            picked.push(at.cast_unsigned());
            at += step;
        }
        let mut shape = geometry.shape().to_vec();
        shape[axis] = picked.len();
        let expected: Vec<isize> = indices(&shape).into_iter().map(|mut index| {
            index[axis] = picked[index[axis]];
            geometry.offset_of("test", &index).unwrap()
        }).collect();
        let got: Vec<isize> = offsets(&view).iter().map(|o| o + offset).collect();
        prop_assert_eq!(view.shape(), &shape[..]);
        prop_assert_eq!(got, expected);
    }

    /// Law: selecting is fixing one index.
    #[test]
    fn select_fixes_an_index(geometry in any_strides(), axis in 0usize..4, at in 0usize..4) {
        prop_assume!(axis < geometry.ndim() && at < geometry.shape()[axis]);
        let (view, offset) = geometry.select("test", axis, at).unwrap();
        let expected: Vec<isize> = indices(view.shape()).into_iter().map(|mut index| {
            index.insert(axis, at);
            geometry.offset_of("test", &index).unwrap()
        }).collect();
        prop_assert_eq!(offsets(&view).iter().map(|o| o + offset).collect::<Vec<_>>(), expected);
    }

    /// Law: permuting permutes the index.
    #[test]
    fn permute_permutes_the_index(
        (geometry, axes) in any_strides().prop_flat_map(|geometry| {
            let axes: Vec<usize> = (0..geometry.ndim()).collect();
            (Just(geometry), Just(axes).prop_shuffle())
        })
    ) {
        let view = geometry.permute("test", &axes).unwrap();
        for (index, offset) in indices(view.shape()).into_iter().zip(offsets(&view)) {
            let mut original = vec![0; axes.len()];
            for (i, &axis) in axes.iter().enumerate() {
                original[axis] = index[i];
            }
            prop_assert_eq!(geometry.offset_of("test", &original).unwrap(), offset);
        }
    }

    /// Law: a reshaped view lists the same offsets in the same order; no view is missed, which a search over all strides
    /// that could be proves.
    #[test]
    fn reshape_keeps_the_list(geometry in any_view(), seed in any::<usize>()) {
        let list = offsets(&geometry);
        let shape = if list.is_empty() { vec![3, 0, 2] } else { shapes_of(list.len(), seed) };
        match geometry.reshape("test", &shape).unwrap() {
            Some(view) => {
                prop_assert_eq!(view.shape(), &shape[..]);
                prop_assert_eq!(offsets(&view), list);
            }
            None => {
                // The only strides that could do: the distance to the next element along each axis.
                let mut step = list.len();
                let strides: Vec<isize> = shape.iter().map(|&dim| {
                    step /= dim;
                    if dim == 1 { 0 } else { list[step] - list[0] }
                }).collect();
                prop_assert_ne!(offsets(&strided(&shape, &strides)), list);
            }
        }
    }

    /// Law: whatever numbers come in, the answer is an error or a geometry whose arithmetic holds.
    #[test]
    fn no_numbers_overflow(
        dims in prop::collection::vec(prop_oneof![0usize..4, any::<usize>(), Just(1 << 31), Just(usize::MAX)], 0..5),
        strides in prop::collection::vec(prop_oneof![-3isize..4, any::<isize>(), Just(isize::MIN), Just(isize::MAX)], 5),
        ends in any::<(isize, isize, isize)>(),
        dtype in prop::sample::select(DType::ALL),
    ) {
        let strides = &strides[..dims.len()];
        for geometry in [Geometry::contiguous("test", &dims, dtype), Geometry::strided("test", &dims, strides, dtype)]
            .into_iter()
            .flatten()
        {
            let extent = geometry.extent();
            prop_assert!(extent.end.checked_mul(dtype.size().cast_signed()).is_some());
            prop_assert!(extent.start.checked_mul(dtype.size().cast_signed()).is_some());
            prop_assert!(geometry.nbytes(dtype) <= isize::MAX.cast_unsigned());
            let _ = geometry.is_contiguous();
            let _ = geometry.reshape("test", &[geometry.numel()]).unwrap();
            let _ = geometry.reshape("test", &dims).unwrap().map(|view| view.extent());
            for (axis, &dim) in dims.iter().enumerate() {
                let _ = geometry.slice("test", axis, ends.0, ends.1, ends.2);
                let len = dim.cast_signed();
                for (start, end, step) in [(0, len, ends.2), (len - 1, -1, ends.2), (0, len, isize::MAX), (len - 1, -1, isize::MIN)] {
                    if let Ok((view, offset)) = geometry.slice("test", axis, start, end, step) {
                        let inner = view.extent();
                        prop_assert!(inner.is_empty() || (inner.start + offset >= extent.start && inner.end + offset <= extent.end));
                    }
                }
                if dim > 0 {
                    geometry.select("test", axis, dim - 1).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_point_has_one_element() {
    let point = contiguous(&[]);
    assert_eq!((point.numel(), point.extent(), point.is_contiguous()), (1, 0..1, true));
    assert_eq!(point.reshape("test", &[1, 1]).unwrap().unwrap().shape(), [1, 1]);
}

#[test]
fn runs_merge_and_split_without_a_copy() {
    // Every other row of a 4 × 6 matrix, its columns cut in 2 × 3: a view. All in one: a copy.
    let rows = strided(&[2, 6], &[12, 1]);
    assert_eq!(rows.reshape("test", &[2, 2, 3]).unwrap().unwrap().strides(), [12, 3, 1]);
    assert_eq!(rows.reshape("test", &[12]).unwrap(), None);
    // Reversed twice over, one run backwards.
    let back = strided(&[2, 3], &[-3, -1]);
    assert_eq!(back.reshape("test", &[6]).unwrap().unwrap().strides(), [-1]);
    // One element seen many times stays one.
    let same = strided(&[2, 3], &[0, 0]);
    assert_eq!(same.reshape("test", &[6]).unwrap().unwrap().strides(), [0]);
}

#[test]
fn sizes_that_no_address_space_has_are_refused() {
    for shape in [
        &[usize::MAX][..],
        &[1 << 40, 1 << 40],
        &[isize::MAX as usize / 4 + 1],
        &[0, 1 << 40, 1 << 40],
    ] {
        for result in [
            Geometry::contiguous("zeros", shape, DType::F32),
            Geometry::strided("zeros", shape, &vec![0; shape.len()], DType::F32),
        ] {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::SizeOverflow { .. }), "{error}");
            assert!(error.to_string().starts_with("zeros: shape ["), "{error}");
        }
    }
    assert!(Geometry::contiguous("zeros", &[isize::MAX as usize / 4], DType::F32).is_ok());
}

#[test]
fn bad_arguments_are_refused_by_name() {
    let geometry = contiguous(&[2, 3]);
    let cases: [(Error, &str); 14] = [
        (
            Geometry::contiguous("empty", &[1; 65], DType::U8).unwrap_err(),
            "empty: 65 dimensions; at most 64 are possible",
        ),
        (
            geometry.reshape("reshape", &[1; 65]).unwrap_err(),
            "reshape: 65 dimensions; at most 64 are possible",
        ),
        (
            Geometry::strided("view", &[2], &[], DType::U8).unwrap_err(),
            "view: 0 strides for 1 dimensions; give one for each",
        ),
        (
            Geometry::strided("view", &[3], &[isize::MAX], DType::U8).unwrap_err(),
            "view: strides [9223372036854775807] of shape [3] reach outside any address space",
        ),
        (
            Geometry::strided("view", &[2, 2], &[isize::MAX - 1, isize::MIN + 2], DType::U8).unwrap_err(),
            "view: strides [9223372036854775806, -9223372036854775806] of shape [2, 2] reach outside any address space",
        ),
        (
            geometry.slice("slice", 2, 0, 1, 1).unwrap_err(),
            "slice: axis 2 is out of range for 2",
        ),
        (
            geometry.slice("slice", 1, 0, 4, 1).unwrap_err(),
            "slice: end 4 is out of range for 3",
        ),
        (
            geometry.slice("slice", 1, -1, 3, 1).unwrap_err(),
            "slice: start -1 is out of range for 3",
        ),
        (
            geometry.slice("slice", 1, 3, 0, -1).unwrap_err(),
            "slice: with a negative step, ends lie between -1 and the length less 1: start 3 is out of range for 3",
        ),
        (
            geometry.slice("slice", 1, 0, 3, 0).unwrap_err(),
            "slice: a step of 0 never gets anywhere; give another",
        ),
        (
            geometry.select("select", 0, 2).unwrap_err(),
            "select: index 2 is out of range for 2",
        ),
        (
            geometry.permute("permute", &[0, 0]).unwrap_err(),
            "permute: axes [0, 0] do not name each of the 2 axes once",
        ),
        (
            geometry.reshape("reshape", &[7]).unwrap_err(),
            "reshape: expected a shape of 6 elements, as [2, 3] has, got shape [7]",
        ),
        (
            geometry.offset_of("item", &[1]).unwrap_err(),
            "item: 1 indices for 2 dimensions; give one for each",
        ),
    ];
    for (error, text) in cases {
        assert_eq!(error.to_string(), text);
    }
    // Products that wrap around to the right number are another number.
    assert!(geometry.reshape("reshape", &[1 << 32, 1 << 32, 6]).is_err());
    assert!(contiguous(&[0]).reshape("reshape", &[0, usize::MAX, 3]).is_err());
}

#[test]
fn lengths_of_one_ignore_their_strides() {
    let column = strided(&[3, 1], &[1, isize::MAX]);
    assert!(column.is_contiguous());
    assert_eq!(column.extent(), 0..3);
    let (nothing, offset) = column.slice("test", 1, 1, 1, 1).unwrap();
    assert_eq!((nothing.numel(), offset), (0, 0));
    let distinct: BTreeSet<isize> = offsets(&column.reshape("test", &[3]).unwrap().unwrap())
        .into_iter()
        .collect();
    assert_eq!(distinct, BTreeSet::from([0, 1, 2]));
}
