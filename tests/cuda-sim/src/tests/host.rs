//! Page-locked and pageable memory.

use super::driver::*;
use crate::codes::{HOST_MEMORY_ALREADY_REGISTERED, HOST_MEMORY_NOT_REGISTERED, INVALID_VALUE, SUCCESS};

/// Whole pages of the host.
struct Pages(*mut u8, usize);

impl Pages {
    fn new(count: usize) -> Self {
        let bytes = count * 4096;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        Self(start.cast(), bytes)
    }

    fn at(&self, page: usize) -> *mut u8 {
        self.0.wrapping_add(page * 4096)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`.
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}

#[test]
fn registering_has_its_rules() {
    let session = Session::new(1);
    let pages = Pages::new(8);
    assert_eq!(register(pages.at(2), 2 * 4096), SUCCESS);
    for (page, count) in [(2, 2), (2, 1), (3, 2), (1, 2), (0, 8)] {
        assert_eq!(register(pages.at(page), count * 4096), HOST_MEMORY_ALREADY_REGISTERED);
    }
    assert_eq!(
        (register(pages.at(1), 4096), register(pages.at(4), 4096)),
        (SUCCESS, SUCCESS)
    );
    let mut device = 0;
    assert_eq!(
        call!(cuMemHostGetDevicePointer_v2(&mut device => *mut u64, pages.at(3).cast() => *mut std::ffi::c_void, 0 => u32)),
        SUCCESS
    );
    assert_eq!(device, address(pages.at(3)));
    assert_eq!(session.world.calls().pinned_bytes, 4 * 4096);
    session.is_clean();
    assert_eq!(unregister(pages.at(3)), HOST_MEMORY_NOT_REGISTERED);
    assert_eq!(unregister(pages.at(6)), HOST_MEMORY_NOT_REGISTERED);
    assert_eq!(host_free(pages.at(2)), INVALID_VALUE);
    assert_eq!(register(pages.at(6).wrapping_add(64), 4096), INVALID_VALUE);
    assert_eq!(session.world.findings().len(), 4);
    for page in [1, 2, 4] {
        assert_eq!(unregister(pages.at(page)), SUCCESS);
    }
    let calls = session.world.calls();
    assert_eq!((calls.pinned_bytes, calls.peak_pinned_bytes), (0, 4 * 4096));
    assert_eq!(session.world.findings().len(), 4);
}

#[test]
fn a_copy_across_the_border_of_registered_memory_is_refused() {
    let session = Session::new(2);
    let (pages, a, stream) = (Pages::new(8), alloc(4096), stream());
    assert_eq!(fill(a, 1, 1024, stream), SUCCESS);
    assert_eq!(
        (register(pages.at(2), 4096), register(pages.at(3), 4096)),
        (SUCCESS, SUCCESS)
    );
    for (page, words) in [(2, "out of bounds"), (1, "partly pageable"), (3, "out of bounds")] {
        let before = session.world.findings().len();
        let at = address(pages.at(page)) + 2048;
        assert_eq!(copy(at, a, 4096, stream), INVALID_VALUE);
        let findings = session.world.findings();
        assert!(
            findings.len() == before + 1 && findings[before].contains(words),
            "{findings:?}"
        );
    }
    assert_eq!(copy(address(pages.at(2)) + 2048, a, 2048, stream), SUCCESS);
    assert_eq!(synchronize(stream), SUCCESS);
    assert_eq!((unregister(pages.at(2)), unregister(pages.at(3))), (SUCCESS, SUCCESS));
    assert_eq!(session.world.findings().len(), 3);
}

#[test]
fn unregistering_under_work_is_found() {
    for known in [true, false] {
        let session = Session::new(3);
        let (pages, a, stream) = (Pages::new(1), alloc(4096), stream());
        assert_eq!(register(pages.at(0), 4096), SUCCESS);
        assert_eq!(copy(a, address(pages.at(0)), 4096, stream), SUCCESS);
        if known {
            assert_eq!(synchronize(stream), SUCCESS);
        }
        assert_eq!(unregister(pages.at(0)), SUCCESS);
        // SAFETY: a page of this test, which nothing protects any more.
        unsafe { pages.at(0).write_bytes(1, 4096) };
        if known {
            session.is_clean();
        } else {
            session.finds(&[
                "cuMemHostUnregister",
                "registered memory",
                "does not know that stream 1 of device 0 #1 is done",
            ]);
        }
    }
}

/// Page-locked memory is read when the copy is done, and pageable memory when it is submitted.
#[test]
fn pageable_memory_is_read_early_and_page_locked_memory_late() {
    let mut late = 0;
    for seed in 0..20 {
        let session = Session::new(seed);
        session.world.protect(false);
        let (a, b, stream, pinned) = (alloc(4), alloc(4), stream(), host_alloc(4));
        let mut pageable = [1u8; 4];
        // SAFETY: four bytes, with no work there.
        unsafe { pinned.write_bytes(1, 4) };
        assert_eq!(copy(a, address(pageable.as_mut_ptr()), 4, stream), SUCCESS);
        assert_eq!(copy(b, address(pinned), 4, stream), SUCCESS);
        std::hint::black_box(&mut pageable).fill(2);
        // SAFETY: as above; that work reads them is what is tested.
        unsafe { pinned.write_bytes(2, 4) };
        assert_eq!(bytes_of(a, 4, stream), [1; 4]);
        late += u32::from(bytes_of(b, 4, stream) == [2; 4]);
        assert_eq!(session.world.calls().pageable, 3);
        session.is_clean();
    }
    assert!((8..20).contains(&late), "{late}");
}

/// A copy to pageable memory has come to its end when the call returns, and the host knows it.
#[test]
fn a_copy_to_pageable_memory_is_waited_for() {
    let session = Session::new(7);
    let (a, stream) = (alloc(64), stream());
    (0..10).for_each(|value| assert_eq!(fill(a, value, 16, stream), SUCCESS));
    assert_eq!(bytes_of(a, 4, stream), [9, 0, 0, 0]);
    assert_eq!(free(a), SUCCESS);
    session.is_clean();
}

#[test]
fn copies_of_each_kind_look_at_their_ends() {
    let session = Session::new(8);
    let (a, b, stream, mut host) = (alloc(64), alloc(64), stream(), [7u8; 64]);
    let there: *mut std::ffi::c_void = host.as_mut_ptr().cast();
    assert_eq!(
        call!(cuMemcpyHtoDAsync_v2(a => u64, there => *const std::ffi::c_void, 64 => usize, stream => usize)),
        SUCCESS
    );
    assert_eq!(
        call!(cuMemcpyDtoDAsync_v2(b => u64, a => u64, 64 => usize, stream => usize)),
        SUCCESS
    );
    assert_eq!(
        call!(cuMemsetD8Async(b + 1 => u64, 9 => u8, 3 => usize, stream => usize)),
        SUCCESS
    );
    assert_eq!(
        call!(cuMemcpyDtoHAsync_v2(there => *mut std::ffi::c_void, b => u64, 64 => usize, stream => usize)),
        SUCCESS
    );
    assert_eq!(std::hint::black_box(&host)[..5], [7, 9, 9, 9, 7]);
    session.is_clean();
    let pageable = address(there.cast());
    assert_eq!(
        call!(cuMemcpyDtoDAsync_v2(b => u64, pageable => u64, 64 => usize, stream => usize)),
        INVALID_VALUE
    );
    session.finds(&["cuMemcpyDtoDAsync", "wild pointer"]);
}
