//! Which region an address belongs to: a process-wide table that is read without a lock.
//!
//! Three levels of 512 entries, nine address bits each, down to slots of 2 MiB. An entry is empty, a pool (its region
//! covers the whole slot), or a table of the next level. A region of 24 GiB writes some 24 entries of the middle level
//! and at most two lower tables for its ragged ends.
//!
//! Invariants:
//! - T1: a table, once published, is never freed or moved; an entry that holds a table holds it for good.
//! - T2: entries change only under the writer's lock. Readers take none: they load each entry with Acquire, and a table's
//!   contents were written before the Release store that published it.
//! - T3: the entries of a region are erased before its addresses go back to the system.
//!
//! Who looks up an address that he owns gets the right pool: the entry was written before the block was handed out, and
//! the block's address reached him with a happens-before edge. Who looks up another address gets an answer that was true
//! at some moment, and must treat it so.

use std::ops::Range;
use std::ptr::NonNull;

use super::head::Head;
use crate::sync::global::{self, Mutex, MutexGuard, lock};
use crate::sync::{AtomicUsize, Ordering};

/// log2 of the bytes of a slot of the lowest level: the step of reservations.
const SLOT_BITS: u32 = 21;
/// log2 of the entries of a table. Under loom two, which has every case and few schedules.
const FAN_BITS: u32 = if cfg!(loom) { 1 } else { 9 };
const FAN: usize = 1 << FAN_BITS;
const LEVELS: u32 = 3;
/// Addresses from here on belong to nobody.
const END: usize = 1 << (SLOT_BITS + LEVELS * FAN_BITS);
/// Set in an entry that is a pool, clear in one that is a table: so leak checkers, which look for plain pointers, see that
/// the tables are in use. Pools are in the registry too.
const IS_POOL: usize = 1;

struct Table([AtomicUsize; FAN]);

/// The root and its writers' rules.
pub(super) struct AddressTable(Table);

static WRITER: Mutex<()> = Mutex::new(());
static REGIONS: global::AtomicUsize = global::AtomicUsize::new(0);

/// Bytes of the lower tables made so far, which no pool can be charged with.
static SIDE_BYTES: global::AtomicUsize = global::AtomicUsize::new(0);

#[cfg(not(loom))]
static TABLE: AddressTable = AddressTable(Table([const { AtomicUsize::new(0) }; FAN]));
#[cfg(loom)]
static TABLE: std::sync::LazyLock<AddressTable> = std::sync::LazyLock::new(AddressTable::new);

/// The region that holds `address`.
#[inline]
pub(super) fn find(address: usize) -> Option<NonNull<Head>> {
    TABLE.find(address).map(NonNull::cast)
}

/// Writes down that these addresses belong to the region with this head.
pub(super) fn claim(addresses: Range<usize>, head: NonNull<Head>) {
    let _writer = lock_writer();
    TABLE.set(addresses, head.as_ptr().expose_provenance());
    REGIONS.fetch_add(1, Ordering::Relaxed);
}

/// Erases a region.
pub(super) fn unclaim(addresses: Range<usize>) {
    let _writer = lock_writer();
    TABLE.set(addresses, 0);
    REGIONS.fetch_sub(1, Ordering::Relaxed);
}

/// Takes the writers' lock (T2): for the two above, and for a fork.
pub(super) fn lock_writer() -> MutexGuard<'static, ()> {
    lock(&WRITER)
}

/// Regions of all pools.
pub(super) fn regions() -> usize {
    // Relaxed: it steers how much address space to ask for, nothing else.
    REGIONS.load(Ordering::Relaxed)
}

/// Bytes the table takes, all pools together.
pub(super) fn side_bytes() -> usize {
    size_of::<Table>() + SIDE_BYTES.load(Ordering::Relaxed)
}

#[inline]
const fn shift(level: u32) -> u32 {
    SLOT_BITS + FAN_BITS * level
}

impl Table {
    fn new() -> Box<Self> {
        Box::new(Table(std::array::from_fn(|_| AtomicUsize::new(0))))
    }

    /// The entry for `address` in a table of this level.
    #[inline]
    fn look(&self, address: usize, level: u32) -> usize {
        self.0[(address >> shift(level)) % FAN].load(order::read())
    }
}

impl AddressTable {
    #[cfg(any(loom, test))]
    fn new() -> Self {
        AddressTable(*Table::new())
    }

