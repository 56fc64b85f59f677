//! Pools as allocators of somebody else, on the simulated driver: who is behind whom, what it costs, and what is left when something fails.

use std::any::Any;
use std::sync::Arc;

use super::calls;
use super::machine::Machine;
use crate::backend::planted::{Omission, without};
use crate::cuda::{Hook, Keeper};
use crate::error::{Error, Result};
use crate::pool::MemoryPool;

const WORDS: usize = 1000;
const BYTES: usize = 4 * WORDS;

/// A machine, a pool that has room for one block, and streams.
struct Bed {
    machine: Machine,
    pool: MemoryPool,
    streams: Vec<usize>,
}

impl Bed {
    fn new(seed: u64, streams: usize) -> Self {
        Self::with(seed, streams, 1, BYTES)
    }

    fn with(seed: u64, streams: usize, flags: u32, limit: usize) -> Self {
        let machine = Machine::new(seed, 2, false);
        let pool = MemoryPool::new_gpu(machine.devices[0], limit.next_multiple_of(256)).unwrap();
        let streams = (0..streams).map(|_| calls::stream_with(&machine.engines[0], flags));
        let streams = streams.collect();
        Self { machine, pool, streams }
    }

    /// A stream of another device, which is none of this.
    fn elsewhere(&self) -> usize {
        calls::stream(&self.machine.engines[1])
    }

    fn fill(&self, stream: usize, block: u64, value: u32) {
        calls::in_context(&self.machine.engines[0], || calls::fill(stream, block, value, WORDS)).unwrap();
    }

    fn synchronize(&self, stream: usize) {
        calls::in_context(&self.machine.engines[0], || calls::synchronize(stream));
    }

    /// Gives all back: what the driver found.
    fn end(self) -> Vec<String> {
        assert_eq!(self.pool.stats().live_blocks, 0);
        drop(self.pool);
        self.streams
            .iter()
            .for_each(|&stream| calls::destroy(&self.machine.engines[0], stream));
        self.machine.end(false)
    }
}

fn take(hook: &Hook, stream: Option<usize>) -> Result<u64> {
    // SAFETY: tests destroy their streams when all is given back.
    unsafe { hook.allocate(BYTES, stream, || None) }
}

fn give(hook: &Hook, block: u64, stream: Option<usize>) -> Result<()> {
    // SAFETY: as in `take`.
    unsafe { hook.free(block, stream, || None) }
}

fn record(hook: &Hook, block: u64, stream: usize) -> Result<()> {
    // SAFETY: as in `take`.
    unsafe { hook.record_stream(block, stream, || None) }
}

#[test]
fn what_comes_again_on_its_stream_asks_the_driver_for_nothing() {
    for (asks, each) in [(false, 0), (true, 1)] {
        let bed = Bed::new(3, 1);
        let stream = Some(bed.streams[0]);
        let hook = if asks {
            Hook::new(&bed.pool)
        } else {
            Hook::without_captures(&bed.pool)
        }
        .unwrap();
        let first = take(&hook, stream).unwrap();
        give(&hook, first, stream).unwrap();
        let before = bed.machine.world.calls();
        for value in 0..50 {
            let block = take(&hook, stream).unwrap();
            assert_eq!(block, first);
            bed.fill(bed.streams[0], block, value);
            give(&hook, block, stream).unwrap();
        }
        let after = bed.machine.world.calls();
        let mut made: Vec<(&str, u64)> = after
            .counts
            .iter()
            .map(|(&name, count)| (name, count - before.of(name)))
            .collect();
        made.retain(|(_, count)| *count > 0);
        // Each fill of this test has its context made current; so has each question about a capture.
        let current = 50 + 50 * each;
        let mut wanted = vec![
            ("cuCtxPopCurrent_v2", current),
            ("cuCtxPushCurrent_v2", current),
            ("cuMemsetD32Async", 50),
            ("cuStreamIsCapturing", 50 * each),
        ];
        wanted.retain(|(_, count)| *count > 0);
        assert_eq!(made, wanted);
        drop(hook);
        assert_eq!(bed.end(), Vec::<String>::new());
    }
}

