//! Streams and events: what is ordered, what is not, and in which order things are done.

use super::driver::*;
use crate::codes::{LAUNCH_FAILED, NOT_PERMITTED, NOT_READY, SUCCESS};

#[test]
fn a_copy_in_another_stream_needs_a_wait() {
    for ordered in [true, false] {
        let session = Session::new(3);
        let (a, b, out, first, second) = (alloc(64), alloc(64), host_alloc(64), stream(), stream());
        assert_eq!(fill(a, 0x0102_0304, 16, first), SUCCESS);
        if ordered {
            order(first, second);
        }
        assert_eq!(copy(b, a, 64, second), SUCCESS);
        assert_eq!(copy(address(out), b, 64, second), SUCCESS);
        assert_eq!(synchronize(second), SUCCESS);
        if !ordered {
            session.finds(&[
                "race",
                "cuMemcpyAsync",
                "stream 2 of device 0 #1 reads bytes 0..64",
                "write of stream 1 of device 0 #1",
            ]);
            continue;
        }
        // SAFETY: 64 bytes, and nothing is under way there any more.
        assert_eq!(unsafe { std::slice::from_raw_parts(out, 4) }, [4, 3, 2, 1]);
        session.is_clean();
    }
}

/// A write behind a read; and that waiting for another moment, or for an event that was never recorded, is not enough.
#[test]
fn waits_for_something_else_order_nothing() {
    for (early, never) in [(false, false), (true, false), (false, true)] {
        let session = Session::new(4);
        let (a, b, first, second, moment) = (alloc(4096), alloc(4096), stream(), stream(), event());
        assert_eq!(fill(a, 1, 1024, first), SUCCESS);
        if early {
            record(moment, first);
        }
        assert_eq!(copy(b, a, 4096, first), SUCCESS);
        if !early && !never {
            record(moment, first);
        }
        wait(second, moment);
        assert_eq!(fill(a + 512, 2, 1, second), SUCCESS);
        if early || never {
            let findings = session.world.findings();
            assert!(
                !findings.is_empty() && findings.iter().all(|words| words.contains("race: stream")),
                "{findings:?}"
            );
        } else {
            session.is_clean();
        }
    }
}

/// The event stands for what it stood for when the wait was submitted.
#[test]
fn recording_again_takes_no_wait_away() {
    let session = Session::new(5);
    let (a, first, second, third, moment) = (alloc(64), stream(), stream(), stream(), event());
    assert_eq!(fill(a, 1, 16, first), SUCCESS);
    record(moment, first);
    wait(second, moment);
    record(moment, third);
    assert_eq!(call!(cuEventDestroy_v2(moment => usize)), SUCCESS);
    assert_eq!(fill(a, 2, 16, second), SUCCESS);
    session.is_clean();
}

#[test]
fn the_legacy_stream_waits_for_blocking_streams_only() {
    for (flags, legacy, races) in [(0, 0, false), (0, 1, false), (1, 0, true), (0, 2, true)] {
        let session = Session::new(6);
        let (a, other) = (alloc(64), stream_of(flags));
        assert_eq!(fill(a, 1, 16, other), SUCCESS);
        assert_eq!(fill(a, 2, 16, legacy), SUCCESS);
        if legacy != 2 {
            assert_eq!(fill(a, 3, 16, other), SUCCESS);
        }
        let findings = session.world.findings();
        assert_eq!(findings.is_empty(), !races, "{flags} {legacy} {findings:?}");
        if !races {
            assert_eq!(bytes_of(a, 1, other), [3]);
        }
    }
}

#[test]
fn the_default_stream_of_a_thread_waits_for_the_legacy_one_and_that_for_it() {
    let session = Session::new(6);
    let a = alloc(64);
    for (value, stream) in [(1, 2), (2, 0), (3, 2), (4, 1)] {
        assert_eq!(fill(a, value, 16, stream), SUCCESS);
    }
    assert_eq!(bytes_of(a, 1, 0), [4]);
    session.is_clean();
}

/// The same program, which waits for nothing, has different outcomes; each stream's own order holds in all of them.
#[test]
fn seeds_decide_the_order() {
    let outcomes = (0..40).map(|seed| {
        let session = Session::new(seed);
        let (a, streams) = (alloc(64), [stream(), stream(), stream()]);
        for round in 0..2 {
            for (number, &stream) in streams.iter().enumerate() {
                assert_eq!(fill(a, (round * 10 + number) as u32, 1, stream), SUCCESS);
            }
        }
        assert_eq!(call!(cuCtxSynchronize()), SUCCESS);
        assert!(!session.world.findings().is_empty());
        bytes_of(a, 1, streams[0])[0]
    });
    let mut outcomes: Vec<u8> = outcomes.collect();
    outcomes.sort_unstable();
    outcomes.dedup();
    assert_eq!(outcomes, [10, 11, 12]);
}

/// Nothing is done before somebody asks, at least now and then; who asks sees "not ready" often, and an end.
#[test]
fn work_is_lazy_and_comes_to_an_end() {
    let mut not_ready = 0;
    for seed in 0..30 {
        let session = Session::new(seed);
        let (a, stream, moment) = (alloc(64), stream(), event());
        assert_eq!(query(moment), SUCCESS);
        (0..20).for_each(|value| assert_eq!(fill(a, value, 16, stream), SUCCESS));
        record(moment, stream);
        let mut asked = 0;
        while query(moment) == NOT_READY {
            asked += 1;
            assert!(asked < 1000);
        }
        not_ready += asked;
        assert_eq!(query(moment), SUCCESS);
        assert_eq!(call!(cuStreamQuery(stream => usize)), SUCCESS);
        session.is_clean();
    }
    assert!(not_ready > 60, "{not_ready}");
}