    /// The value set for `address`, as a pointer.
    #[inline]
    fn find(&self, address: usize) -> Option<NonNull<()>> {
        if address >= END {
            return None;
        }
        let mut entry = self.0.look(address, LEVELS - 1);
        if Self::is_table(entry) {
            // SAFETY: an entry without the mark was stored by `child` from `Box::into_raw` of a `Table`, is never freed
            // (T1), and the Acquire load makes its contents visible (T2).
            entry = unsafe { &*std::ptr::with_exposed_provenance::<Table>(entry) }.look(address, LEVELS - 2);
            if Self::is_table(entry) {
                // SAFETY: as above. The lowest level has no tables.
                entry = unsafe { &*std::ptr::with_exposed_provenance::<Table>(entry) }.look(address, LEVELS - 3);
            }
        }
        NonNull::new(std::ptr::with_exposed_provenance_mut(entry & !IS_POOL))
    }

    /// Sets every slot of `range` (multiples of a slot, below `END`) to `pool`: 0 or a pointer.
    fn set(&self, range: Range<usize>, pool: usize) {
        debug_assert!(range.start < range.end && range.end <= END && pool & IS_POOL == 0);
        debug_assert!((range.start | range.end).is_multiple_of(1 << SLOT_BITS));
        let value = if pool == 0 { 0 } else { pool | IS_POOL };
        Self::set_level(&self.0, LEVELS - 1, range, value);
    }

    fn is_table(entry: usize) -> bool {
        entry != 0 && entry & IS_POOL == 0
    }

    fn set_level(table: &Table, level: u32, range: Range<usize>, value: usize) {
        let span = 1usize << shift(level);
        let mut start = range.start;
        while start < range.end {
            let slot_start = start & !(span - 1);
            let end = range.end.min(slot_start + span);
            let entry = &table.0[(start >> shift(level)) % FAN];
            let whole = end - start == span;
            if whole && !Self::is_table(entry.load(Ordering::Relaxed)) {
                entry.store(value, order::write());
            } else {
                Self::set_level(Self::child(entry), level - 1, start..end, value);
            }
            start = end;
        }
    }

    /// The table in `entry`, made and published if there is none. The entry holds no pool: a part of its slot is being
    /// given to or taken from a region, so no other region covers the whole slot.
    fn child(entry: &AtomicUsize) -> &'static Table {
        let current = entry.load(Ordering::Relaxed);
        let address = if Self::is_table(current) {
            current
        } else {
            debug_assert_eq!(current, 0);
            let made = Box::into_raw(Table::new()).expose_provenance();
            SIDE_BYTES.fetch_add(size_of::<Table>(), Ordering::Relaxed);
            entry.store(made, order::write());
            made
        };
        // SAFETY: from `Box::into_raw` here or in an earlier call, never freed (T1); writers are one at a time (T2), so
        // what an earlier one stored is visible to this one.
        unsafe { &*std::ptr::with_exposed_provenance::<Table>(address) }
    }
}

/// The two orderings of T2; the loom tests weaken them, and must then find out.
#[cfg(not(all(test, loom)))]
mod order {
    use crate::sync::Ordering;

    pub(super) const fn read() -> Ordering {
        Ordering::Acquire
    }

    pub(super) const fn write() -> Ordering {
        Ordering::Release
    }
}
#[cfg(all(test, loom))]
use loom_tests as order;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const SLOT: usize = 1 << SLOT_BITS;
    const GIB_SLOTS: usize = 512;

    proptest! {
        /// Law: the table agrees with a map of slots after any program of inserts and removes.
        #[test]
        fn it_agrees_with_a_map(
            regions in proptest::collection::vec((0usize..3 * GIB_SLOTS, 1usize..2 * GIB_SLOTS), 1..12),
            removed in proptest::collection::vec(any::<bool>(), 12),
        ) {
            let table = AddressTable::new();
            let mut model = BTreeMap::new();
            let mut kept = Vec::new();
            for (number, &(first, count)) in regions.iter().enumerate() {
                if (first..first + count).any(|slot| model.contains_key(&slot)) {
                    continue;
                }
                let value = (number + 1) * 16;
                table.set(first * SLOT..(first + count) * SLOT, value);
                model.extend((first..first + count).map(|slot| (slot, value)));
                kept.push(first..first + count);
            }
            for (range, _) in kept.iter().zip(&removed).filter(|(_, gone)| **gone) {
                table.set(range.start * SLOT..range.end * SLOT, 0);
                model.retain(|slot, _| !range.contains(slot));
            }
            for slot in 0..5 * GIB_SLOTS {
                let found = table.find(slot * SLOT + 17).map(|pointer| pointer.as_ptr().addr());
                prop_assert_eq!(found, model.get(&slot).copied());
            }
            prop_assert_eq!(table.find(END), None);
            prop_assert_eq!(table.find(usize::MAX), None);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
