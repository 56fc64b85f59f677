//! Whether a device can still be used.

use super::Refusal;
use super::life::{self, Inside};
use crate::sync::global::OnceLock;

/// A device that was lost stays lost, and why.
#[derive(Debug, Default)]
pub(super) struct Health {
    lost: OnceLock<String>,
}

impl Health {
    /// # Errors
    /// [`Refusal::Lost`]: of a fork, of the end of the process, of a device that was lost before.
    pub(super) fn check(&self) -> Result<Inside, Refusal> {
        let inside = life::enter().map_err(Refusal::Lost)?;
        self.lost
            .get()
            .map_or(Ok(inside), |why| Err(Refusal::Lost(why.clone())))
    }

    /// The device is lost; what was found first stays the reason.
    pub(super) fn lose(&self, why: impl FnOnce() -> String) -> Refusal {
        Refusal::Lost(self.lost.get_or_init(why).clone())
    }
}
