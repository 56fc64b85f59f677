//! B12: slabs that grow where they are.

use super::*;
use crate::backend::SlabId;

/// `BYTES` bytes of a slab.
fn part(slab: SlabId, offset: u64) -> Span {
    Span {
        slab,
        offset,
        bytes: BYTES,
    }
}

/// Writes `value` to these bytes, and waits.
fn write(backend: &dyn Backend, to: Span, value: u32) {
    backend
        .wait(submit(backend, Queue::COMPUTE, &[], &[fill(to, value)]))
        .unwrap();
}

/// Whether these bytes hold `value`.
fn holds(backend: &dyn Backend, out: &Window<'_>, from: Span, value: u32) -> bool {
    let read = submit(backend, Queue::DOWNLOAD, &[], &[copy(from, out.span())]);
    backend.wait(read).unwrap();
    out.holds(value, false)
}

pub(crate) fn b12_a_slab_grows_where_it_is(backend: &dyn Backend) {
    let Some(ranges) = backend.ranges() else {
        return; // then nobody can ask for one
    };
    let out = Window::new(backend, SlabKind::Readback);
    let least = ranges.granularity();
    assert!(least > 0 && least.is_multiple_of(256), "{least}");
    let piece = BYTES.next_multiple_of(least);
    let before = backend.budget().map(|budget| budget.used);
    let used = || Some(backend.budget()?.used - before?);
    let slab = ranges.reserve(8 * piece, piece).unwrap();
    assert_eq!((slab.bytes, slab.host), (8 * piece, None));
    assert!(used().is_none_or(|bytes| bytes == 0), "addresses are no memory");
    ranges.extend(slab.id, 2 * piece).unwrap();
    assert!(used().is_none_or(|bytes| bytes == 2 * piece), "{:?}", used());
    write(backend, part(slab.id, 0), 1);
    write(backend, part(slab.id, 2 * piece - BYTES), 2);
    ranges.extend(slab.id, 8 * piece).unwrap();
    assert!(holds(backend, &out, part(slab.id, 0), 1), "it stayed where it was");
    assert!(holds(backend, &out, part(slab.id, 2 * piece - BYTES), 2));
    // Across a border between what came at once, and one between what came one after the other.
    for (at, value) in [(piece, 3), (2 * piece, 4), (5 * piece, 5)] {
        write(backend, part(slab.id, at - BYTES / 2), value);
        assert!(holds(backend, &out, part(slab.id, at - BYTES / 2), value));
    }
    let within = Op::Copy {
        from: part(slab.id, 5 * piece - BYTES / 2),
        to: part(slab.id, 7 * piece - BYTES / 2),
    };
    backend.wait(submit(backend, Queue::COMPUTE, &[], &[within])).unwrap();
    assert!(holds(backend, &out, part(slab.id, 7 * piece - BYTES / 2), 5));
    // The end goes and comes again; the beginning does not notice.
    for round in 10..30 {
        // SAFETY: all work is done.
        assert_eq!(unsafe { ranges.shorten(slab.id, 2 * piece) }, 2 * piece);
        assert!(used().is_none_or(|bytes| bytes == 2 * piece), "{:?}", used());
        assert!(
            holds(backend, &out, part(slab.id, piece - BYTES / 2), 3),
            "round {round}"
        );
        ranges.extend(slab.id, 8 * piece).unwrap();
        write(backend, part(slab.id, 8 * piece - BYTES), round);
        assert!(holds(backend, &out, part(slab.id, 8 * piece - BYTES), round));
    }
    // More than there is: nothing changes.
    let longest = backend.facts().memory_bytes.next_multiple_of(piece);
    assert_eq!(ranges.reserve(longest + piece, piece).unwrap_err(), Refusal::NoMemory);
    let all = ranges.reserve(longest, piece).unwrap();
    let first = used();
    if ranges.extend(all.id, longest).is_ok() {
        // With what the slab above has, this is more than all; where the driver gives it all the same, it takes it back.
        // SAFETY: no work has used it.
        assert_eq!(unsafe { ranges.shorten(all.id, 0) }, 0);
    }
    assert_eq!(used(), first);
    ranges.extend(all.id, piece).unwrap();
    write(backend, part(all.id, 0), 6);
    assert!(holds(backend, &out, part(all.id, 0), 6));
    assert!(holds(backend, &out, part(slab.id, piece - BYTES / 2), 3));
    // A slab goes with what is mapped, with part of it, and with nothing.
    give_back(backend, &all);
    // SAFETY: as above.
    assert_eq!(unsafe { ranges.shorten(slab.id, 0) }, 0);
    give_back(backend, &slab);
    assert!(used().is_none_or(|bytes| bytes == 0), "{:?}", used());
    b4_what_work_wrote_is_seen(backend);
}
