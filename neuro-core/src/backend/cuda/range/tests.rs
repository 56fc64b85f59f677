//! Pieces on calls of the tests' own, which keep count of memory, mappings and addresses: each may be refused, and nothing is left.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr::NonNull;

use super::super::driver::NAMES;
use super::*;
use crate::backend::health::Health;
use crate::sync::global::{AtomicBool, Mutex};

const START: Address = 0x7f00_0000_0000;
const PIECE: u64 = 2 << 20;
const INVALID: Code = 1;
const OUT_OF_MEMORY: Code = 2;

/// What the driver would know. A thread has its own.
#[derive(Default)]
struct Model {
    last: u64,
    /// Handles that were not let go.
    handles: Vec<u64>,
    /// Bytes and whether the device may use them, by address.
    mapped: BTreeMap<Address, (usize, bool)>,
    addresses: usize,
    /// Calls until one is refused.
    fail_in: u32,
}

thread_local! {
    static MODEL: RefCell<Model> = RefCell::default();
}

/// Asks the model, unless this call is to be refused.
fn call(refusal: Code, work: impl FnOnce(&mut Model) -> bool) -> Code {
    MODEL.with_borrow_mut(|model| {
        model.fail_in = model.fail_in.wrapping_sub(1);
        if model.fail_in == 0 {
            return refusal;
        }
        if work(model) { SUCCESS } else { INVALID }
    })
}

unsafe extern "C" fn create(memory: *mut u64, bytes: usize, of: *const AllocationProp, flags: u64) -> Code {
    // SAFETY: the caller's own.
    let of = unsafe { *of };
    call(OUT_OF_MEMORY, |model| {
        model.last += 1;
        model.handles.push(model.last);
        // SAFETY: as above.
        unsafe { *memory = model.last };
        let plain = (of.kind, of.handle_types, of.win32_metadata, of.flags, flags) == (1, 0, 0, [0; 8], 0);
        plain && (of.location.kind, of.location.id) == (1, 3) && bytes as u64 == PIECE
    })
}

unsafe extern "C" fn release(memory: u64) -> Code {
    call(INVALID, |model| {
        let before = model.handles.len();
        model.handles.retain(|&handle| handle != memory);
        model.handles.len() + 1 == before
    })
}

unsafe extern "C" fn map(at: Address, bytes: usize, offset: usize, memory: u64, flags: u64) -> Code {
    call(INVALID, |model| {
        let within = at >= START && at + bytes as u64 <= START + model.addresses as u64;
        let free = model.mapped.range(..at + bytes as u64).next_back();
        let free = free.is_none_or(|(start, (bytes, _))| start + *bytes as u64 <= at);
        let fits = within && free && offset == 0 && flags == 0 && model.handles.contains(&memory);
        if fits {
            model.mapped.insert(at, (bytes, false));
        }
        fits
    })
}

unsafe extern "C" fn unmap(at: Address, bytes: usize) -> Code {
    call(INVALID, |model| {
        model.mapped.remove(&at).is_some_and(|mapped| mapped.0 == bytes)
    })
}

unsafe extern "C" fn access(at: Address, bytes: usize, to: *const AccessDesc, count: usize) -> Code {
    // SAFETY: the caller's own.
    let to = unsafe { *to };
    call(INVALID, |model| {
        let range = at..at + bytes as u64;
        let mapped: usize = model.mapped.range(range.clone()).map(|(_, (bytes, _))| bytes).sum();
        model.mapped.range_mut(range).for_each(|(_, mapped)| mapped.1 = true);
        mapped == bytes && (to.location.kind, to.location.id, to.flags, count) == (1, 3, 3, 1)
    })
}

unsafe extern "C" fn free(at: Address, bytes: usize) -> Code {
    call(INVALID, |model| {
        let all = (at, bytes, model.mapped.len()) == (START, model.addresses, 0);
        model.addresses = 0;
        all
    })
}

unsafe extern "C" fn reserve(at: *mut Address, bytes: usize, _: usize, _: Address, _: u64) -> Code {
    // SAFETY: the caller's own.
    unsafe { *at = START };
    call(OUT_OF_MEMORY, |model| {
        model.addresses = bytes;
        true
    })
}

unsafe extern "C" fn least(bytes: *mut usize, of: *const AllocationProp, which: u32) -> Code {
    // SAFETY: the caller's own.
    let of = unsafe { *of };
    // SAFETY: as above.
    unsafe { *bytes = PIECE as usize };
    call(INVALID, |_| (of.kind, of.location.id, which) == (1, 3, 1))
}

unsafe extern "C" fn nothing() -> Code {
    INVALID
}

