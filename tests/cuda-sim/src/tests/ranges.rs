//! Ranges of addresses, and what is mapped into them.

use super::driver::*;
use crate::codes::{INVALID_VALUE, NOT_SUPPORTED, OUT_OF_MEMORY, SUCCESS};

const STEP: usize = 2 << 20;

/// `CUmemAllocationProp`: pinned, no handles, on a device.
#[repr(C)]
struct Prop {
    kind: u32,
    handles: u32,
    location: [i32; 2],
    rest: [u64; 2],
}

fn prop(device: i32) -> Prop {
    Prop {
        kind: 1,
        handles: 0,
        location: [1, device],
        rest: [0; 2],
    }
}

fn reserve(bytes: usize) -> u64 {
    let mut start = 0;
    let code = call!(cuMemAddressReserve(&mut start => *mut u64, bytes => usize, 0 => usize, 0 => u64, 0 => u64));
    assert_eq!(code, SUCCESS);
    start
}

fn create(session: &Session, bytes: usize) -> Result<u64, u32> {
    let mut memory = 0;
    let prop = prop(session.world.device(0));
    match call!(cuMemCreate(&mut memory => *mut u64, bytes => usize, &prop => *const Prop, 0 => u64)) {
        SUCCESS => Ok(memory),
        code => Err(code),
    }
}

fn map(at: u64, bytes: usize, memory: u64) -> u32 {
    call!(cuMemMap(at => u64, bytes => usize, 0 => usize, memory => u64, 0 => u64))
}

fn unmap(at: u64, bytes: usize) -> u32 {
    call!(cuMemUnmap(at => u64, bytes => usize))
}

fn release(memory: u64) -> u32 {
    call!(cuMemRelease(memory => u64))
}

fn give_access(session: &Session, at: u64, bytes: usize) -> u32 {
    let access = [1, session.world.device(0), 3];
    call!(cuMemSetAccess(at => u64, bytes => usize, access.as_ptr() => *const i32, 1 => usize))
}

fn free_range(at: u64, bytes: usize) -> u32 {
    call!(cuMemAddressFree(at => u64, bytes => usize))
}

#[test]
fn a_range_grows_by_pieces() {
    let session = Session::new(1);
    let (mut step, of) = (0, prop(session.world.device(0)));
    assert_eq!(
        call!(cuMemGetAllocationGranularity(&mut step => *mut usize, &of => *const Prop, 0 => u32)),
        SUCCESS
    );
    assert_eq!(step, STEP);
    let (range, stream) = (reserve(4 * STEP), stream());
    for place in 0..2 {
        let at = range + (place * STEP) as u64;
        let memory = create(&session, STEP).unwrap();
        assert_eq!(map(at, STEP, memory), SUCCESS);
        assert_eq!(give_access(&session, at, STEP), SUCCESS);
        assert_eq!(release(memory), SUCCESS);
    }
    assert_eq!(session.world.calls().device_bytes, 2 * STEP as u64);
    // Across the border of the two.
    let border = range + STEP as u64;
    assert_eq!(fill(border - 32, 0x0303_0303, 16, stream), SUCCESS);
    assert_eq!(bytes_of(border - 32, 64, stream), [3; 64]);
    session.is_clean();
    assert_eq!(unmap(range, 2 * STEP), SUCCESS);
    assert_eq!(free_range(range, 4 * STEP), SUCCESS);
    assert_eq!(session.world.calls().device_bytes, 0);
    session.is_clean();
    assert_eq!(fill(border, 1, 1, stream), INVALID_VALUE);
    session.finds(&["use after free"]);
}

