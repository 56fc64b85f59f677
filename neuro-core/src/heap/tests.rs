//! Laws of the heap, checked against a plain model that knows every range and searches them all.

mod cases;

use super::{Block, OffsetHeap, Tag};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A range of the model: its length, and the tag if it is free.
type Range = (u32, Option<Tag>);

/// Every range by its start, and the seams. Slow and obvious.
struct Model(BTreeMap<u32, Range>, BTreeSet<u32>);

impl Model {
    fn free_ranges(&self) -> impl Iterator<Item = (u32, u32, Tag)> + '_ {
        self.0
            .iter()
            .filter_map(|(&start, &(len, tag))| tag.map(|tag| (start, len, tag)))
    }

    fn live(&self) -> Vec<u32> {
        self.0
            .iter()
            .filter(|(_, range)| range.1.is_none())
            .map(|(&start, _)| start)
            .collect()
    }

    /// The tags under which a request of `queue` fits somewhere, its own first.
    fn fits(&self, len: u32, align: u32, queue: Tag) -> Option<Tag> {
        let fits = |tag| {
            self.free_ranges().any(|(start, size, range_tag)| {
                range_tag == tag
                    && u64::from(start).next_multiple_of(align.into()) + u64::from(len) <= u64::from(start + size)
            })
        };
        [queue, Tag::IDLE].into_iter().find(|&tag| fits(tag))
    }

    /// Takes `start..start + len` out of the free range around it.
    fn take(&mut self, start: u32, len: u32) -> Tag {
        let (&offset, &(size, tag)) = self.0.range(..=start).next_back().expect("inside the region");
        let tag = tag.expect("inside a free range");
        assert!(start + len <= offset + size, "{start}+{len} leaves {offset}+{size}");
        self.0.remove(&offset);
        for (start, end) in [(offset, start), (start + len, offset + size)] {
            if start < end {
                self.0.insert(start, (end - start, Some(tag)));
            }
        }
        self.0.insert(start, (len, None));
        tag
    }

    /// Whether `at` lies inside a live block.
    fn is_in_block(&self, at: u32) -> bool {
        let around = self.0.range(..at).next_back();
        around.is_some_and(|(start, range)| range.1.is_none() && start + range.0 > at)
    }

    /// A seam, which is not in a live block.
    fn part(&mut self, at: u32) {
        self.1.insert(at);
        let (&start, &(len, tag)) = self.0.range(..=at).next_back().expect("inside the region");
        if start < at {
            self.0.insert(start, (at - start, tag));
            self.0.insert(at, (start + len - at, tag));
        }
    }

    /// Merges neighbouring free ranges of equal tags.
    fn heal(&mut self) {
        let mut healed: Vec<(u32, Range)> = Vec::new();
        for (&start, &(len, tag)) in &self.0 {
            match healed.last_mut() {
                Some((_, last)) if tag.is_some() && last.1 == tag && !self.1.contains(&start) => last.0 += len,
                _ => healed.push((start, (len, tag))),
            }
        }
        self.0 = healed.into_iter().collect();
    }

    fn retag(&mut self, from: Tag, to: Tag) {
        for range in self.0.values_mut().filter(|range| range.1 == Some(from)) {
            range.1 = Some(to);
        }
        self.heal();
    }
}

/// The heap and the model, driven together.
struct Pair {
    heap: OffsetHeap,
    model: Model,
    /// The live blocks by their offset, and those that were freed.
    blocks: BTreeMap<u32, Block>,
    gone: Vec<Block>,
}

