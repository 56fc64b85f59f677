//! What drivers say, and what becomes of it: no memory, codes that nobody knows, devices that are lost, submissions that stop half-way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// A code that no list has.
const UNKNOWN: u32 = 98765;

#[test]
fn no_memory_is_no_memory() {
    let bed = Bed::new(1);
    for (call, kind) in [
        ("cuMemAlloc_v2", SlabKind::Device),
        ("cuMemHostAlloc", SlabKind::Upload),
        ("cuMemHostAlloc", SlabKind::Readback),
    ] {
        bed.world.fail_call(call, 2);
        assert_eq!(bed.device.allocate(64, kind).unwrap_err(), Refusal::NoMemory);
    }
    // When it is really used up, and there again.
    let all = bed.slab(60 << 20, SlabKind::Device);
    let more = bed.device.allocate(8 << 20, SlabKind::Device);
    assert_eq!(more.unwrap_err(), Refusal::NoMemory);
    bed.free(&all);
    bed.free(&bed.slab(60 << 20, SlabKind::Device));
    bed.end();
}

#[test]
fn a_code_that_nobody_knows_is_kept() {
    let bed = Bed::new(1);
    let slab = bed.slab(64, SlabKind::Device);
    let ticket = bed.fill(Queue::COMPUTE, &[], &slab, 1).unwrap();
    type Ask = fn(&Bed, &Slab, Ticket) -> Result<(), Refusal>;
    let asks: [(&str, &str, Ask); 9] = [
        ("cuCtxPushCurrent_v2", "cuCtxPushCurrent", |bed, _, _| {
            bed.device.allocate(64, SlabKind::Device).map(drop)
        }),
        ("cuMemAlloc_v2", "cuMemAlloc", |bed, _, _| {
            bed.device.allocate(64, SlabKind::Device).map(drop)
        }),
        ("cuMemHostAlloc", "cuMemHostAlloc", |bed, _, _| {
            bed.device.allocate(64, SlabKind::Upload).map(drop)
        }),
        ("cuMemsetD32Async", "cuMemsetD32Async", |bed, slab, _| {
            bed.fill(Queue::COMPUTE, &[], slab, 1).map(drop)
        }),
        ("cuEventCreate", "cuEventCreate", |bed, slab, ticket| {
            bed.fill(Queue::UPLOAD, &[ticket], slab, 1).map(drop)
        }),
        ("cuEventRecord", "cuEventRecord", |bed, slab, ticket| {
            bed.fill(Queue::UPLOAD, &[ticket], slab, 1).map(drop)
        }),
        ("cuStreamWaitEvent", "cuStreamWaitEvent", |bed, slab, ticket| {
            bed.fill(Queue::UPLOAD, &[ticket], slab, 1).map(drop)
        }),
        ("cuStreamGetCtx", "cuStreamGetCtx", |bed, _, _| bed.open(0).map(drop)),
        ("cuModuleLoadDataEx", "cuModuleLoadDataEx", |bed, _, _| {
            bed.device.load_module(b"\0").map(drop)
        }),
    ];
    for (symbol, name, ask) in asks {
        bed.world.fail_call(symbol, UNKNOWN);
        let refused = ask(&bed, &slab, ticket);
        let Err(Refusal::Call { call, code, meaning }) = refused else {
            panic!("{symbol}: {refused:?}")
        };
        assert_eq!((call, code), (name, 98765));
        assert!(meaning.contains("code 98765"), "{meaning}");
    }
    bed.device.wait(ticket).unwrap();
    bed.free(&slab);
    bed.end();
}

/// Who waits may be about to let go of memory, so a wait that returns has waited, whether or not the end of the work could be marked.
#[test]
fn a_wait_without_a_mark_waits_for_the_stream() {
    for symbol in ["cuEventCreate", "cuEventRecord", "cuEventSynchronize"] {
        let bed = Bed::new(3);
        let slab = bed.slab(4096, SlabKind::Readback);
        let ticket = bed.fill(Queue::COMPUTE, &[], &slab, 9).unwrap();
        bed.world.fail_call(symbol, UNKNOWN);
        bed.device.wait(ticket).unwrap();
        assert_eq!(words(&slab), vec![9; 1024], "{symbol}");
        bed.free(&slab);
        bed.end();
    }
}

/// What every call says of a device that was lost.
fn says_lost(bed: &Bed, slab: &Slab, ticket: Ticket, why: &str) {
    let is_lost = |refusal: Option<Refusal>| {
        assert!(
            matches!(&refusal, Some(Refusal::Lost(words)) if words == why),
            "{refusal:?}"
        );
    };
    let device = bed.device;
    is_lost(device.allocate(64, SlabKind::Device).err());
    is_lost(bed.fill(Queue::COMPUTE, &[], slab, 1).err());
    is_lost(device.done(Queue::COMPUTE).err());
    is_lost(device.wait(ticket).err());
    is_lost(bed.open(0).err());
    is_lost(device.so_far(Queue::COMPUTE).err());
    is_lost(device.hold(Queue::UPLOAD, &[ticket]).err());
    is_lost(device.events_of(&[ticket]).err());
    is_lost(device.load_module(b"\0").err());
    is_lost(device.function(1, c"none").err());
    is_lost(device.ranges().unwrap().reserve(2 << 20, 2 << 20).err());
    assert!(device.budget().is_none());
    // SAFETY: nothing is submitted.
    is_lost(unsafe { device.with_stream(Queue::COMPUTE, &[], &mut |_| panic!("it was called")) }.err());
}

