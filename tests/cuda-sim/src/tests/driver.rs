//! The calls in the shape in which tests want them: what cannot fail here is not asked for.

use std::ffi::c_void;

use crate::codes::{Code, SUCCESS};
use crate::exports::{NAMES, address_of};
use crate::{Entered, World};

/// Calls a driver function by its name, through the table: arguments as their C types.
macro_rules! call {
    ($name:ident($($argument:expr => $kind:ty),* $(,)?)) => {{
        let address = crate::address_of(stringify!($name)).expect(stringify!($name));
        // SAFETY: the table gives the call of that name, and tests name its types; pointers are those of live variables.
        unsafe {
            let call = std::mem::transmute::<*mut std::ffi::c_void, unsafe extern "C" fn($($kind),*) -> crate::Code>(address.as_ptr());
            call($($argument),*)
        }
    }};
}
pub(super) use call;

/// A world with its first contexts retained, the one of device 0 current.
pub(super) struct Session {
    pub(super) world: World,
    pub(super) contexts: Vec<usize>,
    _entered: Entered,
}

impl Session {
    pub(super) fn new(seed: u64) -> Self {
        Self::of(World::new(seed), 1)
    }

    pub(super) fn two(peers: bool) -> Self {
        Self::of(World::with_devices(1, 2, peers), 2)
    }

    fn of(world: World, devices: i32) -> Self {
        let entered = world.enter();
        assert_eq!(call!(cuInit(0 => u32)), SUCCESS);
        let contexts = (0..devices).map(|ordinal| {
            let (mut device, mut context) = (-1, 0);
            assert_eq!(call!(cuDeviceGet(&mut device => *mut i32, ordinal => i32)), SUCCESS);
            assert_eq!(device, world.device(ordinal as u32));
            assert_eq!(
                call!(cuDevicePrimaryCtxRetain(&mut context => *mut usize, device => i32)),
                SUCCESS
            );
            context
        });
        let contexts: Vec<usize> = contexts.collect();
        set_current(contexts[0]);
        Self {
            world,
            contexts,
            _entered: entered,
        }
    }

    /// The findings, which are to be none.
    #[track_caller]
    pub(super) fn is_clean(&self) {
        assert_eq!(self.world.findings(), [""; 0]);
    }

    /// The one finding there is to be, which holds each of these.
    #[track_caller]
    pub(super) fn finds(&self, parts: &[&str]) {
        let findings = self.world.findings();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        for part in parts {
            assert!(findings[0].contains(part), "no {part:?} in {:?}", findings[0]);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        set_current(0);
    }
}

pub(super) fn set_current(context: usize) {
    assert_eq!(call!(cuCtxSetCurrent(context => usize)), SUCCESS);
}

#[track_caller]
fn fine(code: Code) {
    assert_eq!(code, SUCCESS);
}

#[track_caller]
pub(super) fn alloc(bytes: usize) -> u64 {
    let mut address = 0;
    fine(call!(cuMemAlloc_v2(&mut address => *mut u64, bytes => usize)));
    address
}

pub(super) fn free(address: u64) -> Code {
    call!(cuMemFree_v2(address => u64))
}

#[track_caller]
pub(super) fn host_alloc(bytes: usize) -> *mut u8 {
    let mut address = std::ptr::null_mut();
    fine(call!(cuMemHostAlloc(&mut address => *mut *mut c_void, bytes => usize, 1 => u32)));
    address.cast()
}

pub(super) fn host_free(address: *mut u8) -> Code {
    call!(cuMemFreeHost(address.cast() => *mut c_void))
}

pub(super) fn register(address: *mut u8, bytes: usize) -> Code {
    call!(cuMemHostRegister_v2(address.cast() => *mut c_void, bytes => usize, 1 => u32))
}

pub(super) fn unregister(address: *mut u8) -> Code {
    call!(cuMemHostUnregister(address.cast() => *mut c_void))
}

/// A stream that does not wait for the legacy one.
#[track_caller]
pub(super) fn stream() -> usize {
    stream_of(1)
}

#[track_caller]
pub(super) fn stream_of(flags: u32) -> usize {
    let mut stream = 0;
    fine(call!(cuStreamCreate(&mut stream => *mut usize, flags => u32)));
    stream
}

#[track_caller]
pub(super) fn event() -> usize {
    let mut event = 0;
    fine(call!(cuEventCreate(&mut event => *mut usize, 2 => u32)));
    event
}

#[track_caller]
pub(super) fn record(event: usize, stream: usize) {
    fine(call!(cuEventRecord(event => usize, stream => usize)));
}

#[track_caller]
pub(super) fn wait(stream: usize, event: usize) {
    fine(call!(cuStreamWaitEvent(stream => usize, event => usize, 0 => u32)));
}

/// `after` is behind all that `before` has.
#[track_caller]
pub(super) fn order(before: usize, after: usize) {
    let moment = event();
    record(moment, before);
    wait(after, moment);
    fine(call!(cuEventDestroy_v2(moment => usize)));
}

pub(super) fn query(event: usize) -> Code {
    call!(cuEventQuery(event => usize))
}

pub(super) fn synchronize(stream: usize) -> Code {
    call!(cuStreamSynchronize(stream => usize))
}

pub(super) fn copy(to: u64, from: u64, bytes: usize, stream: usize) -> Code {
    call!(cuMemcpyAsync(to => u64, from => u64, bytes => usize, stream => usize))
}

pub(super) fn fill(to: u64, value: u32, count: usize, stream: usize) -> Code {
    call!(cuMemsetD32Async(to => u64, value => u32, count => usize, stream => usize))
}

pub(super) fn address(host: *mut u8) -> u64 {
    host.expose_provenance() as u64
}

/// The bytes of device memory, by a copy of their own that is in order.
#[track_caller]
pub(super) fn bytes_of(from: u64, bytes: usize, stream: usize) -> Vec<u8> {
    let mut held = vec![0u8; bytes];
    fine(copy(address(held.as_mut_ptr()), from, bytes, stream));
    held
}

#[test]
fn every_call_has_an_address_of_its_own() {
    let mut addresses: Vec<_> = NAMES.iter().map(|name| address_of(name).expect(name)).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), NAMES.len());
    assert!(address_of("cuMemAllocAsync").is_none());
}
