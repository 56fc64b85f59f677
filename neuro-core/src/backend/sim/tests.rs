//! The contract in many orders, and that the simulated device finds what it is there to find.

use super::*;

crate::backend::contract::contract!(Sim::new(1));

/// Each rule again with many orders; no use was found to be unordered.
#[test]
fn the_contract_in_many_orders() {
    for seed in 2..60 {
        let sim = Sim::new(seed);
        crate::backend::contract::b1_work_of_a_queue_is_done_in_order(&sim);
        crate::backend::contract::b2_waits_order_queues(&sim);
        crate::backend::contract::b4_what_work_wrote_is_seen(&sim);
        crate::backend::contract::b5_what_the_host_wrote_is_seen(&sim);
        crate::backend::contract::b9_from_many_threads(&sim);
        sim.set_budget(Some(2 << 30));
        crate::backend::contract::b12_a_slab_grows_where_it_is(&sim);
        assert_eq!(sim.findings(), [""; 0], "seed {seed}");
        assert_eq!(sim.slabs(), 0);
    }
}

/// The least piece of a range.
const PIECE: u64 = 64 << 10;

fn span(slab: Slab) -> Span {
    Span {
        slab: slab.id,
        offset: 0,
        bytes: 64,
    }
}

/// Runs `work` on two device slabs and one that the host reads; the first finding.
fn finding(work: impl Fn(&Sim, Span, Span, Span)) -> String {
    let sim = Sim::new(5);
    let [a, b] = [(); 2].map(|()| span(sim.allocate(64, SlabKind::Device).unwrap()));
    let out = span(sim.allocate(64, SlabKind::Readback).unwrap());
    work(&sim, a, b, out);
    sim.findings().into_iter().next().unwrap_or_default()
}

fn submit(sim: &Sim, queue: Queue, waits: &[Ticket], op: Op) -> Ticket {
    // SAFETY: the simulated device survives whatever is asked of it; that is what is tested.
    unsafe { sim.submit(queue, waits, &[op]) }.unwrap()
}

#[test]
fn mistakes_are_found() {
    let fill = |to| Op::Fill { to, value: 7 };
    let copy = |from, to| Op::Copy { from, to };
    let missing_wait = finding(|sim, a, b, _| {
        submit(sim, Queue::UPLOAD, &[], fill(a));
        submit(sim, Queue::COMPUTE, &[], copy(a, b));
    });
    assert!(
        missing_wait.contains("not ordered behind the write of upload"),
        "{missing_wait}"
    );
    let early_reuse = finding(|sim, a, b, _| {
        let written = submit(sim, Queue::COMPUTE, &[], fill(a));
        submit(sim, Queue::DOWNLOAD, &[written], copy(a, b));
        submit(sim, Queue::COMPUTE, &[], fill(a));
    });
    assert!(
        early_reuse.contains("not ordered behind the read of download"),
        "{early_reuse}"
    );
    let undefined = finding(|sim, a, b, _| {
        submit(sim, Queue::COMPUTE, &[], copy(a, b));
    });
    assert!(undefined.contains("nobody has written"), "{undefined}");
    let host_too_soon = finding(|sim, a, _, out| {
        submit(sim, Queue::COMPUTE, &[], fill(a));
        submit(sim, Queue::COMPUTE, &[], copy(a, out));
        sim.host_uses(out, false);
    });
    assert!(host_too_soon.contains("the host"), "{host_too_soon}");
    let freed_too_soon = finding(|sim, a, _, _| {
        submit(sim, Queue::COMPUTE, &[], fill(a));
        // SAFETY: as in `submit`.
        unsafe { sim.free(a.slab) };
    });
    assert!(freed_too_soon.contains("is freed"), "{freed_too_soon}");
    let future = finding(|sim, a, _, _| {
        let ticket = Ticket {
            queue: Queue::UPLOAD,
            number: 9,
        };
        submit(sim, Queue::COMPUTE, &[ticket], fill(a));
    });
    assert!(future.contains("never submitted"), "{future}");
    let unmapped = finding(|sim, _, _, _| {
        let slab = sim.reserve(PIECE * 2, PIECE).unwrap();
        sim.extend(slab.id, PIECE).unwrap();
        let to = Span {
            bytes: PIECE + 64,
            ..span(slab)
        };
        submit(sim, Queue::COMPUTE, &[], fill(to));
    });
    assert!(unmapped.contains("where nothing is mapped"), "{unmapped}");
    let unmapped_too_soon = finding(|sim, _, _, _| {
        let slab = sim.reserve(PIECE * 2, PIECE).unwrap();
        sim.extend(slab.id, PIECE * 2).unwrap();
        submit(
            sim,
            Queue::COMPUTE,
            &[],
            fill(Span {
                offset: PIECE,
                ..span(slab)
            }),
        );
        // SAFETY: as in `submit`.
        unsafe { sim.shorten(slab.id, PIECE) };
    });
    assert!(unmapped_too_soon.contains("is unmapped from"), "{unmapped_too_soon}");
    let right = finding(|sim, a, b, out| {
        let up = submit(sim, Queue::UPLOAD, &[], fill(a));
        let work = submit(sim, Queue::COMPUTE, &[up], copy(a, b));
        let down = submit(sim, Queue::DOWNLOAD, &[work], copy(b, out));
        sim.wait(down).unwrap();
        sim.host_uses(out, false);
    });
    assert_eq!(right, "");
}

#[test]
fn faults_come_when_they_are_asked_for() {
    let sim = Sim::new(3);
    sim.set_limit(1000);
    assert_eq!(sim.allocate(1001, SlabKind::Device).unwrap_err(), Refusal::NoMemory);
    let slab = sim.allocate(1000, SlabKind::Device).unwrap();
    assert_eq!(sim.allocate(4, SlabKind::Upload).unwrap_err(), Refusal::NoMemory);
    sim.fail_nth(2);
    let fill = Op::Fill {
        to: span(slab),
        value: 1,
    };
    let ticket = submit(&sim, Queue::COMPUTE, &[], fill);
    // SAFETY: as in `submit`.
    let refused = unsafe { sim.submit(Queue::COMPUTE, &[], &[fill]) }.unwrap_err();
    assert!(matches!(refused, Refusal::Call { call: "submit", .. }), "{refused:?}");
    sim.wait(ticket).unwrap();
    sim.lose();
    assert!(matches!(sim.done(Queue::COMPUTE), Err(Refusal::Lost(_))));
    assert!(matches!(sim.allocate(4, SlabKind::Device), Err(Refusal::Lost(_))));
    // SAFETY: as above; what is lost can still be given back.
    unsafe { sim.free(slab.id) };
    assert_eq!((sim.findings().len(), sim.calls().submit), (0, 1));
}
