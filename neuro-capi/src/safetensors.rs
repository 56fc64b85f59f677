//! Safetensors files.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use neuro_core::DynTensor;
use neuro_core::io::safetensors::{self, SafeTensorsFile};

use crate::guard::{self, Handle};
use crate::handles::{Table, the_table};
use crate::pool::{neuro_pool_t, pool_or_default};
use crate::status::{Failure, NEURO_FORMAT, NEURO_OUT_OF_RANGE, Result, neuro_status_t};
use crate::tensor::{neuro_tensor_release, neuro_tensor_t};

/// What a safetensors file holds: named tensors, and texts beside them.
pub struct neuro_safetensors_t(());

/// A file whose tensors are handles already, so that C can borrow them.
pub(crate) struct File {
    entries: Vec<(CString, TensorHandle)>,
    /// Places in `entries`.
    by_name: HashMap<CString, usize>,
    metadata: HashMap<CString, CString>,
}

/// The file's own reference to one of its tensors.
struct TensorHandle(*mut neuro_tensor_t);

// SAFETY: a handle is a number that any thread may use.
unsafe impl Send for TensorHandle {}
// SAFETY: as above.
unsafe impl Sync for TensorHandle {}

impl Drop for TensorHandle {
    fn drop(&mut self) {
        // A status other than OK would mean that the program released what it had borrowed; then nothing is left to do.
        neuro_tensor_release(self.0);
    }
}

impl Handle for File {
    type Opaque = neuro_safetensors_t;
    const NAME: &'static str = "neuro_safetensors_t";
    fn table() -> &'static Table<Self> {
        the_table!(File, 3)
    }
}

impl File {
    fn new(op: &'static str, path: &Path, file: SafeTensorsFile) -> Result<Self> {
        let c_string = |text: String| {
            CString::new(text.as_str()).map_err(|_| {
                let message = format!(
                    "{}: the name or text {text:?} has a NUL in it, which C cannot say",
                    path.display()
                );
                Failure::new(NEURO_FORMAT, message)
            })
        };
        let mut entries = Vec::with_capacity(file.tensors.len());
        let mut by_name = HashMap::with_capacity(file.tensors.len());
        for (name, tensor) in file.tensors {
            let name = c_string(name)?;
            by_name.insert(name.clone(), entries.len());
            entries.push((name, TensorHandle(guard::new_handle(op, || Ok(tensor))?)));
        }
        let mut metadata = HashMap::new();
        for (key, text) in file.metadata.unwrap_or_default() {
            metadata.insert(c_string(key)?, c_string(text)?);
        }
        Ok(Self {
            entries,
            by_name,
            metadata,
        })
    }
}

/// Reads all tensors of the file at `path` into `pool` (NULL: the default pool). Release `*out` once.
///
/// # Safety
/// `path` is NULL or a string; a live `pool` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_safetensors_load(
    path: *const c_char,
    pool: *mut neuro_pool_t,
    out: *mut *mut neuro_safetensors_t,
) -> neuro_status_t {
    const OP: &str = "neuro_safetensors_load";
    let load = || {
        // SAFETY: as this function's condition says.
        let (path, pool) = unsafe { (file_path(OP, path)?, pool_or_default(OP, pool)?) };
        File::new(OP, path, safetensors::load(path, Some(pool))?)
    };
    // SAFETY: as this function's condition says.
    unsafe { guard::give_handle(OP, out, load) }
}

/// Maps the file at `path`: its tensors are read-only and lie in the file's pages, with no copy. Nobody may shorten or
/// overwrite the file while a tensor of it lives. Release `*out` once.
///
/// # Safety
/// `path` is NULL or a string; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_safetensors_map(
    path: *const c_char,
    out: *mut *mut neuro_safetensors_t,
) -> neuro_status_t {
    const OP: &str = "neuro_safetensors_map";
    let map = || {
        // SAFETY: as this function's condition says.
        let path = unsafe { file_path(OP, path) }?;
        File::new(OP, path, safetensors::map(path)?)
    };
    // SAFETY: as this function's condition says.
    unsafe { guard::give_handle(OP, out, map) }
}

/// One more reference to `file`, to be released once.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_safetensors_retain(file: *mut neuro_safetensors_t) -> neuro_status_t {
    guard::retain::<File>("neuro_safetensors_retain", file)
}

/// One reference to `file` less. With the last one its tensors are released too; those that were retained live on. NULL
/// does nothing; a release after the last one is `NEURO_INVALID_FREE` and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_safetensors_release(file: *mut neuro_safetensors_t) -> neuro_status_t {
    guard::release::<File>("neuro_safetensors_release", file)
}

/// Number of tensors. 0 where the handle is not live, which sets the error.
///
/// # Safety
/// A live `file` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_safetensors_get_count(file: *const neuro_safetensors_t) -> usize {
    guard::value(0, || {
        // SAFETY: forwarded condition.
        let file: &File = unsafe { guard::live("neuro_safetensors_get_count", file) }?;
        Ok(file.entries.len())
    })
}

