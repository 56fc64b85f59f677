//! Tests: each kind of finding from a small program, which has none when it is in order.

mod driver;
