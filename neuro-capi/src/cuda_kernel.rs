//! Kernels of the caller for a CUDA device, compiled here or loaded.
//!
//! Absent on purpose: a handle of a module. A kernel keeps its module, and leads to the others in it.

use std::ffi::{OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;

use neuro_core::cuda::{self, CompileOptions, Function, Module};

use crate::device::neuro_device_t;
use crate::guard::{self, Handle};
use crate::handles::{Table, the_table};
use crate::status::{Failure, Result, neuro_status_t};
use crate::structs::{self, SizedStruct};

/// A kernel that a CUDA device has. It keeps what it was loaded from; with the last kernel of that it is unloaded, when all launches
/// are done. Any thread may use it.
pub struct neuro_cuda_kernel_t(());

/// A kernel, and where others are found.
pub(crate) struct Kernel {
    module: Module,
    pub(crate) function: Function,
}

impl Handle for Kernel {
    type Opaque = neuro_cuda_kernel_t;
    const NAME: &'static str = "neuro_cuda_kernel_t";
    fn table() -> &'static Table<Self> {
        the_table!(Kernel, 7)
    }
}

/// How CUDA C is compiled. Set it to zeros, then `struct_size`, then what differs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_cuda_compile_options_t {
    /// `sizeof(neuro_cuda_compile_options_t)`.
    pub struct_size: usize,
    /// What the source is called in messages. NULL: `kernel.cu`.
    pub source_name: *const c_char,
    /// Options of NVRTC, as `"--use_fast_math"` or `"-DN=4"`. An architecture that is named so is the one that is taken; else it is the
    /// device's.
    pub options: *const *const c_char,
    /// How many.
    pub option_count: usize,
    /// Instances of templates that the compiler makes, as `"scale<float>"`, and kernels that are not `extern "C"`: only these are found
    /// by such names.
    pub instances: *const *const c_char,
    /// How many.
    pub instance_count: usize,
    /// The kernel's parameters, as `neuro_cuda_kernel_load` takes them. NULL: they are found in the source.
    pub parameters: *const c_char,
}

// SAFETY: repr(C), integers and nullable pointers of 64 bits, `struct_size` first.
unsafe impl SizedStruct for neuro_cuda_compile_options_t {}

/// Compiles CUDA C for `device` with NVRTC, loads it there, and finds the kernel called `name`. Where the source is wrong, that is
/// `NEURO_INVALID_ARGUMENT`, and the message has what the compiler said; where there is no NVRTC, `NEURO_UNAVAILABLE`, and the message has
/// where it was looked for. `options` may be NULL. Release `*out` once.
///
/// # Safety
/// `source` and `name` are NULL or strings; `options` is NULL or readable for its `struct_size`, its texts are NULL or strings, its arrays
/// readable for their counts; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_kernel_compile(
    device: neuro_device_t,
    source: *const c_char,
    name: *const c_char,
    options: *const neuro_cuda_compile_options_t,
    out: *mut *mut neuro_cuda_kernel_t,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_kernel_compile";
    let make = || {
        let device = device.to_core(OP)?;
        // SAFETY: forwarded condition.
        let (source, name) = unsafe { (guard::text(OP, "source", source)?, guard::text(OP, "name", name)?) };
        // SAFETY: forwarded condition.
        let given = unsafe { structs::read(OP, options) }?;
        // SAFETY: forwarded condition.
        let parameters = unsafe { optional(OP, "parameters", given.parameters) }?;
        // SAFETY: forwarded condition.
        let module = Module::compile(device, source, &unsafe { compile_options(OP, &given) }?)?;
        kernel(module, name, parameters)
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give_handle(OP, out, make) }
}

/// Loads the PTX, or the binary of `nvcc -cubin` or `-fatbin`, that the `image_bytes` at `image` are, and finds the kernel called `name` in
/// it. `parameters` are what its declaration has between the parentheses, as `"const float *x, float *y, int n"`: pointers that are not
/// `const` are written through. Release `*out` once.
///
/// # Safety
/// `image` is NULL or readable for `image_bytes`, and whole: the driver reads a binary to the end that stands in it; `name` and
/// `parameters` are NULL or strings; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_kernel_load(
    device: neuro_device_t,
    image: *const c_void,
    image_bytes: usize,
    name: *const c_char,
    parameters: *const c_char,
    out: *mut *mut neuro_cuda_kernel_t,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_kernel_load";
    let make = || {
        let device = device.to_core(OP)?;
        // SAFETY: forwarded condition.
        let image: &[u8] = unsafe { guard::array(OP, "image", image.cast(), image_bytes) }?;
        // SAFETY: forwarded condition.
        let (name, parameters) = unsafe {
            (
                guard::text(OP, "name", name)?,
                guard::text(OP, "parameters", parameters)?,
            )
        };
        // SAFETY: the caller vouches that it is whole.
        kernel(unsafe { Module::load(device, image) }?, name, Some(parameters))
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give_handle(OP, out, make) }
}

