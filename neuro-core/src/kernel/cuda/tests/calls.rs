//! Calls of the driver as a program makes them that uses CUDA by itself.

use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::mem::transmute;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::OnceLock;

use crate::backend::host::library::{Library, Names};
use crate::cuda::{Function, Module};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::pool::device::Engine;

/// The driver's call of a name, of a type.
macro_rules! call {
    ($name:literal: fn($($argument:ty),*)) => {{
        let address = address_of($name).as_ptr();
        // SAFETY: the driver documents the call of this name to have this type.
        unsafe { transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> u32>(address) }
    }};
}

thread_local! {
    /// Whether this thread's calls are to the driver of this machine, and not to the simulated one.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// As long as this lives, a thread speaks to the driver that it was told to.
pub(crate) struct Speaks(bool);

/// From here on this thread speaks to the driver of this machine, or to the simulated one.
pub(super) fn speak(here: bool) -> Speaks {
    Speaks(HERE.replace(here))
}

impl Drop for Speaks {
    fn drop(&mut self) {
        HERE.set(self.0);
    }
}

fn address_of(name: &str) -> NonNull<c_void> {
    static DRIVER: OnceLock<Library> = OnceLock::new();
    if !HERE.get() {
        return cuda_sim::address_of(name).unwrap();
    }
    // SAFETY: the driver's constructors are made to run in any program.
    let open = || unsafe { Library::open(Path::new("libcuda.so.1"), Names::Own) }.unwrap();
    let name = CString::new(name).unwrap();
    DRIVER.get_or_init(open).address_of(&name).unwrap()
}

fn said(call: &'static str, code: u32) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    Err(Error::Driver {
        device: crate::Device::Cuda(0),
        call,
        code: code.into(),
        meaning: "the program's own call".to_owned(),
    })
}

/// Does `work` with the device's primary context current.
pub(super) fn in_context<T>(engine: &Engine, work: impl FnOnce() -> T) -> T {
    let context = engine.backend().cuda().unwrap().handles().context;
    let push = call!("cuCtxPushCurrent_v2": fn(usize));
    let pop = call!("cuCtxPopCurrent_v2": fn(*mut usize));
    let mut was = 0;
    // A call fails now and then, which a test has asked for.
    // SAFETY: a context that is retained.
    while unsafe { push(context) } != 0 {}
    let done = work();
    // SAFETY: there is room for the answer.
    while unsafe { pop(&mut was) } != 0 {}
    done
}

/// A stream that waits for no other, of a device's primary context.
pub(super) fn stream(engine: &Engine) -> usize {
    stream_with(engine, 1)
}

/// With flags: 0 waits for the legacy default stream, and that for it.
pub(super) fn stream_with(engine: &Engine, flags: u32) -> usize {
    let create = call!("cuStreamCreate": fn(*mut usize, u32));
    let mut stream = 0;
    // SAFETY: there is room for the answer.
    in_context(engine, || while unsafe { create(&mut stream, flags) } != 0 {});
    stream
}

pub(super) fn destroy(engine: &Engine, stream: usize) {
    let destroy = call!("cuStreamDestroy_v2": fn(usize));
    // SAFETY: a stream of the program's own, which it uses no more.
    assert_eq!(in_context(engine, || unsafe { destroy(stream) }), 0);
}

/// Waits for a stream; whether the driver did not refuse to.
pub(super) fn try_synchronize(stream: usize) -> bool {
    let synchronize = call!("cuStreamSynchronize": fn(usize));
    // SAFETY: a stream of the program's own.
    unsafe { synchronize(stream) == 0 }
}

pub(super) fn synchronize(stream: usize) {
    assert!(try_synchronize(stream));
}

pub(super) fn fill(stream: usize, to: u64, value: u32, words: usize) -> Result<()> {
    let fill = call!("cuMemsetD32Async": fn(u64, u32, usize, usize));
    // SAFETY: whole words of a tensor.
    said("cuMemsetD32Async", unsafe { fill(to, value, words, stream) })
}

