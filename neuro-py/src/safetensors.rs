//! Safetensors files: the core's loader and writer, by path.

use std::collections::HashMap;
use std::path::PathBuf;

use neuro_core::DynTensor;
use neuro_core::io::safetensors;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::array;
use crate::error::raise;
use crate::pool::PyMemoryPool;
use crate::tensor::PyTensor;

/// Tensors of a safetensors file by name, in the order of the file.
///
/// pool: where to copy them (None: the default pool).
/// mmap: map the file instead; nothing is copied, the tensors are read-only, and the file must not change meanwhile.
#[pyfunction]
#[pyo3(signature = (path, pool=None, mmap=false))]
fn load_file<'py>(
    py: Python<'py>,
    path: PathBuf,
    pool: Option<&Bound<'py, PyMemoryPool>>,
    mmap: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let pool = pool.map(|pool| &pool.get().inner);
    let file = py
        .detach(|| {
            if mmap {
                safetensors::map(&path)
            } else {
                safetensors::load(&path, pool)
            }
        })
        .map_err(raise)?;
    let dict = PyDict::new(py);
    for (name, tensor) in file.tensors {
        dict.set_item(name, Bound::new(py, PyTensor::from(tensor))?)?;
    }
    Ok(dict)
}

/// The free-form strings a safetensors file carries; empty where it has none.
#[pyfunction]
fn load_metadata(py: Python<'_>, path: PathBuf) -> PyResult<HashMap<String, String>> {
    let file = py.detach(|| safetensors::map(&path)).map_err(raise)?;
    Ok(file.metadata.unwrap_or_default())
}

/// Writes tensors to a safetensors file, all or nothing: an old file of this name stays until the new one is whole.
///
/// tensors: by name; tensors, or anything with a buffer or DLPack.
/// metadata: free-form strings to keep in the file.
#[pyfunction]
#[pyo3(signature = (tensors, path, metadata=None))]
fn save_file(
    py: Python<'_>,
    tensors: &Bound<'_, PyDict>,
    path: PathBuf,
    metadata: Option<HashMap<String, String>>,
) -> PyResult<()> {
    let mut owned: Vec<(String, DynTensor)> = Vec::with_capacity(tensors.len());
    // Over a list of its own: asking a value for its memory may run code that changes the dict.
    for item in tensors.items() {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        owned.push((name.extract()?, array::to_tensor(&value)?.get().inner.clone()));
    }
    py.detach(|| {
        let named: Vec<(&str, &DynTensor)> = owned.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        safetensors::save(&path, &named, metadata)
    })
    .map_err(raise)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(load_file, module)?)?;
    module.add_function(wrap_pyfunction!(load_metadata, module)?)?;
    module.add_function(wrap_pyfunction!(save_file, module)?)
}
