//! Host memory as CUDA locks it: once for all devices of a driver, never a page twice, each slab named by its address. A copy may reach
//! from one range into the next.

use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};

use super::{Sim, named};
use crate::backend::{Refusal, Slab, SlabId, Span};
use crate::sync::global::lock;

/// What the driver of some simulated devices has locked.
#[derive(Debug, Default)]
pub(crate) struct Locked(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// First and last address.
    ranges: BTreeMap<u64, u64>,
    devices: Vec<&'static Sim>,
    findings: Vec<String>,
    calls: usize,
    /// Bytes that it locks at most, if that is limited.
    limit: Option<u64>,
}

impl Table {
    fn bytes(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }
}

impl Locked {
    pub(crate) fn new() -> &'static Self {
        Box::leak(Box::default())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.0)
    }

    /// What was wrong so far, here and with its devices.
    pub(crate) fn findings(&self) -> Vec<String> {
        let (mut findings, devices) = {
            let table = self.table();
            (table.findings.clone(), table.devices.clone())
        };
        findings.extend(devices.iter().flat_map(|sim| sim.findings()));
        findings
    }

    /// Ranges and bytes that are locked now, and how often something was to be.
    pub(crate) fn figures(&self) -> (usize, u64, usize) {
        let table = self.table();
        (table.ranges.len(), table.bytes(), table.calls)
    }

    /// From now on it locks so many bytes at most.
    pub(crate) fn set_limit(&self, bytes: Option<u64>) {
        self.table().limit = bytes;
    }

    /// Whether all of these bytes were locked by one call: a copy of them by others is one to a driver.
    pub(crate) fn has(&self, bytes: Range<u64>) -> bool {
        let table = self.table();
        let around = table.ranges.range(..=bytes.start).next_back();
        around.is_some_and(|(_, &end)| end >= bytes.end)
    }

    pub(super) fn lock_in_place(&self, memory: NonNull<u8>, bytes: u64) -> Result<Slab, Refusal> {
        let mut table = self.table();
        table.calls += 1;
        let start = memory.addr().get() as u64;
        let end = start + bytes;
        let below = table.ranges.range(..end).next_back();
        let refused = |code, meaning: &str| Refusal::Call {
            call: "lock_in_place",
            code,
            meaning: meaning.to_owned(),
        };
        if let Some((&other, _)) = below.filter(|(_, other_end)| **other_end > start) {
            let finding = format!("{start:#x}..{end:#x} is to be locked, and {other:#x}.. is already");
            table.findings.push(finding);
            return Err(refused(712, "part of it is locked already"));
        }
        if table.limit.is_some_and(|limit| table.bytes() + bytes > limit) {
            return Err(refused(2, "no more memory may be locked"));
        }
        table.ranges.insert(start, end);
        Ok(Slab {
            id: SlabId(start),
            bytes,
            host: Some(memory),
        })
    }

    /// Gives a range back; whether there is one.
    pub(super) fn unlock(&self, slab: SlabId) -> bool {
        let (end, devices) = {
            let mut table = self.table();
            let Some(end) = table.ranges.remove(&slab.0) else {
                return false;
            };
            (end, table.devices.clone())
        };
        for sim in devices {
            let mut state = sim.state();
            let clock = state.host.clone();
            if let Some(event) = state.host_memory.retire(slab.0..end, &clock) {
                let finding = format!(
                    "host memory is unlocked, and the host does not know that {} is done",
                    named(event)
                );
                state.findings.push(finding);
            }
        }
        true
    }
}

/// The addresses of a span of locked memory.
pub(super) fn addresses(span: &Span) -> Range<u64> {
    let start = span.slab.0 + span.offset;
    start..start + span.bytes
}

impl Sim {
    /// A device of this driver.
    pub(crate) fn locking(seed: u64, locked: &'static Locked) -> &'static Self {
        let mut sim = Self::new(seed);
        sim.locked = Some(locked);
        lock(&sim.state).locked = Some(locked);
        let sim: &'static Self = Box::leak(Box::new(sim));
        locked.table().devices.push(sim);
        sim
    }
}
