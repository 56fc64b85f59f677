//! Where NVRTC is looked for.
//!
//! In this order: the file or folder that the environment variable `NEURO_NVRTC` names, and then nowhere else; names on the loader's
//! path; what [`add_nvrtc_path`] was told; the folders of the CUDA toolkit. What was found once is kept to the end of the process.
//!
//! A library that is opened by its path does not find its neighbour `libnvrtc-builtins`, unless that is loaded already with names that
//! everybody sees. So that is done first.

use std::path::{Path, PathBuf};

use super::calls::Calls;
use crate::backend::host::library::{Library, Names};
use crate::error::{Error, Result};
use crate::sync::global::{Mutex, OnceLock, lock};

/// File or folder, in the environment.
pub(super) const VARIABLE: &str = "NEURO_NVRTC";

/// Names of the library, newest first: of CUDA 13, 12, 11.2 to 11.8, and of what development packages install.
const NAMES: [&str; 4] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"];

/// Where the toolkit is, if it is not on the loader's path.
const TOOLKIT: [&str; 2] = ["/usr/local/cuda/lib64", "/opt/cuda/lib64"];

static ADDED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static OPEN: OnceLock<Calls> = OnceLock::new();

/// Has NVRTC be looked for in one more place: a file, or the folder that it is in. Has no effect on one that is in use already.
///
/// # Examples
/// ```
/// // What `pip install nvidia-cuda-nvrtc` makes.
/// neuro_core::cuda::add_nvrtc_path(".venv/lib/python3.11/site-packages/nvidia/cu13/lib");
/// ```
pub fn add_nvrtc_path(path: impl Into<PathBuf>) {
    let path = path.into();
    let mut added = lock(&ADDED);
    if !added.contains(&path) {
        added.push(path);
    }
}

/// The calls of NVRTC, which is opened if it was not.
///
/// # Errors
/// [`Error::Unavailable`] with all that was looked for, and how to get it. The next call looks again.
pub(super) fn calls() -> Result<&'static Calls> {
    if let Some(calls) = OPEN.get() {
        return Ok(calls);
    }
    let found = match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        Some(path) => search(&[], &[PathBuf::from(path)]),
        None => {
            let mut places = lock(&ADDED).clone();
            places.extend(TOOLKIT.map(PathBuf::from));
            search(&NAMES, &places)
        }
    };
    // Two threads may find it at the same time: they find the same.
    found.map(|calls| OPEN.get_or_init(|| calls)).map_err(|tried| Error::Unavailable {
        what: "NVRTC, the compiler of CUDA C".to_owned(),
        reason: format!(
            "tried {}; install it with `pip install nvidia-cuda-nvrtc` or with the CUDA toolkit, and where it is not on the loader's \
             path, name its file or folder in the environment variable {VARIABLE} or to add_nvrtc_path",
            tried.join(", ")
        ),
    })
}

/// The first library that is there: of these names on the loader's path, then in these places.
///
/// # Errors
/// What was tried, with why not where it is there and does not open.
pub(super) fn search(names: &[&str], places: &[PathBuf]) -> std::result::Result<Calls, Vec<String>> {
    let mut tried = Vec::new();
    for name in names {
        match open(Path::new(name)) {
            Ok(calls) => return Ok(calls),
            Err(why) if why.contains("No such file") => tried.push((*name).to_owned()),
            Err(why) => tried.push(format!("{name} ({why})")),
        }
    }
    for place in places {
        if !place.exists() {
            tried.push(format!("{} (not there)", place.display()));
            continue;
        }
        let files: Vec<PathBuf> = if place.is_dir() {
            NAMES
                .iter()
                .map(|name| place.join(name))
                .filter(|file| file.exists())
                .collect()
        } else {
            vec![place.clone()]
        };
        if files.is_empty() {
            tried.push(format!("{} (no libnvrtc.so in it)", place.display()));
        }
        for file in files {
            load_builtins(&file);
            match open(&file) {
                Ok(calls) => return Ok(calls),
                Err(why) => tried.push(why),
            }
        }
    }
    Err(tried)
}

fn open(name: &Path) -> std::result::Result<Calls, String> {
    // SAFETY: who has a library of this name on the loader's path, or names it, has NVRTC, which registers nothing when it is loaded.
    let library = unsafe { Library::open(name, Names::Own) }?;
    // SAFETY: as above.
    unsafe { Calls::of(library) }.map_err(|missing| format!("{} has no {missing}", name.display()))
}

/// Loads what NVRTC looks for by name only when it compiles. Where that fails, so does each compilation, in NVRTC's words.
fn load_builtins(library: &Path) {
    let Some(entries) = library.parent().and_then(|folder| folder.read_dir().ok()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // Beside it there may be an alternative, with `alt` in its name, for another NVRTC.
        if name.to_string_lossy().starts_with("libnvrtc-builtins.so") {
            // SAFETY: tables for NVRTC: nothing runs when they are loaded.
            let _ = unsafe { Library::open(&entry.path(), Names::Everybodys) };
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_with_where_it_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        let text = folder.path().join("libnvrtc.so.12");
        std::fs::write(&text, "no library").unwrap();
        let absent = folder.path().join("absent.so");
        let places = [empty.clone(), absent.clone(), folder.path().to_owned()];
        let tried = search(&["libnvrtc-of-nobody.so.3"], &places).unwrap_err();
        assert_eq!(tried.len(), 4, "{tried:?}");
        assert_eq!(tried[0], "libnvrtc-of-nobody.so.3");
        assert!(tried[1].contains(&*empty.to_string_lossy()) && tried[1].contains("no libnvrtc.so in it"));
        assert!(tried[2].contains(&*absent.to_string_lossy()), "{tried:?}");
        assert!(tried[3].contains(&*text.to_string_lossy()), "{tried:?}");
    }

    #[test]
    fn another_library_is_refused_by_the_call_that_it_lacks() {
        let tried = search(&["libc.so.6"], &[]).unwrap_err();
        assert_eq!(tried, ["libc.so.6 (libc.so.6 has no nvrtcVersion)"]);
    }
}
