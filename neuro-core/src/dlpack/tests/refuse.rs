//! Refusals: they say why, and consume nothing (D3).

use std::ptr;

use super::*;

type Change = fn(&mut Foreign);

#[test]
fn refusals_say_why_and_consume_nothing() {
    let cases: &[(&str, Change)] = &[
        ("CUDA device 77, which cannot be used", |f| {
            f.tensor.device = DLDevice {
                device_type: 2,
                device_id: 77,
            };
        }),
        ("device type 13 (id 5)", |f| {
            f.tensor.device = DLDevice {
                device_type: 13,
                device_id: 5,
            };
        }),
        ("device type 7", |f| f.tensor.device.device_type = 7),
        ("device type 0", |f| f.tensor.device.device_type = 0),
        ("-1 dimensions; 0 to 64 are possible", |f| f.tensor.ndim = -1),
        ("65 dimensions", |f| f.tensor.ndim = 65),
        ("the shape is NULL, but there are 2 dimensions", |f| {
            f.tensor.shape = ptr::null_mut();
        }),
        ("shape [2, -3] with strides", |f| f.shape[1] = -3),
        ("shape [9223372036854775807, 3]", |f| f.shape[0] = i64::MAX),
        ("impossible", |f| {
            f.shape.copy_from_slice(&[i64::MAX, i64::MAX]);
            f.tensor.strides = ptr::null_mut();
        }),
        ("impossible", |f| f.strides[0] = i64::MAX),
        ("impossible", |f| f.strides[0] = i64::MIN),
        // Each bound holds alone, the sum of both does not.
        ("impossible", |f| f.strides.copy_from_slice(&[i64::MAX - 3, 1 << 61])),
        ("reaches outside the address space", |f| f.strides[0] = -(1 << 48)),
        // Fits an `isize`, and no machine: was taken once.
        ("reaches outside the address space", |f| f.strides[0] = 1 << 57),
        ("reaches outside the address space", |f| f.strides[0] = i64::MAX - 99),
        ("reaches outside the address space", |f| f.tensor.byte_offset = u64::MAX),
        ("reaches outside the address space", |f| {
            f.tensor.byte_offset = i64::MAX as u64;
        }),
        ("reaches outside the address space", |f| {
            f.tensor.data = ptr::without_provenance_mut(8);
        }),
        ("the data pointer is NULL, but shape [2, 3] has 6 elements", |f| {
            f.tensor.data = ptr::null_mut();
        }),
        ("is not aligned to the 4 B that float32 needs", |f| {
            f.tensor.dtype = DType::F32.into();
            f.tensor.byte_offset = 2;
        }),
        ("code 2, 32 bits, 4 lanes is not known here; known are bool", |f| {
            f.tensor.dtype = DLDataType {
                code: 2,
                bits: 32,
                lanes: 4,
            };
        }),
        ("code 17, 4 bits, 1 lanes", |f| {
            f.tensor.dtype = DLDataType {
                code: 17,
                bits: 4,
                lanes: 1,
            };
        }),
        ("code 6, 1 bits", |f| f.tensor.dtype.bits = 1),
        ("code 3, 64 bits", |f| {
            f.tensor.dtype = DLDataType {
                code: 3,
                bits: 64,
                lanes: 1,
            };
        }),
        ("0 lanes", |f| f.tensor.dtype.lanes = 0),
    ];
    for &(reason, change) in cases {
        let mut foreign = Foreign::new(&[2, 3]);
        if reason.starts_with("code 6") {
            foreign.tensor.dtype = DType::Bool.into();
        }
        change(&mut foreign);
        for error in [
            foreign.import_old().unwrap_err(),
            foreign.import_versioned().unwrap_err(),
        ] {
            assert!(matches!(error, Error::Exchange { .. }), "{error}");
            assert!(error.to_string().contains(reason), "{reason}: {error}");
        }
        assert_eq!(foreign.calls(), 0, "{reason}");
    }
}

#[test]
fn other_major_versions_are_refused_unread() {
    for major in [0, 2, u32::MAX] {
        let mut foreign = Foreign::new(&[2]);
        foreign.major = major;
        // A layout that is not known must not be read: this shape could not be.
        foreign.tensor.shape = ptr::without_provenance_mut(8);
        let error = foreign.import_versioned().unwrap_err().to_string();
        assert!(
            error.contains(&format!("DLPack {major}.0 structures are not known here")),
            "{error}"
        );
        assert_eq!(foreign.calls(), 0);
    }
}
