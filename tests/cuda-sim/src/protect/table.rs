//! What the signal handler may look up: places of fixed size behind a lock that spins (P2).

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Page-locked memory of the host.
    Pinned,
    /// Addresses of a device.
    Device,
    /// Page-locked memory that was given back.
    Closed,
}

#[derive(Clone, Copy, Debug)]
struct RegionEntry {
    start: u64,
    /// 0: the place is free.
    end: u64,
    world: u32,
    kind: Kind,
}

/// Work that uses memory of the host, as far as the host knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct InFlight {
    pub(crate) start: u64,
    /// 0: the place is free.
    pub(crate) end: u64,
    pub(crate) world: u32,
    pub(crate) writes: bool,
    pub(crate) actor: u32,
    pub(crate) count: u64,
}

/// The host has touched what it must not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touched {
    pub(crate) address: u64,
    pub(crate) writes: bool,
    pub(crate) by: InFlight,
}

const REGIONS: usize = 8192;
const IN_FLIGHT: usize = 16384;
const TOUCHED: usize = 256;

struct Tables {
    regions: [RegionEntry; REGIONS],
    regions_used: usize,
    in_flight: [InFlight; IN_FLIGHT],
    in_flight_used: usize,
    /// From here on a free place is looked for.
    in_flight_next: usize,
    touched: [Touched; TOUCHED],
    touched_used: usize,
}

const NO_WORK: InFlight = InFlight {
    start: 0,
    end: 0,
    world: 0,
    writes: false,
    actor: 0,
    count: 0,
};

struct Locked {
    taken: AtomicBool,
    tables: UnsafeCell<Tables>,
}

// SAFETY: `with` gives the tables to one thread at a time.
unsafe impl Sync for Locked {}

static TABLES: Locked = Locked {
    taken: AtomicBool::new(false),
    tables: UnsafeCell::new(Tables {
        regions: [RegionEntry {
            start: 0,
            end: 0,
            world: 0,
            kind: Kind::Pinned,
        }; REGIONS],
        regions_used: 0,
        in_flight: [NO_WORK; IN_FLIGHT],
        in_flight_used: 0,
        in_flight_next: 0,
        touched: [Touched {
            address: 0,
            writes: false,
            by: NO_WORK,
        }; TOUCHED],
        touched_used: 0,
    }),
};

fn with<T>(work: impl FnOnce(&mut Tables) -> T) -> T {
    while TABLES.taken.swap(true, Ordering::Acquire) {
        std::hint::spin_loop();
    }
    // SAFETY: the lock is held, until the end of this function.
    let answer = work(unsafe { &mut *TABLES.tables.get() });
    TABLES.taken.store(false, Ordering::Release);
    answer
}

/// Takes the lock for a forked child, whose other threads are not there to let it go.
pub(crate) fn unlock_after_fork() {
    TABLES.taken.store(false, Ordering::Release);
}

/// A place in the table of regions.
#[derive(Debug)]
pub(crate) struct Region(usize);

/// `None` where the table is full.
pub(crate) fn add_region(range: &Range<u64>, world: u32, kind: Kind) -> Option<Region> {
    with(|tables| {
        let free = tables.regions[..tables.regions_used]
            .iter()
            .position(|entry| entry.end == 0);
        let place = free.unwrap_or(tables.regions_used);
        let entry = tables.regions.get_mut(place)?;
        *entry = RegionEntry {
            start: range.start,
            end: range.end,
            world,
            kind,
        };
        tables.regions_used = tables.regions_used.max(place + 1);
        Some(Region(place))
    })
}

pub(crate) fn remove_region(region: Region) {
    with(|tables| {
        tables.regions[region.0].end = 0;
        while tables.regions_used > 0 && tables.regions[tables.regions_used - 1].end == 0 {
            tables.regions_used -= 1;
        }
    });
}

/// What lies at an address, and of which world.
pub(crate) fn region_at(address: u64) -> Option<(Kind, u32)> {
    with(|tables| {
        let mut used = tables.regions[..tables.regions_used].iter();
        let found = used.find(|entry| entry.start <= address && address < entry.end)?;
        Some((found.kind, found.world))
    })
}

/// A place in the table of work in flight; `None` where the table is full: then the pages are not protected.
pub(crate) fn add_in_flight(work: InFlight) -> Option<usize> {
    with(|tables| {
        let from = tables.in_flight_next;
        let free = (from..IN_FLIGHT)
            .chain(0..from)
            .find(|&place| tables.in_flight[place].end == 0)?;
        tables.in_flight[free] = work;
        tables.in_flight_used = tables.in_flight_used.max(free + 1);
        tables.in_flight_next = free + 1;
        Some(free)
    })
}

pub(crate) fn remove_in_flight(place: usize) {
    with(|tables| {
        tables.in_flight[place].end = 0;
        // Low places first, so that the handler has little to look at.
        tables.in_flight_next = tables.in_flight_next.min(place);
        while tables.in_flight_used > 0 && tables.in_flight[tables.in_flight_used - 1].end == 0 {
            tables.in_flight_used -= 1;
        }
    });
}

/// The host touches a byte: with what that conflicts, unless `known` says that this work is done. It is written down.
pub(crate) fn touch(address: u64, writes: bool, known: impl Fn(&InFlight) -> bool) {
    with(|tables| {
        let mut used = tables.in_flight[..tables.in_flight_used].iter();
        let conflict =
            used.find(|work| work.start <= address && address < work.end && (writes || work.writes) && !known(work));
        if let Some(&by) = conflict
            && let Some(place) = tables.touched.get_mut(tables.touched_used)
        {
            *place = Touched { address, writes, by };
            tables.touched_used += 1;
        }
    });
}

/// Takes what was written down for a world.
pub(crate) fn take_touched(world: u32) -> Vec<Touched> {
    let mut found = Vec::with_capacity(TOUCHED);
    with(|tables| {
        let mut kept = 0;
        for place in 0..tables.touched_used {
            let touched = tables.touched[place];
            if touched.by.world == world {
                found.push(touched);
            } else {
                tables.touched[kept] = touched;
                kept += 1;
            }
        }
        tables.touched_used = kept;
    });
    found
}
