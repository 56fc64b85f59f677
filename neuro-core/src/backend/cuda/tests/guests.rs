//! Streams of others: how many, whose, in what order one follows another in its place, and what tickets of them are worth afterwards.

use super::*;
use crate::backend::planted::{Omission, without};

fn context(bed: &Bed) -> usize {
    bed.device.handles().context
}

fn streams<const N: usize>(bed: &Bed) -> [usize; N] {
    [(); N].map(|()| stream_of(context(bed)))
}

#[test]
fn five_are_open_at_most() {
    let bed = Bed::new(1);
    let all: [usize; 6] = streams(&bed);
    let queues: Vec<Queue> = all[..5].iter().map(|&stream| bed.open(stream).unwrap()).collect();
    assert_eq!(queues, QUEUES[3..]);
    let Err(Refusal::Call { call, meaning, .. }) = bed.open(all[5]) else {
        panic!("six")
    };
    assert_eq!(call, "open_stream");
    assert!(
        meaning.contains("5 streams") && meaning.contains("close one first"),
        "{meaning}"
    );
    // The others are as they were, and a place that is let go is one.
    assert_eq!(bed.open(all[2]), Ok(queues[2]));
    bed.device.close_stream(queues[2]);
    assert!(bed.open(all[5]).is_err(), "it was open twice");
    bed.device.close_stream(queues[2]);
    assert_eq!(bed.open(all[5]), Ok(queues[2]));
    queues.iter().for_each(|&queue| bed.device.close_stream(queue));
    all.iter().for_each(|&stream| destroy(context(&bed), stream));
    bed.end();
}

#[test]
fn the_same_stream_is_the_same_queue() {
    let bed = Bed::new(2);
    let handles = bed.device.handles();
    // The library's own are its own queues, and stay so.
    let own = [handles.compute, handles.upload, handles.download];
    for (stream, queue) in own.into_iter().zip(OWN_QUEUES) {
        assert_eq!(bed.open(stream), Ok(queue));
        bed.device.close_stream(queue);
        let ticket = bed.fill(queue, &[], &bed.slab(64, SlabKind::Device), 1).unwrap();
        bed.device.wait(ticket).unwrap();
    }
    let [one] = streams(&bed);
    let queue = bed.open(one).unwrap();
    assert_eq!(bed.open(one), Ok(queue));
    bed.device.close_stream(queue);
    let slab = bed.slab(64, SlabKind::Readback);
    let ticket = bed.fill(queue, &[], &slab, 5).unwrap();
    bed.device.wait(ticket).unwrap();
    assert_eq!((ticket.number, words(&slab)), (1, vec![5; 16]));
    bed.device.close_stream(queue);
    let closed = bed.fill(queue, &[], &slab, 6);
    assert!(
        matches!(&closed, Err(Refusal::Call { meaning, .. }) if meaning == "the stream was closed"),
        "{closed:?}"
    );
    // Once too often is nothing.
    bed.device.close_stream(queue);
    destroy(handles.context, one);
    bed.end();
}

/// One guest after another in the same place, each writing the same memory in the order of its queue.
fn one_after_another(seed: u64) -> Vec<String> {
    let bed = Bed::new(seed);
    let both: [usize; 2] = streams(&bed);
    let slab = bed.slab(64, SlabKind::Readback);
    let mut last = None;
    for value in 0..6 {
        let stream = both[value as usize % 2];
        let queue = bed.open(stream).unwrap();
        assert_eq!(queue, QUEUES[3]);
        let ticket = bed.fill(queue, &[], &slab, value).unwrap();
        assert_eq!(ticket.number, u64::from(value) + 1, "its numbers go on");
        bed.device.close_stream(queue);
        last = Some(ticket);
    }
    bed.device.wait(last.unwrap()).unwrap();
    let holds = words(&slab);
    bed.free(&slab);
    both.iter().for_each(|&stream| destroy(context(&bed), stream));
    bed.shut_down(&[]);
    let mut found = bed.world.findings();
    if holds != [5; 16] {
        found.push(format!("{holds:?}"));
    }
    found.extend(bed.world.leaks());
    found
}

#[test]
fn a_guest_is_behind_the_one_before() {
    for seed in 1..20 {
        assert_eq!(one_after_another(seed), Vec::<String>::new());
        let found = without(Omission::GuestAfterGuest, || one_after_another(seed));
        assert!(found.iter().any(|words| words.contains("race")), "{found:?}");
    }
}

#[test]
fn tickets_stay_good_when_the_stream_is_gone() {
    for seed in 1..20 {
        let bed = Bed::new(seed);
        let [one, next] = streams(&bed);
        let (slab, out) = (bed.slab(64, SlabKind::Device), bed.slab(64, SlabKind::Readback));
        let queue = bed.open(one).unwrap();
        let early = bed.fill(queue, &[], &slab, 1).unwrap();
        let late = bed.fill(queue, &[], &slab, 2).unwrap();
        bed.device.close_stream(queue);
        destroy(context(&bed), one);
        if seed % 2 == 0 {
            assert_eq!(bed.open(next), Ok(queue));
        }
        let read = bed.copy(Queue::DOWNLOAD, &[early, late], &slab, &out).unwrap();
        bed.device.wait(read).unwrap();
        assert_eq!(words(&out), [2; 16]);
        while bed.device.done(queue).unwrap() < late.number {}
        bed.device.wait(early).unwrap();
        bed.device.close_stream(queue);
        [slab, out].iter().for_each(|slab| bed.free(slab));
        destroy(context(&bed), next);
        bed.end();
    }
}

