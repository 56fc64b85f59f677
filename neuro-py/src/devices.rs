//! `devices()`: what there is beside the CPU.

use neuro_core::{DeviceInfo, Discovery};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The devices of this machine beside the CPU, as a list of dicts (device, name, kind, driver, api, uuid, heaps,
/// max_allocation_bytes, max_allocations, max_kernel_bytes, host_import_alignment, unusable), and a dict of what is missing: its name
/// and how to get it.
#[pyfunction]
fn devices(py: Python<'_>) -> PyResult<(Bound<'_, PyList>, Bound<'_, PyDict>)> {
    // Drivers take their time to load.
    let Discovery { devices, missing, .. } = py.detach(neuro_core::devices);
    let list = PyList::empty(py);
    for info in &devices {
        list.append(describe(py, info)?)?;
    }
    let absent = PyDict::new(py);
    for (what, why) in missing {
        absent.set_item(what, why)?;
    }
    Ok((list, absent))
}

fn describe<'py>(py: Python<'py>, info: &DeviceInfo) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("device", info.device.to_string())?;
    dict.set_item("name", &info.name)?;
    dict.set_item("kind", info.kind)?;
    dict.set_item("driver", &info.driver)?;
    dict.set_item("api", &info.api)?;
    let uuid: String = info.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    dict.set_item("uuid", uuid)?;
    let heaps = PyList::empty(py);
    for heap in &info.heaps {
        let entry = PyDict::new(py);
        entry.set_item("bytes", heap.bytes)?;
        entry.set_item("device_local", heap.device_local)?;
        entry.set_item("budget", heap.budget.map(|(budget, _)| budget))?;
        entry.set_item("used", heap.budget.map(|(_, used)| used))?;
        heaps.append(entry)?;
    }
    dict.set_item("heaps", heaps)?;
    dict.set_item("max_allocation_bytes", info.max_allocation_bytes)?;
    dict.set_item("max_allocations", info.max_allocations)?;
    dict.set_item("max_kernel_bytes", info.max_kernel_bytes)?;
    dict.set_item("host_import_alignment", info.host_import_alignment)?;
    dict.set_item("unusable", &info.unusable)?;
    Ok(dict)
}

/// Gives all devices back before the process ends, for good: waits until they are idle, frees their memory, lets the drivers go.
///
/// Nobody has to call it. From then on what needs a device raises NeuroMemoryError, transfers under way fail, and tensors that are left
/// can be dropped. Memory that is mapped stays. A second call does nothing.
#[pyfunction]
fn shutdown(py: Python<'_>) {
    py.detach(neuro_core::shutdown);
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(shutdown, module)?)?;
    module.add_function(wrap_pyfunction!(devices, module)?)
}
