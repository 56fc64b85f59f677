//! Laws of tensors against plain vectors, and values in and out.

use half::{bf16, f16};
use num_complex::Complex;
use proptest::prelude::*;

use super::*;
use crate::dtype::Element;
use crate::pool::MemoryPool;

#[cfg(not(loom))]
mod device;
#[cfg(not(loom))]
mod gpu;
#[cfg(not(loom))]
mod locked;
mod refuse;
#[cfg(not(loom))]
mod transfer;

/// The values of a view, read one by one.
fn one_by_one<T: Element>(tensor: &DynTensor) -> Vec<T> {
    let mut index = vec![0; tensor.ndim()];
    let mut values = vec![];
    for flat in 0..tensor.numel() {
        let mut rest = flat;
        for (at, &dim) in index.iter_mut().zip(tensor.shape()).rev() {
            *at = rest % dim;
            rest /= dim;
        }
        values.push(tensor.item::<T>(&index).unwrap());
    }
    values
}

/// A view of `base`: sliced along each axis, some reversed, then permuted.
fn cut(base: &DynTensor, seed: u64) -> DynTensor {
    let mut view = base.clone();
    let mut random = seed;
    let mut next = |bound: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % bound
    };
    for axis in 0..base.ndim() {
        let len = base.shape()[axis].cast_signed();
        let (low, step) = (next(2).cast_signed().min(len), next(2).cast_signed() + 1);
        let (start, end, step) = if next(2) == 0 {
            (low, len, step)
        } else {
            (len - 1, low - 1, -step)
        };
        view = view.slice(axis, start, end, step).unwrap();
    }
    if next(2) == 0 { view } else { view.transpose() }
}

fn counted(shape: &[usize]) -> DynTensor {
    let values: Vec<i32> = (0..).take(shape.iter().product()).collect();
    DynTensor::from_slice(shape, &values).unwrap()
}

/// A law for elements of every size: copies, values and fills of any view agree with reading one by one.
fn copies_agree<T: Element + PartialEq + fmt::Debug>(shape: &[usize], seed: u64, value: impl Fn(usize) -> T) {
    let values: Vec<T> = (0..shape.iter().product()).map(value).collect();
    let base = DynTensor::from_slice(shape, &values).unwrap();
    assert_eq!(base.as_slice::<T>().unwrap(), values);
    let view = cut(&base, seed);
    let expected = one_by_one::<T>(&view);
    assert_eq!(view.to_vec::<T>().unwrap(), expected);
    let copy = view.copy().unwrap();
    assert!(copy.is_contiguous() && copy.refcount() == 1);
    assert_eq!(copy.as_slice::<T>().unwrap(), expected);
    // Written back through a view of the same cut, they land where they came from, and nowhere else.
    let (target, marks) = (
        DynTensor::zeros(shape, T::DTYPE).unwrap(),
        DynTensor::zeros(shape, DType::Bool).unwrap(),
    );
    let zeros = target.to_vec::<T>().unwrap();
    // SAFETY: both are this thread's alone, and nothing is borrowed from them.
    unsafe {
        cut(&target, seed).copy_from_shared(&copy).unwrap();
        cut(&marks, seed).fill_shared(Scalar::Bool(true)).unwrap();
    }
    let sources = values.iter().zip(&zeros).zip(marks.to_vec::<bool>().unwrap());
    let expected: Vec<T> = sources
        .map(|((&value, &zero), marked)| if marked { value } else { zero })
        .collect();
    assert_eq!(target.to_vec::<T>().unwrap(), expected);
}

