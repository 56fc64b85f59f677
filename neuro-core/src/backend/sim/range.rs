//! Slabs of the simulated device that grow where they are. What is unmapped is gone: work that comes too late, or too early, is found.

use std::time::Duration;

use races::Shadow;

use super::memory::Memory;
use super::{Held, Sim, named};
use crate::backend::range::Ranges;
use crate::backend::{Refusal, Slab, SlabId, SlabKind};

impl Ranges for Sim {
    fn granularity(&self) -> u64 {
        self.granularity.unwrap_or_default()
    }

    fn reserve(&self, bytes: u64, piece: u64) -> Result<Slab, Refusal> {
        let mut state = self.state();
        state.refused("reserve")?;
        if bytes > self.facts.memory_bytes.next_multiple_of(piece) {
            return Err(Refusal::NoMemory);
        }
        if !piece.is_multiple_of(self.granularity()) || !bytes.is_multiple_of(piece) {
            state
                .findings
                .push(format!("{bytes} B are reserved for pieces of {piece} B"));
        }
        state.last_slab += 1;
        let id = SlabId(state.last_slab);
        let held = Held {
            memory: Memory::Range(Vec::new(), bytes),
            reached: false,
            shadow: Shadow::new(bytes),
            piece,
        };
        state.slabs.insert(id, held);
        Ok(Slab { id, bytes, host: None })
    }

    fn extend(&self, slab: SlabId, to: u64) -> Result<(), Refusal> {
        let mut state = self.state();
        state.refused("extend")?;
        state.calls.extend += 1;
        let held = state.slabs.get(&slab);
        let (had, most, piece) = held.map_or((0, 0, 1), |held| {
            (held.memory.len(), held.memory.addresses(), held.piece)
        });
        if to <= had || to > most || !to.is_multiple_of(piece) {
            let finding = format!("slab {} is extended from {had} to {to} of {most} B", slab.0);
            state.findings.push(finding);
            return Err(Refusal::NoMemory);
        }
        state.take(to - had, SlabKind::Device)?;
        if let Some(held) = state.slabs.get_mut(&slab) {
            held.memory.map(to);
            held.shadow.renew(had..to);
        }
        Ok(())
    }

    unsafe fn shorten(&self, slab: SlabId, to: u64) -> u64 {
        // Time for other threads to take what is about to go, if they still can.
        std::thread::sleep(Duration::from_micros(50));
        let mut state = self.state();
        state.calls.shorten += 1;
        let host = state.host.clone();
        let Some(held) = state.slabs.get_mut(&slab) else {
            return 0;
        };
        let had = held.memory.len();
        let finding = if to > had || !to.is_multiple_of(held.piece) {
            Some(format!("slab {} is shortened from {had} to {to} B", slab.0))
        } else {
            held.shadow.unfinished_in(to..had, &host).map(|event| {
                format!(
                    "slab {} is unmapped from {to} on, and the host does not know that {} is done",
                    slab.0,
                    named(event)
                )
            })
        };
        held.memory.map(to.min(had));
        state.used -= had - to.min(had);
        state.findings.extend(finding);
        to
    }
}
