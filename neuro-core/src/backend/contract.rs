//! The rules of [`Backend`], each a test. A backend runs all of them by [`contract!`].

mod range;
mod shared;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Backend, OWN_QUEUES, Op, Queue, Refusal, Slab, SlabKind, Span, Ticket};

pub(crate) use self::range::b12_a_slab_grows_where_it_is;
pub(crate) use self::shared::{b11_between, b11_exported_memory_is_one_for_all, like};

/// Runs every rule on backends that `$make` makes, each on one of its own; or hands each rule to `$run`, for backends that may not be
/// there, or are looked at afterwards.
macro_rules! contract {
    (with $run:expr) => {
        $crate::backend::contract::contract!(@each $run, b1_work_of_a_queue_is_done_in_order, b2_waits_order_queues,
            b3_done_never_goes_back, b4_what_work_wrote_is_seen, b5_what_the_host_wrote_is_seen, b6_a_refusal_takes_no_ticket,
            b7_slabs_are_apart_and_can_be_freed, b8_too_much_is_refused, b9_from_many_threads,
            b10_host_memory_is_used_where_it_lies, b11_exported_memory_is_one_for_all, b12_a_slab_grows_where_it_is);
    };
    (@each $run:expr, $($rule:ident),*) => {
        $(#[test]
        fn $rule() {
            let run: fn(fn(&dyn $crate::backend::Backend)) = $run;
            run($crate::backend::contract::$rule);
        })*
    };
    ($make:expr) => {
        $crate::backend::contract::contract!(with |rule| rule(&$make));
    };
}
pub(crate) use contract;

const BYTES: u64 = 64 << 10;

/// A slab that the host reaches, and how to write and read it there.
struct Window<'a> {
    backend: &'a dyn Backend,
    slab: Slab,
}

impl<'a> Window<'a> {
    fn new(backend: &'a dyn Backend, kind: SlabKind) -> Self {
        let slab = backend.allocate(BYTES, kind).unwrap();
        assert!(slab.bytes >= BYTES && slab.host.is_some(), "{slab:?}");
        Self { backend, slab }
    }

    fn span(&self) -> Span {
        span(&self.slab)
    }

    fn write(&self, value: u32) {
        self.backend.host_uses(self.span(), true);
        let words = self.slab.host.unwrap().cast::<u32>();
        for at in 0..BYTES as usize / 4 {
            // SAFETY: the slab is that long, the host reaches it, and tests order their work.
            unsafe { words.add(at).write_volatile(value.wrapping_add(at as u32)) };
        }
    }

    /// Whether each word is `value`, or `value` and its number if it `counts`.
    fn holds(&self, value: u32, counts: bool) -> bool {
        self.backend.host_uses(self.span(), false);
        let words = self.slab.host.unwrap().cast::<u32>();
        (0..BYTES as usize / 4).all(|at| {
            let expected = if counts { value.wrapping_add(at as u32) } else { value };
            // SAFETY: as in `write`.
            unsafe { words.add(at).read_volatile() == expected }
        })
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        // SAFETY: tests wait for all work on it first.
        unsafe { self.backend.free(self.slab.id) };
    }
}

fn span(slab: &Slab) -> Span {
    Span {
        slab: slab.id,
        offset: 0,
        bytes: BYTES,
    }
}

fn fill(to: Span, value: u32) -> Op {
    Op::Fill { to, value }
}

fn copy(from: Span, to: Span) -> Op {
    Op::Copy { from, to }
}

/// Submits; spans are of slabs that the test frees only when all is done.
fn submit(backend: &dyn Backend, queue: Queue, waits: &[Ticket], ops: &[Op]) -> Ticket {
    // SAFETY: see above; each test orders its work, or shows what happens when it is ordered.
    unsafe { backend.submit(queue, waits, ops) }.unwrap()
}

fn device_slab(backend: &dyn Backend) -> Slab {
    backend.allocate(BYTES, SlabKind::Device).unwrap()
}

fn give_back(backend: &dyn Backend, slab: &Slab) {
    // SAFETY: tests wait for all work first.
    unsafe { backend.free(slab.id) };
}