/// Name of tensor `index`, counted from 0 in the order of the file; lives as long as `file`. NULL past the last, and where
/// the handle is not live, which sets the error.
///
/// # Safety
/// A live `file` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_safetensors_get_name(file: *const neuro_safetensors_t, index: usize) -> *const c_char {
    const OP: &str = "neuro_safetensors_get_name";
    guard::value(ptr::null(), || {
        // SAFETY: forwarded condition.
        let file = unsafe { guard::live(OP, file) }?;
        Ok(entry(OP, file, index)?.0.as_ptr())
    })
}

/// The text that the writer of the file put beside the tensors under `key`; lives as long as `file`. NULL where there is
/// none, which is no error, and where the handle is not live or `key` is NULL, which sets the error.
///
/// # Safety
/// A live `file` is not released meanwhile; `key` is NULL or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_safetensors_get_metadata(
    file: *const neuro_safetensors_t,
    key: *const c_char,
) -> *const c_char {
    const OP: &str = "neuro_safetensors_get_metadata";
    guard::value(ptr::null(), || {
        // SAFETY: forwarded condition.
        let (file, key): (&File, &CStr) = unsafe { (guard::live(OP, file)?, guard::string(OP, "key", key)?) };
        Ok(file.metadata.get(key).map_or(ptr::null(), |text| text.as_ptr()))
    })
}

/// The tensor called `name`, borrowed: it lives as long as `file`. Keep it longer with `neuro_tensor_retain`, and release
/// only what was retained. An unknown name is `NEURO_OUT_OF_RANGE`.
///
/// # Safety
/// A live `file` is not released meanwhile; `name` is NULL or a string; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_safetensors_get_tensor(
    file: *const neuro_safetensors_t,
    name: *const c_char,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_safetensors_get_tensor";
    let find = || {
        // SAFETY: forwarded condition.
        let (file, name): (&File, &CStr) = unsafe { (guard::live(OP, file)?, guard::string(OP, "name", name)?) };
        match file.by_name.get(name) {
            Some(&index) => Ok(file.entries[index].1.0),
            None => Err(no_such_tensor(OP, file, name)),
        }
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give(OP, out, ptr::null_mut(), find) }
}

/// As `neuro_safetensors_get_tensor`, by its place in the order of the file.
///
/// # Safety
/// A live `file` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_safetensors_get_tensor_at(
    file: *const neuro_safetensors_t,
    index: usize,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_safetensors_get_tensor_at";
    // SAFETY: forwarded condition.
    unsafe {
        guard::give(OP, out, ptr::null_mut(), || {
            Ok(entry(OP, guard::live(OP, file)?, index)?.1.0)
        })
    }
}

/// Writes `count` tensors under their names. A file that stands at `path` is replaced as a whole: whoever has it mapped
/// keeps the old one, and on failure it stays.
///
/// # Safety
/// `path` is NULL or a string; `names` and `tensors` are readable for `count`; each name is NULL or a string; live tensors
/// are not released meanwhile, and nobody writes their elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_safetensors_save(
    path: *const c_char,
    names: *const *const c_char,
    tensors: *const *mut neuro_tensor_t,
    count: usize,
) -> neuro_status_t {
    const OP: &str = "neuro_safetensors_save";
    guard::status(|| {
        // SAFETY: forwarded condition.
        let (path, names, tensors) = unsafe {
            let names = guard::array(OP, "names", names, count)?;
            (
                file_path(OP, path)?,
                names,
                guard::array(OP, "tensors", tensors, count)?,
            )
        };
        let named = names.iter().zip(tensors).map(|(&name, &tensor)| {
            // SAFETY: forwarded condition.
            unsafe { Ok((guard::text(OP, "a name", name)?, guard::live::<DynTensor>(OP, tensor)?)) }
        });
        Ok(safetensors::save(path, &named.collect::<Result<Vec<_>>>()?, None)?)
    })
}

fn entry<'a>(op: &'static str, file: &'a File, index: usize) -> Result<&'a (CString, TensorHandle)> {
    file.entries.get(index).ok_or_else(|| {
        let message = format!("{op}: tensor {index} is out of range for {}", file.entries.len());
        Failure::new(NEURO_OUT_OF_RANGE, message)
    })
}

fn no_such_tensor(op: &'static str, file: &File, name: &CStr) -> Failure {
    const SHOWN: usize = 8;
    let names: Vec<_> = file
        .entries
        .iter()
        .take(SHOWN)
        .map(|(name, _)| name.to_string_lossy())
        .collect();
    let more = if file.entries.len() > SHOWN { ", …" } else { "" };
    let message = format!(
        "{op}: no tensor is called {:?}; the {} there are: {}{more}",
        name.to_string_lossy(),
        file.entries.len(),
        names.join(", ")
    );
    Failure::new(NEURO_OUT_OF_RANGE, message)
}

/// # Safety
/// `path` is NULL or a string that nobody writes during `'a`.
unsafe fn file_path<'a>(op: &'static str, path: *const c_char) -> Result<&'a Path> {
    // SAFETY: forwarded condition.
    let path = unsafe { guard::string(op, "path", path) }?;
    // Names of files are bytes, not necessarily UTF-8.
    Ok(Path::new(OsStr::from_bytes(path.to_bytes())))
}
