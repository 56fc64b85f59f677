//! Writing (S2).

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::header::{encode, io_error};
use crate::error::{Error, Result};
use crate::tensor::DynTensor;

/// Small tensors and the header are gathered to writes of this many bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// Symbolic links that are followed one after the other, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Mode of a new file, less the umask: what `File::create` gives.
const NEW_FILE_MODE: u32 = 0o666;

/// Who may read, write and execute a file, and not the bits that change whose rights a program has.
const ACCESS_BITS: u32 = 0o777;

/// Saves tensors, contiguous or not, under their names, with texts beside them.
///
/// The file appears whole or not at all, in the place of one that was there; whoever has that one open or mapped keeps it.
/// The process must be allowed to write to the directory. Where `path` is a symbolic link, the file that it leads to is
/// replaced, and the link stays. Who may read and write a replaced file stays as it was. Only a regular file is ever
/// replaced: a pipe, a device or a directory is refused. Bytes are ordered by the alignment of the dtypes, the
/// largest first, then as given, so that every tensor is aligned when the file is mapped. The same input makes the same
/// bytes.
///
/// Tensors whose address left Rust must be left alone by whoever has it until this returns.
///
/// # Errors
/// [`Error::InvalidArgument`] for a name given twice, the reserved name `__metadata__`, or a dtype the format lacks
/// (complex128); [`Error::Io`], also where something other than a regular file stands at `path`; [`Error::OutOfMemory`] for the copy of a tensor that is not contiguous;
/// [`Error::Unavailable`] for memory the processor cannot reach.
///
/// # Examples
/// ```
/// # use neuro_core::{DType, DynTensor, io::safetensors};
/// # let folder = std::env::temp_dir().join(format!("neuro-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("weights.safetensors");
/// let weight = DynTensor::from_slice(&[2, 2], &[1f32, 2.0, 3.0, 4.0])?;
/// safetensors::save(&path, &[("weight", &weight)], None)?;
/// let file = safetensors::load(&path, None)?;
/// assert_eq!(file.tensors[0].0, "weight");
/// assert_eq!(file.tensors[0].1.to_vec::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), neuro_core::Error>(())
/// ```
pub fn save<S: AsRef<str>>(
    path: impl AsRef<Path>,
    tensors: &[(S, &DynTensor)],
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let path = path.as_ref();
    check_names(tensors)?;
    let mut ordered: Vec<(&str, &DynTensor)> = tensors.iter().map(|(name, tensor)| (name.as_ref(), *tensor)).collect();
    ordered.sort_by_key(|(_, tensor)| Reverse(tensor.dtype().align()));
    let described: Vec<_> = ordered
        .iter()
        .map(|(name, tensor)| (*name, tensor.dtype(), tensor.shape(), tensor.nbytes()))
        .collect();
    let header = encode(&described, metadata.as_ref())?;

    let failed = |error| io_error(path, error);
    let Destination { path: place, mode } = destination(path).map_err(failed)?;
    let folder = match place.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Dropped before it is renamed, it removes itself.
    let temporary = tempfile::Builder::new()
        .prefix(".safetensors-")
        .permissions(Permissions::from_mode(mode.unwrap_or(NEW_FILE_MODE)))
        .tempfile_in(folder)
        .map_err(failed)?;
    if let Some(mode) = mode {
        // The umask took bits away that the replaced file has. Before the first byte, so that nobody reads one too early.
        temporary
            .as_file()
            .set_permissions(Permissions::from_mode(mode))
            .map_err(failed)?;
    }
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, temporary.as_file());
    out.write_all(&header).map_err(failed)?;
    for (_, tensor) in &ordered {
        tensor
            .contiguous()?
            .with_bytes("save", |bytes| out.write_all(bytes))?
            .map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    drop(out);
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(&place).map_err(|error| failed(error.error))?;
    // Makes the new name last through a power cut. The file is in its place already, and some file systems cannot sync a
    // folder, so a refusal is no failure of the save.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Where a file is put, and what it replaces.
struct Destination {
    /// No symbolic link.
    path: PathBuf,
    /// The access bits of the file that is replaced, if there is one.
    mode: Option<u32>,
}

/// Follows the links from `path` on, to a file or to a name that is free.
///
/// A rename replaces whatever stands there, a device node too, so what is no regular file is refused before.
fn destination(path: &Path) -> io::Result<Destination> {
    let mut path = path.to_owned();
    for _ in 0..=MAX_LINKS {
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Destination { path, mode: None }),
            Err(error) => return Err(error),
        };
        if found.is_file() {
            let mode = Some(found.permissions().mode() & ACCESS_BITS);
            return Ok(Destination { path, mode });
        }
        if !found.is_symlink() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file, so it is not replaced; save under another name",
            ));
        }
        // Relative to the folder of the link.
        let link = fs::read_link(&path)?;
        path.pop();
        path.push(link);
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

fn check_names<S: AsRef<str>>(tensors: &[(S, &DynTensor)]) -> Result<()> {
    let refuse = |what| Err(Error::InvalidArgument { op: "save", what });
    let mut seen = HashSet::with_capacity(tensors.len());
    for (name, _) in tensors {
        let name = name.as_ref();
        if name == "__metadata__" {
            return refuse("the name \"__metadata__\" is the format's own; choose another".to_owned());
        }
        if !seen.insert(name) {
            return refuse(format!("two tensors are named {name:?}; names must differ"));
        }
    }
    Ok(())
}
