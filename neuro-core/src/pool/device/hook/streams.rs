//! Streams of a framework that a hook has opened. They stay open, the least used first to go, as long as there is room or a block is on them.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::pool::device::{DevicePool, Engine, LEGACY, Theirs};

/// Keeps a stream from being destroyed, until it is dropped.
pub type StreamKeeper = Option<Box<dyn Any + Send + Sync>>;

/// How many are kept without a block.
const MOST: usize = 16;

/// A stream, and who keeps it.
pub(super) struct Opened {
    // Let go before its owner is.
    theirs: Theirs,
    raw: usize,
    _keeper: StreamKeeper,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("raw", &self.raw).finish_non_exhaustive()
    }
}

impl Opened {
    /// # Errors
    /// As [`Theirs::open`].
    ///
    /// # Safety
    /// As [`Theirs::open`].
    pub(super) unsafe fn open(engine: &Arc<Engine>, raw: usize, keeper: StreamKeeper) -> Result<Self> {
        Ok(Self {
            // SAFETY: forwarded contract.
            theirs: unsafe { Theirs::open(engine, raw) }?,
            raw: known_as(raw),
            _keeper: keeper,
        })
    }

    pub(super) fn theirs(&self) -> &Theirs {
        &self.theirs
    }

    pub(super) fn is(&self, raw: usize) -> bool {
        self.raw == known_as(raw)
    }
}

/// # Errors
/// [`Error::Driver`](crate::Error::Driver) while a stream is captured into a graph: memory that a graph uses is used whenever the graph runs, and
/// not only in the order of this stream.
///
/// # Safety
/// It is a stream of the pool's device.
pub(super) unsafe fn check_capture(pool: &DevicePool, raw: usize) -> Result<()> {
    if raw <= LEGACY {
        return Ok(()); // it cannot be captured
    }
    let engine = pool.engine();
    let cuda = engine.backend().cuda().ok_or_else(|| engine.not_cuda("a hook"))?;
    // SAFETY: forwarded contract.
    unsafe { cuda.check_capture(raw) }.map_err(|refusal| engine.error(refusal))
}

/// `CU_STREAM_PER_THREAD`: another one on each thread. All of them wait for the legacy default stream, and that for them, so it stands for them.
pub(super) const PER_THREAD: usize = 2;

/// What a stream is known by: 0 and 1 are both the legacy default stream.
fn known_as(raw: usize) -> usize {
    if raw <= PER_THREAD { LEGACY } else { raw }
}

/// The last used first.
#[derive(Debug, Default)]
pub(super) struct Streams(Vec<Arc<Opened>>);

impl Streams {
    pub(super) fn find(&mut self, raw: usize) -> Option<Arc<Opened>> {
        let at = self.0.iter().position(|opened| opened.is(raw))?;
        self.0[..=at].rotate_right(1);
        Some(Arc::clone(&self.0[0]))
    }

    /// One more, or the one that another thread has opened meanwhile; and one to be dropped when the lock is not held any more.
    pub(super) fn enter(&mut self, opened: Arc<Opened>) -> (Arc<Opened>, Option<Arc<Opened>>) {
        if let Some(known) = self.find(opened.raw) {
            return (known, Some(opened));
        }
        self.0.insert(0, Arc::clone(&opened));
        let gone = if self.0.len() > MOST { self.0.pop() } else { None };
        (opened, gone)
    }

    pub(super) fn all(&self) -> Vec<Arc<Opened>> {
        self.0.clone()
    }

    pub(super) fn forget(&mut self, raw: usize) -> Option<Arc<Opened>> {
        let at = self.0.iter().position(|opened| opened.is(raw))?;
        Some(self.0.remove(at))
    }
}
