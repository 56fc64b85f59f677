//! What is refused, and that it is refused for the right reason.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn safe_writes_need_the_only_handle() {
    let mut tensor = counted(&[4]);
    let view = tensor.slice(0, 0, 2, 1).unwrap();
    for error in [
        tensor.fill(Scalar::Int(1)).unwrap_err(),
        tensor.copy_from(&view.copy().unwrap()).unwrap_err(),
        tensor.as_mut_slice::<i32>().unwrap_err(),
    ] {
        assert!(matches!(error, Error::Shared { .. }), "{error}");
        assert!(error.to_string().contains("other tensors or views use it"), "{error}");
    }
    drop(view);
    let weak = Arc::downgrade(tensor.storage());
    assert!(matches!(tensor.fill(Scalar::Int(1)), Err(Error::Shared { .. })));
    drop(weak);
    tensor.as_mut_slice::<i32>().unwrap()[2] = 9;
    assert_eq!(tensor.as_slice::<i32>().unwrap(), [0, 1, 9, 3]);
    let source = counted(&[2, 2]).reshape(&[4]).unwrap();
    tensor.copy_from(&source).unwrap();
    assert_eq!(tensor.as_slice::<i32>().unwrap(), [0, 1, 2, 3]);
    tensor.fill(Scalar::Int(7)).unwrap();
    assert_eq!(tensor.as_slice::<i32>().unwrap(), [7; 4]);
}

#[test]
fn a_part_alone_in_its_storage_is_written_alone() {
    let mut column = counted(&[3, 2]).slice(1, 1, 2, 1).unwrap();
    assert!(matches!(column.as_mut_slice::<i32>(), Err(Error::NotContiguous { .. })));
    column.fill(Scalar::Int(-1)).unwrap();
    assert_eq!(column.to_vec::<i32>().unwrap(), [-1; 3]);
}

#[test]
fn exposed_storage_is_read_by_copies_only() {
    let mut tensor = counted(&[3]);
    tensor.storage().mark_exposed();
    assert!(matches!(tensor.as_slice::<i32>(), Err(Error::Shared { .. })));
    assert!(matches!(tensor.as_mut_slice::<i32>(), Err(Error::Shared { .. })));
    assert!(matches!(tensor.fill(Scalar::Int(1)), Err(Error::Shared { .. })));
    assert_eq!(tensor.to_vec::<i32>().unwrap(), [0, 1, 2]);
    assert_eq!(tensor.item::<i32>(&[2]).unwrap(), 2);
    assert_eq!(tensor.copy().unwrap().as_slice::<i32>().unwrap(), [0, 1, 2]);
}

#[test]
fn wrong_dtypes_shapes_and_layouts_are_refused() {
    let mut tensor = counted(&[2, 3]);
    let error = tensor.as_slice::<f32>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "as_slice: asked for float32, but the tensor is int32"
    );
    assert!(matches!(tensor.item::<u32>(&[0, 0]), Err(Error::DTypeMismatch { .. })));
    assert!(matches!(tensor.to_vec::<u32>(), Err(Error::DTypeMismatch { .. })));
    assert!(matches!(tensor.item::<i32>(&[2, 0]), Err(Error::OutOfRange { .. })));
    assert!(matches!(tensor.item::<i32>(&[0]), Err(Error::InvalidArgument { .. })));
    assert!(matches!(
        tensor.transpose().as_slice::<i32>(),
        Err(Error::NotContiguous { .. })
    ));
    let other = counted(&[3, 2]);
    assert!(matches!(tensor.copy_from(&other), Err(Error::ShapeMismatch { .. })));
    let other = DynTensor::zeros(&[2, 3], DType::F32).unwrap();
    assert!(matches!(tensor.copy_from(&other), Err(Error::DTypeMismatch { .. })));
    assert!(matches!(
        DynTensor::from_slice(&[2], &[1u8]),
        Err(Error::ShapeMismatch { .. })
    ));
    assert!(matches!(tensor.reshape(&[4]), Err(Error::ShapeMismatch { .. })));
    let nothing = DynTensor::zeros(&[0], DType::F64).unwrap();
    assert!(matches!(
        nothing.reshape(&[0, 1 << 61]),
        Err(Error::SizeOverflow { .. })
    ));
    assert!(matches!(
        DynTensor::zeros(&[usize::MAX, 2], DType::U8),
        Err(Error::SizeOverflow { .. })
    ));
}

#[test]
fn bytes_that_are_no_bools_are_refused() {
    let bytes = DynTensor::from_slice(&[3], &[0u8, 1, 2]).unwrap();
    let geometry = bytes.geometry().clone();
    // SAFETY: initialised bytes that nobody writes.
    let mut bools =
        unsafe { DynTensor::from_memory("test", bytes.storage().clone(), 0, geometry, DType::Bool) }.unwrap();
    drop(bytes);
    for error in [
        bools.as_slice::<bool>().unwrap_err(),
        bools.to_vec::<bool>().unwrap_err(),
        bools.item::<bool>(&[2]).unwrap_err(),
        bools.scalar(&[2]).unwrap_err(),
        bools.as_mut_slice::<bool>().unwrap_err(),
    ] {
        assert!(
            error
                .to_string()
                .contains("holds the byte 0x02; only 0 and 1 are bools"),
            "{error}"
        );
    }
    assert!(bools.item::<bool>(&[1]).unwrap());
    let good = bools.slice(0, 0, 2, 1).unwrap();
    assert_eq!(good.as_slice::<bool>().unwrap(), [false, true]);
}

