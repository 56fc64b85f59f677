//! Kernels of a user's on tensors of a CUDA device: `Module` and `Kernel` of `neuro_memory.cuda`.
//!
//! What a kernel does with its tensors is its author's promise: nothing here can look into it.

use neuro_core::cuda::{Arg, CompileOptions, Function, Grid, Module};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PySequence, PyTuple};

use crate::cuda::PyStream;
use crate::error::raise;
use crate::tensor::PyTensor;
use crate::{create, element};

/// Kernels that a CUDA device has, from compile() or load(). Its kernels keep it. Any thread may use it.
#[pyclass(frozen, weakref, name = "Module", module = "neuro_memory.cuda")]
pub(crate) struct PyCudaModule {
    inner: Module,
}

#[pymethods]
impl PyCudaModule {
    /// The kernel called name.
    ///
    /// parameters: what its declaration has between the parentheses, as "const float *x, float *y, int n": pointers that are not const
    ///     are written through. None: they are found in the source, if that was compiled here.
    #[pyo3(signature = (name, parameters=None), text_signature = "($self, name, parameters=None)")]
    fn kernel(&self, py: Python<'_>, name: &str, parameters: Option<&str>) -> PyResult<PyKernel> {
        let inner = py.detach(|| self.inner.function(name, parameters)).map_err(raise)?;
        Ok(PyKernel { inner })
    }

    /// The device that has it: "cuda:0".
    #[getter]
    fn device(&self) -> String {
        self.inner.device().to_string()
    }

    /// What the compiler remarked, warnings above all; empty where there is nothing, or it was loaded.
    #[getter]
    fn log(&self) -> &str {
        self.inner.log()
    }

    fn __repr__(&self) -> String {
        format!("Module({})", self.inner.device())
    }
}

/// A kernel of a Module. Any thread may launch it.
#[pyclass(frozen, weakref, name = "Kernel", module = "neuro_memory.cuda")]
pub(crate) struct PyKernel {
    inner: Function,
}

#[pymethods]
impl PyKernel {
    /// Runs the kernel on its device, in order with all else that is done with the tensors, before and after. Nobody waits: it is under
    /// way when this returns, and the tensors may be dropped.
    ///
    /// grid: blocks, and block: threads of each, as an int or up to three (x, y, z); grid_for() gives both.
    /// args: for a pointer a Tensor: on the kernel's device, of the pointer's type, contiguous, and not read-only where the pointer is
    ///     not const. Else a number, which becomes one of the parameter's type: floats are rounded, and nothing else may be lost.
    /// shared: bytes of shared memory of a block, beside what the kernel declares.
    /// stream: a Stream to run on (None: the library's own).
    #[pyo3(
        signature = (grid, block, *args, shared=0, stream=None),
        text_signature = "($self, grid, block, *args, shared=0, stream=None)"
    )]
    fn launch(
        &self,
        py: Python<'_>,
        grid: &Bound<'_, PyAny>,
        block: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        shared: u32,
        stream: Option<&Bound<'_, PyStream>>,
    ) -> PyResult<()> {
        let grid = Grid {
            blocks: axes("grid", grid)?,
            threads: axes("block", block)?,
            shared_bytes: shared,
        };
        let objects: Vec<Bound<'_, PyAny>> = args.iter().collect();
        let arguments: Vec<Arg<'_>> = objects.iter().map(argument).collect::<PyResult<_>>()?;
        let stream = stream.map(|stream| &stream.get().inner);
        py.detach(|| match stream {
            // SAFETY: the user's promise, as with every kernel; the arguments were checked.
            Some(stream) => unsafe { stream.launch(&self.inner, &grid, &arguments) },
            // SAFETY: as above.
            None => unsafe { self.inner.launch(&grid, &arguments) },
        })
        .map_err(raise)
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        self.inner.name()
    }

    /// Its parameters, as CUDA C writes them.
    #[getter]
    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inner.parameters().iter().map(ToString::to_string))
    }

    /// The device that runs it: "cuda:0".
    #[getter]
    fn device(&self) -> String {
        self.inner.device().to_string()
    }

    fn __repr__(&self) -> String {
        let parameters: Vec<String> = self.inner.parameters().iter().map(ToString::to_string).collect();
        format!(
            "Kernel({}({}) on {})",
            self.inner.name(),
            parameters.join(", "),
            self.inner.device()
        )
    }
}

