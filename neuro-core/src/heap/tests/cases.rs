//! Single cases, each by its own steps.

use super::super::{Block, FreeError, OffsetHeap, Tag};

/// The only fit is the last of many ranges of its class, behind all that the first look at the list sees.
#[test]
fn a_fit_deep_in_its_list_is_found() {
    let mut heap = OffsetHeap::new(40 * 101 + 100);
    let blocks: Vec<Block> = (0..40)
        .flat_map(|hole| {
            [
                heap.allocate(if hole == 0 { 101 } else { 100 }, 1, Tag::IDLE),
                heap.allocate(1, 1, Tag::IDLE),
            ]
        })
        .map(|block| block.unwrap())
        .collect();
    while heap.allocate(1, 1, Tag::IDLE).is_some() {}
    for &block in blocks.iter().step_by(2) {
        heap.free(block, Tag::IDLE).unwrap();
    }
    assert_eq!(heap.allocate(102, 1, Tag::IDLE), None);
    assert_eq!(heap.allocate(101, 1, Tag::IDLE).unwrap().offset, blocks[0].offset);
    assert_eq!(heap.allocate(101, 1, Tag::IDLE), None);
    heap.assert_valid();
}

/// A queue takes what it freed itself before idle memory, and never what another queue freed.
#[test]
fn own_ranges_first_then_idle_never_anothers() {
    let mut heap = OffsetHeap::new(30);
    let [a, b, c] = [(); 3].map(|()| heap.allocate(10, 1, Tag::IDLE).unwrap());
    heap.free(a, Tag::IDLE).unwrap();
    heap.free(b, Tag(1)).unwrap();
    heap.free(c, Tag(2)).unwrap();
    assert_eq!((heap.free_runs(), heap.largest_free()), (3, 10));
    let mut take = |queue| heap.allocate(10, 1, queue).map(|block| (block.offset, block.tag));
    assert_eq!(take(Tag(2)), Some((c.offset, Tag(2))));
    assert_eq!(take(Tag(2)), Some((a.offset, Tag::IDLE)));
    assert_eq!(take(Tag(2)), None);
    assert_eq!(take(Tag::IDLE), None);
    assert_eq!(take(Tag(1)), Some((b.offset, Tag(1))));
}

#[test]
fn wild_inner_and_double_frees_are_told_apart() {
    let mut heap = OffsetHeap::new(100);
    let [a, b] = [(); 2].map(|()| heap.allocate(10, 1, Tag::IDLE).unwrap());
    let at = |offset, node| Block {
        offset,
        node,
        tag: Tag::IDLE,
    };
    assert_eq!(
        heap.free(at(a.offset + 1, a.node), Tag::IDLE),
        Err(FreeError::NotABlock)
    );
    assert_eq!(heap.free(at(a.offset, 1000), Tag::IDLE), Err(FreeError::NotABlock));
    assert_eq!(heap.free(b, Tag::IDLE), Ok(10));
    assert_eq!(heap.free(b, Tag::IDLE), Err(FreeError::AlreadyFree));
    assert_eq!(heap.free(a, Tag::IDLE), Ok(10));
    assert_eq!(
        heap.free(b, Tag::IDLE),
        Err(FreeError::AlreadyFree),
        "merged into its neighbour"
    );
    assert_eq!(heap.live_blocks(), 0);
    heap.assert_valid();
}

/// A heap of the largest capacity costs nothing before it is used, and its last unit is an ordinary one.
#[test]
fn largest_heap_is_small_until_used() {
    let mut heaps: Vec<OffsetHeap> = (0..10_000).map(|_| OffsetHeap::new(u32::MAX)).collect();
    assert!(heaps[0].side_bytes() < 512, "{} bytes", heaps[0].side_bytes());
    let heap = &mut heaps[0];
    let most = heap.allocate(u32::MAX - 1, 1, Tag::IDLE).unwrap();
    let last = heap.allocate(1, 1, Tag::IDLE).unwrap();
    assert_eq!((most.offset, last.offset, heap.top()), (0, u32::MAX - 1, u32::MAX));
    assert_eq!(heap.free(last, Tag(3)), Ok(1));
    assert!(!heap.resize(most, u32::MAX, Tag(2)));
    assert!(heap.resize(most, u32::MAX, Tag(3)));
    assert_eq!(heap.free(most, Tag::IDLE), Ok(u32::MAX));
    heap.shrink();
    heap.assert_valid();
    assert!(heap.side_bytes() < 512, "{} bytes", heap.side_bytes());
    let mut none = OffsetHeap::new(0);
    assert_eq!(
        (none.allocate(1, 1, Tag::IDLE), none.free(most, Tag::IDLE)),
        (None, Err(FreeError::NotABlock))
    );
    none.assert_valid();
}