/// A driver that has these calls, less `without`.
fn driver(without: &str) -> &'static Driver {
    let of = |name: &str| {
        let address = match name {
            "cuMemCreate" => create as *const (),
            "cuMemRelease" => release as *const (),
            "cuMemMap" => map as *const (),
            "cuMemUnmap" => unmap as *const (),
            "cuMemSetAccess" => access as *const (),
            "cuMemAddressReserve" => reserve as *const (),
            "cuMemAddressFree" => free as *const (),
            "cuMemGetAllocationGranularity" => least as *const (),
            name if NAMES.0.contains(&name) => nothing as *const (),
            _ => return None,
        };
        NonNull::new(address.cast::<c_void>().cast_mut()).filter(|_| name != without)
    };
    // SAFETY: the calls have the types that the table says; the others are not called.
    Box::leak(Box::new(unsafe { Driver::of(of) }.unwrap()))
}

fn shared() -> (Shared, Calls) {
    let driver = driver("");
    let shared = Shared {
        driver,
        context: 0,
        health: Health::default(),
        spare_events: Mutex::default(),
        is_shut: AtomicBool::new(false),
    };
    (shared, Calls::of(driver).unwrap())
}

fn begin(fail_in: u32) {
    let addresses = 8 * PIECE as usize;
    MODEL.set(Model {
        addresses,
        fail_in,
        ..Model::default()
    });
}

/// Handles, bytes that are mapped, and bytes that may be used.
fn now() -> (usize, u64, u64) {
    MODEL.with_borrow(|model| {
        let bytes = |may: bool| {
            model
                .mapped
                .values()
                .filter(|mapped| mapped.1 || !may)
                .map(|mapped| mapped.0 as u64)
                .sum()
        };
        (model.handles.len(), bytes(false), bytes(true))
    })
}

fn pieces(mapped: u64) -> Pieces {
    Pieces { piece: PIECE, mapped }
}

#[test]
fn structs_are_laid_out_as_documented() {
    assert_eq!(
        (
            size_of::<Location>(),
            size_of::<AllocationProp>(),
            size_of::<AccessDesc>()
        ),
        (8, 32, 12)
    );
    assert_eq!(
        (
            offset_of!(AllocationProp, location),
            offset_of!(AllocationProp, win32_metadata)
        ),
        (8, 16)
    );
    assert_eq!(
        (offset_of!(AllocationProp, flags), offset_of!(AccessDesc, flags)),
        (24, 8)
    );
}

#[test]
fn a_driver_has_all_the_calls_or_no_ranges() {
    begin(0);
    assert_eq!(granularity(driver(""), 3), Some(PIECE));
    for name in NAMES
        .1
        .iter()
        .filter(|name| name.starts_with("cuMem") && !name.contains("Host") && !name.contains("Peer"))
    {
        assert_eq!(granularity(driver(name), 3), None, "{name}");
    }
    begin(1);
    assert_eq!(granularity(driver(""), 3), None, "the driver refused");
}

#[test]
fn pieces_come_and_go() {
    begin(0);
    let (shared, calls) = shared();
    calls.map_up_to(&shared, 3, START, pieces(0), 2 * PIECE).unwrap();
    calls
        .map_up_to(&shared, 3, START, pieces(2 * PIECE), 5 * PIECE)
        .unwrap();
    assert_eq!(now(), (0, 5 * PIECE, 5 * PIECE));
    // SAFETY: nothing is used.
    assert_eq!(unsafe { calls.unmap_down_to(START, pieces(5 * PIECE), PIECE) }, PIECE);
    assert_eq!(now(), (0, PIECE, PIECE));
    // SAFETY: as above.
    let said = unsafe { give_back(shared.driver, START, 8 * PIECE, pieces(PIECE)) };
    assert_eq!(said, SUCCESS);
    assert_eq!((now(), MODEL.with_borrow(|model| model.addresses)), ((0, 0, 0), 0));
}

/// Three pieces are ten calls. Whichever is refused: what was mapped before is, and nothing else.
#[test]
fn whichever_call_is_refused_nothing_is_left() {
    for n in 1..=11 {
        begin(0);
        let (shared, calls) = shared();
        calls.map_up_to(&shared, 3, START, pieces(0), PIECE).unwrap();
        MODEL.with_borrow_mut(|model| model.fail_in = n);
        let result = calls.map_up_to(&shared, 3, START, pieces(PIECE), 4 * PIECE);
        MODEL.with_borrow_mut(|model| model.fail_in = 0);
        // A handle that the driver does not take back is its own affair: the memory went with its mapping.
        let kept = usize::from([3, 6, 9].contains(&n));
        match n {
            11 => assert_eq!((&result, now()), (&Ok(()), (0, 4 * PIECE, 4 * PIECE))),
            1 | 4 | 7 => assert_eq!(result, Err(Refusal::NoMemory), "{n}"),
            _ => assert!(matches!(result, Err(Refusal::Call { .. })), "{n}: {result:?}"),
        }
        if n < 11 {
            assert_eq!(now(), (kept, PIECE, PIECE), "{n}");
        }
        // A driver that unmaps no more is believed.
        let mapped = now().1;
        MODEL.with_borrow_mut(|model| model.fail_in = 1);
        // SAFETY: nothing is used.
        assert_eq!(unsafe { calls.unmap_down_to(START, pieces(mapped), 0) }, mapped);
    }
}
