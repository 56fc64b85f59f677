//! Round trips of every dtype, files of other writers, and files that lie.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::dtype::DType;
use crate::error::Error;
use crate::pool::MemoryPool;
use crate::tensor::Scalar;

mod save;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A file with this header and data.
fn file(folder: &Path, header: &str, data: &[u8]) -> PathBuf {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    let path = folder.join("file.safetensors");
    fs::write(&path, bytes).unwrap();
    path
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn bytes(tensor: &DynTensor) -> Vec<u8> {
    tensor.contiguous().unwrap().with_bytes("test", <[u8]>::to_vec).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Law: whatever is saved is loaded and mapped the same: dtype, shape, bytes; views as their elements.
    #[test]
    fn what_is_saved_comes_back(
        tensors in prop::collection::vec(
            (prop::sample::select(DType::ALL), prop::collection::vec(0usize..4, 0..4), 0i128..2, any::<bool>()), 0..6),
        texts in prop::option::of(prop::collection::hash_map("\\PC*", "\\PC*", 0..3)),
    ) {
        let folder = folder();
        let path = folder.path().join("a.safetensors");
        let tensors: Vec<(String, DynTensor)> = tensors
            .into_iter()
            .filter(|(dtype, ..)| *dtype != DType::C128)
            .enumerate()
            .map(|(i, (dtype, shape, value, turned))| {
                let tensor = DynTensor::full(&shape, dtype, Scalar::Int(value)).unwrap();
                (format!("layer \"{i}\" ≤ ü"), if turned { tensor.transpose() } else { tensor })
            })
            .collect();
        let borrowed: Vec<_> = tensors.iter().map(|(name, tensor)| (name, tensor)).collect();
        save(&path, &borrowed, texts.clone()).unwrap();
        prop_assert_eq!(names(folder.path()), ["a.safetensors"]);
        let first = fs::read(&path).unwrap();
        let independent = ::safetensors::SafeTensors::deserialize(&first).unwrap();
        prop_assert_eq!(independent.len(), tensors.len());
        for (name, tensor) in &tensors {
            let found = independent.tensor(name).unwrap();
            prop_assert_eq!((found.shape(), found.data()), (tensor.shape(), &bytes(tensor)[..]));
        }

        for read in [load(&path, None).unwrap(), map(&path).unwrap()] {
            prop_assert_eq!(&read.metadata, &texts);
            prop_assert_eq!(read.tensors.len(), tensors.len());
            let mut expected: Vec<_> = tensors.iter().collect();
            expected.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().align()));
            let mut start = 0;
            expected.sort_by_cached_key(|(name, tensor)| {
                start += tensor.nbytes();
                (start - tensor.nbytes(), tensor.nbytes(), name.clone())
            });
            for ((name, tensor), (expected_name, original)) in read.tensors.iter().zip(expected) {
                prop_assert_eq!(name, expected_name);
                prop_assert_eq!((tensor.shape(), tensor.dtype()), (original.shape(), original.dtype()));
                prop_assert_eq!(bytes(tensor), bytes(original));
            }
        }
        save(&path, &borrowed, texts).unwrap();
        prop_assert_eq!(first, fs::read(&path).unwrap());
    }

    /// Law: no bytes whatever make the reader do worse than return an error.
    #[test]
    fn any_bytes_are_read_or_refused(
        header in prop_oneof!["\\PC*", r#"\{"a":\{"dtype":"[FI](8|16|32)","shape":\[[0-9]{1,20}\],"data_offsets":\[[0-9]{1,2},[0-9]{1,20}\]\}\}"#],
        data in prop::collection::vec(any::<u8>(), 0..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let folder = folder();
        let path = file(folder.path(), &header, &data);
        let whole = fs::read(&path).unwrap();
        let short = &whole[..cut.index(whole.len())];
        for contents in [&whole[..], short] {
            fs::write(&path, contents).unwrap();
            for error in [load(&path, None).err(), map(&path).err()].into_iter().flatten() {
                prop_assert!(matches!(error, Error::Format { .. }), "{}", error);
            }
        }
    }
}

#[test]
fn a_loaded_tensor_is_the_pools_and_writable() {
    let folder = folder();
    let path = folder.path().join("a.safetensors");
    let tensor = DynTensor::from_slice(&[2, 2], &[1f32, 2.0, 3.0, 4.0]).unwrap();
    save(&path, &[("w", &tensor)], None).unwrap();
    let pool = MemoryPool::unlimited().with_alignment(256);
    let mut loaded = load(&path, Some(&pool)).unwrap().tensors.remove(0).1;
    assert_eq!(pool.stats().live_blocks, 1);
    assert!(loaded.alignment() >= 256);
    loaded.as_mut_slice::<f32>().unwrap()[0] = 9.0;
    assert_eq!(loaded.as_slice::<f32>().unwrap(), [9.0, 2.0, 3.0, 4.0]);
    assert_eq!(load(&path, None).unwrap().tensors[0].1.to_vec::<f32>().unwrap()[0], 1.0);
}

#[test]
fn a_mapped_tensor_is_read_only_and_outlives_the_name() {
    let folder = folder();
    let path = folder.path().join("a.safetensors");
    let (a, b) = (
        DynTensor::from_slice(&[3], &[1f64, 2.0, 3.0]).unwrap(),
        DynTensor::from_slice(&[3], &[7u8, 8, 9]).unwrap(),
    );
    save(&path, &[("b", &b), ("a", &a)], None).unwrap();
    let mut mapped = map(&path).unwrap().tensors;
    assert_eq!((mapped[0].0.as_str(), mapped[1].0.as_str()), ("a", "b"));
    assert!(mapped[0].1.alignment() >= 64);
    let (_, mut first) = mapped.remove(0);
    assert!(first.is_readonly() && !first.storage().is_pooled());
    assert!(matches!(first.fill(Scalar::Int(0)), Err(Error::ReadOnly { .. })));
    // Another file takes the name; the mapping keeps the old bytes.
    save(&path, &[("a", &b)], None).unwrap();
    drop(mapped);
    assert_eq!(first.to_vec::<f64>().unwrap(), [1.0, 2.0, 3.0]);
    fs::remove_file(&path).unwrap();
    assert_eq!(first.copy().unwrap().to_vec::<f64>().unwrap(), [1.0, 2.0, 3.0]);
}

#[test]
fn a_misaligned_tensor_of_another_writer_is_copied_when_mapped() {
    let folder = folder();
    let header =
        r#"{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"y":{"dtype":"I32","shape":[1],"data_offsets":[1,5]}}"#;
    let path = file(folder.path(), header, &[1, 2, 0, 0, 0]);
    for read in [map(&path).unwrap(), load(&path, None).unwrap()] {
        let (name, y) = &read.tensors[1];
        assert_eq!((name.as_str(), y.to_vec::<i32>().unwrap()), ("y", vec![2]));
        assert!(y.storage().is_pooled());
        assert_eq!(read.metadata, None);
    }
}

#[test]
fn files_that_lie_are_refused_with_the_reason() {
    let cases: &[(&str, &[u8], &str)] = &[
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
            &[0; 7],
            "describes 8 B of tensors, but 7 B follow it",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
            &[0; 9],
            "describes 8 B of tensors, but 9 B follow it",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            &[0; 8],
            "invalid shape, data type, or offset",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            &[0; 12],
            "invalid offset for tensor `a`",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
            &[0; 6],
            "invalid offset for tensor `b`",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}"#,
            &[0; 4],
            "invalid offset for tensor `a`",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,0]}}"#,
            &[],
            "overflow computing buffer size",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}}"#,
            &[],
            "invalid value: integer `-1`",
        ),
        (
            r#"{"a":{"dtype":"F99","shape":[],"data_offsets":[0,1]}}"#,
            &[0],
            "unknown variant `F99`",
        ),
        (
            r#"{"a":{"dtype":"F8_E4M3","shape":[],"data_offsets":[0,1]}}"#,
            &[0],
            "tensor \"a\" has element type F8_E4M3, which is not known here",
        ),
        (
            r#"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#,
            &[0],
            "byte boundary",
        ),
        (
            r#"{"a":{"dtype":"F64","shape":[0,2305843009213693952],"data_offsets":[0,0]}}"#,
            &[],
            "tensor \"a\": its shape: shape [0, 2305843009213693952] of float64 overflows",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
            &[0],
            "two tensors are named \"a\"",
        ),
        (
            r#"{"a\"{":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                "\u0061\u0022{":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#,
            &[0],
            "two tensors are named \"a\\\"{\"",
        ),
        (
            r#"{"a":{"dtype":"U8","shape":[]}}"#,
            &[],
            "missing field `data_offsets`",
        ),
        (
            r#"{"__metadata__":{"a":1}}"#,
            &[],
            "header: invalid type: integer `1`, expected a string",
        ),
        ("{", &[], "header: EOF while parsing"),
        ("", &[], "header: EOF while parsing"),
        ("[]", &[], "header: "),
        ("{\"\u{fffd}\":3}", &[], "header: "),
    ];
    let folder = folder();
    for &(header, data, reason) in cases {
        let path = file(folder.path(), header, data);
        for error in [load(&path, None).unwrap_err(), map(&path).unwrap_err()] {
            assert!(matches!(error, Error::Format { .. }), "{header}: {error}");
            assert!(error.to_string().contains(reason), "{header}: {error}");
        }
    }
}