/// What a program submits by itself is known once it says so, and a queue holds what it submits later.
#[test]
fn work_by_the_callers_own_hand_is_ordered() {
    for seed in 1..20 {
        let bed = Bed::new(seed);
        let [one] = streams(&bed);
        let queue = bed.open(one).unwrap();
        let (slab, out) = (bed.slab(64, SlabKind::Device), bed.slab(64, SlabKind::Readback));
        let first = bed.fill(Queue::COMPUTE, &[], &slab, 1).unwrap();
        bed.device.hold(queue, &[first]).unwrap();
        in_context(context(&bed), || {
            let code = call!("cuMemsetD32Async": fn(u64, u32, usize, usize), slab.id.0, 7, 16, one);
            assert_eq!(code, 0);
        });
        let second = bed.device.so_far(queue).unwrap();
        let read = bed.copy(Queue::DOWNLOAD, &[second], &slab, &out).unwrap();
        bed.device.wait(read).unwrap();
        assert_eq!(words(&out), [7; 16]);
        bed.device.close_stream(queue);
        destroy(context(&bed), one);
        [slab, out].iter().for_each(|slab| bed.free(slab));
        bed.end();
    }
}

#[test]
fn a_stream_of_another_context_is_refused() {
    let world = World::with_devices(3, 2, false);
    let _here = world.enter();
    let driver = driver();
    let [one, two] = [0, 1].map(|ordinal| CudaDevice::simulated(driver, ordinal));
    let of_two = stream_of(two.handles().context);
    // SAFETY: it stays as long as it is open anywhere.
    let refused = unsafe { one.open_stream(of_two) };
    assert!(
        matches!(&refused, Err(Refusal::Call { call: "cuStreamGetCtx", meaning, .. }) if meaning.contains("primary context")),
        "{refused:?}"
    );
    // SAFETY: as above.
    let queue = unsafe { two.open_stream(of_two) }.unwrap();
    two.close_stream(queue);
    destroy(two.handles().context, of_two);
    // SAFETY: nobody uses them any more.
    [one, two].iter().for_each(|device| unsafe { device.shut_down(&[]) });
    assert_eq!((world.findings(), world.leaks()), (Vec::new(), Vec::new()));
}

/// 0 is a stream like any other: the one that the runtime uses unless it is told otherwise.
#[test]
fn the_default_stream_is_a_guest() {
    for seed in 1..10 {
        let bed = Bed::new(seed);
        let queue = bed.open(0).unwrap();
        assert_eq!((queue, bed.open(0)), (QUEUES[3], Ok(queue)));
        let (slab, out) = (bed.slab(64, SlabKind::Device), bed.slab(64, SlabKind::Readback));
        let written = bed.fill(Queue::UPLOAD, &[], &slab, 1).unwrap();
        let raised = bed.fill(queue, &[written], &slab, 8).unwrap();
        let read = bed.copy(Queue::DOWNLOAD, &[raised], &slab, &out).unwrap();
        bed.device.wait(read).unwrap();
        assert_eq!(words(&out), [8; 16]);
        bed.device.close_stream(queue);
        bed.device.close_stream(queue);
        [slab, out].iter().for_each(|slab| bed.free(slab));
        bed.end();
    }
}

#[test]
fn default_streams_are_one_or_refused() {
    let bed = Bed::new(11);
    let queue = bed.open(0).unwrap();
    assert_eq!(bed.open(1), Ok(queue), "the legacy default stream has two names");
    let refused = bed.open(2);
    assert!(
        matches!(&refused, Err(Refusal::Call { meaning, .. }) if meaning.contains("on each thread")),
        "{refused:?}"
    );
    (0..2).for_each(|_| bed.device.close_stream(queue));
    bed.end();
}

/// An event in a stream that is captured would become a part of the graph, and so would the library's streams that wait for it.
#[test]
fn a_stream_that_is_captured_is_left_alone() {
    for seed in 1..6 {
        let bed = Bed::new(seed);
        let [stream] = streams(&bed);
        let queue = bed.open(stream).unwrap();
        let slab = bed.slab(4096, SlabKind::Device);
        let before = bed.fill(queue, &[], &slab, 1).unwrap();
        bed.world.capture(stream, true);
        for refused in [
            bed.fill(queue, &[], &slab, 2).map(drop),
            bed.fill(Queue::COMPUTE, &[before], &slab, 2).map(drop),
            bed.device.hold(queue, &[]),
        ] {
            assert!(
                matches!(&refused, Err(Refusal::Call { meaning, .. }) if meaning.contains("captured")),
                "{refused:?}"
            );
        }
        // The rest of the device goes on.
        let other = bed.slab(4096, SlabKind::Device);
        let ticket = bed.fill(Queue::COMPUTE, &[], &other, 3).unwrap();
        for queue in QUEUES {
            assert!(bed.device.done(queue).is_ok());
        }
        bed.device.wait(ticket).unwrap();
        bed.world.capture(stream, false);
        let after = bed.fill(Queue::COMPUTE, &[before], &slab, 4).unwrap();
        bed.device.wait(after).unwrap();
        [slab, other].iter().for_each(|slab| bed.free(slab));
        bed.device.close_stream(queue);
        destroy(context(&bed), stream);
        bed.end();
    }
}
