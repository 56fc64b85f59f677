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

/// Where so many marks are there that those which are done are taken up, the new one is still waited for.
#[test]
fn many_marks_hide_none() {
    for seed in SEEDS {
        let bed = Bed::new(seed);
        let (slab, out) = (bed.slab(64, SlabKind::Device), bed.slab(64, SlabKind::Readback));
        for value in 0..60 {
            // Each is behind the other queue, so that each is marked; nobody asks how far they are.
            let written = bed.fill(Queue::COMPUTE, &[], &slab, value).unwrap();
            let read = bed.copy(Queue::DOWNLOAD, &[written], &slab, &out).unwrap();
            bed.fill(Queue::COMPUTE, &[read], &slab, value).unwrap();
        }
        let last = bed.copy(
            Queue::DOWNLOAD,
            &[bed.device.so_far(Queue::COMPUTE).unwrap()],
            &slab,
            &out,
        );
        bed.device.wait(last.unwrap()).unwrap();
        assert_eq!(words(&out), [59; 16]);
        [slab, out].iter().for_each(|slab| bed.free(slab));
        bed.end();
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