/// Another kernel of what `kernel` was compiled or loaded from. NULL `parameters`: they are found in the source, if that was compiled
/// here. A name that is not there is `NEURO_DRIVER`. Release `*out` once.
///
/// # Safety
/// A live `kernel` is not released meanwhile; `name` and `parameters` are NULL or strings; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_kernel_find(
    kernel: *const neuro_cuda_kernel_t,
    name: *const c_char,
    parameters: *const c_char,
    out: *mut *mut neuro_cuda_kernel_t,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_kernel_find";
    let make = || {
        // SAFETY: forwarded condition.
        let known: &Kernel = unsafe { guard::live(OP, kernel) }?;
        // SAFETY: forwarded condition.
        let (name, parameters) = unsafe { (guard::text(OP, "name", name)?, optional(OP, "parameters", parameters)?) };
        self::kernel(known.module.clone(), name, parameters)
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give_handle(OP, out, make) }
}

/// One more reference to `kernel`, to be released once.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_cuda_kernel_retain(kernel: *mut neuro_cuda_kernel_t) -> neuro_status_t {
    guard::retain::<Kernel>("neuro_cuda_kernel_retain", kernel)
}

/// One reference to `kernel` less. Launches that are under way go on. NULL does nothing; a release after the last one is
/// `NEURO_INVALID_FREE` and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_cuda_kernel_release(kernel: *mut neuro_cuda_kernel_t) -> neuro_status_t {
    guard::release::<Kernel>("neuro_cuda_kernel_release", kernel)
}

/// Writes the kernel's name and parameters, as `"scale(float* x, float by)"`, to the `size` bytes at `buffer`, as `neuro_device_name` does. 0
/// and an empty string after a failure.
///
/// # Safety
/// A live `kernel` is not released meanwhile; `buffer` is NULL or writable for `size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_kernel_get_signature(
    kernel: *const neuro_cuda_kernel_t,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    const OP: &str = "neuro_cuda_kernel_get_signature";
    let ask = || {
        // SAFETY: forwarded condition.
        let kernel: &Kernel = unsafe { guard::live(OP, kernel) }?;
        let parameters: Vec<String> = kernel.function.parameters().iter().map(ToString::to_string).collect();
        Ok(format!("{}({})", kernel.function.name(), parameters.join(", ")))
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give_text(OP, buffer, size, ask) }
}

/// Writes what the compiler remarked, warnings above all, to the `size` bytes at `buffer`, as `neuro_device_name` does. 0 and an empty
/// string where there is nothing, and after a failure, which sets the error.
///
/// # Safety
/// A live `kernel` is not released meanwhile; `buffer` is NULL or writable for `size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_kernel_get_log(
    kernel: *const neuro_cuda_kernel_t,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    const OP: &str = "neuro_cuda_kernel_get_log";
    let ask = || {
        // SAFETY: forwarded condition.
        let kernel: &Kernel = unsafe { guard::live(OP, kernel) }?;
        Ok(kernel.module.log().to_owned())
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give_text(OP, buffer, size, ask) }
}

/// Has NVRTC be looked for in one more place: a file, or the folder that it is in. No effect on one that is in use already.
///
/// # Safety
/// `path` is NULL or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_add_nvrtc_path(path: *const c_char) -> neuro_status_t {
    const OP: &str = "neuro_cuda_add_nvrtc_path";
    guard::status(|| {
        // SAFETY: forwarded condition.
        let path = unsafe { guard::string(OP, "path", path) }?;
        if path.is_empty() {
            return Err(Failure::argument(OP, "path is empty"));
        }
        // Names of files are bytes, not necessarily UTF-8.
        cuda::add_nvrtc_path(OsStr::from_bytes(path.to_bytes()));
        Ok(())
    })
}

fn kernel(module: Module, name: &str, parameters: Option<&str>) -> Result<Kernel> {
    let function = module.function(name, parameters)?;
    Ok(Kernel { module, function })
}

/// # Safety
/// As `neuro_cuda_kernel_compile`.
unsafe fn compile_options(op: &'static str, given: &neuro_cuda_compile_options_t) -> Result<CompileOptions> {
    let mut all = CompileOptions::new();
    // SAFETY: forwarded condition.
    if let Some(name) = unsafe { optional(op, "source_name", given.source_name) }? {
        all = all.name(name);
    }
    // SAFETY: forwarded condition.
    let (options, instances) = unsafe {
        (
            guard::array(op, "options", given.options, given.option_count)?,
            guard::array(op, "instances", given.instances, given.instance_count)?,
        )
    };
    for &option in options {
        // SAFETY: forwarded condition.
        all = all.option(unsafe { guard::text(op, "an option", option) }?);
    }
    for &instance in instances {
        // SAFETY: forwarded condition.
        all = all.instance(unsafe { guard::text(op, "an instance", instance) }?);
    }
    Ok(all)
}

/// # Safety
/// As [`guard::text`].
unsafe fn optional<'a>(op: &'static str, name: &'static str, text: *const c_char) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: forwarded condition.
    unsafe { guard::text(op, name, text) }.map(Some)
}
