//! NVRTC, NVIDIA's compiler of CUDA C, opened when it is first needed. It needs no device and no driver.
//!
//! - `find.rs`: where it is looked for; `calls.rs`: its calls.
//!
//! Absent on purpose: what is done with the outcome (`module.rs`), and a store of outcomes on disk.

mod calls;
mod find;
#[cfg(all(test, not(loom)))]
mod tests;

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::PathBuf;
use std::ptr;

use self::calls::{COMPILATION, Calls, Code, Handle, INVALID_OPTION, SUCCESS};
use crate::backend::host::library::file_of;
use crate::error::{Error, Result};

pub use self::find::add_nvrtc_path;

const OP: &str = "cuda::compile";

/// What came of a compilation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compiled {
    /// Text for the driver's own compiler.
    pub ptx: Vec<u8>,
    /// Code of one architecture, where one was asked for (`sm_90`, not `compute_90`) and NVRTC makes it.
    pub cubin: Option<Vec<u8>>,
    /// Warnings; empty where there are none.
    pub log: String,
    /// Of each name that was asked for the one that it has in the code.
    pub lowered: Vec<(String, String)>,
}

/// Version of the NVRTC that is found, as 13 and 0.
///
/// # Errors
/// [`Error::Unavailable`] with where it was looked for, and how to get it.
pub fn nvrtc_version() -> Result<(u32, u32)> {
    let calls = find::calls()?;
    let (mut major, mut minor): (c_int, c_int) = (0, 0);
    // SAFETY: both are there to be written.
    let code = unsafe { (calls.version)(&mut major, &mut minor) };
    check(calls, "nvrtcVersion", code)?;
    Ok((major.unsigned_abs(), minor.unsigned_abs()))
}

/// Compiles CUDA C. `name` stands for the source in messages, `options` are NVRTC's own, as `--gpu-architecture=sm_90`.
///
/// Any number of threads may compile at a time.
///
/// # Errors
/// [`Error::InvalidArgument`] with what the compiler said; [`Error::Unavailable`] where there is no NVRTC, or not all of it.
///
/// # Examples
/// ```
/// let source = r#"extern "C" __global__ void fill(float* x, float value) { x[threadIdx.x] = value; }"#;
/// match neuro_core::cuda::compile(source, "fill.cu", &["--gpu-architecture=sm_80"]) {
///     Ok(compiled) => assert!(compiled.ptx.starts_with(b"//") && compiled.cubin.is_some()),
///     Err(error) => println!("{error}"), // no NVRTC here
/// }
/// ```
pub fn compile(source: &str, name: &str, options: &[&str]) -> Result<Compiled> {
    compile_with_names(source, name, options, &[])
}

/// As [`compile`]; `wanted` are kernels that the compiler is to make, and to tell the names of, as `scale<float>` of a template.
pub(super) fn compile_with_names(source: &str, name: &str, options: &[&str], wanted: &[String]) -> Result<Compiled> {
    let calls = find::calls()?;
    let source = c_string("the source", source)?;
    let c_name = c_string("its name", name)?;
    let options: Vec<CString> = options
        .iter()
        .map(|option| c_string("an option", option))
        .collect::<Result<_>>()?;
    let wanted: Vec<CString> = wanted
        .iter()
        .map(|kernel| c_string("the name of a kernel", kernel))
        .collect::<Result<_>>()?;
    let program = Program::new(calls, &source, &c_name)?;
    program.ask_for(&wanted)?;
    let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
    // SAFETY: the program is there, and each pointer is that of a string that ends with a zero byte.
    let code = unsafe { (calls.compile)(program.handle, count, pointers.as_ptr()) };
    let log = program.log();
    let refused = |what: String| Error::InvalidArgument { op: OP, what };
    match code {
        SUCCESS => {}
        COMPILATION => return Err(refused(format!("{name} does not compile:\n{log}"))),
        INVALID_OPTION => {
            return Err(refused(format!(
                "NVRTC does not take all of the options {options:?}:\n{log}"
            )));
        }
        code => {
            return Err(Error::Unavailable {
                what: format!("the compilation of {name}"),
                reason: format!("nvrtcCompileProgram failed with {code}: {}\n{log}", calls.meaning(code)),
            });
        }
    }
    let ptx = program.bytes("nvrtcGetPTX", calls.ptx_size, calls.ptx)?;
    let cubin = match (calls.cubin_size, calls.cubin) {
        (Some(size), Some(get)) => program.bytes("nvrtcGetCUBIN", size, get)?,
        _ => Vec::new(),
    };
    Ok(Compiled {
        ptx: ptx.strip_suffix(&[0]).map(<[u8]>::to_vec).unwrap_or(ptx),
        cubin: Some(cubin).filter(|cubin| !cubin.is_empty()),
        log,
        lowered: program.lowered(&wanted)?,
    })
}

