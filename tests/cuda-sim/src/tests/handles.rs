//! Handles, contexts, and what is left over.

use super::driver::*;
use crate::World;
use crate::codes::{INVALID_CONTEXT, INVALID_DEVICE, INVALID_HANDLE, INVALID_VALUE, NOT_INITIALIZED, SUCCESS};

#[test]
fn events_are_destroyed_once() {
    let session = Session::new(1);
    let (stream, moment) = (stream(), event());
    record(moment, stream);
    assert_eq!(call!(cuEventDestroy_v2(moment => usize)), SUCCESS);
    session.is_clean();
    assert_eq!(call!(cuEventDestroy_v2(moment => usize)), INVALID_HANDLE);
    session.finds(&["cuEventDestroy is given Event 1", "which was destroyed"]);
    assert_eq!(query(moment), INVALID_HANDLE);
    assert_eq!(
        call!(cuStreamWaitEvent(stream => usize, moment => usize, 0 => u32)),
        INVALID_HANDLE
    );
    assert_eq!(query(0x1234), INVALID_HANDLE);
    assert_eq!(query(stream), INVALID_HANDLE);
    assert_eq!(session.world.findings().len(), 5);
    assert!(session.world.findings()[4].contains("which is no Event"));
}

#[test]
fn a_call_needs_a_current_context_and_the_right_one() {
    let session = Session::two(false);
    let (a, of_first) = (alloc(64), stream());
    set_current(session.contexts[1]);
    assert_eq!(fill(alloc(64), 1, 16, stream()), SUCCESS);
    session.is_clean();
    let own = alloc(64);
    assert_eq!(copy(own, a, 0, of_first), SUCCESS);
    session.finds(&["cuMemcpyAsync: the context of device 1 is current, and stream 1 is of device 0"]);
    set_current(0);
    let mut none = 0;
    assert_eq!(
        call!(cuMemAlloc_v2(&mut none => *mut u64, 64 => usize)),
        INVALID_CONTEXT
    );
    assert!(session.world.findings()[1].contains("cuMemAlloc_v2 is called without a current context"));
    assert_eq!(call!(cuCtxPushCurrent_v2(0x77 => usize)), INVALID_CONTEXT);
    assert!(session.world.findings()[2].contains("with context 0x77, which is none"));
    // Events of one device are not recorded in streams of another.
    set_current(session.contexts[1]);
    let moment = event();
    assert_eq!(call!(cuEventRecord(moment => usize, of_first => usize)), INVALID_HANDLE);
    assert_eq!(session.world.findings().len(), 4);
}

#[test]
fn contexts_are_pushed_and_popped() {
    let session = Session::two(false);
    let [first, second] = [session.contexts[0], session.contexts[1]];
    let current = || {
        let mut context = 1;
        assert_eq!(call!(cuCtxGetCurrent(&mut context => *mut usize)), SUCCESS);
        context
    };
    assert_eq!(call!(cuCtxPushCurrent_v2(second => usize)), SUCCESS);
    assert_eq!(current(), second);
    assert!(
        session
            .world
            .leaks()
            .iter()
            .any(|leak| leak.contains("context of device 1, pushed 1 times more"))
    );
    let mut device = 0;
    assert_eq!(call!(cuCtxGetDevice(&mut device => *mut i32)), SUCCESS);
    assert_eq!(device, session.world.device(1));
    let mut popped = 0;
    assert_eq!(call!(cuCtxPopCurrent_v2(&mut popped => *mut usize)), SUCCESS);
    assert_eq!((popped, current()), (second, first));
    assert!(!session.world.leaks().iter().any(|leak| leak.contains("pushed")));
    session.is_clean();
}

#[test]
fn a_context_that_nobody_retains_is_none() {
    let session = Session::new(2);
    let device = session.world.device(0);
    assert_eq!(call!(cuDevicePrimaryCtxRelease_v2(device => i32)), SUCCESS);
    let mut none = 0;
    assert_eq!(
        call!(cuMemAlloc_v2(&mut none => *mut u64, 64 => usize)),
        INVALID_CONTEXT
    );
    session.finds(&["with the context of device 0, which nobody retains"]);
    assert_eq!(call!(cuDevicePrimaryCtxRelease_v2(device => i32)), INVALID_CONTEXT);
    assert_eq!(session.world.findings().len(), 2);
}

#[test]
fn what_is_left_over_is_told() {
    let session = Session::new(3);
    let device = session.world.device(0);
    let (a, host, one, moment) = (alloc(64), host_alloc(100), stream(), event());
    assert_eq!(fill(a, 1, 1, 0), SUCCESS);
    let leaks = session.world.leaks();
    for words in [
        "memory of device 0",
        "page-locked memory",
        "stream 1",
        "event 1",
        "context of device 0, retained 1 times",
    ] {
        assert!(leaks.iter().any(|leak| leak.contains(words)), "{words}: {leaks:?}");
    }
    assert_eq!(leaks.len(), 5, "{leaks:?}");
    assert_eq!(synchronize(0), SUCCESS);
    assert_eq!((free(a), host_free(host)), (SUCCESS, SUCCESS));
    assert_eq!(call!(cuStreamDestroy_v2(one => usize)), SUCCESS);
    assert_eq!(call!(cuEventDestroy_v2(moment => usize)), SUCCESS);
    set_current(0);
    assert_eq!(call!(cuDevicePrimaryCtxRelease_v2(device => i32)), SUCCESS);
    assert_eq!(session.world.leaks(), [""; 0]);
    session.is_clean();
}