/// One block goes from stream to stream, of which there are more than places.
fn from_stream_to_stream(seed: u64) -> Vec<String> {
    let bed = Bed::new(seed, 7);
    let hook = Hook::new(&bed.pool).unwrap();
    for value in 0..21 {
        let stream = bed.streams[value % 7];
        let block = take(&hook, Some(stream)).unwrap();
        bed.fill(stream, block, value as u32);
        give(&hook, block, Some(stream)).unwrap();
    }
    drop(hook);
    bed.end()
}

#[test]
fn memory_goes_to_another_stream_behind_its_work() {
    for seed in 1..10 {
        assert_eq!(from_stream_to_stream(seed), Vec::<String>::new(), "seed {seed}");
    }
    let found = |seed| !without(Omission::NoteElsewhere, || from_stream_to_stream(seed)).is_empty();
    assert!(
        (1..10).any(found),
        "what was freed was not noted, and nothing was found"
    );
}

/// Two streams use a block, the second without its being told to the first.
fn beside(seed: u64) -> Vec<String> {
    let bed = Bed::new(seed, 7);
    let hook = Hook::new(&bed.pool).unwrap();
    for value in 0..6 {
        let (stream, side) = (bed.streams[0], bed.streams[1 + value]);
        let block = take(&hook, Some(stream)).unwrap();
        bed.fill(stream, block, 1);
        bed.synchronize(stream);
        record(&hook, block, side).unwrap();
        record(&hook, block, side).unwrap();
        bed.fill(side, block, 2); // later than it was recorded
        give(&hook, block, Some(stream)).unwrap();
    }
    drop(hook);
    bed.end()
}

#[test]
fn a_side_stream_that_is_recorded_is_waited_for() {
    for seed in 1..10 {
        assert_eq!(beside(seed), Vec::<String>::new(), "seed {seed}");
    }
    let found = |seed| !without(Omission::NoteOther, || beside(seed)).is_empty();
    assert!((1..10).any(found), "a side stream was not noted, and nothing was found");
}

/// Streams that wait for the legacy one use memory that was allocated for none.
fn on_any(seed: u64) -> Vec<String> {
    let bed = Bed::with(seed, 3, 0, BYTES);
    let hook = Hook::new(&bed.pool).unwrap();
    for value in 0..15 {
        // Two of the names of default streams, the second of which is that of this thread.
        let stream = *bed.streams.get(value % 5).unwrap_or(&[0, 2][value % 2]);
        let named = Some(stream).filter(|&stream| stream == 2);
        let block = take(&hook, named).unwrap();
        bed.fill(stream, block, value as u32);
        give(&hook, block, named).unwrap();
    }
    drop(hook);
    bed.end()
}

#[test]
fn without_a_stream_those_that_wait_for_the_legacy_one_are_in_order() {
    for seed in 1..10 {
        assert_eq!(on_any(seed), Vec::<String>::new(), "seed {seed}");
    }
    let found = |seed| !without(Omission::MarkForAll, || on_any(seed)).is_empty();
    assert!((1..10).any(found), "there was no mark, and nothing was found");
}

#[test]
fn who_frees_on_another_stream_has_ordered_that() {
    let bed = Bed::new(5, 2);
    let hook = Hook::new(&bed.pool).unwrap();
    let [one, two] = [bed.streams[0], bed.streams[1]];
    let block = take(&hook, Some(one)).unwrap();
    bed.fill(one, block, 1);
    bed.synchronize(one);
    bed.fill(two, block, 2);
    give(&hook, block, Some(two)).unwrap();
    // At once on that stream, although its work is under way.
    let waits = bed.machine.world.calls().of("cuStreamWaitEvent");
    let again = take(&hook, Some(two)).unwrap();
    bed.fill(two, again, 3);
    assert_eq!(bed.machine.world.calls().of("cuStreamWaitEvent"), waits);
    give(&hook, again, None).unwrap();
    let again = take(&hook, Some(one)).unwrap();
    bed.fill(one, again, 4);
    give(&hook, again, None).unwrap();
    drop(hook);
    assert_eq!(bed.end(), Vec::<String>::new());
}

