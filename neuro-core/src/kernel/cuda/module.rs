//! `Module`: kernels that a device has, from CUDA C that is compiled here or from what a compiler made elsewhere.
//!
//! Invariant M1: a module is unloaded when all launches of its kernels are known to be done, or never: not in a forked child, not after
//! [`shutdown`](crate::shutdown), not when the process ends.
//!
//! What is compiled is tried as code of the device's own architecture first, which also drivers take that are older than the compiler,
//! and then as PTX, which drivers take that are newer. Where the device is newer than the compiler knows, it is compiled for the
//! newest that both know.

use std::ffi::CString;
use std::fmt;
use std::sync::Arc;

use super::launch::Function;
use super::nvrtc::{Compiled, architectures, compile_with_names, include_folder};
use super::options::CompileOptions;
use super::prototype::parameters_of;
use super::signature::Parameter;
use crate::backend::raw_cuda::RawCuda;
use crate::backend::{Backend, Refusal, Ticket, life};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::pool::device::{Engine, Numbers, engine_of};
use crate::sync::global::{Mutex, lock};

/// Kernels that a device has. Its functions keep it.
///
/// # Examples
/// ```no_run
/// use neuro_core::cuda::{CompileOptions, Grid, Module};
/// use neuro_core::{DType, Device, DynTensor};
///
/// let source = r#"
/// extern "C" __global__ void add(const float* x, float* y, unsigned int n) {
///     unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;
///     if (i < n) y[i] += x[i];
/// }"#;
/// let device = Device::Cuda(0);
/// let add = Module::compile(device, source, &CompileOptions::new())?.function("add", None)?;
/// let x = DynTensor::zeros_on(device, &[1000], DType::F32)?;
/// let y = DynTensor::zeros_on(device, &[1000], DType::F32)?;
/// // SAFETY: the kernel reads and writes the first 1000 elements only, and ends.
/// unsafe { add.launch(&Grid::for_elements(1000, 256)?, &[(&x).into(), (&y).into(), 1000u32.into()]) }?;
/// let sum = y.to_device(Device::Cpu)?; // behind the kernel
/// # Ok::<(), neuro_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Module {
    loaded: Arc<Loaded>,
}

/// A module of the driver's.
pub(super) struct Loaded {
    pub(super) engine: Arc<Engine>,
    /// `CUmodule`.
    handle: usize,
    /// The last launch of each queue.
    used: Mutex<Numbers>,
    /// What was compiled, and what came of it beside code.
    source: Option<String>,
    lowered: Vec<(String, String)>,
    log: String,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("device", &self.device())
            .field("handle", &format_args!("{:#x}", self.loaded.handle))
            .finish_non_exhaustive()
    }
}

impl Module {
    /// Compiles CUDA C for `device`, and loads it there.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with what the compiler said, and for a device that is none of CUDA's; [`Error::Unavailable`] where there is
    /// no such device, or no NVRTC; [`Error::Driver`] where the driver takes none of what came of it; [`Error::DeviceLost`].
    pub fn compile(device: Device, source: &str, options: &CompileOptions) -> Result<Self> {
        Self::compile_on(engine("Module::compile", device)?, source, options)
    }

    /// Loads PTX, a binary of `nvcc -cubin`, or one of `nvcc -fatbin`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where it is empty, and for a device that is none of CUDA's; [`Error::Unavailable`] where there is no such
    /// device; [`Error::Driver`] where the driver does not take it; [`Error::DeviceLost`].
    ///
    /// # Safety
    /// It is whole: the driver reads a binary to the end that stands in it.
    pub unsafe fn load(device: Device, image: &[u8]) -> Result<Self> {
        Self::load_on(engine("Module::load", device)?, image)
    }

