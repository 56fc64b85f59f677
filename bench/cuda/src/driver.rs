//! The simulated driver, as this process has it: the library that neuro-core has opened, opened once more.

use std::ffi::{CStr, c_char, c_void};

use bench_worker::Result;
use neuro_core::cuda;

use crate::DEVICE;

/// Every call that could be made while blocks are allocated and freed.
const CALLS: [&CStr; 28] = [
    c"cuMemAlloc_v2",
    c"cuMemFree_v2",
    c"cuMemCreate",
    c"cuMemMap",
    c"cuMemUnmap",
    c"cuMemRelease",
    c"cuMemSetAccess",
    c"cuMemGetInfo_v2",
    c"cuMemHostAlloc",
    c"cuMemFreeHost",
    c"cuMemHostRegister_v2",
    c"cuMemHostUnregister",
    c"cuMemcpyAsync",
    c"cuMemsetD8Async",
    c"cuMemsetD32Async",
    c"cuCtxPushCurrent_v2",
    c"cuCtxPopCurrent_v2",
    c"cuCtxSynchronize",
    c"cuStreamSynchronize",
    c"cuStreamQuery",
    c"cuStreamWaitEvent",
    c"cuEventCreate",
    c"cuEventDestroy_v2",
    c"cuEventRecord",
    c"cuEventQuery",
    c"cuEventSynchronize",
    c"cuLaunchKernel",
    c"cuLaunchHostFunc",
];

type Code = u32;

/// Of [`CALLS`].
#[derive(PartialEq, Eq)]
pub struct Counts([u64; CALLS.len()]);

impl Counts {
    /// The calls since `before`, in words.
    pub fn since(&self, before: &Self) -> String {
        let counts = self.0.iter().zip(before.0).zip(CALLS);
        let more = counts.filter(|((now, before), _)| *now > before);
        let words = more.map(|((now, before), name)| format!("{} × {}", now - before, name.to_string_lossy()));
        words.collect::<Vec<_>>().join(", ")
    }
}

#[derive(Clone, Copy)]
pub struct Driver {
    calls: unsafe extern "C" fn(*const c_char) -> u64,
    findings: unsafe extern "C" fn(*mut c_char, usize) -> usize,
    pinned_bytes: extern "C" fn() -> u64,
    set_current: unsafe extern "C" fn(usize) -> Code,
    stream_create: unsafe extern "C" fn(*mut usize, u32) -> Code,
    fill: unsafe extern "C" fn(u64, u32, usize, usize) -> Code,
}

/// A function of the library.
///
/// # Safety
/// `F` is the type of a pointer to the function of that name.
///
/// # Errors
/// Where the library has none.
unsafe fn function<F: Copy>(library: *mut c_void, name: &CStr) -> Result<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: the library is open, and the name is a string.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    if address.is_null() {
        return Err(format!("libcuda.so.1 has no {name:?}: it is not the simulated one").into());
    }
    // SAFETY: the address of a function whose pointer's type is `F`, by contract, and as long as that; the library is never closed.
    Ok(unsafe { std::mem::transmute_copy(&address) })
}

impl Driver {
    /// # Errors
    /// Where the driver is not the simulated one.
    pub fn open() -> Result<Self> {
        // SAFETY: a name; the library, which neuro-core opens too, may be opened in any process.
        let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return Err("there is no libcuda.so.1".into());
        }
        // SAFETY: the fields have the types of the functions, as `tests/cuda-sim` has them.
        unsafe {
            Ok(Self {
                calls: function(library, c"neuro_cuda_sim_calls")?,
                findings: function(library, c"neuro_cuda_sim_findings")?,
                pinned_bytes: function(library, c"neuro_cuda_sim_pinned_bytes")?,
                set_current: function(library, c"cuCtxSetCurrent")?,
                stream_create: function(library, c"cuStreamCreate")?,
                fill: function(library, c"cuMemsetD32Async")?,
            })
        }
    }

    /// How often a call was made.
    pub fn count(self, name: &CStr) -> u64 {
        // SAFETY: a string.
        unsafe { (self.calls)(name.as_ptr()) }
    }

    /// How often a whole device had to come to its end.
    pub fn device_syncs(self) -> u64 {
        // SAFETY: null asks for that.
        unsafe { (self.calls)(std::ptr::null()) }
    }

    /// How often each call was made that could be part of allocating and freeing.
    pub fn all(self) -> Counts {
        Counts(CALLS.map(|name| self.count(name)))
    }

    /// Bytes that are page-locked now.
    pub fn pinned_bytes(self) -> u64 {
        (self.pinned_bytes)()
    }

    /// Does all work that waits. What the driver has found to be wrong would make all figures worthless.
    ///
    /// # Errors
    /// The driver's words.
    pub fn check(self) -> Result<()> {
        let mut words = [0u8; 4096];
        // SAFETY: there is room for so many bytes.
        let count = unsafe { (self.findings)(words.as_mut_ptr().cast(), words.len()) };
        if count > 0 {
            let words = CStr::from_bytes_until_nul(&words)?.to_string_lossy().into_owned();
            return Err(format!("the driver has found {count} mistakes: {words}").into());
        }
        Ok(())
    }

    /// A stream of this program's, as long as the process. The device's context is current on this thread from here on.
    ///
    /// # Errors
    /// What the driver said.
    pub fn stream(self) -> Result<cuda::Stream> {
        /// `CU_STREAM_NON_BLOCKING`.
        const NON_BLOCKING: u32 = 1;
        let mut stream = 0;
        // SAFETY: the context is the device's own; the stream's handle goes to a variable.
        let codes = unsafe {
            let code = (self.set_current)(cuda::handles(DEVICE)?.context);
            [code, (self.stream_create)(&mut stream, NON_BLOCKING)]
        };
        if codes != [0, 0] {
            return Err(format!("the driver makes no stream: {codes:?}").into());
        }
        // SAFETY: a stream of the primary context, which is never destroyed.
        Ok(unsafe { cuda::Stream::of(DEVICE, stream) }?)
    }

    /// Submits a fill of `words` words of 4 bytes at `address`.
    ///
    /// # Safety
    /// As [`cuda::Stream::submit`] asks of what is submitted to its stream.
    ///
    /// # Errors
    /// What the driver said.
    pub unsafe fn fill(self, address: u64, words: usize, stream: usize) -> neuro_core::Result<()> {
        // SAFETY: forwarded contract.
        match unsafe { (self.fill)(address, 0, words, stream) } {
            0 => Ok(()),
            code => Err(neuro_core::Error::InvalidArgument {
                op: "fill",
                what: format!("the driver says {code}"),
            }),
        }
    }
}
