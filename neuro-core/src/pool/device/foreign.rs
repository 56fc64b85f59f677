//! Memory of a CUDA device that somebody else allocated, as a block: copies, kernels and streams use it as they use our own.
//!
//! - F1: its owner gets it back (`keeper` is dropped) when all work that was submitted on it here is known to be done; in a forked child, and
//!   when the process ends, never.
//! - F2: it is on loan to the default stream as long as it is here: most who hand memory over go on using it there.

use std::ops::Deref;
use std::sync::Arc;

use super::block::OtherHome;
use super::theirs::Theirs;
use super::{Access, DeviceBlock, Engine, note_elsewhere};
use crate::backend::{SlabId, Span, life};
use crate::error::Result;

/// Where memory of a CUDA device that comes from somebody else holds what it should.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Ready {
    /// Behind what the default stream has by now.
    #[default]
    OnDefaultStream,
    /// Behind what this stream has by now: a `CUstream` of the primary context of the memory's device, as a number. That it is one, and stays
    /// during the call, is its caller's duty.
    OnStream(usize),
    /// On the stream that kernels run on here ([`Handles::compute`](crate::cuda::Handles::compute)), which its owner has had wait.
    OnComputeStream,
}

impl Ready {
    /// The stream behind which it is.
    ///
    /// # Errors
    /// As [`Theirs::open_to_exchange`].
    fn stream(self, engine: &Arc<Engine>) -> Result<Arc<Theirs>> {
        match self {
            Ready::OnDefaultStream => Theirs::legacy(engine),
            Ready::OnComputeStream => Theirs::compute(engine),
            // SAFETY: by contract such a stream, as long as this lasts.
            Ready::OnStream(stream) => unsafe { Theirs::open_to_exchange(engine, stream) },
        }
    }
}

impl DeviceBlock {
    /// Writes down that somebody who had the block has written it, as far as `ready` says.
    ///
    /// # Errors
    /// As [`ForeignBlock::of`].
    pub(crate) fn note_ready(&self, ready: Ready) -> Result<()> {
        let stream = ready.stream(self.engine())?;
        note_elsewhere(self, Access::Write, |before| {
            let ordered = before.map_or(Ok(()), |before| stream.wait_for(&[before]));
            Ok((stream.so_far()?, ordered))
        })
    }
}

#[derive(Debug)]
pub(crate) struct ForeignBlock(Box<DeviceBlock>);

impl ForeignBlock {
    /// The `bytes` bytes at `address`.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) where the device is none of CUDA's; [`Error::DeviceLost`](crate::Error::DeviceLost),
    /// [`Error::Driver`](crate::Error::Driver). `keeper` comes back.
    ///
    /// # Safety
    /// They are memory of the device, used as `ready` says, until `keeper` is dropped, which may be on any thread.
    pub(crate) unsafe fn of<K: Send + Sync + 'static>(
        engine: &Arc<Engine>,
        address: u64,
        bytes: usize,
        ready: Ready,
        keeper: K,
    ) -> Result<Self, (crate::error::Error, K)> {
        let begun = Theirs::legacy(engine).and_then(|legacy| {
            engine.let_go();
            let behind = ready.stream(engine)?.so_far()?;
            Ok((legacy, behind))
        });
        let (legacy, behind) = match begun {
            Ok(begun) => begun,
            Err(error) => return Err((error, keeper)),
        };
        // A slab's number is its address (`backend/cuda/slabs.rs`); this one is in no table.
        let span = Span {
            slab: SlabId(address),
            offset: 0,
            bytes: bytes as u64,
        };
        let home = OtherHome::Foreign {
            engine: Arc::clone(engine),
            begun: behind,
            keeper: Some(Box::new(keeper)),
        };
        let mut block = DeviceBlock::without_pool(Some(home), span, bytes, None);
        block.begin_behind(behind);
        block.lend_at_birth(legacy, Access::Write); // F2
        Ok(Self(Box::new(block)))
    }
}

impl Deref for ForeignBlock {
    type Target = DeviceBlock;

    fn deref(&self) -> &DeviceBlock {
        &self.0
    }
}

impl Drop for ForeignBlock {
    fn drop(&mut self) {
        let Some(OtherHome::Foreign { engine, begun, keeper }) = &mut self.0.other_home else {
            return;
        };
        let Some(keeper) = keeper.take() else { return };
        let (engine, begun) = (Arc::clone(engine), *begun);
        if !engine.is_here() || life::enter().is_err() {
            std::mem::forget(keeper); // F1
            return;
        }
        if !self.end_all_loans() {
            std::mem::forget(keeper); // who has it may use it for ever
            return;
        }
        let mut last = self.last_use();
        let at = &mut last[begun.queue.index()];
        if *at == begun.number {
            *at = 0; // nobody has used it here
        }
        if super::engine::is_done(&last, &engine.done()) {
            drop(keeper);
        } else {
            engine.keep(last, keeper);
        }
    }
}