pub(crate) fn b1_work_of_a_queue_is_done_in_order(backend: &dyn Backend) {
    let out = Window::new(backend, SlabKind::Readback);
    let slab = device_slab(backend);
    for queue in OWN_QUEUES {
        let before = backend.done(queue).unwrap();
        let mut last = None;
        for value in 1..=20 {
            let ticket = submit(
                backend,
                queue,
                &[],
                &[fill(span(&slab), value), copy(span(&slab), out.span())],
            );
            assert_eq!((ticket.queue, ticket.number), (queue, before + u64::from(value)));
            last = Some(ticket);
        }
        backend.wait(last.unwrap()).unwrap();
        assert!(out.holds(20, false), "{queue:?}");
    }
    give_back(backend, &slab);
}

pub(crate) fn b2_waits_order_queues(backend: &dyn Backend) {
    let out = Window::new(backend, SlabKind::Readback);
    let slab = device_slab(backend);
    let mut last: Vec<Ticket> = Vec::new();
    for round in 0..60u32 {
        let queue = OWN_QUEUES[(round * 7 % 11) as usize % OWN_QUEUES.len()];
        last = vec![submit(backend, queue, &last, &[fill(span(&slab), round)])];
    }
    let read = submit(backend, Queue::DOWNLOAD, &last, &[copy(span(&slab), out.span())]);
    backend.wait(read).unwrap();
    assert!(out.holds(59, false));
    give_back(backend, &slab);
}

pub(crate) fn b3_done_never_goes_back(backend: &dyn Backend) {
    let slab = device_slab(backend);
    let mut seen = 0;
    for value in 0..30 {
        let ticket = submit(backend, Queue::COMPUTE, &[], &[fill(span(&slab), value)]);
        let now = backend.done(Queue::COMPUTE).unwrap();
        assert!(now >= seen && now <= ticket.number, "{seen}, {now}, {ticket:?}");
        seen = now;
        if value % 7 == 0 {
            backend.wait(ticket).unwrap();
            assert!(backend.done(Queue::COMPUTE).unwrap() >= ticket.number);
        }
    }
    let end = submit(backend, Queue::COMPUTE, &[], &[fill(span(&slab), 0)]);
    // Nobody waits: it gets there all the same.
    while backend.done(Queue::COMPUTE).unwrap() < end.number {
        std::thread::yield_now();
    }
    backend.wait(end).unwrap(); // what is done can still be waited for
    give_back(backend, &slab);
}

pub(crate) fn b4_what_work_wrote_is_seen(backend: &dyn Backend) {
    let out = Window::new(backend, SlabKind::Readback);
    let slabs = [device_slab(backend), device_slab(backend)];
    for value in [0, 1, u32::MAX, 0x0102_0304] {
        let written = submit(backend, Queue::COMPUTE, &[], &[fill(span(&slabs[0]), value)]);
        let moved = submit(
            backend,
            Queue::UPLOAD,
            &[written],
            &[copy(span(&slabs[0]), span(&slabs[1]))],
        );
        let read = submit(backend, Queue::DOWNLOAD, &[moved], &[copy(span(&slabs[1]), out.span())]);
        backend.wait(read).unwrap();
        assert!(out.holds(value, false), "{value}");
        // The next round writes what this one read.
        backend.wait(moved).unwrap();
    }
    slabs.iter().for_each(|slab| give_back(backend, slab));
}

pub(crate) fn b5_what_the_host_wrote_is_seen(backend: &dyn Backend) {
    let (into, out) = (
        Window::new(backend, SlabKind::Upload),
        Window::new(backend, SlabKind::Readback),
    );
    let slab = device_slab(backend);
    for value in [3, 1000, u32::MAX - 5] {
        into.write(value);
        let up = submit(backend, Queue::UPLOAD, &[], &[copy(into.span(), span(&slab))]);
        let down = submit(backend, Queue::DOWNLOAD, &[up], &[copy(span(&slab), out.span())]);
        backend.wait(down).unwrap();
        assert!(out.holds(value, true), "{value}");
    }
    give_back(backend, &slab);
}

pub(crate) fn b6_a_refusal_takes_no_ticket(backend: &dyn Backend) {
    let slab = device_slab(backend);
    let first = submit(backend, Queue::COMPUTE, &[], &[fill(span(&slab), 1)]);
    let too_much = backend.allocate(u64::MAX / 4, SlabKind::Device);
    assert_eq!(too_much.unwrap_err(), Refusal::NoMemory);
    let second = submit(backend, Queue::COMPUTE, &[], &[fill(span(&slab), 2)]);
    assert_eq!(second.number, first.number + 1);
    backend.wait(second).unwrap();
    give_back(backend, &slab);
}