proptest! {
    #[test]
    fn every_copy_agrees_with_reading_one_by_one(shape in prop::collection::vec(0usize..6, 0..5), seed in any::<u64>()) {
        copies_agree::<u8>(&shape, seed, |i| i as u8 | 1);
        copies_agree::<i16>(&shape, seed, |i| i as i16 + 1);
        copies_agree::<f32>(&shape, seed, |i| i as f32 + 1.0);
        copies_agree::<u64>(&shape, seed, |i| i as u64 + 1);
        copies_agree::<Complex<f64>>(&shape, seed, |i| Complex::new(i as f64, -1.0));
    }

    /// Law: planes are copied whole whatever their sides, and however they lie among other dimensions.
    #[test]
    fn planes_of_any_sides_are_copied_whole(
        sides in prop::array::uniform3(prop_oneof![1usize..4, 25usize..70]),
        axes in Just([0, 1, 2]).prop_shuffle(),
        back in any::<bool>(),
    ) {
        let base = counted(&sides);
        let base = if back { base.slice(2, sides[2].cast_signed() - 1, -1, -1).unwrap() } else { base };
        let view = base.permute(&axes).unwrap();
        prop_assert_eq!(view.to_vec::<i32>().unwrap(), one_by_one::<i32>(&view));
    }

    /// Law: filling a view sets its elements and no other.
    #[test]
    fn fill_sets_the_view_and_nothing_else(shape in prop::collection::vec(0usize..6, 0..5), seed in any::<u64>()) {
        let base = counted(&shape);
        let view = cut(&base, seed);
        let inside = view.numel();
        // SAFETY: the base is this thread's alone, and nothing is borrowed from it.
        unsafe { view.fill_shared(Scalar::Int(-1)).unwrap() };
        prop_assert!(one_by_one::<i32>(&view).iter().all(|&value| value == -1));
        let outside = one_by_one::<i32>(&base).iter().enumerate().filter(|&(i, &v)| v == i32::try_from(i).unwrap()).count();
        prop_assert_eq!(inside + outside, base.numel());
    }

    /// Law: reshape keeps the row-major order of the elements, by a view or by a copy.
    #[test]
    fn reshape_keeps_the_order(shape in prop::collection::vec(1usize..5, 0..4), seed in any::<u64>()) {
        let view = cut(&counted(&shape), seed);
        let flat = view.reshape(&[view.numel()]).unwrap();
        prop_assert_eq!(flat.to_vec::<i32>().unwrap(), one_by_one::<i32>(&view));
    }

    /// Law: overlapping copies act as if the source were copied elsewhere first.
    #[test]
    fn overlapping_copies_read_before_they_write(len in 1usize..40, shift in 0usize..40, back in any::<bool>()) {
        prop_assume!(shift < len);
        let base = counted(&[len]);
        let n = (len - shift).cast_signed();
        let source = if back { base.slice(0, n - 1, -1, -1) } else { base.slice(0, 0, n, 1) }.unwrap();
        let target = base.slice(0, shift.cast_signed(), len.cast_signed(), 1).unwrap();
        let expected = source.to_vec::<i32>().unwrap();
        // SAFETY: the base is this thread's alone, and nothing is borrowed from it.
        unsafe { target.copy_from_shared(&source).unwrap() };
        prop_assert_eq!(target.to_vec::<i32>().unwrap(), expected);
    }
}

#[test]
fn new_tensors_hold_what_they_should() {
    for &dtype in DType::ALL {
        for shape in [&[][..], &[0], &[3, 0, 2], &[7], &[2, 3, 5]] {
            let zeros = DynTensor::zeros(shape, dtype).unwrap();
            let ones = DynTensor::full(shape, dtype, Scalar::Int(1)).unwrap();
            let none = DynTensor::full(shape, dtype, Scalar::Bool(false)).unwrap();
            let empty = DynTensor::empty(shape, dtype).unwrap();
            for tensor in [&zeros, &ones, &none, &empty] {
                assert_eq!((tensor.shape(), tensor.dtype()), (shape, dtype));
                assert_eq!(tensor.nbytes(), tensor.numel() * dtype.size());
                assert!(tensor.alignment() >= 64 && tensor.is_contiguous() && !tensor.is_readonly());
            }
            if zeros.numel() > 0 {
                let last: Vec<usize> = shape.iter().map(|dim| dim - 1).collect();
                assert_eq!(number(&zeros.scalar(&last).unwrap()), 0.0);
                assert_eq!(number(&none.scalar(&last).unwrap()), 0.0);
                assert_eq!(number(&ones.scalar(&last).unwrap()), 1.0);
            }
        }
    }
}

