//! Slabs that grow where they are: a range of addresses first, and memory in it piece by piece, from its beginning.
//!
//! ```text
//! 0                    mapped                              bytes
//! | piece | piece | piece |            addresses only          |
//! ```
//!
//! A slab so made is one to work and to [`Backend::free`](super::Backend::free), whatever piece a byte is in. Rule B12 of the contract:
//!
//! - what is mapped begins where the slab does, has no gap, and is whole pieces; work touches nothing else of the slab;
//! - what an extension maps holds anything; what stays mapped keeps its place and what it holds;
//! - an extension that is refused changes nothing; memory that is unmapped is the device's again.
//!
//! Absent on purpose: gaps. Memory in the middle stays until all behind it is free.

use super::{Refusal, Slab, SlabId};

/// What a backend has that can do this ([`Backend::ranges`](super::Backend::ranges)).
pub(crate) trait Ranges {
    /// Pieces are multiples of so many bytes, which is a multiple of 256.
    fn granularity(&self) -> u64;

    /// A slab of `bytes` bytes of addresses, which get memory in pieces of `piece` bytes: `bytes` is a multiple of that, and that one of
    /// the granularity. The host does not reach it.
    ///
    /// # Errors
    /// [`Refusal::NoMemory`] where there are not so many addresses, and for more than the device has memory, rounded up to a piece; or what
    /// the driver said.
    fn reserve(&self, bytes: u64, piece: u64) -> Result<Slab, Refusal>;

    /// Maps memory until the first `to` bytes have it: a multiple of the piece, above what is mapped and up to the slab's bytes. Nobody
    /// extends, shortens or frees the slab meanwhile.
    ///
    /// # Errors
    /// [`Refusal::NoMemory`], or what the driver said; nothing more is mapped then than was.
    fn extend(&self, slab: SlabId, to: u64) -> Result<(), Refusal>;

    /// Unmaps what lies behind the first `to` bytes, a multiple of the piece and at most what is mapped: the bytes that are still mapped,
    /// which are more where the driver refuses. Nobody extends, shortens or frees the slab meanwhile.
    ///
    /// # Safety
    /// No work that is not done uses bytes from `to` on.
    unsafe fn shorten(&self, slab: SlabId, to: u64) -> u64;
}