/// A tensor or a number.
fn argument<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<Arg<'a>> {
    match object.cast::<PyTensor>() {
        Ok(tensor) => Ok(Arg::Tensor(&tensor.get().inner)),
        Err(_) => match element::scalar(object) {
            Ok(number) => Ok(Arg::Scalar(number)),
            Err(error) if error.is_instance_of::<PyTypeError>(object.py()) => Err(not_an_argument(object)),
            Err(error) => Err(error),
        },
    }
}

fn not_an_argument(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "an argument of a kernel is a Tensor or a number, not {}; from_dlpack makes a Tensor of what another library has there",
        object.get_type()
    ))
}

/// One to three numbers; those that are not said are 1.
fn axes(what: &str, object: &Bound<'_, PyAny>) -> PyResult<[u32; 3]> {
    let length = |item: &Bound<'_, PyAny>| {
        item.extract::<u32>().map_err(|error: PyErr| {
            if error.is_instance_of::<PyOverflowError>(item.py()) {
                PyValueError::new_err(format!("{what}: {item} is out of range: 1 to {}", i32::MAX))
            } else {
                PyTypeError::new_err(format!(
                    "{what} is an int or up to three of them, not {}",
                    item.get_type()
                ))
            }
        })
    };
    let mut lengths = [1; 3];
    if let Some(number) = element::index(object)? {
        lengths[0] = length(&number)?;
        return Ok(lengths);
    }
    // Text has a length, too.
    let Ok(items) = object.cast::<PySequence>() else {
        return length(object).map(|x| [x, 1, 1]);
    };
    let count = items.len()?;
    if !(1..=3).contains(&count) {
        return Err(PyValueError::new_err(format!(
            "{what} has {count} axes; give one to three"
        )));
    }
    for (axis, to) in lengths.iter_mut().enumerate().take(count) {
        *to = length(&items.get_item(axis)?)?;
    }
    Ok(lengths)
}

/// Compiles CUDA C for a device, and loads it there.
#[pyfunction]
fn _cuda_compile(
    py: Python<'_>,
    source: &str,
    device: &Bound<'_, PyAny>,
    options: Vec<String>,
    name: Option<&str>,
    instances: Vec<String>,
) -> PyResult<PyCudaModule> {
    let device = create::parse_device(device)?;
    let mut all = CompileOptions::new();
    if let Some(name) = name {
        all = all.name(name);
    }
    let all = options.into_iter().fold(all, CompileOptions::option);
    let all = instances.into_iter().fold(all, CompileOptions::instance);
    let inner = py.detach(|| Module::compile(device, source, &all)).map_err(raise)?;
    Ok(PyCudaModule { inner })
}

/// Loads PTX or a binary.
#[pyfunction]
fn _cuda_load(py: Python<'_>, image: &[u8], device: &Bound<'_, PyAny>) -> PyResult<PyCudaModule> {
    let device = create::parse_device(device)?;
    // SAFETY: that it is whole is the user's promise. Nobody changes `bytes`.
    let inner = py.detach(|| unsafe { Module::load(device, image) }).map_err(raise)?;
    Ok(PyCudaModule { inner })
}

/// Blocks, and threads of each, of which there are at least as many as elements.
#[pyfunction]
fn _cuda_grid_for(elements: usize, threads: u32) -> PyResult<(u32, u32)> {
    let grid = Grid::for_elements(elements, threads).map_err(raise)?;
    Ok((grid.blocks[0], grid.threads[0]))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("_CudaModule", py.get_type::<PyCudaModule>())?;
    module.add("_CudaKernel", py.get_type::<PyKernel>())?;
    module.add_function(wrap_pyfunction!(_cuda_compile, module)?)?;
    module.add_function(wrap_pyfunction!(_cuda_load, module)?)?;
    module.add_function(wrap_pyfunction!(_cuda_grid_for, module)?)
}
