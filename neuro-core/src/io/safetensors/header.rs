//! The header of a file: read and checked (S1), and written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::Geometry;

/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;

/// Longest header that is read: as the format's own library has it.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The tensors' bytes start at a multiple of this, so that a mapped file's first tensor is aligned like a pool's.
const DATA_ALIGNMENT: usize = 64;

/// One tensor of a file.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) geometry: Geometry,
    /// From the start of the file, in bytes.
    pub(super) start: usize,
    pub(super) bytes: usize,
}

/// A file whose header is checked.
pub(super) struct Opened {
    pub(super) file: File,
    /// Length of the file in bytes.
    pub(super) len: usize,
    /// By their place in the file; tensors of no bytes, which may share one, by name.
    pub(super) entries: Vec<Entry>,
    pub(super) metadata: Option<HashMap<String, String>>,
}

/// Opens `path` and checks its header.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let failed = |source| io_error(path, source);
    // Opening a pipe would wait for a writer, so the kind of file comes first.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )));
    }
    let mut file = File::open(path).map_err(failed)?;
    let file_bytes = file.metadata().map_err(failed)?.len();
    let bad = |reason: String| Error::Format {
        path: path.to_owned(),
        reason,
    };
    let mut length = [0; LENGTH_BYTES];
    if file_bytes < LENGTH_BYTES as u64 {
        return Err(bad(format!(
            "{file_bytes} B are too short for the {LENGTH_BYTES} B of the header's length"
        )));
    }
    file.read_exact(&mut length).map_err(failed)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(bad(format!(
            "a header of {header_bytes} B is claimed; at most {MAX_HEADER_BYTES} B are read"
        )));
    }
    if header_bytes > file_bytes - LENGTH_BYTES as u64 {
        return Err(bad(format!(
            "a header of {header_bytes} B is claimed, but the file has {file_bytes} B; it is cut short or something else"
        )));
    }
    // Below 100 MB, checked above.
    let mut header = vec![0; header_bytes as usize];
    file.read_exact(&mut header).map_err(failed)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| bad(format!("header: {error}")))?;
    if let Some(name) = name_given_twice(&header) {
        return Err(bad(format!("two tensors are named {name:?}")));
    }
    let data_start = LENGTH_BYTES + header.len();
    let end = metadata.data_len().checked_add(data_start);
    if end.map(|end| end as u64) != Some(file_bytes) {
        return Err(bad(format!(
            "the header describes {} B of tensors, but {} B follow it; the file is cut short or has something behind",
            metadata.data_len(),
            file_bytes - data_start as u64
        )));
    }
    let mut entries = Vec::new();
    for name in metadata.offset_keys() {
        let info = metadata.info(&name).expect("a name of the header");
        let dtype = dtype_of(info.dtype).ok_or_else(|| {
            bad(format!(
                "tensor {name:?} has element type {:?}, which is not known here",
                info.dtype
            ))
        })?;
        // A tensor of no bytes may claim any lengths beside its 0, and as many as it likes.
        let geometry = Geometry::contiguous("its shape", &info.shape, dtype)
            .map_err(|error| bad(format!("tensor {name:?}: {error}")))?;
        entries.push(Entry {
            dtype,
            geometry,
            // No overflow: at most the length of the file, checked above.
            start: data_start + info.data_offsets.0,
            bytes: info.data_offsets.1 - info.data_offsets.0,
            name,
        });
    }
    // Tensors of no bytes share a place: the name makes the order the same each time.
    entries.sort_by(|a, b| (a.start, a.bytes, &a.name).cmp(&(b.start, b.bytes, &b.name)));
    Ok(Opened {
        file,
        len: data_start + metadata.data_len(),
        entries,
        metadata: metadata.metadata().clone(),
    })
}

/// A name that stands twice in a header, which is valid JSON: an object of objects. The parser keeps the last of the two
/// and says nothing, so the names are gone through once more.
fn name_given_twice(header: &[u8]) -> Option<String> {
    let mut names = HashSet::new();
    let (mut depth, mut at) = (0, 0);
    while at < header.len() {
        match header[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => {
                let start = at;
                at += 1;
                while header[at] != b'"' {
                    // What follows a backslash ends no string.
                    at += if header[at] == b'\\' { 2 } else { 1 };
                }
                // Strings directly in the outer object are names: its values are no strings.
                if depth == 1 {
                    let name: String = serde_json::from_slice(&header[start..=at]).expect("a string of valid JSON");
                    if let Some(name) = names.replace(name) {
                        return Some(name);
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// A whole header, its length included, for tensors that lie side by side in this order.
pub(super) fn encode(
    tensors: &[(&str, DType, &[usize], usize)],
    metadata: Option<&HashMap<String, String>>,
) -> Result<Vec<u8>> {
    let text = |value: &str| serde_json::to_string(value).expect("a string is JSON");
    let mut parts = Vec::with_capacity(tensors.len() + 1);
    if let Some(metadata) = metadata {
        // Sorted, so that the same contents make the same file.
        let sorted: BTreeMap<_, _> = metadata.iter().collect();
        let object = serde_json::to_string(&sorted).expect("strings are JSON");
        parts.push(format!("\"__metadata__\":{object}"));
    }
    let mut end = 0usize;
    for &(name, dtype, shape, bytes) in tensors {
        let start = end;
        end += bytes;
        let info = TensorInfo {
            dtype: dtype_for(dtype).ok_or_else(|| Error::InvalidArgument {
                op: "save",
                what: format!(
                    "tensor {name:?} is {dtype}, which safetensors files cannot hold; save it as two real ones"
                ),
            })?,
            shape: shape.to_vec(),
            data_offsets: (start, end),
        };
        let info = serde_json::to_string(&info).expect("names and numbers are JSON");
        parts.push(format!("{}:{info}", text(name)));
    }
    let json = format!("{{{}}}", parts.join(","));
    let padded = (LENGTH_BYTES + json.len()).next_multiple_of(DATA_ALIGNMENT) - LENGTH_BYTES;
    if padded as u64 > MAX_HEADER_BYTES {
        return Err(Error::InvalidArgument {
            op: "save",
            what: format!("names, shapes and metadata take {padded} B; readers accept {MAX_HEADER_BYTES} B"),
        });
    }
    let mut header = (padded as u64).to_le_bytes().to_vec();
    header.extend_from_slice(json.as_bytes());
    header.resize(LENGTH_BYTES + padded, b' ');
    Ok(header)
}

pub(super) fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source: source.into(),
    }
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    DType::ALL
        .iter()
        .copied()
        .find(|&known| dtype_for(known) == Some(dtype))
}

/// The format's name for `dtype`; it has none for complex128.
fn dtype_for(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::Bool => Dtype::BOOL,
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::C64 => Dtype::C64,
        DType::C128 => return None,
    })
}