    pub(super) fn compile_on(engine: Arc<Engine>, source: &str, options: &CompileOptions) -> Result<Self> {
        const OP: &str = "Module::compile";
        let cuda = cuda_of(&engine, OP)?;
        let capability = cuda.handles().capability;
        let mut all: Vec<String> = options.options.clone();
        let mut runs_binaries = true;
        if !options.names_architecture() {
            let architecture =
                architecture(capability, architectures()?.as_deref()).map_err(|reason| Error::Unavailable {
                    what: format!("the compilation of {} for {}", options.name, engine.device()),
                    reason,
                })?;
            runs_binaries = architecture / 10 == capability.0;
            all.push(format!("--gpu-architecture=sm_{architecture}"));
        }
        // Last, so that folders of the caller's come first.
        all.extend(include_folder().map(|folder| format!("--include-path={}", folder.display())));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let compiled = compile_with_names(source, &options.name, &all, &options.instances)?;
        let handle = load_first(&engine, cuda, &images(&compiled, runs_binaries))?;
        Ok(Self::of(Loaded {
            engine,
            handle,
            used: Mutex::default(),
            source: Some(source.to_owned()),
            lowered: compiled.lowered,
            log: compiled.log,
        }))
    }

    pub(super) fn load_on(engine: Arc<Engine>, image: &[u8]) -> Result<Self> {
        const OP: &str = "Module::load";
        if image.iter().all(|&byte| byte == 0) {
            return Err(Error::InvalidArgument {
                op: OP,
                what: format!(
                    "{} B of image are given, with nothing in them; give PTX or a binary",
                    image.len()
                ),
            });
        }
        let handle = load_first(&engine, cuda_of(&engine, OP)?, &[image])?;
        Ok(Self::of(Loaded {
            engine,
            handle,
            used: Mutex::default(),
            source: None,
            lowered: Vec::new(),
            log: String::new(),
        }))
    }

    fn of(loaded: Loaded) -> Self {
        Self {
            loaded: Arc::new(loaded),
        }
    }

    /// The device that has it.
    pub fn device(&self) -> Device {
        self.loaded.engine.device()
    }

    /// What the compiler remarked; empty where it was not compiled here, or there is nothing to remark.
    pub fn log(&self) -> &str {
        &self.loaded.log
    }

    /// A kernel of it. `signature` are its parameters as [`Parameter::parse_list`] takes them; of source that was compiled here they are found
    /// where `signature` is `None`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a signature that is not understood or not found; [`Error::Driver`] where there is no such kernel;
    /// [`Error::DeviceLost`].
    pub fn function(&self, name: &str, signature: Option<&str>) -> Result<Function> {
        let loaded = &self.loaded;
        let refused = |what: String| Error::InvalidArgument {
            op: "Module::function",
            what: format!("kernel {name}: {what}"),
        };
        let parameters = match (signature, &loaded.source) {
            (Some(signature), _) => Parameter::parse_list(signature)?,
            (None, Some(source)) => parameters_of(source, name).map_err(refused)?,
            (None, None) => {
                let what =
                    "the module was not compiled here; give the signature, as \"const float* x, float* y, int n\"";
                return Err(refused(what.to_owned()));
            }
        };
        let asked = loaded.lowered.iter().find(|(instance, _)| instance == name);
        let in_code = asked.map_or(name, |(_, lowered)| lowered);
        let in_code = CString::new(in_code).map_err(|_| refused("the name has a zero byte in it".to_owned()))?;
        let cuda = cuda_of(&loaded.engine, "Module::function")?;
        let handle = cuda
            .function(loaded.handle, &in_code)
            .map_err(|refusal| loaded.error(refusal, &format!("kernel {name}")))?;
        Ok(Function::new(Arc::clone(loaded), handle, name, parameters))
    }
}

impl Loaded {
    /// Writes down a launch.
    pub(super) fn note(&self, ticket: Ticket) {
        let mut used = lock(&self.used);
        let number = &mut used[ticket.queue.index()];
        *number = ticket.number.max(*number);
    }

    /// What the caller is told of a refusal, with what he wanted.
    pub(super) fn error(&self, refusal: Refusal, wanted: &str) -> Error {
        match refusal {
            Refusal::Call { call, code, meaning } => self.engine.error(Refusal::Call {
                call,
                code,
                meaning: format!("{meaning} ({wanted})"),
            }),
            refusal => self.engine.error(refusal),
        }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // In a forked child it is the parent's, and a lock of the engine may be that of a thread which is not here.
        if self.engine.is_here() {
            let unload = Unload {
                backend: self.engine.backend(),
                module: self.handle,
            };
            self.engine.keep(*lock(&self.used), Box::new(unload));
        }
    }
}

