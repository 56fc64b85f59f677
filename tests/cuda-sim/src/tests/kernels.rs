//! Kernels: what they are given, what they use, and when.

use std::ffi::{CString, c_char, c_void};

use super::driver::*;
use crate::codes::{
    ILLEGAL_ADDRESS, INVALID_HANDLE, INVALID_PTX, INVALID_VALUE, NO_BINARY_FOR_GPU, NOT_FOUND, SUCCESS,
};

/// `add_one(from, to)`: each thread reads one number and writes the next one.
const ADD_ONE: &str = "
.version 7.5
.target sm_75
.address_size 64
.visible .entry add_one(
	.param .u64 add_one_param_0,
	.param .u64 add_one_param_1
)
{
	.reg .b32 	%r<8>;
	.reg .b64 	%rd<8>;
	ld.param.u64 	%rd1, [add_one_param_0];
	ld.param.u64 	%rd2, [add_one_param_1];
	mov.u32 	%r1, %ctaid.x;
	mov.u32 	%r2, %ntid.x;
	mov.u32 	%r3, %tid.x;
	mad.lo.s32 	%r4, %r1, %r2, %r3;
	mul.wide.s32 	%rd3, %r4, 4;
	add.s64 	%rd4, %rd1, %rd3;
	add.s64 	%rd5, %rd2, %rd3;
	ld.global.u32 	%r5, [%rd4];
	add.s32 	%r6, %r5, 1;
	st.global.u32 	[%rd5], %r6;
	ret;
}
";

/// `fresh(ignored, to)`: each thread writes a number, reads it, and writes the next one.
const FRESH: &str = "
.version 7.5
.target sm_75
.address_size 64
.visible .entry fresh(
	.param .u64 fresh_param_0,
	.param .u64 fresh_param_1
)
{
	.reg .b32 	%r<8>;
	.reg .b64 	%rd<8>;
	ld.param.u64 	%rd1, [fresh_param_1];
	mov.u32 	%r1, %tid.x;
	mul.wide.s32 	%rd2, %r1, 4;
	add.s64 	%rd3, %rd1, %rd2;
	st.global.u32 	[%rd3], %r1;
	ld.global.u32 	%r2, [%rd3];
	add.s32 	%r3, %r2, 1;
	st.global.u32 	[%rd3], %r3;
	ret;
}
";

fn load(image: &str) -> Result<usize, u32> {
    let (mut module, text) = (0, CString::new(image).unwrap());
    let none = std::ptr::null::<c_void>();
    let code = call!(cuModuleLoadDataEx(
        &mut module => *mut usize,
        text.as_ptr().cast() => *const c_void,
        0 => u32,
        none => *const c_void,
        none => *const c_void
    ));
    if code == SUCCESS { Ok(module) } else { Err(code) }
}

fn function(module: usize, name: &str) -> Result<usize, u32> {
    let (mut function, name) = (0, CString::new(name).unwrap());
    let code = call!(cuModuleGetFunction(&mut function => *mut usize, module => usize, name.as_ptr() => *const c_char));
    if code == SUCCESS { Ok(function) } else { Err(code) }
}

fn launch(function: usize, sizes: [u32; 6], stream: usize, from: u64, to: u64) -> u32 {
    let (mut from, mut to) = (from, to);
    let params: [*mut c_void; 2] = [(&raw mut from).cast(), (&raw mut to).cast()];
    let [a, b, c, d, e, f] = sizes;
    call!(cuLaunchKernel(
        function => usize, a => u32, b => u32, c => u32, d => u32, e => u32, f => u32, 0 => u32, stream => usize,
        params.as_ptr() => *const *mut c_void, std::ptr::null() => *const *mut c_void
    ))
}

const BLOCKS: [u32; 6] = [4, 1, 1, 32, 1, 1];
/// What so many threads use.
const BYTES: usize = 4 * 128;

fn unload(module: usize) -> u32 {
    call!(cuModuleUnload(module => usize))
}