pub(super) fn copy(stream: usize, to: u64, from: u64, bytes: usize) -> Result<()> {
    let copy = call!("cuMemcpyAsync": fn(u64, u64, usize, usize));
    // SAFETY: bytes of two tensors.
    said("cuMemcpyAsync", unsafe { copy(to, from, bytes, stream) })
}

/// As CUDA C: `y[i] = x[i] + by` for all i below n.
const RAISED: &str = "
.version 7.0
.target sm_75
.address_size 64
.visible .entry raised(.param .u64 x, .param .u64 y, .param .u32 by, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    ld.param.u32 %r1, [by];
    ld.param.u32 %r2, [n];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r6, %r3, %r4, %r5;
    setp.ge.u32 %p1, %r6, %r2;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.u32 %rd5, %r6, 4;
    add.s64 %rd6, %rd3, %rd5;
    ld.global.u32 %r7, [%rd6];
    add.s32 %r8, %r7, %r1;
    add.s64 %rd7, %rd4, %rd5;
    st.global.u32 [%rd7], %r8;
DONE:
    ret;
}
";

/// That kernel, on a device.
pub(crate) fn kernel(device: Device) -> Function {
    // SAFETY: whole PTX.
    let module = unsafe { Module::load(device, RAISED.as_bytes()) }.unwrap();
    let parameters = "const unsigned int* x, unsigned int* y, unsigned int by, unsigned int n";
    module.function("raised", Some(parameters)).unwrap()
}

/// As CUDA C: the same, but first each thread counts to `rounds`, in a way that no compiler sees through: no square leaves 3 when it is divided
/// by 7.
const LATE: &str = "
.version 7.0
.target sm_75
.address_size 64
.visible .entry late(.param .u64 x, .param .u64 y, .param .u32 by, .param .u32 n, .param .u32 rounds)
{
    .reg .pred %p<4>;
    .reg .b32 %r<14>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    ld.param.u32 %r1, [by];
    ld.param.u32 %r2, [n];
    ld.param.u32 %r9, [rounds];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r6, %r3, %r4, %r5;
    setp.ge.u32 %p1, %r6, %r2;
    @%p1 bra DONE;
    mov.u32 %r10, %r6;
    mov.u32 %r11, 0;
AGAIN:
    setp.ge.u32 %p2, %r11, %r9;
    @%p2 bra READY;
    mul.lo.s32 %r10, %r10, 1664525;
    add.s32 %r10, %r10, 1013904223;
    add.s32 %r11, %r11, 1;
    bra AGAIN;
READY:
    and.b32 %r12, %r10, 32767;
    mul.lo.s32 %r12, %r12, %r12;
    rem.u32 %r12, %r12, 7;
    setp.eq.u32 %p3, %r12, 3;
    selp.u32 %r13, 1, 0, %p3;
    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.u32 %rd5, %r6, 4;
    add.s64 %rd6, %rd3, %rd5;
    ld.global.u32 %r7, [%rd6];
    add.s32 %r8, %r7, %r1;
    add.s32 %r8, %r8, %r13;
    add.s64 %rd7, %rd4, %rd5;
    st.global.u32 [%rd7], %r8;
DONE:
    ret;
}
";

/// That kernel, on a device.
pub(super) fn late_kernel(device: Device) -> Function {
    // SAFETY: whole PTX.
    let module = unsafe { Module::load(device, LATE.as_bytes()) }.unwrap();
    let parameters = "const unsigned int* x, unsigned int* y, unsigned int by, unsigned int n, unsigned int rounds";
    module.function("late", Some(parameters)).unwrap()
}

/// `raised`, told where to read by an address, of whatever.
pub(super) fn kernel_of_address(device: Device) -> Function {
    // SAFETY: whole PTX.
    let module = unsafe { Module::load(device, RAISED.as_bytes()) }.unwrap();
    let parameters = "unsigned long long x, unsigned int* y, unsigned int by, unsigned int n";
    module.function("raised", Some(parameters)).unwrap()
}