/// Unloads a module when it is dropped: when its launches are done (M1).
struct Unload {
    backend: &'static dyn Backend,
    module: usize,
}

impl Drop for Unload {
    fn drop(&mut self) {
        // Not when devices are shut down or drivers may be gone.
        if let (Ok(_inside), Some(cuda)) = (life::enter(), self.backend.cuda()) {
            // SAFETY: it was loaded there, its functions are gone with it, and the engine drops this when its launches are done.
            unsafe { cuda.unload_module(self.module) };
        }
    }
}

fn engine(op: &'static str, device: Device) -> Result<Arc<Engine>> {
    let Device::Cuda(_) = device else {
        return Err(Error::InvalidArgument {
            op,
            what: format!("{device} is no CUDA device; name one, as cuda:0"),
        });
    };
    engine_of(device)
}

fn cuda_of(engine: &Engine, op: &'static str) -> Result<&'static dyn RawCuda> {
    engine.check()?;
    engine.backend().cuda().ok_or_else(|| engine.not_cuda(op))
}

/// The newest architecture that is known and that the device can run, as 90.
///
/// # Errors
/// Why there is none.
fn architecture((major, minor): (u32, u32), known: Option<&[u32]>) -> Result<u32, String> {
    let device = major * 10 + minor;
    let Some(known) = known else {
        return Ok(device);
    };
    known.iter().copied().filter(|&known| known <= device).max().ok_or_else(|| {
        let oldest = known.iter().min().copied().unwrap_or(0);
        format!(
            "the device is of compute capability {major}.{minor}, and this NVRTC compiles for {}.{} and newer; use an older one",
            oldest / 10,
            oldest % 10
        )
    })
}

/// What the driver is to be given, best first.
fn images(compiled: &Compiled, runs_binaries: bool) -> Vec<&[u8]> {
    let binary = compiled.cubin.as_deref().filter(|_| runs_binaries);
    binary
        .into_iter()
        .chain([compiled.ptx.as_slice()])
        .filter(|image| !image.is_empty())
        .collect()
}

/// Loads the first image that the driver takes.
fn load_first(engine: &Engine, cuda: &dyn RawCuda, images: &[&[u8]]) -> Result<usize> {
    engine.poll()?; // lets go of modules that are not used any more
    let mut said = Vec::new();
    let mut last = Refusal::NoMemory;
    for image in images {
        // The driver reads PTX to a byte that is zero.
        let closed: Vec<u8> = image.iter().copied().chain([0]).collect();
        match cuda.load_module(&closed) {
            Ok(handle) => return Ok(handle),
            Err(Refusal::Call { call, code, meaning }) => {
                said.push(format!("{code}: {meaning}"));
                last = Refusal::Call {
                    call,
                    code,
                    meaning: said.join("; then "),
                };
            }
            Err(refusal) => return Err(engine.error(refusal)),
        }
    }
    Err(engine.error(last))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_newest_architecture_that_both_know_is_taken() {
        let known: &[u32] = &[75, 80, 86, 90, 100];
        for (capability, expected) in [((9, 0), 90), ((8, 9), 86), ((12, 0), 100), ((7, 5), 75)] {
            assert_eq!(architecture(capability, Some(known)), Ok(expected));
        }
        assert_eq!(architecture((12, 1), None), Ok(121));
        let why = architecture((7, 0), Some(known)).unwrap_err();
        assert!(why.contains("7.0") && why.contains("7.5 and newer"), "{why}");
    }

    #[test]
    fn a_device_that_is_none_of_cudas_is_refused_by_name() {
        for device in [Device::Cpu, Device::Vulkan(0)] {
            let compiled = Module::compile(device, "", &CompileOptions::default());
            // SAFETY: nothing is loaded.
            for module in [compiled, unsafe { Module::load(device, b"x") }] {
                let error = module.unwrap_err().to_string();
                assert!(error.contains(&format!("{device} is no CUDA device")), "{error}");
            }
        }
    }
}
