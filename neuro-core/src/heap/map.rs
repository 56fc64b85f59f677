//! `OffsetMap`: start of a free range -> number of its node. Open addressing, linear probing.
//!
//! A free range is looked up by its start two or three times in each operation of the heap, so the table is a flat power
//! of two of 8-byte slots, hashed by one multiplication, and removal shifts the followers back instead of leaving
//! tombstones: a table that has seen millions of changes probes as short as a new one.
//!
//! Invariants (`assert_valid`):
//! - M1: each key is reachable: no empty slot lies between its home slot and its own.
//! - M2: `len` counts the filled slots, and at most half of the table is filled.
//!
//! Absent on purpose: iteration order, growth limits, and any other key or value than `u32`.

use super::NIL;

/// Key and value; a slot whose value is [`NIL`] is empty.
type Slot = (u32, u32);

const EMPTY: Slot = (0, NIL);
const SMALLEST: usize = 8;

#[derive(Debug, Default)]
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    len: usize,
}

impl OffsetMap {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes the table has committed.
    pub(super) fn side_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    pub(super) fn get(&self, key: u32) -> Option<u32> {
        self.find(key).map(|at| self.slots[at].1)
    }

    /// Adds a key that is not in the table. `value` is not [`NIL`].
    pub(super) fn insert(&mut self, key: u32, value: u32) {
        debug_assert!(value != NIL && self.find(key).is_none());
        if (self.len + 1) * 2 > self.slots.len() {
            self.rehash((self.slots.len() * 2).max(SMALLEST));
        }
        self.place((key, value));
        self.len += 1;
    }

    /// Takes a key out; its value, or `None` if it was not there.
    pub(super) fn remove(&mut self, key: u32) -> Option<u32> {
        let mut hole = self.find(key)?;
        let value = self.slots[hole].1;
        let mask = self.slots.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot.1 == NIL {
                break;
            }
            // The follower may move into the hole only if the hole is not before its home: distance from home to `at`
            // covers the distance from the hole to `at`.
            if (at.wrapping_sub(self.home(slot.0)) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = EMPTY;
        self.len -= 1;
        Some(value)
    }

    /// All pairs, in no promised order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.slots.iter().copied().filter(|slot| slot.1 != NIL)
    }

    /// Fibonacci hashing: the top bits of `key * 2^32 / phi`. Offsets are often multiples of one large power of two,
    /// which a mask of low bits would send to one slot.
    fn home(&self, key: u32) -> usize {
        let shift = 32 - self.slots.len().trailing_zeros();
        (u64::from(key.wrapping_mul(0x9E37_79B9)) >> shift) as usize
    }

    fn find(&self, key: u32) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = self.home(key);
        loop {
            let slot = self.slots[at];
            if slot.1 == NIL {
                return None;
            }
            if slot.0 == key {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = self.home(slot.0);
        while self.slots[at].1 != NIL {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn rehash(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; slots]);
        for slot in old.into_iter().filter(|slot| slot.1 != NIL) {
            self.place(slot);
        }
    }

    pub(super) fn assert_valid(&self) {
        assert_eq!(self.iter().count(), self.len, "M2: filled slots");
        assert!(self.len * 2 <= self.slots.len(), "M2: fuller than half");
        for (key, value) in self.iter() {
            assert_eq!(self.get(key), Some(value), "M1: {key} not reachable");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Law: the table answers as a `HashMap` does, whatever the order of insertions and removals. Keys come in
        /// strides so that homes collide.
        #[test]
        fn agrees_with_a_hash_map(ops in prop::collection::vec((any::<bool>(), 0u32..60, 0u32..4), 0..400)) {
            let (mut map, mut model) = (OffsetMap::default(), HashMap::new());
            for (insert, low, stride) in ops {
                let key = low << (stride * 8);
                if !insert {
                    prop_assert_eq!(map.remove(key), model.remove(&key));
                } else if model.insert(key, low).is_none() {
                    map.insert(key, low);
                } else {
                    model.insert(key, map.get(key).unwrap());
                }
                map.assert_valid();
                prop_assert_eq!(map.len(), model.len());
            }
            let held: HashMap<u32, u32> = map.iter().collect();
            prop_assert_eq!(held, model);
        }
    }

    /// Followers that wrap around the end of the table must come back when a slot before them is emptied.
    #[test]
    fn removal_shifts_across_the_end() {
        let mut map = OffsetMap::default();
        map.insert(0, 0);
        map.remove(0);
        let last: Vec<u32> = (1..10_000)
            .filter(|&key| map.home(key) == SMALLEST - 1)
            .take(4)
            .collect();
        for &key in &last {
            map.insert(key, key);
        }
        for (done, &key) in last.iter().enumerate() {
            assert_eq!(map.remove(key), Some(key));
            map.assert_valid();
            assert!(last[done + 1..].iter().all(|&rest| map.get(rest) == Some(rest)));
        }
    }
}