fn number(scalar: &Scalar) -> f64 {
    match *scalar {
        Scalar::Bool(value) => f64::from(u8::from(value)),
        Scalar::Int(value) => value as f64,
        Scalar::Float(value) | Scalar::Complex(value, _) => value,
    }
}

#[test]
fn alignment_is_the_pools_or_the_one_asked_for() {
    let pool = MemoryPool::unlimited().with_alignment(256);
    assert!(DynTensor::zeros_in(&pool, None, &[5], DType::U8).unwrap().alignment() >= 256);
    let tensor = DynTensor::empty_in(&pool, Some(1 << 21), &[5], DType::U8).unwrap();
    assert_eq!(tensor.alignment(), 1 << 21);
    assert_eq!(tensor.slice(0, 1, 5, 1).unwrap().alignment(), 1);
    assert!(tensor.copy_in(&pool, Some(4096)).unwrap().alignment() >= 4096);
    let error = DynTensor::empty_in(&pool, Some(3), &[5], DType::U8).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
}

#[test]
fn the_last_handle_on_any_thread_gives_the_block_back() {
    let pool = MemoryPool::unlimited();
    let tensor = DynTensor::zeros_in(&pool, None, &[100], DType::F32).unwrap();
    let row = tensor.slice(0, 3, 4, 1).unwrap();
    assert_eq!((tensor.refcount(), pool.stats().live_blocks), (2, 1));
    drop(tensor);
    assert_eq!((row.refcount(), pool.stats().live_blocks), (1, 1));
    std::thread::spawn(move || drop(row)).join().unwrap();
    assert_eq!((pool.stats().live_blocks, pool.stats().live_bytes), (0, 0));
}

#[test]
fn a_limit_is_an_error_that_leaves_nothing_behind() {
    let pool = MemoryPool::new(1 << 16);
    let kept = DynTensor::zeros_in(&pool, None, &[1 << 10], DType::F32).unwrap();
    let live = pool.stats().live_bytes;
    let errors = [
        DynTensor::zeros_in(&pool, None, &[1 << 16], DType::F32),
        DynTensor::full_in(&pool, None, &[1 << 16], DType::F32, Scalar::Float(1.0)),
        DynTensor::from_slice_in(&pool, &[1 << 16], &vec![0f32; 1 << 16]),
    ];
    for error in errors {
        assert!(matches!(error.unwrap_err(), Error::OutOfMemory { .. }));
    }
    assert_eq!(pool.stats().live_bytes, live);
    drop(kept);
}