/// Counts its drops.
struct Keeper(&'static AtomicUsize);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// 64 bytes of static memory as foreign memory.
fn foreign(device: Device, readonly: bool, drops: &'static AtomicUsize) -> Arc<DeviceMemory> {
    #[repr(align(64))]
    struct Bytes(#[expect(dead_code, reason = "read through its address")] [u8; 64]);
    let bytes = Box::leak(Box::new(Bytes([0; 64])));
    // SAFETY: leaked: readable and writable for good.
    let memory = unsafe {
        DeviceMemory::foreign(
            std::ptr::NonNull::from(bytes).cast(),
            64,
            device,
            readonly,
            Box::new(Keeper(drops)),
        )
    };
    Arc::new(memory)
}

#[test]
fn views_of_memory_are_checked_against_it() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let memory = foreign(Device::Cpu, false, &DROPS);
    let make = |offset, shape: &[usize], strides: &[isize], dtype| {
        let geometry = Geometry::strided("view", shape, strides, dtype).unwrap();
        // SAFETY: initialised bytes that nobody else has.
        unsafe { DynTensor::from_memory("view", memory.clone(), offset, geometry, dtype) }
    };
    assert!(make(0, &[16], &[1], DType::F32).is_ok());
    assert!(make(60, &[16], &[-1], DType::F32).is_ok());
    assert!(make(64, &[0, 9], &[1, 1], DType::F32).is_ok());
    for (offset, shape, strides) in [
        (0, &[17][..], &[1][..]),
        (4, &[16], &[1]),
        (56, &[16], &[-1]),
        (64, &[], &[]),
        (68, &[0], &[1]),
        (usize::MAX, &[1], &[1]),
        (isize::MAX as usize, &[1], &[1]),
        (0, &[2], &[1 << 60]),
    ] {
        let error = make(offset, shape, strides, DType::F32).unwrap_err().to_string();
        assert!(error.contains("reaches outside the 64 B of memory"), "{error}");
    }
    // A geometry of as many bytes as there can be, taken for elements four times as large.
    let geometry = Geometry::strided("view", &[1 << 62], &[0], DType::U8).unwrap();
    // SAFETY: initialised bytes that nobody else has.
    let larger = unsafe { DynTensor::from_memory("view", memory.clone(), 0, geometry, DType::F32) };
    assert!(matches!(larger, Err(Error::SizeOverflow { .. })));
    let error = make(2, &[1], &[1], DType::F32).unwrap_err().to_string();
    assert!(
        error.contains("is not aligned to the 4 B that float32 needs"),
        "{error}"
    );
    assert_eq!(DROPS.load(Ordering::SeqCst), 0);
    drop(memory);
    assert_eq!(DROPS.load(Ordering::SeqCst), 1);
}

#[test]
fn a_copy_that_no_memory_can_hold_is_an_error() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    // One element, seen 2^59 times: more bytes than a process has addresses, whatever the system promises.
    let geometry = Geometry::strided("view", &[1 << 40, 1 << 19], &[0, 0], DType::F32).unwrap();
    let memory = foreign(Device::Cpu, false, &DROPS);
    // SAFETY: initialised bytes that nobody else has.
    let wide = unsafe { DynTensor::from_memory("view", memory, 0, geometry, DType::F32) }.unwrap();
    let error = wide.to_vec::<f32>().unwrap_err();
    assert!(
        matches!(error, Error::OutOfMemory { asked, alignment: 4, .. } if asked == 1 << 61),
        "{error}"
    );
    assert!(
        error.to_string().contains("no room for a Vec outside all pools"),
        "{error}"
    );
}

#[test]
fn read_only_and_device_memory_are_left_alone() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    let over = |memory| {
        let geometry = Geometry::contiguous("view", &[16], DType::F32).unwrap();
        // SAFETY: initialised bytes that nobody else has.
        unsafe { DynTensor::from_memory("view", memory, 0, geometry, DType::F32) }.unwrap()
    };
    let mut readonly = over(foreign(Device::Cpu, true, &DROPS));
    assert!(readonly.is_readonly());
    assert!(matches!(readonly.fill(Scalar::Int(1)), Err(Error::ReadOnly { .. })));
    // SAFETY: nobody else has the bytes.
    let shared = unsafe { readonly.fill_shared(Scalar::Int(1)) };
    assert!(matches!(shared, Err(Error::ReadOnly { .. })));
    // SAFETY: as above.
    let shared = unsafe { readonly.copy_from_shared(&readonly) };
    assert!(matches!(shared, Err(Error::ReadOnly { .. })));
    assert!(!readonly.copy().unwrap().is_readonly());

    let mut device = over(foreign(Device::Cuda(1), false, &DROPS));
    assert_eq!(device.device(), Device::Cuda(1));
    for error in [
        device.to_vec::<f32>().unwrap_err(),
        device.item::<f32>(&[0]).unwrap_err(),
        device.as_slice::<f32>().unwrap_err(),
        device.copy().unwrap_err(),
        device.fill(Scalar::Int(0)).unwrap_err(),
        DynTensor::zeros(&[16], DType::F32)
            .unwrap()
            .copy_from(&device)
            .unwrap_err(),
    ] {
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("cuda:1"), "{error}");
    }
}

/// It was once granted: exposure was looked at before, not after, being alone.
#[test]
fn no_exclusive_slice_while_another_handle_exposes_and_goes() {
    let (send, receive) = std::sync::mpsc::sync_channel::<DynTensor>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || receive.iter().for_each(|other| other.storage().mark_exposed()));
        for _ in 0..150_000 {
            let mut tensor = DynTensor::zeros(&[1], DType::I32).unwrap();
            send.send(tensor.clone()).unwrap();
            for _ in 0..40 {
                if tensor.as_mut_slice::<i32>().is_ok() {
                    assert!(!tensor.storage().is_exposed());
                }
            }
        }
        drop(send);
    });
}