/// The architectures that NVRTC compiles for, as 75 and 90, lowest first; `None` where it does not say.
///
/// # Errors
/// [`Error::Unavailable`].
pub(super) fn architectures() -> Result<Option<Vec<u32>>> {
    let calls = find::calls()?;
    let (Some(count), Some(get)) = (calls.architecture_count, calls.architectures) else {
        return Ok(None);
    };
    let mut len: c_int = 0;
    // SAFETY: it is there to be written.
    check(calls, "nvrtcGetNumSupportedArchs", unsafe { count(&mut len) })?;
    let mut found: Vec<c_int> = vec![0; usize::try_from(len).unwrap_or(0)];
    // SAFETY: it has room for as many as there are, which never changes.
    check(calls, "nvrtcGetSupportedArchs", unsafe { get(found.as_mut_ptr()) })?;
    let mut found: Vec<u32> = found.into_iter().map(c_int::unsigned_abs).collect();
    found.sort_unstable();
    Ok(Some(found))
}

/// The folder of CUDA's own headers, as `cuda_fp16.h`, beside the NVRTC that is in use or where `CUDA_PATH` or `CUDA_HOME` says.
pub(super) fn include_folder() -> Option<PathBuf> {
    let library = file_of(find::calls().ok()?.somewhere()?)?;
    let library = library.canonicalize().unwrap_or(library);
    let above = library.ancestors().skip(2).take(3).map(|folder| folder.join("include"));
    let named = ["CUDA_PATH", "CUDA_HOME"].into_iter().filter_map(std::env::var_os);
    above
        .chain(named.map(|folder| PathBuf::from(folder).join("include")))
        .find(|folder| folder.join("cuda_fp16.h").exists())
}

fn c_string(what: &str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|error| Error::InvalidArgument {
        op: OP,
        what: format!("{what} has a zero byte at byte {}; take it out", error.nul_position()),
    })
}

fn check(calls: &Calls, call: &str, code: Code) -> Result<()> {
    if code == SUCCESS {
        return Ok(());
    }
    Err(Error::Unavailable {
        what: call.to_owned(),
        reason: format!("NVRTC failed with {code}: {}", calls.meaning(code)),
    })
}

/// A program of NVRTC, of this thread alone.
struct Program {
    calls: &'static Calls,
    handle: Handle,
}

impl Program {
    fn new(calls: &'static Calls, source: &CStr, name: &CStr) -> Result<Self> {
        let mut handle: Handle = ptr::null_mut();
        // SAFETY: the strings end with a zero byte, and no headers are given: none are read.
        let code = unsafe { (calls.create)(&mut handle, source.as_ptr(), name.as_ptr(), 0, ptr::null(), ptr::null()) };
        check(calls, "nvrtcCreateProgram", code)?;
        Ok(Self { calls, handle })
    }

    fn ask_for(&self, wanted: &[CString]) -> Result<()> {
        for kernel in wanted {
            let add = self.calls.add_name.ok_or_else(|| no_names(kernel))?;
            // SAFETY: the program is there and not compiled yet, and the string ends with a zero byte.
            check(self.calls, "nvrtcAddNameExpression", unsafe {
                add(self.handle, kernel.as_ptr())
            })?;
        }
        Ok(())
    }

    fn lowered(&self, wanted: &[CString]) -> Result<Vec<(String, String)>> {
        let lower = |kernel: &CString| {
            let get = self.calls.lowered_name.ok_or_else(|| no_names(kernel))?;
            let mut text: *const c_char = ptr::null();
            // SAFETY: the program is compiled, and the name is one that it was asked for, to the letter.
            let code = unsafe { get(self.handle, kernel.as_ptr(), &mut text) };
            check(self.calls, "nvrtcGetLoweredName", code)?;
            // SAFETY: a string of the program, which is there.
            let lowered = unsafe { CStr::from_ptr(text) };
            Ok((
                kernel.to_string_lossy().into_owned(),
                lowered.to_string_lossy().into_owned(),
            ))
        };
        wanted.iter().map(lower).collect()
    }

    /// What `get` writes, as long as `size` says.
    fn bytes(
        &self,
        call: &str,
        size: unsafe extern "C" fn(Handle, *mut usize) -> Code,
        get: unsafe extern "C" fn(Handle, *mut c_char) -> Code,
    ) -> Result<Vec<u8>> {
        let mut len = 0;
        // SAFETY: the program is there, and so is `len`.
        check(self.calls, call, unsafe { size(self.handle, &mut len) })?;
        let mut bytes = vec![0u8; len];
        if len > 0 {
            // SAFETY: there is room for as many bytes as it says.
            check(self.calls, call, unsafe { get(self.handle, bytes.as_mut_ptr().cast()) })?;
        }
        Ok(bytes)
    }

    /// What the compiler said, if it can be had.
    fn log(&self) -> String {
        let bytes = self
            .bytes("nvrtcGetProgramLog", self.calls.log_size, self.calls.log)
            .unwrap_or_default();
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).trim_end().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it was made by `create`, and nobody uses it any more.
        let _ = unsafe { (self.calls.destroy)(&mut self.handle) };
    }
}

fn no_names(kernel: &CStr) -> Error {
    Error::Unavailable {
        what: format!("{} by its C++ name", kernel.to_string_lossy()),
        reason: "this NVRTC has no nvrtcAddNameExpression; use a newer one, or declare the kernel extern \"C\""
            .to_owned(),
    }
}
