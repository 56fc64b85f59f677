//! What a pool is told when it is made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{MemoryPool, PoolStats};

/// Called when the bytes in blocks reach the soft limit.
pub(super) type SoftCallback = Arc<dyn Fn(&PoolStats) + Send + Sync>;

pub(super) struct Options {
    /// Most bytes in blocks.
    pub(super) limit: Option<usize>,
    /// Blocks take what they need and no more, at the price of speed.
    pub(super) exact: bool,
    /// Touch memory when it is committed.
    pub(super) prefault: bool,
    /// How long cached memory stays unused before it goes back; `None`: until it is trimmed.
    pub(super) decay: Option<Duration>,
    /// Cached bytes that never go back by themselves.
    pub(super) keep: usize,
    /// Bytes in blocks at which to call, and what.
    pub(super) soft: Option<(usize, SoftCallback)>,
}

impl Options {
    pub(super) fn new(limit: Option<usize>) -> Self {
        Self {
            limit,
            exact: false,
            prefault: false,
            decay: Some(Duration::from_secs(1)),
            keep: 0,
            soft: None,
        }
    }
}

impl Options {
    /// Whether large blocks are laid for speed.
    pub(super) fn is_roomy(&self) -> bool {
        self.limit.is_none() && !self.exact // under a limit every granule counts
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("limit", &self.limit)
            .field("prefault", &self.prefault)
            .field("decay", &self.decay)
            .field("keep", &self.keep)
            .field("soft", &self.soft.as_ref().map(|soft| soft.0))
            .finish()
    }
}

/// The options belong to the pool: all its handles see them.
impl MemoryPool {
    /// Touches memory when the pool takes it from the system, so that its first use does not fault. Costs the time then,
    /// and the memory whether or not it is used.
    #[must_use]
    pub fn with_prefault(self, prefault: bool) -> Self {
        self.state().options.prefault = prefault;
        self
    }

    /// How long cached memory may stay unused before it goes back to the system by itself: a second, if this is not called.
    /// `None`: never, only [`trim`](Self::trim) gives it back. What a steady program uses again and again stays.
    #[must_use]
    pub fn with_decay(self, decay: Option<Duration>) -> Self {
        self.state().options.decay = decay;
        self
    }

    /// Cached bytes that stay when cached memory goes back by itself: 0, if this is not called.
    #[must_use]
    pub fn with_keep(self, bytes: usize) -> Self {
        self.state().options.keep = bytes;
        self
    }

    /// Calls `callback` when the bytes in blocks rise above `bytes`, once until they have been below again. It runs on the
    /// thread whose request did it, after that request, with no lock held: it may free, trim and ask the pool. What threads
    /// serve from their own caches is noticed when it comes to 64 KiB a thread.
    #[must_use]
    pub fn with_soft_limit(self, bytes: usize, callback: impl Fn(&PoolStats) + Send + Sync + 'static) -> Self {
        let old = self.state().options.soft.replace((bytes, Arc::new(callback)));
        drop(old); // with no lock held: it may hold handles of pools
        self
    }
}