#[test]
fn rules_of_mapping_are_kept() {
    let session = Session::new(2);
    session.world.set_memory(0, 3 * STEP as u64);
    let (range, stream) = (reserve(2 * STEP), stream());
    let mut none = 0;
    assert_eq!(
        call!(cuMemAddressReserve(&mut none => *mut u64, 4096 => usize, 0 => usize, 0 => u64, 0 => u64)),
        INVALID_VALUE
    );
    assert_eq!(create(&session, 4096), Err(INVALID_VALUE));
    assert_eq!(create(&session, 4 * STEP), Err(OUT_OF_MEMORY));
    let shared = Prop {
        handles: 1,
        ..prop(session.world.device(0))
    };
    assert_eq!(
        call!(cuMemCreate(&mut none => *mut u64, STEP => usize, &shared => *const Prop, 0 => u64)),
        NOT_SUPPORTED
    );
    let (one, two) = (create(&session, STEP).unwrap(), create(&session, 2 * STEP).unwrap());
    session.is_clean();
    let mut expected = 0;
    let mut wrong = |code: u32, words: &str| {
        expected += 1;
        assert_eq!(code, INVALID_VALUE, "{words}");
        let findings = session.world.findings();
        assert!(
            findings.len() == expected && findings[expected - 1].contains(words),
            "{words}: {findings:#?}"
        );
    };
    wrong(map(range + 4096, STEP, one), "not all of the memory");
    wrong(map(range, 2 * STEP, one), "not all of the memory");
    wrong(map(range + STEP as u64, 2 * STEP, two), "in no range that was reserved");
    assert_eq!(map(range, STEP, one), SUCCESS);
    wrong(map(range, STEP, one), "something is mapped");
    wrong(fill(range, 1, 1, stream), "no access");
    wrong(copy(range, range + 64, 4, stream), "no access to it was given");
    wrong(give_access(&session, range, 2 * STEP), "not whole mappings");
    wrong(fill(range + STEP as u64, 1, 1, stream), "wild pointer");
    assert_eq!(give_access(&session, range, STEP), SUCCESS);
    assert_eq!(fill(range, 1, 1, stream), SUCCESS);
    wrong(fill(range + STEP as u64 - 4, 1, 2, stream), "out of bounds");
    wrong(free(range), "cuMemFree");
    wrong(free_range(range, 2 * STEP), "still mapped");
    wrong(unmap(range, 4096), "not whole mappings");
    wrong(free_range(range + STEP as u64, STEP), "no range that was reserved");
    assert_eq!((release(two), synchronize(stream)), (SUCCESS, SUCCESS));
    wrong(release(two), "was released");
    assert_eq!(
        (unmap(range, STEP), release(one), free_range(range, 2 * STEP)),
        (SUCCESS, SUCCESS, SUCCESS)
    );
    assert_eq!(session.world.findings().len(), expected);
    assert!(
        session
            .world
            .leaks()
            .iter()
            .all(|leak| leak.contains("stream") || leak.contains("context"))
    );
}

#[test]
fn unmapping_under_work_is_found() {
    for known in [true, false] {
        let session = Session::new(3);
        let (range, stream, memory) = (reserve(STEP), stream(), create(&session, STEP).unwrap());
        assert_eq!(
            (map(range, STEP, memory), give_access(&session, range, STEP)),
            (SUCCESS, SUCCESS)
        );
        assert_eq!(fill(range, 1, 16, stream), SUCCESS);
        if known {
            assert_eq!(synchronize(stream), SUCCESS);
        }
        assert_eq!(unmap(range, STEP), SUCCESS);
        if known {
            session.is_clean();
        } else {
            session.finds(&["cuMemUnmap", "is unmapped, and the host does not know that stream 1"]);
        }
    }
}

/// Memory that is mapped twice is one: the race is found whichever address is used.
#[test]
fn two_mappings_are_the_same_memory() {
    let session = Session::new(4);
    let (range, memory) = (reserve(2 * STEP), create(&session, STEP).unwrap());
    let other = range + STEP as u64;
    assert_eq!((map(range, STEP, memory), map(other, STEP, memory)), (SUCCESS, SUCCESS));
    assert_eq!(give_access(&session, range, 2 * STEP), SUCCESS);
    let (first, second) = (stream(), stream());
    assert_eq!(fill(range, 1, 1, first), SUCCESS);
    assert_eq!(fill(other, 1, 1, second), SUCCESS);
    session.finds(&["race"]);
}
