//! Where the process stands: a forked child has no device of its parent's, and a process that ends may have unloaded the driver.
//!
//! Whoever is about to call Vulkan asks [`alive`] first, before any lock: the thread that holds the lock may not exist in a child.

use crate::backend::host::os;
use crate::sync::global::{AtomicBool, AtomicU32, Ordering};

/// The process that speaks to Vulkan, by its number; 0: none so far.
static OWNER: AtomicU32 = AtomicU32::new(0);
static ENDING: AtomicBool = AtomicBool::new(false);

/// Whether Vulkan may be called. The first process that asks is the one that may from then on.
///
/// # Errors
/// Why not, in words.
pub(super) fn alive() -> Result<(), String> {
    if ENDING.load(Ordering::Relaxed) {
        return Err("the process is ending: drivers may be gone".to_owned());
    }
    let me = std::process::id();
    let mut owner = OWNER.load(Ordering::Relaxed);
    if owner == 0 {
        owner = match OWNER.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => me,
            Err(other) => other,
        };
    }
    if owner == me {
        Ok(())
    } else {
        Err(format!(
            "forked: process {me} is a child of {owner}, whose Vulkan devices it cannot use; start it anew (spawn) instead"
        ))
    }
}

extern "C" fn end() {
    ENDING.store(true, Ordering::Relaxed);
}

/// Has [`alive`] say no as soon as the process ends. What was registered last runs first, so this is called whenever a driver may
/// have registered something of its own.
pub(super) fn watch_for_the_end() {
    // Without memory for that, frees at the end reach the driver, as they do in any other program.
    let _ = os::at_exit(end);
}
