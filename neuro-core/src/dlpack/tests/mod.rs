//! Round trips, and foreign tensors of a test producer.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::ffi::DLPACK_FLAG_BITMASK_READ_ONLY;
use super::*;
use crate::dtype::DType;
use crate::error::Error;
use crate::pool::MemoryPool;
use crate::tensor::{DynTensor, Scalar};

#[cfg(not(loom))]
mod device;
mod refuse;

const BYTES: usize = 512;

/// The bytes 0, 1, 2, …, well aligned.
#[repr(align(64))]
struct Data([u8; BYTES]);

/// What a test changes in a good tensor before it is imported.
struct Foreign {
    data: Box<Data>,
    shape: Vec<i64>,
    strides: Vec<i64>,
    calls: AtomicUsize,
    tensor: DLTensor,
    flags: u64,
    major: u32,
    without_deleter: bool,
}

impl Foreign {
    /// Row-major, of `uint8`, over as many bytes as it needs.
    fn new(shape: &[i64]) -> Box<Self> {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        let mut foreign = Box::new(Self {
            data: Box::new(Data(std::array::from_fn(|i| i as u8))),
            shape: shape.to_vec(),
            strides,
            calls: AtomicUsize::new(0),
            tensor: DLTensor {
                data: ptr::null_mut(),
                device: DLDevice {
                    device_type: DL_CPU,
                    device_id: 0,
                },
                ndim: i32::try_from(shape.len()).unwrap(),
                dtype: DType::U8.into(),
                shape: ptr::null_mut(),
                strides: ptr::null_mut(),
                byte_offset: 0,
            },
            flags: 0,
            major: 1,
            without_deleter: false,
        });
        foreign.tensor.data = (&raw mut *foreign.data).cast();
        foreign.tensor.shape = foreign.shape.as_mut_ptr();
        foreign.tensor.strides = foreign.strides.as_mut_ptr();
        foreign
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn tensor(&self) -> DLTensor {
        // SAFETY: plain numbers and pointers, copied as C would.
        unsafe { ptr::read(&raw const self.tensor) }
    }

    fn context(&self) -> *mut c_void {
        (&raw const self.calls).cast_mut().cast()
    }

    fn import_old(&self) -> crate::Result<DynTensor> {
        unsafe extern "C" fn count(managed: *mut DLManagedTensor) {
            // SAFETY: made below, with the counter of a `Foreign` that outlives the import.
            unsafe {
                let managed = Box::from_raw(managed);
                (*managed.manager_ctx.cast::<AtomicUsize>()).fetch_add(1, Ordering::SeqCst);
            }
        }
        let managed = NonNull::from(Box::leak(Box::new(DLManagedTensor {
            dl_tensor: self.tensor(),
            manager_ctx: self.context(),
            deleter: (!self.without_deleter).then_some(count),
        })));
        // SAFETY: built as DLPack has it; where a test breaks a rule, it is one that import must see.
        let result = unsafe { import(managed) };
        if result.is_err() {
            // SAFETY: not consumed, so still ours.
            drop(unsafe { Box::from_raw(managed.as_ptr()) });
        }
        result
    }

    fn import_versioned(&self) -> crate::Result<DynTensor> {
        unsafe extern "C" fn count(managed: *mut DLManagedTensorVersioned) {
            // SAFETY: made below, with the counter of a `Foreign` that outlives the import.
            unsafe {
                let managed = Box::from_raw(managed);
                (*managed.manager_ctx.cast::<AtomicUsize>()).fetch_add(1, Ordering::SeqCst);
            }
        }
        let managed = NonNull::from(Box::leak(Box::new(DLManagedTensorVersioned {
            version: DLPackVersion {
                major: self.major,
                minor: 0,
            },
            manager_ctx: self.context(),
            deleter: (!self.without_deleter).then_some(count),
            flags: self.flags,
            dl_tensor: self.tensor(),
        })));
        // SAFETY: as in `import_old`.
        let result = unsafe { import_versioned(managed) };
        if result.is_err() {
            // SAFETY: not consumed, so still ours.
            drop(unsafe { Box::from_raw(managed.as_ptr()) });
        }
        result
    }
}

/// A view of a counted tensor in `pool`, cut, reversed or turned as `seed` has it.
fn view(pool: &MemoryPool, shape: &[usize], seed: u32) -> DynTensor {
    let values: Vec<i32> = (0..).take(shape.iter().product()).collect();
    view_of(DynTensor::from_slice_in(pool, shape, &values).unwrap(), seed)
}

fn view_of(mut view: DynTensor, seed: u32) -> DynTensor {
    let shape = view.shape().to_vec();
    for (axis, &dim) in shape.iter().enumerate() {
        let len = dim.cast_signed();
        view = match seed >> (2 * axis) & 3 {
            0 => view,
            1 => view.slice(axis, len.min(1), len, 1).unwrap(),
            2 => view.slice(axis, 0, len, 2).unwrap(),
            _ => view.slice(axis, len - 1, -1, -1).unwrap(),
        };
    }
    if seed & 256 == 0 { view } else { view.transpose() }
}

proptest! {
    /// Law: what is exported and imported again is the same elements at the same place, and holds the storage until dropped.
    #[test]
    fn round_trips_share_the_bytes(shape in prop::collection::vec(0usize..5, 0..5), seed in 0u32..512, old in any::<bool>()) {
        let pool = MemoryPool::unlimited();
        let tensor = view(&pool, &shape, seed);
        let values = tensor.to_vec::<i32>().unwrap();
        let back = if old {
            let exported = export(&tensor).unwrap();
            // SAFETY: just exported, and given to nobody else.
            check_exported(unsafe { &exported.as_ref().dl_tensor }, &tensor);
            // SAFETY: as above.
            unsafe { import(exported) }.unwrap()
        } else {
            let exported = export_versioned(&tensor).unwrap();
            // SAFETY: as above.
            unsafe {
                prop_assert_eq!((exported.as_ref().version.major, exported.as_ref().flags), (1, 0));
                check_exported(&exported.as_ref().dl_tensor, &tensor);
                import_versioned(exported).unwrap()
            }
        };
        prop_assert!(tensor.storage().is_exposed() && back.storage().is_exposed());
        prop_assert_eq!(tensor.refcount(), 2);
        prop_assert_eq!(back.shape(), tensor.shape());
        prop_assert_eq!(back.to_vec::<i32>().unwrap(), values.clone());
        if tensor.numel() > 0 {
            prop_assert_eq!(back.data_ptr(), tensor.data_ptr());
            prop_assert_eq!(back.strides(), tensor.strides());
        }
        drop(tensor);
        prop_assert_eq!(pool.stats().live_blocks, 1);
        prop_assert_eq!(back.to_vec::<i32>().unwrap(), values);
        std::thread::spawn(move || drop(back)).join().unwrap();
        prop_assert_eq!(pool.stats().live_blocks, 0);
    }

    /// Law: a foreign tensor of any strides is read where DLPack says it lies.
    #[test]
    fn foreign_strides_are_followed(
        dims in prop::collection::vec((0i64..4, -20i64..20), 0..4),
        byte_offset in 0u64..4,
        versioned in any::<bool>(),
    ) {
        let (shape, strides): (Vec<_>, Vec<_>) = dims.into_iter().unzip();
        let mut foreign = Foreign::new(&shape);
        foreign.strides.copy_from_slice(&strides);
        foreign.tensor.byte_offset = byte_offset;
        // The middle of the data: at most 3 × 3 × 20 bytes away on either side.
        foreign.tensor.data = foreign.tensor.data.wrapping_byte_add(200);
        let tensor = if versioned { foreign.import_versioned() } else { foreign.import_old() }.unwrap();
        let mut offsets = vec![200 + byte_offset.cast_signed()];
        for (&dim, &stride) in shape.iter().zip(&strides) {
            offsets = offsets.iter().flat_map(|&outer| (0..dim).map(move |i| outer + i * stride)).collect();
        }
        let expected: Vec<u8> = offsets.iter().map(|&offset| foreign.data.0[usize::try_from(offset).unwrap()]).collect();
        prop_assert_eq!(tensor.to_vec::<u8>().unwrap(), expected);
        let other = tensor.clone();
        drop(tensor);
        prop_assert_eq!(foreign.calls(), 0);
        drop(other);
        prop_assert_eq!(foreign.calls(), 1);
    }
}

/// What every export promises.
fn check_exported(exported: &DLTensor, tensor: &DynTensor) {
    let ndim = tensor.ndim();
    assert_eq!(exported.ndim, i32::try_from(ndim).unwrap());
    assert!(!exported.shape.is_null() && !exported.strides.is_null());
    // SAFETY: an export has `ndim` of each.
    let (shape, strides) = unsafe {
        (
            std::slice::from_raw_parts(exported.shape, ndim),
            std::slice::from_raw_parts(exported.strides, ndim),
        )
    };
    assert!(
        shape
            .iter()
            .zip(tensor.shape())
            .all(|(&a, &b)| usize::try_from(a) == Ok(b))
    );
    assert!(
        strides
            .iter()
            .zip(tensor.strides())
            .all(|(&a, &b)| isize::try_from(a) == Ok(b))
    );
    assert_eq!(exported.byte_offset, 0);
    assert_eq!((exported.device.device_type, exported.device.device_id), (1, 0));
    assert_eq!(exported.dtype, tensor.dtype().into());
    let expected = if tensor.numel() == 0 {
        ptr::null_mut()
    } else {
        tensor.data_ptr()
    };
    assert_eq!(exported.data.cast::<u8>(), expected);
}

#[test]
fn element_types_pair_off_as_dlpack_numbers_them() {
    let pairs = [
        (DType::Bool, 6, 8),
        (DType::U8, 1, 8),
        (DType::U16, 1, 16),
        (DType::U32, 1, 32),
        (DType::U64, 1, 64),
        (DType::I8, 0, 8),
        (DType::I16, 0, 16),
        (DType::I32, 0, 32),
        (DType::I64, 0, 64),
        (DType::F16, 2, 16),
        (DType::BF16, 4, 16),
        (DType::F32, 2, 32),
        (DType::F64, 2, 64),
        (DType::C64, 5, 64),
        (DType::C128, 5, 128),
    ];
    assert_eq!(pairs.len(), DType::ALL.len());
    for (dtype, code, bits) in pairs {
        let described = DLDataType { code, bits, lanes: 1 };
        assert_eq!(DLDataType::from(dtype), described);
        assert_eq!(described.to_dtype(), Some(dtype));
        let tensor = DynTensor::full(&[3], dtype, Scalar::Int(1)).unwrap();
        // SAFETY: just exported, and given to nobody else.
        let back = unsafe { import(export(&tensor).unwrap()) }.unwrap();
        assert_eq!(
            (back.dtype(), back.scalar(&[2]).unwrap()),
            (dtype, tensor.scalar(&[2]).unwrap())
        );
    }
}

#[test]
fn what_producers_may_leave_out_is_accepted() {
    // Old producers write no strides.
    let mut foreign = Foreign::new(&[2, 3]);
    foreign.tensor.strides = ptr::null_mut();
    let tensor = foreign.import_old().unwrap();
    assert_eq!(tensor.to_vec::<u8>().unwrap(), [0, 1, 2, 3, 4, 5]);
    assert!(!tensor.is_readonly());
    drop(tensor);
    assert_eq!(foreign.calls(), 1);
    // A single element needs no shape, no elements need no data.
    let mut foreign = Foreign::new(&[]);
    foreign.tensor.shape = ptr::null_mut();
    assert_eq!(foreign.import_versioned().unwrap().item::<u8>(&[]).unwrap(), 0);
    let mut foreign = Foreign::new(&[4, 0]);
    foreign.tensor.data = ptr::null_mut();
    foreign.tensor.dtype = DType::C128.into();
    let tensor = foreign.import_old().unwrap();
    assert_eq!((tensor.shape(), tensor.nbytes()), (&[4, 0][..], 0));
    assert_eq!(
        tensor.copy().unwrap().to_vec::<num_complex::Complex<f64>>().unwrap(),
        []
    );
    // Pinned memory is host memory; no deleter is needed for memory that stays.
    let mut foreign = Foreign::new(&[2]);
    foreign.tensor.device.device_type = DL_CUDA_HOST;
    foreign.without_deleter = true;
    assert_eq!(foreign.import_old().unwrap().to_vec::<u8>().unwrap(), [0, 1]);
    assert_eq!(foreign.calls(), 0);
}

#[test]
fn read_only_stays_read_only() {
    let mut foreign = Foreign::new(&[3]);
    foreign.flags = DLPACK_FLAG_BITMASK_READ_ONLY | DLPACK_FLAG_BITMASK_IS_COPIED;
    let mut tensor = foreign.import_versioned().unwrap();
    assert!(tensor.is_readonly());
    assert!(matches!(tensor.fill(Scalar::Int(1)), Err(Error::ReadOnly { .. })));
    let error = export(&tensor).unwrap_err();
    assert!(matches!(error, Error::Exchange { .. }));
    assert!(
        error
            .to_string()
            .contains("read-only, which an unversioned DLPack structure cannot say"),
        "{error}"
    );
    let exported = export_versioned(&tensor).unwrap();
    // SAFETY: just exported, and given to nobody else.
    let back = unsafe {
        assert_eq!(exported.as_ref().flags, DLPACK_FLAG_BITMASK_READ_ONLY);
        import_versioned(exported).unwrap()
    };
    drop(tensor);
    assert!(back.is_readonly());
    assert_eq!((back.to_vec::<u8>().unwrap(), foreign.calls()), (vec![0, 1, 2], 0));
    drop(back);
    assert_eq!(foreign.calls(), 1);
}

#[test]
fn an_export_that_nobody_takes_is_deleted_by_its_deleter() {
    let pool = MemoryPool::unlimited();
    let tensor = DynTensor::zeros_in(&pool, None, &[3], DType::F32).unwrap();
    let exported = export_versioned(&tensor).unwrap();
    drop(tensor);
    assert_eq!(pool.stats().live_blocks, 1);
    // SAFETY: ours, and deleted this once.
    unsafe { exported.as_ref().deleter.unwrap()(exported.as_ptr()) };
    assert_eq!(pool.stats().live_blocks, 0);
}
