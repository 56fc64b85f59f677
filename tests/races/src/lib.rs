//! Vector clocks, and what they say of bytes: who wrote them last, who has read them since, and whether the next use is ordered
//! behind that. For tests: a simulated device asks this of each use of its memory.
//!
//! Actors are numbers: queues, streams, the host. There may be any number of them; what they are called is said when a finding is put
//! into words.
//!
//! Invariants:
//! - R1: an actor's events are counted from 1 on, in its own order; a clock is behind all events of an actor up to its count.
//! - R2: the stretches of a shadow cover its bytes, without a gap or an overlap; those within one have the same past.
//! - R3: uses are shown to a shadow in an order in which the work may be done. Then two uses that nothing orders are found whatever that
//!   order was: the later one is behind the last write and all reads since, or it is unordered with one of them.
//!
//! Left out: uses within one event (they are its own business), and what the bytes hold.

mod clock;
mod shadow;

pub use clock::{Clock, Event};
pub use shadow::{Finding, Shadow, Use};
