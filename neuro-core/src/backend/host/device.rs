//! The processor as a device: all work is done when it is submitted. The plainest thing that keeps the contract; tests use it to see
//! that the rules ask for no more than that.

use std::collections::BTreeMap;
use std::ptr::NonNull;

use crate::backend::{
    Backend, Facts, OWN_QUEUES, Op, Queue, Refusal, Slab, SlabId, SlabKind, Span, Ticket, no_sharing,
};
use crate::sync::global::{Mutex, lock};

#[derive(Debug)]
pub(crate) struct HostDevice {
    facts: Facts,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Words, so that they are aligned.
    slabs: BTreeMap<SlabId, Box<[u64]>>,
    last: u64,
    done: [u64; OWN_QUEUES.len()],
}

impl HostDevice {
    pub(crate) fn new() -> Self {
        Self {
            facts: Facts {
                alignment: 8,
                max_slab_bytes: 1 << 30,
                memory_bytes: 1 << 30,
                ..Facts::default()
            },
            state: Mutex::default(),
        }
    }
}

impl State {
    fn bytes(&mut self, span: Span) -> NonNull<u8> {
        let slab = self.slabs.get_mut(&span.slab).expect("a live slab, by contract");
        assert!(
            span.offset + span.bytes <= size_of_val(&**slab) as u64,
            "{span:?} lies in its slab"
        );
        // SAFETY: just checked.
        unsafe { NonNull::from(&mut **slab).cast::<u8>().add(span.offset as usize) }
    }
}

impl Backend for HostDevice {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn allocate(&self, bytes: u64, kind: SlabKind) -> Result<Slab, Refusal> {
        if kind == SlabKind::Exported {
            return Err(no_sharing("allocate"));
        }
        if bytes > self.facts.max_slab_bytes {
            return Err(Refusal::NoMemory);
        }
        let mut state = lock(&self.state);
        let mut memory = vec![0u64; bytes.div_ceil(8) as usize].into_boxed_slice();
        let host = NonNull::from(&mut *memory).cast();
        state.last += 1;
        let id = SlabId(state.last);
        state.slabs.insert(id, memory);
        Ok(Slab {
            id,
            bytes,
            host: Some(host),
        })
    }

    unsafe fn free(&self, slab: SlabId) {
        lock(&self.state).slabs.remove(&slab);
    }

    unsafe fn submit(&self, queue: Queue, _: &[Ticket], ops: &[Op]) -> Result<Ticket, Refusal> {
        let mut state = lock(&self.state);
        for op in ops {
            match *op {
                Op::Copy { from, to } => {
                    let (source, target) = (state.bytes(from), state.bytes(to));
                    // SAFETY: both are as long (`bytes` checks it), and do not overlap, by contract; the lock keeps other work away.
                    unsafe { target.copy_from_nonoverlapping(source, from.bytes as usize) };
                }
                Op::Fill { to, value } => {
                    let words = state.bytes(to).cast::<u32>();
                    for at in 0..to.bytes as usize / 4 {
                        // SAFETY: inside the span; offsets are multiples of 4, by contract.
                        unsafe { words.add(at).write(value) };
                    }
                }
            }
        }
        let number = &mut state.done[queue.index()];
        *number += 1;
        Ok(Ticket { queue, number: *number })
    }

    fn done(&self, queue: Queue) -> Result<u64, Refusal> {
        Ok(lock(&self.state).done[queue.index()])
    }

    fn wait(&self, _: Ticket) -> Result<(), Refusal> {
        Ok(())
    }
}

mod tests {
    use super::*;

    crate::backend::contract::contract!(HostDevice::new());
}