#[test]
fn a_stream_that_is_captured_gets_no_memory_and_may_free_what_it_has() {
    // The last of seven has no place among the queues: how far it is cannot be told while it is captured.
    for at in [0, 6] {
        let bed = Bed::with(6, 7, 1, 16 * BYTES);
        let hook = Hook::new(&bed.pool).unwrap();
        let blocks: Vec<u64> = bed
            .streams
            .iter()
            .map(|&stream| take(&hook, Some(stream)).unwrap())
            .collect();
        let stream = bed.streams[at];
        bed.machine.world.capture(stream, true);
        let refused = take(&hook, Some(stream));
        assert!(
            matches!(&refused, Err(Error::Driver { meaning, .. }) if meaning.contains("captured into a graph")),
            "{refused:?}"
        );
        for (&block, &stream) in blocks.iter().zip(&bed.streams) {
            give(&hook, block, Some(stream)).unwrap();
        }
        assert_eq!(hook.live_blocks(), 0);
        let left = bed.pool.stats().live_blocks;
        assert_eq!(left, usize::from(at == 6), "its block waits for the end of the capture");
        // Others go on.
        let other = take(&hook, Some(bed.streams[1])).unwrap();
        give(&hook, other, None).unwrap();
        bed.machine.world.capture(stream, false);
        let block = take(&hook, Some(stream)).unwrap();
        give(&hook, block, None).unwrap();
        assert_eq!(bed.pool.stats().live_blocks, 0);
        drop(hook);
        assert_eq!(bed.end(), Vec::<String>::new());
    }
}

#[test]
fn what_is_no_block_is_refused_and_counted() {
    let bed = Bed::new(7, 1);
    let (hook, other) = (Hook::new(&bed.pool).unwrap(), Hook::new(&bed.pool).unwrap());
    let stream = Some(bed.streams[0]);
    let block = take(&hook, stream).unwrap();
    let before = crate::cuda::refused_frees();
    for (hook, wrong) in [(&hook, block + 256), (&hook, 17), (&other, block)] {
        for stream in [None, stream] {
            let refused = give(hook, wrong, stream);
            assert!(matches!(refused, Err(Error::InvalidFree { .. })), "{refused:?}");
        }
    }
    assert!(crate::cuda::refused_frees() >= before + 6); // other tests' beside
    assert!(matches!(
        record(&other, block, bed.streams[0]),
        Err(Error::InvalidArgument { .. })
    ));
    // 0 is no block, and no mistake.
    give(&hook, 0, stream).unwrap();
    record(&hook, 0, bed.streams[0]).unwrap();
    // SAFETY: as in `take`.
    assert_eq!(unsafe { hook.allocate(0, stream, || None) }.unwrap(), 0);
    // A stream that cannot be opened: the block stays, and is freed on another.
    let elsewhere = bed.elsewhere();
    let refused = give(&hook, block, Some(elsewhere));
    assert!(
        matches!(&refused, Err(Error::Driver { meaning, .. }) if meaning.contains("not of this device")),
        "{refused:?}"
    );
    assert_eq!((hook.live_blocks(), bed.pool.stats().live_blocks), (1, 1));
    give(&hook, block, stream).unwrap();
    assert!(give(&hook, block, stream).is_err());
    assert!(matches!(take(&hook, Some(elsewhere)), Err(Error::Driver { .. })));
    calls::destroy(&bed.machine.engines[1], elsewhere);
    assert!(Hook::new(&MemoryPool::unlimited()).is_err());
    drop((hook, other));
    assert_eq!(bed.end(), Vec::<String>::new());
}

/// Memory that a stream uses of which nothing can be known is never handed out again.
#[test]
fn what_an_unknown_stream_uses_stays() {
    let bed = Bed::new(8, 1);
    let hook = Hook::new(&bed.pool).unwrap();
    let stream = Some(bed.streams[0]);
    let block = take(&hook, stream).unwrap();
    let elsewhere = bed.elsewhere();
    assert!(record(&hook, block, elsewhere).is_err());
    calls::destroy(&bed.machine.engines[1], elsewhere);
    give(&hook, block, stream).unwrap();
    assert_eq!((hook.live_blocks(), bed.pool.stats().live_blocks), (0, 1));
    assert!(matches!(take(&hook, stream), Err(Error::OutOfMemory { .. })));
    drop(hook);
    drop(bed.pool);
    bed.streams
        .iter()
        .for_each(|&stream| calls::destroy(&bed.machine.engines[0], stream));
    assert_eq!(bed.machine.end(false), Vec::<String>::new());
}

