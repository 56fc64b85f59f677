//! Interim: the standard library's counts, until ours stand here.
pub use std::sync::{Arc, Weak};
