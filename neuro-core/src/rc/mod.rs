//! `Arc` and `Weak`: shared ownership across threads, 16 bytes in front of the value.
//!
//! ```text
//! Arc<T>, Weak<T> ──► ┌──────────────┬───────────────┬──────────┬───┐
//!                     │ strong: low  │ weak: high    │ 8 bytes  │ T │
//!                     │ 32 bits of the counts' u64   │ of space │   │
//!                     └──────────────┴───────────────┴──────────┴───┘
//!                     0                              8          16 (or the alignment of T, if larger)
//! ```
//!
//! Both counts share one word because then one load sees both: `get_mut` is a single load that must read one strong and
//! one weak, where two words would need a lock on one of them. The space puts the value at offset 16, so a value of up to
//! 16-byte alignment starts on a 16-byte boundary whatever its type.
//!
//! Invariants, each kept by `counts.rs` (the numbers) or by `block.rs`, `arc.rs` and `weak.rs` (the pointers):
//! - R1: `strong` is the number of `Arc`s of the block, those turned into raw pointers included. Once 0, it stays 0.
//! - R2: `weak` is the number of `Weak`s, and one more that all `Arc`s hold together until the value is gone.
//! - R3: the value is alive while `strong > 0`. Whoever takes `strong` to 0 drops it or moves it out, nobody else.
//! - R4: the block is there while `weak > 0`. Whoever takes `weak` to 0 frees it, as does whoever takes `strong` to 0
//!   while `weak` is 1 and hence the `Arc`s' own.
//! - R5: after its first value the word changes by read-modify-write only. So every decrement (Release) heads a release
//!   sequence that contains all later values, and an Acquire load of any later value happens after all that was done
//!   through the handles that are gone by then.
//!
//! No reference to a whole block is ever formed, only to the counts and to the value, each through the block's raw
//! pointer: another thread may free the block right after a decrement.
//!
//! Absent on purpose: unsized values; `new_cyclic`; a value that owns a long chain of `Arc`s drops it recursively, as
//! with the standard library.

mod arc;
mod block;
#[deny(unsafe_code)]
mod counts;
mod probe;
#[deny(unsafe_code)]
mod traits;
mod weak;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

pub use arc::Arc;
pub use weak::Weak;