#[test]
fn values_outside_a_dtype_are_refused() {
    let refused: &[(DType, Scalar, &str)] = &[
        (DType::U8, Scalar::Int(300), "300 does not fit uint8 (0 to 255)"),
        (DType::U8, Scalar::Int(-1), "-1 does not fit uint8 (0 to 255)"),
        (DType::I8, Scalar::Float(128.0), "128.0 does not fit int8 (-128 to 127)"),
        (DType::I32, Scalar::Float(0.5), "0.5 does not fit int32"),
        (DType::I64, Scalar::Float(f64::NAN), "NaN does not fit int64"),
        (
            DType::U64,
            Scalar::Float(18_446_744_073_709_551_616.0),
            "does not fit uint64",
        ),
        (DType::U64, Scalar::Float(f64::INFINITY), "inf does not fit uint64"),
        (DType::Bool, Scalar::Int(2), "2 does not fit bool (false, true, 0, 1)"),
        (DType::Bool, Scalar::Float(0.5), "0.5 does not fit bool"),
        (
            DType::F16,
            Scalar::Float(1e6),
            "1000000.0 does not fit float16 (real, up to ±6.5504e4)",
        ),
        (DType::BF16, Scalar::Float(1e39), "does not fit bfloat16"),
        (DType::F32, Scalar::Float(1e300), "does not fit float32"),
        (DType::F16, Scalar::Int(1 << 20), "does not fit float16"),
        (DType::F64, Scalar::Complex(1.0, 2.0), "1.0+2.0i does not fit float64"),
        (DType::I8, Scalar::Complex(1.0, -2.0), "1.0-2.0i does not fit int8"),
        (DType::C64, Scalar::Complex(0.0, 1e300), "does not fit complex64"),
    ];
    for (dtype, value, text) in refused {
        let error = DynTensor::full(&[1], *dtype, *value).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { op: "full", .. }), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn values_inside_a_dtype_arrive() {
    let held: &[(DType, Scalar, Scalar)] = &[
        (DType::U64, Scalar::Int(u64::MAX.into()), Scalar::Int(u64::MAX.into())),
        (DType::I64, Scalar::Int(i64::MIN.into()), Scalar::Int(i64::MIN.into())),
        (DType::I8, Scalar::Float(-128.0), Scalar::Int(-128)),
        (DType::U8, Scalar::Bool(true), Scalar::Int(1)),
        (DType::Bool, Scalar::Float(1.0), Scalar::Bool(true)),
        (DType::U16, Scalar::Complex(7.0, 0.0), Scalar::Int(7)),
        (DType::F16, Scalar::Float(65504.0), Scalar::Float(65504.0)),
        (
            DType::F16,
            Scalar::Float(f64::NEG_INFINITY),
            Scalar::Float(f64::NEG_INFINITY),
        ),
        (DType::BF16, Scalar::Int(3), Scalar::Float(3.0)),
        (DType::F32, Scalar::Float(0.1), Scalar::Float(0.1f32.into())),
        (DType::F64, Scalar::Float(-0.0), Scalar::Float(-0.0)),
        (DType::C64, Scalar::Complex(1.0, -2.0), Scalar::Complex(1.0, -2.0)),
        (DType::C128, Scalar::Int(5), Scalar::Complex(5.0, 0.0)),
    ];
    for (dtype, value, expected) in held {
        let got = DynTensor::full(&[2], *dtype, *value).unwrap().scalar(&[1]).unwrap();
        assert_eq!(got, *expected, "{dtype} {value}");
        // Also the sign of zero, which `==` does not see.
        assert_eq!(number(&got).is_sign_negative(), number(expected).is_sign_negative());
    }
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64, DType::C64, DType::C128] {
        let nan = DynTensor::full(&[], dtype, Scalar::Float(f64::NAN)).unwrap();
        assert!(number(&nan.scalar(&[]).unwrap()).is_nan());
    }
}

#[test]
fn halves_and_their_slices_are_typed() {
    let tensor = DynTensor::from_slice(&[2], &[f16::from_f32(0.5), f16::from_f32(-2.0)]).unwrap();
    assert_eq!(tensor.dtype(), DType::F16);
    assert_eq!(tensor.as_slice::<f16>().unwrap()[1].to_f32(), -2.0);
    assert!(tensor.as_slice::<bf16>().is_err());
    assert_eq!(tensor.scalar(&[0]).unwrap(), Scalar::Float(0.5));
}

#[test]
fn threads_share_a_tensor() {
    let tensor = counted(&[1000]);
    std::thread::scope(|scope| {
        for part in 0..4 {
            let view = tensor.slice(0, part * 250, part * 250 + 250, 1).unwrap();
            scope.spawn(move || {
                let sum: i64 = view.as_slice::<i32>().unwrap().iter().map(|&v| i64::from(v)).sum();
                assert_eq!(
                    sum,
                    (0..250).map(|i| i64::try_from(part * 250).unwrap() + i).sum::<i64>()
                );
            });
        }
    });
    assert_eq!(tensor.refcount(), 1);
}
