//! Reading: into a pool, or mapped.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync;

use memmap2::{Mmap, MmapOptions};

use super::SafeTensorsFile;
use super::header::{Entry, Opened, io_error, open};
use crate::device::Device;
use crate::error::Result;
use crate::memory::DeviceMemory;
use crate::pool::MemoryPool;
use crate::rc::Arc;
use crate::tensor::DynTensor;

/// Reads all tensors of a file into `pool` (the default pool where `None`), each with the pool's alignment.
///
/// The bytes go from the file to their place with no copy between. Tensors come in the order of their bytes in the file.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io); [`Error::Format`](crate::Error::Format) for a file that is cut short or lies about itself, with the reason;
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory). Nothing stays allocated then.
pub fn load(path: impl AsRef<Path>, pool: Option<&MemoryPool>) -> Result<SafeTensorsFile> {
    let path = path.as_ref();
    let pool = pool.unwrap_or_else(|| MemoryPool::global());
    let Opened {
        file,
        entries,
        metadata,
        ..
    } = open(path)?;
    let mut tensors = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut tensor = DynTensor::empty_in(pool, None, entry.geometry.shape(), entry.dtype)?;
        // Reading rather than copying from a mapping: a file that shrinks meanwhile is an error here, there a signal.
        file.read_exact_at(tensor.as_bytes_mut("load")?, entry.start as u64)
            .map_err(|error| io_error(path, error))?;
        tensors.push((entry.name, tensor));
    }
    Ok(SafeTensorsFile { tensors, metadata })
}

/// Maps a file: its tensors are read-only and lie in the file's pages, which the system reads when they are touched.
///
/// A tensor whose bytes are not aligned for its dtype (files of other writers may have such) is copied into the default
/// pool instead, and is writable. Tensors come in the order of their bytes in the file.
///
/// The mapping lives until the last of its tensors is dropped. Do not shorten or overwrite the file in that time: reading
/// bytes that are gone ends the process (`SIGBUS`), and bytes that change while they are read break the rules that Rust's
/// slices rest on. [`save`](super::save) replaces files without touching the old bytes.
///
/// # Errors
/// As [`load`].
pub fn map(path: impl AsRef<Path>) -> Result<SafeTensorsFile> {
    let path = path.as_ref();
    let Opened {
        file,
        len,
        entries,
        metadata,
    } = open(path)?;
    // SAFETY: `Mmap` lends its bytes as if nobody changed them, which this function asks of its callers and which no program
    // can enforce. What can be done is to keep slices of them short: callers get none, since the memory is foreign, hence
    // exposed (T4). This library borrows them in `mapped_tensor` below, and where a call copies or saves
    // (`DynTensor::with_bytes`), and not beyond that one call.
    let mapping = unsafe { MmapOptions::new().len(len).map(&file) }.map_err(|error| io_error(path, error))?;
    let mapping = sync::Arc::new(mapping);
    let tensors = entries
        .into_iter()
        .map(|entry| {
            let tensor = mapped_tensor(&mapping, &entry)?;
            Ok((entry.name, tensor))
        })
        .collect::<Result<_>>()?;
    Ok(SafeTensorsFile { tensors, metadata })
}

fn mapped_tensor(mapping: &sync::Arc<Mmap>, entry: &Entry) -> Result<DynTensor> {
    // `open` has checked that the tensor's bytes lie inside the file, and are as many as its shape and dtype need.
    let data = &mapping[entry.start..entry.start + entry.bytes];
    if !data.as_ptr().addr().is_multiple_of(entry.dtype.align()) {
        let mut copy = DynTensor::empty(entry.geometry.shape(), entry.dtype)?;
        copy.as_bytes_mut("map")?.copy_from_slice(data);
        return Ok(copy);
    }
    let start = NonNull::from(data).cast::<u8>();
    // SAFETY: the mapping is readable until the last `Arc` of it, one of which is the keeper, is dropped.
    let memory = unsafe {
        DeviceMemory::foreign(
            start,
            entry.bytes,
            Device::Cpu,
            true,
            Box::new(sync::Arc::clone(mapping)),
        )
    };
    // SAFETY: the pages of a file are initialised; nothing writes a read-only tensor.
    unsafe { DynTensor::from_memory("map", Arc::new(memory), 0, entry.geometry.clone(), entry.dtype) }
}
