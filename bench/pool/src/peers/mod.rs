//! The pool and its peers, each called directly, with 64-byte alignment.
//!
//! - `ours.rs`: `pool` and `heap`.
//! - `libraries.rs`: allocators with memory of their own: glibc, jemalloc, mimalloc, snmalloc.
//! - `arenas.rs`: allocators in memory they are given: rlsf, talc; and `reuse`, one buffer kept by hand.
//! - `offsets.rs`: no memory at all: offset-allocator; and `none`, the cost of the harness.
//!
//! `free` gets the size too: a peer that can use it does, as a Rust program would let it.

mod arenas;
mod libraries;
mod offsets;
mod ours;

use std::ptr::NonNull;

use bench_worker::Result;

use crate::{Ability, facts, work};

/// Alignment of all blocks, and the unit of those that count in units; bytes.
pub const ALIGN: usize = 64;

/// Something that hands out blocks.
pub trait Peer: Send + Sized + 'static {
    /// A live block.
    type Handle: Copy + Send;

    /// As a program would have it that makes one and keeps it.
    ///
    /// # Errors
    /// Where the system does not give it its memory.
    fn new() -> Result<Self>;

    /// `None` where there is no room.
    fn allocate(&mut self, bytes: u32) -> Option<Self::Handle>;

    /// # Safety
    /// The block is live, from this peer or a [`twin`](Self::twin), and `bytes` long; nobody uses it after this.
    unsafe fn free(&mut self, block: Self::Handle, bytes: u32);

    /// Where the block lies: its address, or its offset in bytes.
    fn place(block: Self::Handle) -> usize;

    /// The memory of a block, if there is any behind it.
    fn memory(block: Self::Handle) -> Option<NonNull<u8>>;

    /// The same allocator for another thread, if it serves several.
    fn twin(&self) -> Option<Self> {
        None
    }

    /// Bytes it holds for its own records, where it says so.
    fn side_bytes(&self) -> Option<usize> {
        None
    }

    /// Bytes it holds of the system's memory, where it says so.
    fn committed_bytes(&self) -> Option<usize> {
        None
    }
}

/// The address of a block, to be freed on any thread.
#[derive(Clone, Copy)]
pub struct Address(pub NonNull<u8>);

// SAFETY: an address alone; what is done with the memory is the holder's to answer for.
unsafe impl Send for Address {}

const PEERS: [(&str, Ability); 11] = [
    ("pool", ability::<ours::Pool>()),
    ("heap", ability::<ours::Heap>()),
    ("glibc", ability::<libraries::Glibc>()),
    ("jemalloc", ability::<libraries::Jemalloc>()),
    ("mimalloc", ability::<libraries::Mimalloc>()),
    ("snmalloc", ability::<libraries::Snmalloc>()),
    ("rlsf", ability::<arenas::Rlsf>()),
    ("talc", ability::<arenas::Talc>()),
    ("reuse", ability::<arenas::Reuse>()),
    ("offset-allocator", ability::<offsets::OffsetAllocator>()),
    ("none", ability::<offsets::Nothing>()),
];

const fn ability<P: Peer>() -> Ability {
    Ability {
        prepare: work::prepare::<P>,
        tell: facts::tell::<P>,
    }
}

pub fn find(name: &str) -> Option<Ability> {
    PEERS
        .into_iter()
        .find(|(peer, _)| *peer == name)
        .map(|(_, ability)| ability)
}

pub fn names() -> String {
    PEERS.map(|(name, _)| name).join(", ")
}