impl Pair {
    fn new(capacity: u32) -> Self {
        Pair {
            heap: OffsetHeap::new(capacity),
            model: Model([(0, (capacity, Some(Tag::IDLE)))].into(), BTreeSet::new()),
            blocks: BTreeMap::new(),
            gone: Vec::new(),
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Allocate { len, align_log, queue } => {
                let align = 1 << align_log;
                let expected = self.model.fits(len, align, Tag(queue));
                let block = self.heap.allocate(len, align, Tag(queue));
                assert_eq!(
                    block.map(|block| block.tag),
                    expected,
                    "{len} units, aligned to {align}, queue {queue}"
                );
                if let Some(block) = block {
                    assert_eq!(block.offset % align, 0);
                    assert_eq!(self.model.take(block.offset, len), block.tag);
                    self.blocks.insert(block.offset, block);
                }
            }
            Op::AllocateRoomy { len, extra, align_log } => {
                let (more, align) = (len + extra, 1 << align_log);
                let expected = self.model.fits(len, 1, Tag::IDLE);
                let given = self.heap.allocate_roomy(u32::MAX, len, more, align, Tag::IDLE);
                assert_eq!(given.is_some(), expected.is_some(), "{len} to {more} units");
                if let Some((block, length)) = given {
                    assert!(
                        length == len || length == more && block.offset % align == 0,
                        "{block:?}, {length}"
                    );
                    assert_eq!(self.model.take(block.offset, length), block.tag);
                    self.blocks.insert(block.offset, block);
                }
            }
            Op::Free { pick, tag } => {
                let Some(offset) = self.pick(pick) else { return };
                let range = self.model.0.get_mut(&offset).expect("a live block");
                let block = self.blocks.remove(&offset).expect("a live block");
                assert_eq!(self.heap.free(block, Tag(tag)), Ok(range.0));
                self.gone.push(block);
                range.1 = Some(Tag(tag));
                self.model.heal();
            }
            Op::FreeWild { pick, shift } => self.refuse(pick, shift),
            Op::Resize { pick, len, tag } => {
                let Some(offset) = self.pick(pick) else { return };
                self.resize(offset, len, Tag(tag));
            }
            Op::Retag { from, to } => {
                self.heap.retag(Tag(from), Tag(to));
                self.model.retag(Tag(from), Tag(to));
            }
            Op::Shrink => self.heap.shrink(),
            Op::Part(at) => {
                let at = at % (self.heap.capacity() + 2);
                let inside = self.model.is_in_block(at);
                assert_eq!(self.heap.part(at), !inside, "a seam at {at}");
                if !inside && at > 0 && at < self.heap.capacity() {
                    self.model.part(at);
                }
            }
            Op::Join(pick) => {
                let seams: Vec<u32> = self.model.1.iter().copied().collect();
                // Every now and then one that is none.
                let at = seams.get(pick % (seams.len() + 1)).copied().unwrap_or(pick as u32);
                self.heap.join(at);
                self.model.1.remove(&at);
                self.model.heal();
            }
        }
    }

    fn pick(&self, pick: usize) -> Option<u32> {
        let live = self.model.live();
        (!live.is_empty()).then(|| live[pick % live.len()])
    }

    /// Freeing anything but a live block is refused: one that is gone, or one at the wrong offset.
    fn refuse(&mut self, pick: usize, shift: u32) {
        let known: Vec<Block> = self.gone.iter().chain(self.blocks.values()).copied().collect();
        let Some(mut block) = known.get(pick % known.len().max(1)).copied() else {
            return;
        };
        block.offset = block.offset.wrapping_add(shift);
        let live = self
            .blocks
            .get(&block.offset)
            .is_some_and(|live| live.node == block.node);
        if !live {
            assert!(self.heap.free(block, Tag::IDLE).is_err());
            assert_eq!(self.heap.len_of(block), None);
            assert!(!self.heap.resize(block, 1, Tag::IDLE));
        }
    }

    fn resize(&mut self, offset: u32, new_len: u32, tag: Tag) {
        let len = self.model.0[&offset].0;
        let behind = self.model.0.get(&(offset + len)).copied();
        let admissible = behind.filter(|range| range.1.is_some_and(|free| free == tag || free == Tag::IDLE));
        let admissible = admissible.filter(|_| !self.model.1.contains(&(offset + len)));
        let possible = new_len > 0 && (new_len <= len || admissible.is_some_and(|range| range.0 >= new_len - len));
        assert_eq!(
            self.heap.resize(self.blocks[&offset], new_len, tag),
            possible,
            "{len} to {new_len} units"
        );
        if !possible {
            return;
        }
        if new_len > len {
            self.model.take(offset + len, new_len - len);
            self.model.0.remove(&(offset + len));
        } else if new_len < len {
            self.model.0.insert(offset + new_len, (len - new_len, Some(tag)));
        }
        self.model.0.insert(offset, (new_len, None));
        self.model.heal();
    }