#[test]
fn streams_are_kept_as_long_as_they_may_be_used() {
    let bed = Bed::with(9, 20, 1, 64 * BYTES);
    let hook = Hook::new(&bed.pool).unwrap();
    let kept = Arc::new(());
    let keeper = || -> Keeper { Some(Box::new(Arc::clone(&kept)) as Box<dyn Any + Send + Sync>) };
    let take = |at: usize| unsafe { hook.allocate(BYTES, Some(bed.streams[at]), keeper) }.unwrap(); // SAFETY: as in `take`
    let first = take(0);
    give(&hook, take(0), None).unwrap();
    assert_eq!(Arc::strong_count(&kept), 2, "once for each stream");
    hook.forget_stream(bed.streams[0]);
    assert_eq!(Arc::strong_count(&kept), 2, "a block is on it");
    give(&hook, first, None).unwrap();
    assert_eq!(Arc::strong_count(&kept), 1);
    (0..20).for_each(|at| give(&hook, take(at), None).unwrap());
    assert_eq!(Arc::strong_count(&kept), 17, "those that were used last");
    let left = take(3);
    drop(hook);
    assert_eq!(
        (Arc::strong_count(&kept), bed.pool.stats().live_blocks),
        (1, 0),
        "{left:#x} is freed"
    );
    assert_eq!(bed.end(), Vec::<String>::new());
}

#[test]
fn trim_waits_for_the_streams_that_are_known() {
    for seed in 1..10 {
        let bed = Bed::new(seed, 7);
        let hook = Hook::new(&bed.pool).unwrap();
        for &stream in &bed.streams {
            let block = take(&hook, Some(stream)).unwrap();
            bed.fill(stream, block, 1);
            give(&hook, block, None).unwrap();
        }
        let committed = bed.pool.stats().committed_bytes;
        assert!(committed > 0);
        assert_eq!((hook.trim(), bed.pool.stats().committed_bytes), (committed, 0));
        drop(hook);
        assert_eq!(bed.end(), Vec::<String>::new());
    }
}

/// Each call of the driver fails once: nothing is lost, and nothing is out of order.
#[test]
fn nothing_is_lost_when_a_call_fails() {
    for n in 1..80 {
        let bed = Bed::with(n, 7, 1, 2 * BYTES);
        let hook = Hook::new(&bed.pool).unwrap();
        bed.machine.world.fail_nth(n, 999);
        for value in 0..14 {
            let (stream, side) = (bed.streams[value % 7], bed.streams[(value + 3) % 7]);
            let Ok(block) = take(&hook, Some(stream)) else { continue };
            let filled = calls::in_context(&bed.machine.engines[0], || calls::fill(stream, block, 1, WORDS));
            if value % 3 == 0
                && filled.is_ok()
                && calls::in_context(&bed.machine.engines[0], || calls::try_synchronize(stream))
            {
                // A side stream that cannot be taken up keeps the block for ever, so it is only used where it is known.
                if take(&hook, Some(side))
                    .and_then(|other| give(&hook, other, None))
                    .is_ok()
                {
                    record(&hook, block, side).unwrap();
                    let _ = calls::in_context(&bed.machine.engines[0], || calls::fill(side, block, 2, WORDS));
                }
            }
            give(&hook, block, Some(stream)).unwrap();
        }
        bed.machine.world.fail_nth(0, 0);
        // Whatever was left is asked after again.
        for &stream in &bed.streams {
            let block = take(&hook, Some(stream)).unwrap();
            give(&hook, block, Some(stream)).unwrap();
        }
        assert_eq!(hook.live_blocks(), 0);
        drop(hook);
        assert_eq!(bed.end(), Vec::<String>::new(), "call {n} failed");
    }
}