pub(crate) fn b7_slabs_are_apart_and_can_be_freed(backend: &dyn Backend) {
    let out = Window::new(backend, SlabKind::Readback);
    for round in 0..3 {
        let slabs: Vec<Slab> = (0..8).map(|_| device_slab(backend)).collect();
        for (value, slab) in (0..).zip(&slabs) {
            submit(backend, Queue::COMPUTE, &[], &[fill(span(slab), 100 * round + value)]);
        }
        for (value, slab) in (0..).zip(&slabs) {
            let read = submit(backend, Queue::COMPUTE, &[], &[copy(span(slab), out.span())]);
            backend.wait(read).unwrap();
            assert!(out.holds(100 * round + value, false));
        }
        slabs.iter().for_each(|slab| give_back(backend, slab));
    }
}

pub(crate) fn b8_too_much_is_refused(backend: &dyn Backend) {
    let longest = backend.facts().max_slab_bytes;
    for bytes in [longest.saturating_add(1), u64::MAX] {
        for kind in [SlabKind::Device, SlabKind::Upload, SlabKind::Readback] {
            assert_eq!(backend.allocate(bytes, kind).unwrap_err(), Refusal::NoMemory);
        }
    }
    b4_what_work_wrote_is_seen(backend);
}

pub(crate) fn b9_from_many_threads(backend: &dyn Backend) {
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let rounds = &rounds;
            scope.spawn(move || {
                let out = Window::new(backend, SlabKind::Readback);
                for round in 0..20 {
                    let slab = device_slab(backend);
                    let queue = OWN_QUEUES[(thread + round) as usize % OWN_QUEUES.len()];
                    let value = thread * 1000 + round;
                    let written = submit(backend, queue, &[], &[fill(span(&slab), value)]);
                    let read = submit(backend, Queue::DOWNLOAD, &[written], &[copy(span(&slab), out.span())]);
                    backend.wait(read).unwrap();
                    assert!(out.holds(value, false));
                    give_back(backend, &slab);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(rounds.into_inner(), 80);
}

/// Memory of the test, on a whole number of what devices want.
fn own_memory(align: u64) -> (NonNull<u8>, std::alloc::Layout) {
    let layout = std::alloc::Layout::from_size_align(BYTES.max(align) as usize, align as usize).unwrap();
    // SAFETY: of some bytes.
    (
        NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).unwrap(),
        layout,
    )
}

pub(crate) fn b10_host_memory_is_used_where_it_lies(backend: &dyn Backend) {
    let align = backend.facts().import_alignment;
    let (memory, layout) = own_memory(align.unwrap_or(4096));
    // SAFETY: it is ours, long enough, and stays until the slab was freed.
    let imported = unsafe { backend.import_host(memory, layout.size() as u64) };
    if align.is_none() {
        assert!(matches!(imported, Err(Refusal::Call { .. })), "{imported:?}");
    } else {
        let window = Window {
            backend,
            slab: imported.unwrap(),
        };
        assert_eq!(window.slab.host, Some(memory), "where it lies");
        let slab = device_slab(backend);
        for value in [7, 1 << 20, u32::MAX] {
            window.write(value);
            let up = submit(backend, Queue::UPLOAD, &[], &[copy(window.span(), span(&slab))]);
            let cleared = submit(backend, Queue::COMPUTE, &[up], &[fill(window.span(), value)]);
            backend.wait(cleared).unwrap();
            assert!(window.holds(value, false));
            let down = submit(backend, Queue::DOWNLOAD, &[], &[copy(span(&slab), window.span())]);
            backend.wait(down).unwrap();
            assert!(window.holds(value, true));
        }
        give_back(backend, &slab);
        drop(window);
        // And again, once it was given back.
        // SAFETY: as above.
        let again = unsafe { backend.import_host(memory, layout.size() as u64) }.unwrap();
        give_back(backend, &again);
    }
    // SAFETY: from `own_memory`; no slab is on it.
    unsafe { std::alloc::dealloc(memory.as_ptr(), layout) };
}