    /// The heap is valid, and says of itself what the model knows.
    fn check(&self) {
        self.heap.assert_valid();
        let mut ranges: Vec<_> = self.heap.free_ranges().collect();
        ranges.sort_unstable();
        assert!(ranges.iter().copied().eq(self.model.free_ranges()), "{ranges:?}");
        let live = self.model.live();
        for &offset in &live {
            assert_eq!(self.heap.len_of(self.blocks[&offset]), Some(self.model.0[&offset].0));
        }
        assert_eq!(self.heap.live_blocks(), live.len());
        assert_eq!(self.heap.free_runs(), ranges.len());
        assert_eq!(self.heap.free_units(), ranges.iter().map(|range| range.1).sum::<u32>());
        assert_eq!(
            self.heap.largest_free(),
            ranges.iter().map(|range| range.1).max().unwrap_or(0)
        );
        let mut live_ranges: Vec<_> = self.heap.live_ranges().map(|(offset, _)| offset).collect();
        live_ranges.sort_unstable();
        assert_eq!(live_ranges, live);
        assert!(self.heap.top() >= live.last().map_or(0, |last| last + self.model.0[last].0));
        for &seam in &self.model.1 {
            assert!(self.model.0.contains_key(&seam), "a range reaches across {seam}");
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Allocate { len: u32, align_log: u32, queue: u8 },
    AllocateRoomy { len: u32, extra: u32, align_log: u32 },
    Free { pick: usize, tag: u8 },
    FreeWild { pick: usize, shift: u32 },
    Resize { pick: usize, len: u32, tag: u8 },
    Retag { from: u8, to: u8 },
    Shrink,
    Part(u32),
    Join(usize),
}

/// A step of a random program on a region of `capacity` units: mostly small requests, some near the capacity.
fn any_op(capacity: u32) -> impl Strategy<Value = Op> {
    let len = || prop_oneof![6 => 1..=capacity / 64 + 1, 3 => 1..=capacity / 8 + 1, 1 => 1..=capacity];
    let tag = || prop_oneof![2 => Just(0u8), 2 => 1u8..4, 1 => Just(255u8)];
    let align_log = prop_oneof![3 => Just(0u32), 2 => 1u32..6, 1 => 0u32..32];
    prop_oneof![
        8 => (len(), align_log, tag()).prop_map(|(len, align_log, queue)| Op::Allocate { len, align_log, queue }),
        2 => (len(), 0..capacity / 4 + 2, 0u32..6)
            .prop_map(|(len, extra, align_log)| Op::AllocateRoomy { len, extra, align_log }),
        6 => (any::<usize>(), tag()).prop_map(|(pick, tag)| Op::Free { pick, tag }),
        1 => (any::<usize>(), 0u32..3).prop_map(|(pick, shift)| Op::FreeWild { pick, shift }),
        2 => (any::<usize>(), 0..capacity / 8 + 2, tag()).prop_map(|(pick, len, tag)| Op::Resize { pick, len, tag }),
        1 => (tag(), tag()).prop_map(|(from, to)| Op::Retag { from, to }),
        1 => Just(Op::Shrink),
        2 => (0..capacity.min(64) * 2 + 2, 0..capacity / 64 + 1).prop_map(|(at, far)| Op::Part(at + far)),
        2 => any::<usize>().prop_map(Op::Join),
    ]
}

fn programs() -> impl Strategy<Value = (u32, Vec<Op>)> {
    prop_oneof![3 => 1u32..200, 2 => 200u32..5_000, 1 => 60_000u32..300_000]
        .prop_flat_map(|capacity| (Just(capacity), prop::collection::vec(any_op(capacity), 0..150)))
}

proptest! {
    /// Law: whatever the program, heap and model agree on every range after each step: nothing overlaps, tags never mix,
    /// a fit is found iff there is one, lengths are exact, and what cannot be freed is refused.
    #[test]
    fn agrees_with_the_model((capacity, ops) in programs()) {
        let mut pair = Pair::new(capacity);
        for op in &ops {
            pair.step(op);
            pair.check();
        }
    }

    /// Law: after freeing everything, retagging to idle and taking all seams back, one idle run is left, and it can be handed out whole.
    #[test]
    fn heals((capacity, ops) in programs()) {
        let mut pair = Pair::new(capacity);
        for op in &ops {
            pair.step(op);
        }
        for (at, offset) in pair.model.live().into_iter().enumerate() {
            pair.heap.free(pair.blocks[&offset], Tag(at as u8 % 5)).unwrap();
        }
        for tag in 1..=255 {
            pair.heap.retag(Tag(tag), Tag::IDLE);
        }
        pair.model.1.iter().for_each(|&seam| pair.heap.join(seam));
        pair.heap.assert_valid();
        prop_assert_eq!(pair.heap.free_ranges().collect::<Vec<_>>(), vec![(0, capacity, Tag::IDLE)]);
        let whole = pair.heap.allocate(capacity, 1, Tag(7)).unwrap();
        prop_assert_eq!((whole.offset, whole.tag), (0, Tag::IDLE));
        prop_assert_eq!(pair.heap.free_units(), 0);
    }

    /// Law: a region of `count` equal blocks is used to its last unit, from any order of frees.
    #[test]
    fn limit_is_reached_to_the_last_unit(count in 1u32..300, len in 1u32..40, order in any::<u64>()) {
        let mut heap = OffsetHeap::new(count * len);
        let mut blocks: Vec<Block> = (0..count).map(|_| heap.allocate(len, 1, Tag::IDLE).unwrap()).collect();
        prop_assert_eq!(heap.allocate(1, 1, Tag::IDLE), None);
        blocks.sort_by_key(|block| (u64::from(block.offset) ^ order).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let freed = &blocks[..blocks.len() / 2];
        for &block in freed {
            heap.free(block, Tag::IDLE).unwrap();
        }
        for _ in freed {
            prop_assert!(heap.allocate(len, 1, Tag::IDLE).is_some());
        }
        prop_assert_eq!((heap.free_units(), heap.largest_free()), (0, 0));
        heap.assert_valid();
    }
}