#[test]
fn a_kernel_runs_in_its_turn() {
    for seed in 0..20 {
        let session = Session::new(seed);
        let module = load(ADD_ONE).unwrap();
        let add_one = function(module, "add_one").unwrap();
        let (a, b, first, second) = (alloc(BYTES), alloc(BYTES), stream(), stream());
        assert_eq!(fill(a, 6, 128, first), SUCCESS);
        assert_eq!(launch(add_one, BLOCKS, first, a, b), SUCCESS);
        order(first, second);
        assert_eq!(launch(add_one, BLOCKS, second, b, b), SUCCESS);
        order(second, first);
        assert_eq!(fill(a, 9, 128, first), SUCCESS);
        assert_eq!(bytes_of(b + BYTES as u64 - 4, 4, second), [8, 0, 0, 0]);
        assert_eq!(synchronize(first), SUCCESS);
        assert_eq!((free(a), free(b), unload(module)), (SUCCESS, SUCCESS, SUCCESS));
        session.is_clean();
    }
}

/// Whatever the seed, and whichever of the two comes first: what nothing orders is found.
#[test]
fn races_of_kernels_are_found() {
    for seed in 0..20 {
        for part in 0..3 {
            let session = Session::new(seed);
            let add_one = function(load(ADD_ONE).unwrap(), "add_one").unwrap();
            let (a, b, first, second) = (alloc(BYTES), alloc(BYTES), stream(), stream());
            assert_eq!(fill(a, 6, 128, first), SUCCESS);
            order(first, second);
            assert_eq!(launch(add_one, BLOCKS, first, a, b), SUCCESS);
            // What it reads is written, what it writes is written, and what it reads is read.
            let code = match part {
                0 => fill(a + 100, 1, 1, second),
                1 => fill(b + 100, 1, 1, second),
                _ => copy(alloc(BYTES), a, BYTES, second),
            };
            assert_eq!(code, SUCCESS);
            if part == 2 {
                session.is_clean();
            } else {
                session.finds(&["race", "stream 1", "stream 2"]);
            }
        }
    }
}

#[test]
fn what_a_kernel_reads_and_nobody_wrote_is_found() {
    let session = Session::new(1);
    let add_one = function(load(ADD_ONE).unwrap(), "add_one").unwrap();
    let (a, stream) = (alloc(2 * BYTES), stream());
    assert_eq!(fill(a, 6, 127, stream), SUCCESS);
    assert_eq!(launch(add_one, BLOCKS, stream, a, a + BYTES as u64), SUCCESS);
    session.finds(&[
        "cuLaunchKernel of add_one",
        "reads bytes 508..512, which nobody has written",
    ]);
}

/// What a launch has written itself it may read.
#[test]
fn a_kernel_reads_what_it_has_written() {
    let session = Session::new(5);
    let fresh = function(load(FRESH).unwrap(), "fresh").unwrap();
    let (a, stream) = (alloc(BYTES), stream());
    assert_eq!(launch(fresh, [1, 1, 1, 128, 1, 1], stream, 0, a), SUCCESS);
    assert_eq!(bytes_of(a + 40, 4, stream), [11, 0, 0, 0]);
    session.is_clean();
}

/// What a kernel was given counts as used, whether or not it uses it.
#[test]
fn freeing_under_a_kernel_is_found() {
    for known in [true, false] {
        for module_goes in [false, true] {
            let session = Session::new(2);
            let module = load(ADD_ONE).unwrap();
            let add_one = function(module, "add_one").unwrap();
            let (a, b, stream) = (alloc(BYTES), alloc(BYTES), stream());
            assert_eq!(fill(a, 6, 128, stream), SUCCESS);
            assert_eq!(synchronize(stream), SUCCESS);
            assert_eq!(launch(add_one, BLOCKS, stream, a, b), SUCCESS);
            if known {
                assert_eq!(synchronize(stream), SUCCESS);
            }
            assert_eq!(if module_goes { unload(module) } else { free(b) }, SUCCESS);
            match (known, module_goes) {
                (true, _) => session.is_clean(),
                (false, true) => session.finds(&["cuModuleUnload: module 1 is unloaded", "stream 1 of device 0 #2"]),
                (false, false) => session.finds(&["cuMemFree", "does not know that stream 1 of device 0 #2 is done"]),
            }
        }
    }
}

