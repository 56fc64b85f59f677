//! `Ring`: staging memory, which both the host and the device reach, in a few chunks that take turns.
//!
//! A copy from or to memory that the device cannot reach goes through it piece by piece. While the device is at work on one
//! chunk, the host fills or empties another.
//!
//! Invariant G1: a chunk is free, or one thread's; a free chunk may still be read by the work `until`, which its next user
//! waits for before he touches it.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Condvar;

use super::Engine;
use crate::backend::planted::{Omission, omitted};
use crate::backend::{Refusal, Slab, SlabKind, Span, Ticket};
use crate::error::Result;
use crate::sync::global::{Mutex, lock};

/// Bytes of a chunk (few in tests, which are about the borders), and chunks of a ring.
pub(crate) const CHUNK: usize = if cfg!(test) { 16 << 10 } else { 1 << 20 };
const CHUNKS: usize = 8;
/// Bytes of a ring.
pub(super) const RING: usize = CHUNK * CHUNKS;

/// A part of the ring that is the caller's until he gives it back.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) span: Span,
    pub(crate) host: NonNull<u8>,
    until: Option<Ticket>,
}

// SAFETY: the address is of memory that is this value's alone (G1).
unsafe impl Send for Chunk {}

#[derive(Debug)]
pub(crate) struct Ring {
    kind: SlabKind,
    state: Mutex<State>,
    came_back: Condvar,
}

#[derive(Debug, Default)]
struct State {
    slab: Option<Slab>,
    free: VecDeque<Chunk>,
}

impl Ring {
    pub(super) fn new(kind: SlabKind) -> Self {
        Self {
            kind,
            state: Mutex::default(),
            came_back: Condvar::new(),
        }
    }

    /// A chunk, when there is one; the first call takes memory from the device. Who has a chunk must not wait for another here,
    /// since others may do the same.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) where the device has no memory for that; what else it says; or it is lost.
    pub(crate) fn take(&self, engine: &Engine) -> Result<Chunk> {
        let mut state = lock(&self.state);
        if state.slab.is_none() {
            state.open(self.kind, engine)?;
        }
        let chunk = loop {
            match state.free.pop_front() {
                Some(chunk) => break chunk,
                None => {
                    state = self
                        .came_back
                        .wait(state)
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                }
            }
        };
        drop(state);
        self.ready(engine, chunk)
    }

    /// A chunk, if one is free.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(crate) fn try_take(&self, engine: &Engine) -> Result<Option<Chunk>> {
        let chunk = lock(&self.state).free.pop_front();
        chunk.map(|chunk| self.ready(engine, chunk)).transpose()
    }

    /// Waits for the work that was left at a chunk.
    fn ready(&self, engine: &Engine, chunk: Chunk) -> Result<Chunk> {
        let waits = chunk.until.filter(|_| !omitted(Omission::ChunkInUse));
        match engine.wait(waits.as_slice()) {
            Ok(()) => Ok(chunk),
            Err(error) => {
                self.give(chunk, None);
                Err(error)
            }
        }
    }

    /// Gives a chunk back, which work up to `until` still uses.
    pub(crate) fn give(&self, mut chunk: Chunk, until: Option<Ticket>) {
        chunk.until = until.or(chunk.until);
        lock(&self.state).free.push_back(chunk);
        self.came_back.notify_one();
    }
}

impl State {
    fn open(&mut self, kind: SlabKind, engine: &Engine) -> Result<()> {
        let slab = engine
            .backend()
            .allocate(RING as u64, kind)
            .map_err(|refusal| match refusal {
                Refusal::NoMemory => engine.no_staging(RING),
                refusal => engine.error(refusal),
            })?;
        let Some(host) = slab.host else {
            // SAFETY: nobody has used it.
            unsafe { engine.backend().free(slab.id) };
            return Err(engine.error(Refusal::Call {
                call: "allocate",
                code: 0,
                meaning: "the device has no memory that the processor reaches without flushing, to stage copies in"
                    .to_owned(),
            }));
        };
        self.free.extend((0..CHUNKS).map(|at| Chunk {
            span: Span {
                slab: slab.id,
                offset: (at * CHUNK) as u64,
                bytes: CHUNK as u64,
            },
            // SAFETY: within the slab, which is that long.
            host: unsafe { host.add(at * CHUNK) },
            until: None,
        }));
        self.slab = Some(slab);
        Ok(())
    }
}
