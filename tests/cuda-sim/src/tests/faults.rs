//! What goes wrong when tests want it to.

use super::driver::*;
use crate::codes::{LAUNCH_FAILED, SUCCESS};

#[test]
fn the_nth_call_fails_and_does_nothing() {
    let session = Session::new(1);
    let stream = stream();
    session.world.fail_nth(3, 98765);
    let (a, b) = (alloc(64), alloc(64));
    // Giving back never fails so, and does not count.
    assert_eq!(free(b), SUCCESS);
    assert_eq!(fill(a, 1, 16, stream), 98765);
    assert_eq!(fill(a, 2, 16, stream), SUCCESS);
    session.world.fail_call("cuMemFree_v2", 999);
    session.world.fail_nth_call("cuMemsetD32Async", 2, 2);
    assert_eq!(synchronize(stream), SUCCESS);
    assert_eq!(
        (free(a), fill(a, 3, 16, stream), fill(a, 4, 16, stream)),
        (999, SUCCESS, 2)
    );
    assert_eq!(bytes_of(a, 1, stream), [3]);
    assert_eq!(free(a), SUCCESS);
    assert_eq!(session.world.calls().of("cuMemsetD32Async"), 4);
    assert_eq!(session.world.calls().of("cuMemFree_v2"), 3);
    session.is_clean();
}

#[test]
fn a_lost_device_answers_nothing_else() {
    let session = Session::new(2);
    let (a, host, stream, moment) = (alloc(64), host_alloc(64), stream(), event());
    assert_eq!(fill(a, 1, 16, stream), SUCCESS);
    assert_eq!(copy(address(host), a, 64, stream), SUCCESS);
    record(moment, stream);
    assert_eq!(call!(cuCtxPushCurrent_v2(session.contexts[0] => usize)), SUCCESS);
    session.world.lose(LAUNCH_FAILED);
    assert_eq!(
        [query(moment), synchronize(stream), fill(a, 1, 1, stream), free(a)],
        [LAUNCH_FAILED; 4]
    );
    let mut none = 0;
    assert_eq!(call!(cuCtxPushCurrent_v2(session.contexts[0] => usize)), LAUNCH_FAILED);
    assert_eq!(call!(cuCtxPopCurrent_v2(&mut none => *mut usize)), SUCCESS);
    // Nothing is done any more, so the host may use its memory.
    // SAFETY: 64 bytes.
    unsafe { host.write_bytes(1, 64) };
    session.is_clean();
    assert_eq!(session.world.calls().pinned_bytes, 64);
    set_current_of_lost();
}

/// The context is taken off although its world answers nothing else.
fn set_current_of_lost() {
    assert_eq!(call!(cuCtxSetCurrent(0 => usize)), SUCCESS);
}

#[test]
fn counts_tell_what_stopped_a_device() {
    let session = Session::new(3);
    let (a, host) = (alloc(64), host_alloc(64));
    let before = session.world.calls().device_syncs;
    assert_eq!(call!(cuCtxSynchronize()), SUCCESS);
    assert_eq!((free(a), host_free(host)), (SUCCESS, SUCCESS));
    assert_eq!(session.world.calls().device_syncs, before + 3);
    session.is_clean();
}
