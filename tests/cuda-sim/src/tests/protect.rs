//! Loads and stores of the host where work is under way.

use super::driver::*;
use crate::codes::SUCCESS;

fn read(at: *mut u8) -> u8 {
    // SAFETY: the tests below hand over bytes that are there.
    unsafe { at.read_volatile() }
}

fn write(at: *mut u8) {
    // SAFETY: as above.
    unsafe { at.write_volatile(9) };
}

/// Work that reads, or writes, the second half of the first of two pages; what the host does there is found or not.
fn program(writes: bool, synchronized: bool, access: impl Fn(*mut u8)) -> Session {
    let session = Session::new(1);
    let (a, host, stream) = (alloc(8192), host_alloc(8192), stream());
    assert_eq!(fill(a, 0x0707_0707, 2048, stream), SUCCESS);
    let there = address(host) + 2048;
    let (to, from) = if writes { (there, a) } else { (a, there) };
    assert_eq!(copy(to, from, 2048, stream), SUCCESS);
    if synchronized {
        assert_eq!(synchronize(stream), SUCCESS);
    }
    access(host);
    assert_eq!(synchronize(stream), SUCCESS);
    session
}

#[test]
fn what_the_host_does_in_flight_is_found() {
    if !crate::can_protect() {
        return;
    }
    let store = |host: *mut u8| write(host.wrapping_add(3000));
    let load = |host: *mut u8| drop(std::hint::black_box(read(host.wrapping_add(2048)).to_string()));
    program(false, false, store).finds(&["the host writes byte", "stream 1 of device 0 #2 still reads"]);
    program(true, false, store).finds(&["the host writes byte", "still writes"]);
    program(true, false, load).finds(&["the host reads byte", "stream 1 of device 0 #2 still writes"]);
    program(false, false, load).is_clean();
    for writes in [false, true] {
        program(writes, true, store).is_clean();
        program(writes, true, load).is_clean();
        // Other bytes of the same page, and another page.
        program(writes, false, |host| {
            (0..2048).for_each(|at| write(host.wrapping_add(at)))
        })
        .is_clean();
        program(writes, false, |host| write(host.wrapping_add(5000))).is_clean();
    }
}

#[test]
fn bytes_arrive_past_the_protection() {
    let session = program(true, false, |_| {});
    let host = host_alloc(16);
    assert_eq!(session.world.calls().pinned_bytes, 8192 + 16);
    write(host);
    assert_eq!(read(host), 9);
    session.is_clean();
    drop(session);
    let found = std::cell::Cell::new(std::ptr::null_mut());
    let session = program(true, true, |host| found.set(host));
    assert_eq!(
        [2047, 2048, 4095].map(|at| read(found.get().wrapping_add(at))),
        [0xcd, 7, 7]
    );
    session.is_clean();
}

/// An event shows the host that work is done, as much as a wait does.
#[test]
fn a_query_that_says_done_lets_the_pages_go() {
    let session = Session::new(2);
    let (a, host, stream, moment) = (alloc(4096), host_alloc(4096), stream(), event());
    for _ in 0..50 {
        write(host);
        assert_eq!(copy(a, address(host), 4096, stream), SUCCESS);
        record(moment, stream);
        while query(moment) != SUCCESS {}
    }
    session.is_clean();
}

#[test]
fn protection_can_be_switched_off() {
    let session = Session::new(3);
    session.world.protect(false);
    let (a, host, stream) = (alloc(4096), host_alloc(4096), stream());
    assert_eq!(copy(a, address(host), 4096, stream), SUCCESS);
    write(host);
    assert_eq!(synchronize(stream), SUCCESS);
    session.is_clean();
}

/// A function of the host that a stream runs may look at what the stream has done before.
#[test]
fn a_function_of_the_host_knows_what_lies_behind_it() {
    use std::ffi::c_void;
    unsafe extern "C" fn look(host: *mut c_void) {
        write(host.cast());
    }
    for behind in [true, false] {
        let session = Session::new(4);
        let (a, host, first, second) = (alloc(4096), host_alloc(4096), stream(), stream());
        assert_eq!(fill(a, 1, 1024, first), SUCCESS);
        assert_eq!(copy(address(host), a, 4096, first), SUCCESS);
        if behind {
            order(first, second);
        }
        let look: unsafe extern "C" fn(*mut c_void) = look;
        assert_eq!(
            call!(cuLaunchHostFunc(second => usize, look => unsafe extern "C" fn(*mut c_void), host.cast() => *mut c_void)),
            SUCCESS
        );
        assert_eq!(synchronize(second), SUCCESS);
        if behind || !crate::can_protect() {
            session.is_clean();
        } else {
            session.finds(&["the host writes byte"]);
        }
    }
}

/// Many threads, each with pages of its own: nobody is found, and everybody goes on.
#[test]
fn threads_that_mind_their_own_pages_are_left_alone() {
    let session = Session::new(5);
    let context = session.contexts[0];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                set_current(context);
                let (a, host, stream) = (alloc(4096), host_alloc(3 * 4096), stream());
                for round in 0..200 {
                    let at = host.wrapping_add(round % 3 * 4096);
                    write(at);
                    assert_eq!(copy(a, address(at), 4096, stream), SUCCESS);
                    write(host.wrapping_add((round + 1) % 3 * 4096));
                    assert_eq!(synchronize(stream), SUCCESS);
                    assert_eq!(read(at), 9);
                }
                assert_eq!((free(a), host_free(host)), (SUCCESS, SUCCESS));
                set_current(0);
            });
        }
    });
    session.is_clean();
}
