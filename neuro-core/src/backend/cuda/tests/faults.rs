//! One call of the driver fails, whichever: of a session, and of opening a device. Nothing is wrong then, and nothing is left.

use super::*;

/// A code that no list has.
const UNKNOWN: u32 = 98765;

/// Asks until it is answered. What is said meanwhile is clear.
fn insist<T>(mut ask: impl FnMut() -> Result<T, Refusal>) -> T {
    let mut refused = 0;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(Refusal::Call {
                code: 98765, meaning, ..
            }) if meaning.contains("98765") && refused == 0 => refused = 1,
            Err(refusal) => panic!("{refusal:?}"),
        }
    }
}

/// A session with all kinds of calls; each is repeated where it is refused.
fn session(bed: &Bed) {
    let device = bed.device;
    let [a, b] = [SlabKind::Device, SlabKind::Readback].map(|kind| insist(|| device.allocate(256, kind)));
    let queue = insist(|| bed.open(0));
    let mut last: Vec<Ticket> = Vec::new();
    for value in 0..6 {
        let written = insist(|| bed.fill(Queue::UPLOAD, &last, &a, value));
        let raised = insist(|| bed.fill(queue, &[written], &a, value + 1));
        last = vec![insist(|| bed.copy(Queue::DOWNLOAD, &[raised], &a, &b))];
        if value % 2 == 0 {
            let _ = insist(|| device.done(queue));
            insist(|| device.wait(last[0]));
            assert_eq!(words(&b), [value + 1; 64]);
        }
        let tickets = insist(|| device.events_of(&last));
        drop(tickets);
    }
    let ranges = device.ranges().unwrap();
    let piece = ranges.granularity();
    let range = insist(|| ranges.reserve(2 * piece, piece));
    insist(|| ranges.extend(range.id, piece));
    let guest = insist(|| bed.fill(queue, &last, &a, 9));
    device.close_stream(queue);
    // If the end of its work could not be marked, that is said, and the shutdown waits for it.
    if let Err(refusal) = device.wait(guest)
        && let Err(refusal) = device.wait(guest).map_err(|_| refusal)
    {
        assert!(matches!(&refusal, Refusal::Call { .. }), "{refusal:?}");
        return;
    }
    [a, b, range].iter().for_each(|slab| bed.free(slab));
}

#[test]
fn whichever_call_is_refused_nothing_is_wrong_and_nothing_is_left() {
    for seed in 1..4 {
        for nth in 1.. {
            let bed = Bed::new(seed);
            let before: u64 = bed.world.calls().counts.values().sum();
            bed.world.fail_nth(nth, UNKNOWN);
            session(&bed);
            bed.world.fail_nth(0, 0);
            let made: u64 = bed.world.calls().counts.values().sum::<u64>() - before;
            bed.end();
            if made < nth {
                break;
            }
        }
    }
}

/// A device that cannot be opened leaves nothing, says why, and may be opened later.
#[test]
fn whichever_call_of_opening_is_refused_nothing_is_left() {
    let world = World::new(1);
    let _here = world.enter();
    let driver = driver();
    let mut refused = 0;
    for nth in 1..=40 {
        world.fail_nth(nth, UNKNOWN);
        let opened = CudaDevice::simulated_with(driver, 0);
        world.fail_nth(0, 0);
        refused += u32::from(opened.is_err());
        match opened {
            // An attribute that cannot be had is one that the device lacks.
            Err(why) => assert!(why.contains("98765") || why.contains("no unified addresses"), "{why}"),
            // SAFETY: nobody uses it.
            Ok(device) => unsafe { device.shut_down(&[]) },
        }
        assert_eq!(
            (world.findings(), world.leaks()),
            (Vec::new(), Vec::new()),
            "call {nth}"
        );
    }
    assert!(
        (8..40).contains(&refused),
        "{refused} calls were refused, and after the last it opens"
    );
}