#[test]
fn what_loses_a_device_loses_it_for_good() {
    for code in [214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 910] {
        for symbol in [
            "cuMemsetD32Async",
            "cuEventSynchronize",
            "cuCtxPushCurrent_v2",
            "cuMemAlloc_v2",
        ] {
            let bed = Bed::new(1);
            let slab = bed.slab(64, SlabKind::Device);
            let ticket = bed.fill(Queue::COMPUTE, &[], &slab, 1).unwrap();
            bed.world.fail_call(symbol, code);
            let first = match symbol {
                "cuMemsetD32Async" => bed.fill(Queue::COMPUTE, &[], &slab, 2).err(),
                "cuEventSynchronize" => bed.device.wait(ticket).err(),
                _ => bed.device.allocate(64, SlabKind::Device).err(),
            };
            let Some(Refusal::Lost(why)) = first else {
                panic!("{symbol}, {code}: {first:?}")
            };
            let name = symbol.trim_end_matches("_v2");
            assert!(why.starts_with(name) && why.contains("start it anew"), "{why}");
            let before = bed.world.calls().counts;
            says_lost(&bed, &slab, ticket, &why);
            assert_eq!(bed.world.calls().counts, before, "nothing is asked any more");
            bed.end();
        }
    }
}

/// A loss as it really is: the driver answers nothing else, to whatever is asked, and what is left goes with the process.
#[test]
fn a_lost_device_is_let_go() {
    for seed in 1..5 {
        let bed = Bed::new(seed);
        let slab = bed.slab(64, SlabKind::Device);
        let queue = bed.open(0).unwrap();
        let ticket = bed.fill(queue, &[], &slab, 1).unwrap();
        bed.fill(Queue::DOWNLOAD, &[ticket], &slab, 1).unwrap();
        bed.world.lose(719);
        let Err(Refusal::Lost(why)) = bed.device.wait(ticket) else {
            panic!("it is lost")
        };
        assert!(why.contains("CUDA_ERROR_LAUNCH_FAILED"), "{why}");
        says_lost(&bed, &slab, ticket, &why);
        bed.device.close_stream(queue);
        bed.free(&slab);
        bed.shut_down(&[]);
        assert_eq!(bed.world.findings(), Vec::<String>::new());
    }
}

/// The driver ends before this library hears of it: so it is said, each time.
#[test]
fn a_driver_that_has_ended_is_no_error_of_the_device() {
    let bed = Bed::new(1);
    bed.world.fail_call("cuMemAlloc_v2", 4);
    let refused = bed.device.allocate(64, SlabKind::Device).unwrap_err();
    assert!(
        matches!(&refused, Refusal::Lost(why) if why.contains("ended with the process")),
        "{refused:?}"
    );
    bed.slab(64, SlabKind::Device);
    bed.end();
}

/// Some pieces of a submission, of which the `nth` fill is refused.
fn refused_half_way(bed: &Bed, slab: &Slab, nth: u64) -> Refusal {
    bed.world.fail_nth_call("cuMemsetD32Async", nth, UNKNOWN);
    let ops = [1, 2, 3].map(|value| Op::Fill {
        to: part(slab, 0, slab.bytes),
        value,
    });
    // SAFETY: the slab stays, and nobody else uses it.
    unsafe { bed.device.submit(Queue::COMPUTE, &[], &ops) }.unwrap_err()
}

#[test]
fn a_submission_that_stops_half_way_leaves_nothing_under_way() {
    for seed in 1..10 {
        let bed = Bed::new(seed);
        for nth in 1..=3 {
            let slab = bed.slab(64, SlabKind::Readback);
            let before = bed.device.so_far(Queue::COMPUTE).unwrap();
            let refused = refused_half_way(&bed, &slab, nth);
            assert!(matches!(refused, Refusal::Call { code: 98765, .. }), "{refused:?}");
            // The host may look, and the memory may go.
            let _ = words(&slab);
            bed.free(&slab);
            assert_eq!(bed.device.so_far(Queue::COMPUTE).unwrap().number, before.number + 1);
            bed.device.wait(before).unwrap();
        }
        bed.end();
    }
}

/// Has a stream stop until a number is not 0.
extern "C" fn until(number: *mut c_void) {
    // SAFETY: the test's own, which lives until the stream has gone on.
    let number = unsafe { &*number.cast::<AtomicUsize>() };
    while number.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
}

/// Who waits for what is left of a submission holds up nobody else (invariant 3 of the backend).
#[test]
fn a_submission_that_stops_half_way_holds_up_nobody() {
    let bed = Bed::new(1);
    let handles = bed.device.handles();
    let (slab, gate) = (bed.slab(64, SlabKind::Device), AtomicUsize::new(0));
    let argument = std::ptr::from_ref(&gate).cast_mut().cast::<c_void>();
    let code = in_context(
        handles.context,
        || call!("cuLaunchHostFunc": fn(usize, extern "C" fn(*mut c_void), *mut c_void), handles.compute, until, argument),
    );
    assert_eq!(code, 0);
    let answered = std::thread::scope(|scope| {
        scope.spawn(|| refused_half_way(&bed, &slab, 2));
        let start = Instant::now();
        let is_soon = || start.elapsed() < Duration::from_secs(5);
        while bed.world.calls().of("cuStreamSynchronize") == 0 && is_soon() {
            std::thread::yield_now();
        }
        let asks = scope.spawn(|| bed.device.so_far(Queue::COMPUTE));
        while !asks.is_finished() && is_soon() {
            std::thread::yield_now();
        }
        let answered = asks.is_finished();
        gate.store(1, Ordering::Release);
        answered
    });
    assert!(answered, "somebody waits with the queue in his hand");
    bed.free(&slab);
    bed.end();
}
