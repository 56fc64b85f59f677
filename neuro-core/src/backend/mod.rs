//! Where memory comes from. One folder a kind of memory; what a kind must fulfil is written here as kinds are added.
//!
//! A backend assumes checked input (`debug_assert`s it) and knows nothing of blocks, limits or statistics: those are the
//! pool's.

pub(crate) mod host;
