//! Memory of devices.

use super::driver::*;
use crate::codes::{INVALID_VALUE, OUT_OF_MEMORY, SUCCESS};

#[test]
fn memory_is_aligned_and_ends() {
    let session = Session::new(1);
    session.world.set_memory(0, 10_000);
    let (a, b) = (alloc(1000), alloc(6000));
    assert!(a % 512 == 0 && b % 512 == 0);
    let mut none = 7;
    assert_eq!(
        call!(cuMemAlloc_v2(&mut none => *mut u64, 3001 => usize)),
        OUT_OF_MEMORY
    );
    let (mut left, mut all) = (0, 0);
    assert_eq!(
        call!(cuMemGetInfo_v2(&mut left => *mut usize, &mut all => *mut usize)),
        SUCCESS
    );
    assert_eq!((left, all), (3000, 10_000));
    assert_eq!(session.world.calls().device_bytes, 7000);
    assert_eq!(session.world.leaks().len(), 3, "{:?}", session.world.leaks());
    assert_eq!((free(b), free(a), free(0)), (SUCCESS, SUCCESS, SUCCESS));
    assert_eq!(session.world.calls().device_bytes, 0);
    session.is_clean();
}

#[test]
fn freeing_under_work_is_found() {
    for known in [true, false] {
        let session = Session::new(2);
        let (a, stream, moment) = (alloc(64), stream(), event());
        assert_eq!(fill(a, 1, 16, stream), SUCCESS);
        record(moment, stream);
        if known {
            while query(moment) != SUCCESS {}
        }
        assert_eq!(free(a), SUCCESS);
        if known {
            session.is_clean();
        } else {
            session.finds(&[
                "cuMemFree",
                "is freed, and the host does not know that stream 1 of device 0 #1 is done",
            ]);
        }
    }
}

#[test]
fn a_use_after_free_is_found() {
    let session = Session::new(3);
    let (a, b, stream) = (alloc(4096), alloc(64), stream());
    assert_eq!(free(a), SUCCESS);
    assert_eq!(fill(a + 64, 1, 1, stream), INVALID_VALUE);
    session.finds(&[
        "use after free",
        &format!("{:#x}", a + 64),
        "memory of device 0",
        "4096 B",
    ]);
    assert_eq!(copy(b, a, 64, stream), INVALID_VALUE);
    assert_eq!(free(a), INVALID_VALUE);
    assert_eq!(session.world.findings().len(), 3);
    assert!(session.world.findings()[2].contains("use after free"));
}

#[test]
fn wild_pointers_and_bounds_are_found() {
    let session = Session::new(4);
    let (a, stream) = (alloc(1000), stream());
    let wild: [(u64, usize, &str); 5] = [
        (a + 996, 2, "out of bounds"),
        (a + 1024, 1, "wild pointer"),
        (a - 4, 1, "wild pointer"),
        (a + 400_000, 1, "wild pointer"),
        (64, 1, "wild pointer"),
    ];
    for (number, (to, count, words)) in wild.into_iter().enumerate() {
        assert_eq!(fill(to, 1, count, stream), INVALID_VALUE);
        assert_eq!(session.world.findings().len(), number + 1);
        assert!(
            session.world.findings()[number].contains(words),
            "{:?}",
            session.world.findings()
        );
    }
    assert_eq!(copy(a, 64, 4, stream), INVALID_VALUE);
    assert!(session.world.findings()[5].contains("there are no 4 B at 0x40"));
    assert_eq!(free(a + 4), INVALID_VALUE);
    assert!(session.world.findings()[6].contains("lies 4 B within memory of device 0"));
    assert_eq!(fill(a + 2, 1, 1, stream), INVALID_VALUE);
    assert_eq!(copy(a + 8, a, 9, stream), INVALID_VALUE);
    assert!(session.world.findings()[8].contains("overlap"));
    assert_eq!(session.world.findings().len(), 9);
    assert_eq!((copy(3, 5, 0, stream), fill(0, 1, 0, stream)), (SUCCESS, SUCCESS));
    assert_eq!((fill(a, 1, 250, stream), copy(a + 8, a, 8, stream)), (SUCCESS, SUCCESS));
    assert_eq!(session.world.findings().len(), 9);
}

#[test]
fn pointers_tell_what_they_point_to() {
    let session = Session::new(5);
    let (a, host) = (alloc(1000), host_alloc(100));
    let number = |attribute: u32, address: u64| {
        let mut number = 0u64;
        let code = call!(cuPointerGetAttribute((&mut number as *mut u64).cast() => *mut std::ffi::c_void, attribute => u32, address => u64));
        (code == SUCCESS).then_some(number)
    };
    assert_eq!(number(1, a), Some(session.contexts[0] as u64));
    assert_eq!((number(2, a), number(2, address(host))), (Some(2), Some(1)));
    assert_eq!(
        (number(3, a + 9), number(4, a), number(4, address(host))),
        (Some(a + 9), None, Some(address(host)))
    );
    assert_eq!(
        (number(9, a), number(11, a + 8), number(12, a)),
        (Some(session.world.device(0) as u64), Some(a), Some(1000))
    );
    assert_eq!((number(2, a + 1000), number(2, 64)), (None, None));
    session.is_clean();
}

/// Work that was submitted before memory was freed reads a mark there, and does no harm.
#[test]
fn addresses_are_not_given_again_soon() {
    let session = Session::new(6);
    let first = alloc(1 << 20);
    assert_eq!(free(first), SUCCESS);
    assert!((0..100).all(|_| {
        let next = alloc(1 << 20);
        assert_eq!(free(next), SUCCESS);
        next > first
    }));
    session.is_clean();
}
