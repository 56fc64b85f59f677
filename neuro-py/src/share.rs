//! Memory of devices that goes to another process by file descriptor.

use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd};

use neuro_core::{DynTensor, Exported};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::raise;
use crate::tensor::PyTensor;
use crate::{create, dtype, shape};

#[pymethods]
impl PyTensor {
    /// The memory of a device that the tensor lies in, for another process: what import_fd takes, as a dict. The tensor is
    /// contiguous, and of a MemoryPool with export=True.
    ///
    /// "fd" is the caller's to close (os.close) and to send (socket.send_fds); the rest is str, int and tuple. Waits until what was
    /// submitted on the tensor is done. Then both sides use the same bytes, and order that themselves: who has written waits until
    /// that is done, and tells the other. Keep the tensor as long as the other side uses it.
    fn export_fd<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let exported = py.detach(|| self.inner.export_fd()).map_err(raise)?;
        let dict = PyDict::new(py);
        dict.set_item("allocation_bytes", exported.allocation_bytes)?;
        dict.set_item("offset", exported.offset)?;
        dict.set_item("bytes", exported.bytes)?;
        dict.set_item("device_uuid", hex(exported.device_uuid))?;
        dict.set_item("driver_uuid", hex(exported.driver_uuid))?;
        dict.set_item("dtype", dtype::name(py, exported.dtype))?;
        dict.set_item("shape", self.shape(py)?)?;
        dict.set_item("fd", exported.fd.into_raw_fd())?;
        Ok(dict)
    }
}

/// Tensor on `device` in memory that Tensor.export_fd exported, in this process or another: import_fd("vulkan:0", **exported), with
/// the received descriptor as fd, which stays the caller's. The memory goes back with the last tensor on it, if nobody else has it.
///
/// The numbers have to be those that were exported; what is not such memory raises as far as this library and the driver can tell.
#[pyfunction]
#[pyo3(signature = (device, *, fd, allocation_bytes, offset, bytes, device_uuid, driver_uuid, dtype, shape))]
#[expect(clippy::too_many_arguments, reason = "they are keywords, and come from a dict")]
fn import_fd(
    py: Python<'_>,
    device: &Bound<'_, PyAny>,
    fd: i32,
    allocation_bytes: &Bound<'_, PyAny>,
    offset: &Bound<'_, PyAny>,
    bytes: &Bound<'_, PyAny>,
    device_uuid: &str,
    driver_uuid: &str,
    dtype: &Bound<'_, PyAny>,
    shape: &Bound<'_, PyAny>,
) -> PyResult<PyTensor> {
    let number = |what: &str, number: &Bound<'_, PyAny>| -> PyResult<u64> {
        let number = shape::bytes(what, Some(number))?;
        Ok(number.map_or(0, |number| number as u64))
    };
    let exported = Exported {
        fd: copy_of(fd)?,
        allocation_bytes: number("allocation_bytes", allocation_bytes)?,
        offset: number("offset", offset)?,
        bytes: number("bytes", bytes)?,
        device_uuid: uuid("device_uuid", device_uuid)?,
        driver_uuid: uuid("driver_uuid", driver_uuid)?,
        dtype: dtype::parse(dtype)?,
        shape: shape::parse(shape)?.to_vec(),
    };
    let device = create::parse_device(device)?;
    // SAFETY: the caller's promise, as with every protocol that hands over memory.
    let tensor = py.detach(|| unsafe { DynTensor::import_fd(device, &exported) });
    Ok(tensor.map_err(raise)?.into())
}

/// A descriptor of our own for what `fd` is.
fn copy_of(fd: i32) -> PyResult<OwnedFd> {
    if fd < 0 {
        return Err(PyValueError::new_err(format!(
            "fd {fd} is no descriptor; they count from 0"
        )));
    }
    // SAFETY: not -1. It is only asked to be copied, which says whether it is open.
    let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
    copy.map_err(|error| PyValueError::new_err(format!("fd {fd} cannot be used: {error}")))
}

fn hex(uuid: [u8; 16]) -> String {
    uuid.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn uuid(what: &str, text: &str) -> PyResult<[u8; 16]> {
    let digits = (text.len() == 32).then(|| u128::from_str_radix(text, 16));
    match digits {
        Some(Ok(number)) => Ok(number.to_be_bytes()),
        _ => Err(PyValueError::new_err(format!(
            "{what} {text:?} is not a uuid of 32 digits, as devices() shows it"
        ))),
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(import_fd, module)?)
}