#[test]
fn more_dimensions_than_there_can_be_are_refused() {
    let folder = folder();
    let header = |ndim| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[0,1]}}}}"#,
            vec!["1"; ndim].join(",")
        )
    };
    let path = file(folder.path(), &header(100), &[5]);
    for error in [load(&path, None).unwrap_err(), map(&path).unwrap_err()] {
        assert!(
            matches!(&error, Error::Format { path: named, .. } if *named == path),
            "{error}"
        );
        assert!(error.to_string().contains("tensor \"a\": its shape: "), "{error}");
        assert!(error.to_string().contains("100 dimensions"), "{error}");
    }
    let path = file(folder.path(), &header(64), &[5]);
    assert_eq!(map(&path).unwrap().tensors[0].1.ndim(), 64);
}

#[test]
fn names_are_told_from_texts_that_look_like_them() {
    let folder = folder();
    let header = r#"{"__metadata__":{"a":"\"b\":{","b":"a"},
        "a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"dtype":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},
        "a\\":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}"#;
    let read = load(file(folder.path(), header, &[1, 2]), None).unwrap();
    let names: Vec<_> = read.tensors.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "dtype", "a\\"]);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = folder();
    let path = folder.path().join("a.safetensors");
    save(&path, &[("a", &DynTensor::zeros(&[2], DType::F32).unwrap())], None).unwrap();
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        for error in [load(&path, None).unwrap_err(), map(&path).unwrap_err()] {
            assert!(matches!(error, Error::Format { .. }), "{len}: {error}");
        }
    }
    // The length of the header alone: longer than any header, longer than the file, not UTF-8.
    for (contents, reason) in [
        (
            &[255; 8][..],
            "18446744073709551615 B is claimed; at most 100000000 B are read",
        ),
        (
            &[9, 0, 0, 0, 0, 0, 0, 0, b'{', b'}'],
            "9 B is claimed, but the file has 10 B",
        ),
        (&[3, 0, 0, 0, 0, 0, 0, 0, b'{', 0xff, b'}'], "header: "),
    ] {
        fs::write(&path, contents).unwrap();
        let error = load(&path, None).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn lengths_that_only_fit_together_after_wrapping_are_refused() {
    // Nine tensors of 2^61 - 1 B: the sum of their lengths is beyond 2^64.
    let part = (1u128 << 61) - 1;
    let tensors: Vec<String> = (0..9)
        .map(|i| {
            let (start, end) = (i * part % (1 << 64), (i + 1) * part % (1 << 64));
            format!(r#""t{i}":{{"dtype":"U8","shape":[{part}],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    let folder = folder();
    let path = file(folder.path(), &format!("{{{}}}", tensors.join(",")), &[]);
    assert!(matches!(load(&path, None).unwrap_err(), Error::Format { .. }));
    // Eight of them fit a usize, but not together with the header.
    let path = file(folder.path(), &format!("{{{}}}", tensors[..8].join(",")), &[]);
    assert!(matches!(map(&path).unwrap_err(), Error::Format { .. }));
}

#[test]
fn an_empty_file_of_tensors_is_fine() {
    let folder = folder();
    let path = file(folder.path(), "{}", &[]);
    for read in [load(&path, None).unwrap(), map(&path).unwrap()] {
        assert!(read.tensors.is_empty() && read.metadata.is_none());
    }
}

#[test]
fn what_is_not_a_file_is_an_io_error() {
    let folder = folder();
    for path in [
        folder.path().to_owned(),
        folder.path().join("none"),
        PathBuf::from("/dev/zero"),
    ] {
        for error in [load(&path, None).unwrap_err(), map(&path).unwrap_err()] {
            assert!(
                matches!(&error, Error::Io { path: named, .. } if *named == path),
                "{error}"
            );
        }
    }
}

#[test]
fn a_limit_reached_while_loading_leaves_nothing() {
    let folder = folder();
    let path = folder.path().join("a.safetensors");
    let tensor = DynTensor::zeros(&[1 << 12], DType::F64).unwrap();
    save(&path, &[("a", &tensor), ("b", &tensor), ("c", &tensor)], None).unwrap();
    let pool = MemoryPool::new(1 << 16);
    assert!(matches!(load(&path, Some(&pool)), Err(Error::OutOfMemory { .. })));
    assert_eq!(pool.stats().live_blocks, 0);
}