#[test]
fn parameters_are_looked_at() {
    let session = Session::two(false);
    let add_one = function(load(ADD_ONE).unwrap(), "add_one").unwrap();
    let (a, gone, stream) = (alloc(BYTES), alloc(BYTES), stream());
    set_current(session.contexts[1]);
    let other = alloc(BYTES);
    set_current(session.contexts[0]);
    assert_eq!(fill(a, 6, 128, stream), SUCCESS);
    assert_eq!(synchronize(stream), SUCCESS);
    assert_eq!(free(gone), SUCCESS);
    session.is_clean();
    // No thread uses the last byte: the launch itself is looked at.
    assert_eq!(launch(add_one, BLOCKS, stream, a, gone), SUCCESS);
    let findings = session.world.findings();
    assert!(
        findings[0].contains("cuLaunchKernel: a parameter: use after free"),
        "{findings:?}"
    );
    // The kernel itself has failed, and the device is lost with it.
    assert!(
        findings[1].contains("kernel add_one") && findings[1].contains("use after free"),
        "{findings:?}"
    );
    assert_eq!(synchronize(stream), ILLEGAL_ADDRESS);
    assert_eq!(launch(add_one, BLOCKS, stream, a, other), ILLEGAL_ADDRESS);
}

#[test]
fn a_kernel_needs_access_to_other_devices() {
    for access in [false, true] {
        let session = Session::two(true);
        let add_one = function(load(ADD_ONE).unwrap(), "add_one").unwrap();
        let (a, here) = (alloc(BYTES), stream());
        set_current(session.contexts[1]);
        let other = alloc(BYTES);
        set_current(session.contexts[0]);
        if access {
            assert_eq!(
                call!(cuCtxEnablePeerAccess(session.contexts[1] => usize, 0 => u32)),
                SUCCESS
            );
        }
        assert_eq!(fill(a, 6, 128, here), SUCCESS);
        assert_eq!(launch(add_one, BLOCKS, here, a, other), SUCCESS);
        let findings = session.world.findings();
        assert_eq!(findings.is_empty(), access, "{findings:?}");
        assert!(
            access || findings[0].contains("device 0 uses") && findings[0].contains("memory of device 1"),
            "{findings:?}"
        );
    }
}

#[test]
fn sizes_and_handles_are_looked_at() {
    let session = Session::new(3);
    let module = load(ADD_ONE).unwrap();
    let add_one = function(module, "add_one").unwrap();
    assert_eq!(function(module, "add_two"), Err(NOT_FOUND));
    for sizes in [
        [0, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1025, 1, 1],
        [1, 1, 1, 32, 33, 1],
        [1, 65536, 1, 1, 1, 1],
    ] {
        assert_eq!(launch(add_one, sizes, 0, 0, 0), INVALID_VALUE);
    }
    assert_eq!(load("\x7fELF and more"), Err(NO_BINARY_FOR_GPU));
    assert_eq!(load("no program at all"), Err(NO_BINARY_FOR_GPU));
    assert_eq!(load(".version 7.5\n.target sm_75\nthis is wrong"), Err(INVALID_PTX));
    session.is_clean();
    assert_eq!(unload(module), SUCCESS);
    assert_eq!(launch(add_one, BLOCKS, 0, 0, 0), INVALID_HANDLE);
    session.finds(&["cuLaunchKernel is given", "its module was unloaded"]);
}

/// Page-locked memory that a kernel has used is closed to the host until that knows that the kernel is done.
#[test]
fn the_host_waits_for_kernels_too() {
    if !crate::can_protect() {
        return;
    }
    for known in [true, false] {
        let session = Session::new(4);
        let add_one = function(load(ADD_ONE).unwrap(), "add_one").unwrap();
        let (a, host, stream) = (alloc(BYTES), host_alloc(BYTES), stream());
        assert_eq!(fill(a, 6, 128, stream), SUCCESS);
        assert_eq!(launch(add_one, BLOCKS, stream, a, address(host)), SUCCESS);
        session.is_clean();
        if known {
            assert_eq!(synchronize(stream), SUCCESS);
        }
        // SAFETY: bytes that are there.
        let byte = unsafe { host.add(8).read_volatile() };
        assert_eq!(byte, 7);
        if known {
            session.is_clean();
        } else {
            session.finds(&["the host reads byte", "stream 1 of device 0 #2 still writes"]);
        }
    }
}
