use std::collections::HashSet;
use std::sync::Arc;

use super::slots::{CHUNKS, FIRST_CHUNK, place};
use super::*;

fn insert<T>(table: &Table<T>, value: T) -> usize {
    table.insert(|| Ok(value), || "full").unwrap()
}

#[test]
fn a_value_that_is_not_made_takes_no_slot() {
    let table = Table::<u8>::new(1);
    for _ in 0..3 {
        assert_eq!(table.insert(|| Err("no"), || "full"), Err("no"));
    }
    assert_eq!(table.slots.made.load(Ordering::Relaxed), 1);
    let handle = insert(&table, 7);
    assert_eq!((index_of(handle), table.release(handle)), (0, Ok(Some(7))));
}

#[test]
fn places_tile_the_chunks() {
    assert_eq!(place(0), (0, 0));
    assert_eq!(place(63), (0, 63));
    assert_eq!(place(64), (1, 0));
    assert_eq!(place(191), (1, 127));
    assert_eq!(place(192), (2, 0));
    assert_eq!(
        place(CAPACITY - 1),
        (CHUNKS - 1, ((FIRST_CHUNK as usize) << (CHUNKS - 1)) - 1)
    );
}

#[test]
fn the_last_release_gives_the_value_back_and_makes_the_handle_stale() {
    let table = Table::new(1);
    let handle = insert(&table, "value".to_owned());
    assert_eq!((table.retain(handle), table.count(handle)), (Ok(()), Ok(2)));
    assert_eq!(table.release(handle), Ok(None));
    // SAFETY: one reference is left.
    assert_eq!(unsafe { table.get(handle) }.unwrap(), "value");
    assert_eq!(table.release(handle), Ok(Some("value".to_owned())));

    let reused = insert(&table, "other".to_owned());
    assert_ne!(reused, handle);
    assert_eq!(index_of(reused), index_of(handle), "the slot is used again");
    assert_eq!(table.release(handle), Err(Stale));
    assert_eq!(table.retain(handle), Err(Stale));
    assert_eq!(table.count(handle), Err(Stale));
    // SAFETY: the handle is stale, so the condition asks for nothing.
    assert_eq!(unsafe { table.get(handle) }, Err(Stale));
    assert_eq!(table.release(reused), Ok(Some("other".to_owned())));
}

#[test]
fn numbers_that_are_no_handle_are_refused() {
    let (table, other) = (Table::new(1), Table::new(2));
    let handle = insert(&table, 1_u8);
    let on_the_stack = &raw const handle as usize;
    let foreign = insert(&other, 1_u8);
    let unused_slot = handle + (1 << INDEX_SHIFT);
    let far_slot = handle | ((1 << INDEX_BITS) - 1) << INDEX_SHIFT;
    for wrong in [
        0,
        1,
        handle + 1,
        handle | 1 << 63,
        unused_slot,
        far_slot,
        foreign,
        on_the_stack,
        usize::MAX,
    ] {
        assert_eq!(table.release(wrong), Err(Stale), "{wrong:#x}");
    }
    assert_eq!(table.count(handle), Ok(1));
}

#[test]
fn threads_share_a_table() {
    const THREADS: usize = 4;
    const ROUNDS: usize = if cfg!(miri) { 20 } else { 2000 };
    let table = Table::new(3);
    let kept: Vec<usize> = std::thread::scope(|scope| {
        let work = |thread: usize| {
            let table = &table;
            move || {
                let mut kept = Vec::new();
                for round in 0..ROUNDS {
                    let value = Arc::new((thread, round));
                    let handle = insert(table, value.clone());
                    table.retain(handle).unwrap();
                    // SAFETY: two references are held.
                    assert_eq!(**unsafe { table.get(handle) }.unwrap(), (thread, round));
                    assert_eq!(table.release(handle), Ok(None));
                    if round % 10 == 0 {
                        kept.push(handle);
                    } else {
                        assert_eq!(table.release(handle), Ok(Some(value.clone())));
                        assert_eq!(Arc::strong_count(&value), 1);
                    }
                }
                kept
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(kept.iter().collect::<HashSet<_>>().len(), THREADS * ROUNDS / 10);
    for handle in kept {
        assert!(table.release(handle).unwrap().is_some());
    }
    let slots = table.slots.made.load(Ordering::Relaxed) as usize;
    assert!(
        slots <= THREADS * (ROUNDS / 10 + 1),
        "{slots} slots: released ones are used again"
    );
}
