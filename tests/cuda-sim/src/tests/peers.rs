//! Two devices.

use super::driver::*;
use crate::codes::{INVALID_VALUE, PEER_ACCESS_ALREADY_ENABLED, PEER_ACCESS_UNSUPPORTED, SUCCESS};

fn enable(context: usize) -> u32 {
    call!(cuCtxEnablePeerAccess(context => usize, 0 => u32))
}

#[test]
fn work_reaches_its_own_device_and_those_of_peers() {
    for peers in [false, true] {
        let session = Session::two(peers);
        let mut can = -1;
        let [first, second] = [session.world.device(0), session.world.device(1)];
        assert_eq!(
            call!(cuDeviceCanAccessPeer(&mut can => *mut i32, first => i32, second => i32)),
            SUCCESS
        );
        assert_eq!(can, i32::from(peers));
        set_current(session.contexts[1]);
        let there = alloc(64);
        set_current(session.contexts[0]);
        assert_eq!(fill(there, 1, 16, stream()), INVALID_VALUE);
        session.finds(&["device 0 uses", "memory of device 1", "no access"]);
        assert_eq!(enable(session.contexts[0]), PEER_ACCESS_UNSUPPORTED);
        assert_eq!(
            enable(session.contexts[1]),
            if peers { SUCCESS } else { PEER_ACCESS_UNSUPPORTED }
        );
        if peers {
            assert_eq!(enable(session.contexts[1]), PEER_ACCESS_ALREADY_ENABLED);
            assert_eq!(fill(there, 1, 16, stream()), SUCCESS);
        }
        assert_eq!(session.world.findings().len(), 1);
    }
}

#[test]
fn copies_between_devices_need_no_access_but_order() {
    let session = Session::two(false);
    let [first, second] = [session.contexts[0], session.contexts[1]];
    let (a, here, moment) = (alloc(64), stream(), event());
    assert_eq!(fill(a, 0x0505_0505, 16, here), SUCCESS);
    record(moment, here);
    set_current(second);
    let (b, c, there) = (alloc(64), alloc(64), stream());
    wait(there, moment);
    assert_eq!(
        call!(cuMemcpyPeerAsync(b => u64, second => usize, a => u64, first => usize, 64 => usize, there => usize)),
        SUCCESS
    );
    assert_eq!(copy(c, a, 64, there), SUCCESS);
    assert_eq!(
        (bytes_of(b, 64, there), bytes_of(c, 64, there)),
        (vec![5; 64], vec![5; 64])
    );
    session.is_clean();
    // The other device's copies are known to be done, since pageable memory was waited for; one that is not is found.
    set_current(first);
    assert_eq!(fill(a, 1, 1, here), SUCCESS);
    session.is_clean();
    set_current(second);
    assert_eq!(copy(b, a, 64, there), SUCCESS);
    session.finds(&["race", "of device 0", "of device 1"]);
}