/// The wilderness is not used above a ceiling, holes are; so a pool asks for the holes before it grows.
#[test]
fn a_ceiling_holds_for_the_wilderness_only() {
    let mut heap = OffsetHeap::new(100);
    let [a, _b] = [(); 2].map(|()| heap.allocate(10, 1, Tag::IDLE).unwrap());
    assert_eq!(heap.allocate_below(29, 10, 1, Tag::IDLE), None);
    assert_eq!(heap.allocate_below(30, 10, 1, Tag::IDLE).unwrap().offset, 20);
    heap.free(a, Tag::IDLE).unwrap();
    assert_eq!(heap.allocate_below(0, 10, 1, Tag::IDLE).unwrap().offset, 0);
    assert_eq!(heap.allocate_below(0, 1, 1, Tag::IDLE), None);
    heap.assert_valid();
}

/// A range costs 20 bytes, and 8 more once it is a hole; tables grow by a quarter.
#[test]
fn ranges_cost_what_the_documentation_says() {
    let mut heap = OffsetHeap::new(u32::MAX);
    let blocks: Vec<Block> = (0..100_000).map(|_| heap.allocate(65, 1, Tag::IDLE).unwrap()).collect();
    let each = heap.side_bytes() as f64 / 100_000.0;
    assert!((20.0..=25.1).contains(&each), "{each} bytes a block");
    for &block in blocks.iter().step_by(2) {
        heap.free(block, Tag::IDLE).unwrap();
    }
    let each = heap.side_bytes() as f64 / 100_000.0;
    assert!((28.0..=35.2).contains(&each), "{each} bytes a range");
}

#[test]
fn more_is_given_where_the_range_that_is_found_has_it() {
    let mut heap = OffsetHeap::new(1000);
    let [a, b, _c] = [(); 3].map(|()| heap.allocate(100, 1, Tag::IDLE).unwrap());
    let roomy = |heap: &mut OffsetHeap, ceiling| {
        let given = heap.allocate_roomy(ceiling, 90, 100, 64, Tag::IDLE);
        given.map(|(block, len)| (block.offset, len))
    };
    assert_eq!(roomy(&mut heap, 389), None); // nothing below the ceiling
    assert_eq!(roomy(&mut heap, 390), Some((300, 90))); // the alignment and more would end above it
    assert_eq!(roomy(&mut heap, 1000), Some((448, 100)));
    heap.free(b, Tag::IDLE).unwrap();
    assert_eq!(roomy(&mut heap, 0), Some((110, 90))); // a hole that is not aligned: its end
    heap.free(a, Tag::IDLE).unwrap();
    assert_eq!(roomy(&mut heap, 0), Some((0, 100))); // aligned and long enough: its front
    heap.assert_valid();
}

/// 100,000 holes, no two adjacent: every operation stays cheap, in lists and pages of their full length.
#[test]
fn a_hundred_thousand_holes() {
    const HOLES: u32 = 100_000;
    let mut heap = OffsetHeap::new(2 * HOLES * 5);
    let mut blocks: Vec<Block> = (0..2 * HOLES)
        .map(|_| heap.allocate(5, 1, Tag::IDLE).unwrap())
        .collect();
    for &block in blocks.iter().step_by(2) {
        heap.free(block, Tag::IDLE).unwrap();
    }
    assert_eq!((heap.free_runs(), heap.largest_free()), (HOLES as usize, 5));
    heap.assert_valid();
    // Each of these would walk 100,000 ranges if lists were searched to their ends: 10^10 steps.
    for _ in 0..HOLES {
        assert_eq!(heap.allocate(6, 1, Tag::IDLE), None);
    }
    for block in blocks.iter_mut().step_by(2) {
        *block = heap.allocate(5, 1, Tag::IDLE).unwrap();
    }
    assert_eq!(heap.free_units(), 0);
    for &block in &blocks {
        heap.free(block, Tag(1)).unwrap();
    }
    heap.retag(Tag(1), Tag::IDLE);
    assert_eq!((heap.free_runs(), heap.largest_free()), (1, 2 * HOLES * 5));
    heap.shrink();
    heap.assert_valid();
    assert!(
        heap.side_bytes() < 4096,
        "{} bytes kept for one range",
        heap.side_bytes()
    );
}