#[test]
fn a_stream_that_was_destroyed_still_does_its_work() {
    let session = Session::new(8);
    let (a, first, second, moment) = (alloc(64), stream(), stream(), event());
    (0..9).for_each(|value| assert_eq!(fill(a, value, 16, first), SUCCESS));
    record(moment, first);
    assert_eq!(call!(cuStreamDestroy_v2(first => usize)), SUCCESS);
    wait(second, moment);
    assert_eq!(bytes_of(a, 1, second), [8]);
    session.is_clean();
    assert_eq!(fill(a, 1, 16, first), 400);
    session.finds(&["cuMemsetD32Async is given", "destroyed"]);
}

/// Streams come and go; the one that takes an old one's place is not taken for it.
#[test]
fn a_new_stream_is_not_behind_the_old_one() {
    let session = Session::new(9);
    let a = alloc(64);
    for _ in 0..50 {
        let one = stream();
        assert_eq!(fill(a, 1, 16, one), SUCCESS);
        assert_eq!(synchronize(one), SUCCESS);
        assert_eq!(call!(cuStreamDestroy_v2(one => usize)), SUCCESS);
    }
    session.is_clean();
    let one = stream();
    assert_eq!(fill(a, 1, 16, one), SUCCESS);
    assert_eq!(call!(cuStreamDestroy_v2(one => usize)), SUCCESS);
    // Freeing brings the device to its end, and the host knows nothing of that.
    assert_eq!(free(alloc(64)), SUCCESS);
    assert_eq!(fill(a, 1, 16, stream()), SUCCESS);
    session.finds(&["race"]);
}

#[test]
fn bytes_that_nobody_wrote_are_found_and_fresh_ones_are_marked() {
    let session = Session::new(10);
    let (a, b, stream) = (alloc(64), alloc(64), stream());
    assert_eq!(bytes_of(a, 64, stream), [0xcd; 64]);
    session.finds(&["reads bytes 0..64, which nobody has written"]);
    assert_eq!(fill(a, 0, 8, stream), SUCCESS);
    assert_eq!(copy(b, a, 32, stream), SUCCESS);
    assert_eq!(session.world.findings().len(), 1);
    assert_eq!(copy(b, a + 4, 32, stream), SUCCESS);
    assert!(session.world.findings()[1].contains("reads bytes 32..36"));
}

mod host_functions {
    use std::ffi::c_void;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    unsafe extern "C" fn count(argument: *mut c_void) {
        // SAFETY: the tests below hand over a counter that outlives this.
        unsafe { &*argument.cast::<AtomicU32>() }.fetch_add(1, Ordering::SeqCst);
    }

    unsafe extern "C" fn ask_the_driver(argument: *mut c_void) {
        let code = call!(cuStreamSynchronize(1 => usize));
        // SAFETY: as above.
        unsafe { &*argument.cast::<AtomicU32>() }.store(code, Ordering::SeqCst);
    }

    unsafe extern "C" fn wait_for_the_host(argument: *mut c_void) {
        // SAFETY: as above.
        while unsafe { &*argument.cast::<AtomicU32>() }.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
    }

    fn launch(stream: usize, function: unsafe extern "C" fn(*mut c_void), argument: &AtomicU32) {
        let argument = std::ptr::from_ref(argument).cast_mut().cast::<c_void>();
        assert_eq!(
            call!(cuLaunchHostFunc(stream => usize, function => unsafe extern "C" fn(*mut c_void), argument => *mut c_void)),
            SUCCESS
        );
    }

    #[test]
    fn they_run_in_their_turn() {
        let session = Session::new(11);
        let (a, stream, counter) = (alloc(64), stream(), AtomicU32::new(0));
        (0..20).for_each(|value| {
            assert_eq!(fill(a, value, 16, stream), SUCCESS);
            launch(stream, count, &counter);
        });
        assert_eq!(synchronize(stream), SUCCESS);
        assert_eq!(counter.load(Ordering::SeqCst), 20);
        session.is_clean();
    }

    #[test]
    fn they_may_not_ask_the_driver() {
        let session = Session::new(12);
        let (stream, code) = (stream(), AtomicU32::new(0));
        launch(stream, ask_the_driver, &code);
        assert_eq!(synchronize(stream), SUCCESS);
        assert_eq!(code.load(Ordering::SeqCst), NOT_PERMITTED);
        session.finds(&["cuStreamSynchronize is called by a function that a stream runs on the host"]);
    }

    #[test]
    fn a_wait_that_never_ends_is_found() {
        let session = Session::new(13);
        session.world.set_patience(std::time::Duration::from_millis(30));
        let (stream, flag) = (stream(), AtomicU32::new(0));
        launch(stream, wait_for_the_host, &flag);
        assert_eq!(synchronize(stream), LAUNCH_FAILED);
        flag.store(1, Ordering::SeqCst);
        assert_eq!(synchronize(stream), SUCCESS);
        session.finds(&["cuStreamSynchronize: stream 1 can never reach #1"]);
    }
}
