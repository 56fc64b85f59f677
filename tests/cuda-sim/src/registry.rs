//! Worlds by their numbers, and the one of this thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::world::Inner;

static WORLDS: RwLock<BTreeMap<u32, Arc<Inner>>> = RwLock::new(BTreeMap::new());
static LAST: AtomicU32 = AtomicU32::new(0);
/// A Rust test has made a world: findings are its business, and not that of the process's end.
static TESTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static HERE: RefCell<Vec<Arc<Inner>>> = const { RefCell::new(Vec::new()) };
}

/// Makes a world of the next number.
pub(crate) fn add(make: impl FnOnce(u32) -> Arc<Inner>) -> Arc<Inner> {
    TESTED.store(true, Ordering::Relaxed);
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let world = make(number);
    WORLDS
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(number, Arc::clone(&world));
    world
}

pub(crate) fn remove(number: u32) {
    let gone = WORLDS.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
    drop(gone); // outside the lock: what it has is given back
}

/// The world of a number; that of number 0 is made when it is needed.
pub(crate) fn find(number: u32) -> Option<Arc<Inner>> {
    let found = WORLDS
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&number)
        .cloned();
    if found.is_some() || number != 0 {
        return found;
    }
    let mut worlds = WORLDS.write().unwrap_or_else(PoisonError::into_inner);
    Some(Arc::clone(worlds.entry(0).or_insert_with(Inner::of_the_environment)))
}

/// The world of this thread.
pub(crate) fn here() -> Arc<Inner> {
    HERE.with_borrow(|here| here.last().cloned())
        .or_else(|| find(0))
        .expect("world 0 is always there")
}

/// World 0, if anybody has used it.
pub(crate) fn default_world() -> Option<Arc<Inner>> {
    WORLDS.read().unwrap_or_else(PoisonError::into_inner).get(&0).cloned()
}

pub(crate) fn is_tested() -> bool {
    TESTED.load(Ordering::Relaxed)
}

pub(crate) fn push(world: Arc<Inner>) {
    HERE.with_borrow_mut(|here| here.push(world));
}

pub(crate) fn pop(world: &Arc<Inner>) {
    let gone = HERE.with_borrow_mut(|here| {
        let place = here.iter().rposition(|here| Arc::ptr_eq(here, world))?;
        Some(here.remove(place))
    });
    drop(gone);
}