/// Worlds see nothing of each other, and what is left of one leads nowhere.
#[test]
fn worlds_are_apart() {
    let first = Session::new(4);
    let (a, of_first) = (alloc(64), stream());
    let second = Session::new(5);
    assert_eq!(fill(alloc(64), 1, 16, stream()), SUCCESS);
    assert_eq!(fill(a, 1, 16, 0), INVALID_VALUE);
    second.finds(&["wild pointer"]);
    assert_eq!(synchronize(of_first), INVALID_HANDLE);
    assert!(second.world.findings()[1].contains("of another world"));
    let context = second.contexts[0];
    drop(second);
    assert_eq!(call!(cuCtxPushCurrent_v2(context => usize)), INVALID_CONTEXT);
    first.finds(&["which is none"]);
}

#[test]
fn devices_say_what_they_are() {
    let world = World::with_devices(1, 2, true);
    let _entered = world.enter();
    let mut count = 0;
    assert_eq!(call!(cuDeviceGetCount(&mut count => *mut i32)), NOT_INITIALIZED);
    assert_eq!(call!(cuInit(1 => u32)), INVALID_VALUE);
    assert_eq!(call!(cuInit(0 => u32)), SUCCESS);
    assert_eq!(call!(cuDeviceGetCount(&mut count => *mut i32)), SUCCESS);
    let mut version = 0;
    assert_eq!(call!(cuDriverGetVersion(&mut version => *mut i32)), SUCCESS);
    assert_eq!((count, version), (2, 13000));
    let device = world.device(1);
    let mut name = [b'x'; 64];
    assert_eq!(
        call!(cuDeviceGetName(name.as_mut_ptr() => *mut u8, 64 => i32, device => i32)),
        SUCCESS
    );
    assert!(name.starts_with(b"Simulated CUDA device 1\0"));
    let attribute = |number: u32| {
        let mut value = -1;
        let code = call!(cuDeviceGetAttribute(&mut value => *mut i32, number => u32, device => i32));
        (code == SUCCESS).then_some(value)
    };
    assert_eq!(
        [75, 76, 41, 91, 102, 1, 18, 40].map(attribute),
        [9, 0, 1, 1, 1, 1024, 0, 2].map(Some)
    );
    assert_eq!(attribute(9999), None);
    let (mut one, mut other) = ([0u8; 16], [0u8; 16]);
    assert_eq!(
        call!(cuDeviceGetUuid_v2(&mut one => *mut [u8; 16], device => i32)),
        SUCCESS
    );
    assert_eq!(
        call!(cuDeviceGetUuid_v2(&mut other => *mut [u8; 16], world.device(0) => i32)),
        SUCCESS
    );
    assert_ne!(one, other);
    assert_eq!(call!(cuDeviceGet(&mut count => *mut i32, 2 => i32)), INVALID_DEVICE);
    let mut text: *const std::ffi::c_char = std::ptr::null();
    assert_eq!(
        call!(cuGetErrorName(700 => u32, &mut text => *mut *const std::ffi::c_char)),
        SUCCESS
    );
    // SAFETY: a string of the library's.
    assert_eq!(unsafe { std::ffi::CStr::from_ptr(text) }, c"CUDA_ERROR_ILLEGAL_ADDRESS");
    assert_eq!(
        call!(cuGetErrorString(98765 => u32, &mut text => *mut *const std::ffi::c_char)),
        INVALID_VALUE
    );
    assert!(text.is_null());
}

/// Times of events, streams with priorities, and whose a stream is.
#[test]
fn smaller_calls_answer() {
    let session = Session::new(6);
    let (mut one, mut context, mut milliseconds) = (0usize, 0usize, -1f32);
    assert_eq!(
        call!(cuStreamCreateWithPriority(&mut one => *mut usize, 1 => u32, -1 => i32)),
        SUCCESS
    );
    assert_eq!(call!(cuStreamGetCtx(one => usize, &mut context => *mut usize)), SUCCESS);
    assert_eq!(context, session.contexts[0]);
    let moments = [0, 0, 2].map(|flags: u32| {
        let mut moment = 0usize;
        assert_eq!(call!(cuEventCreate(&mut moment => *mut usize, flags => u32)), SUCCESS);
        moment
    });
    let mut elapsed = |to: usize| {
        let code = call!(cuEventElapsedTime(&mut milliseconds => *mut f32, moments[0] => usize, to => usize));
        (code, milliseconds)
    };
    assert_eq!(elapsed(moments[1]).0, INVALID_HANDLE);
    record(moments[0], one);
    (0..9).for_each(|_| record(moments[1], one));
    record(moments[2], one);
    assert_eq!(synchronize(one), SUCCESS);
    let (code, took) = elapsed(moments[1]);
    assert!(code == SUCCESS && took > 0.0, "{code} {took}");
    assert_eq!(elapsed(moments[2]).0, INVALID_HANDLE);
    session.is_clean();
}
