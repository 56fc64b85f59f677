//! The rules of all backends, each on fresh worlds of several seeds, which are looked at afterwards.

use super::*;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=6;

fn on_fresh_worlds(rule: fn(&dyn Backend)) {
    for seed in SEEDS {
        let bed = Bed::new(seed);
        assert!(bed.device.ranges().is_some(), "B12 is not passed over");
        assert!(bed.device.facts().import_alignment.is_some(), "nor is B10");
        rule(bed.device);
        bed.end();
    }
}

crate::backend::contract::contract!(with on_fresh_worlds);

/// All rules, one after the other, on one device.
#[test]
fn a_device_keeps_the_rules_for_as_long_as_it_lives() {
    use crate::backend::contract::*;
    let bed = Bed::new(7);
    for rule in [
        b9_from_many_threads,
        b12_a_slab_grows_where_it_is,
        b10_host_memory_is_used_where_it_lies,
        b3_done_never_goes_back,
        b2_waits_order_queues,
        b4_what_work_wrote_is_seen,
    ] {
        rule(bed.device);
    }
    // B1 counts from where the queues are now.
    b1_work_of_a_queue_is_done_in_order(bed.device);
    bed.end();
}

#[test]
fn a_moment_is_behind_what_is_asked_for_however_many_marks_are_done_meanwhile() {
    for seed in 1..20 {
        let world = cuda_sim::World::new(seed);
        let _here = world.enter();
        let device = CudaDevice::simulated(driver(), 0);
        let _current = device.shared.make_current().unwrap();
        for _ in 0..100 {
            // A piece of nothing: what counts is its number, for which nobody has asked before.
            // SAFETY: nothing is submitted, and nothing used.
            let counted = unsafe { device.in_stream(Queue::COMPUTE, &[], |_| Ok(Some(()))) };
            let (ticket, ()) = counted.unwrap().unwrap();
            let moment = device.line(Queue::COMPUTE).moment(&device.shared, ticket.number);
            let behind = moment.unwrap().map(|moment| moment.ticket);
            assert_eq!(behind, Some(ticket), "seed {seed}");
        }
    }
}

/// Fills of nothing are no calls: what the driver says of them is nowhere written.
#[test]
fn pieces_without_bytes_are_not_handed_over() {
    let bed = Bed::new(1);
    let (a, b) = (bed.slab(64, SlabKind::Device), bed.slab(64, SlabKind::Device));
    let nothing = [
        Op::Fill {
            to: part(&a, 64, 0),
            value: 1,
        },
        Op::Copy {
            from: part(&a, 0, 0),
            to: part(&b, 0, 0),
        },
    ];
    // SAFETY: it touches no memory.
    let ticket = unsafe { bed.device.submit(Queue::COMPUTE, &[], &nothing) }.unwrap();
    bed.device.wait(ticket).unwrap();
    let calls = bed.world.calls();
    assert_eq!((calls.of("cuMemsetD32Async"), calls.of("cuMemcpyAsync")), (0, 0));
    [a, b].iter().for_each(|slab| bed.free(slab));
    bed.end();
}
