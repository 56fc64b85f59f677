//! NVRTC where it is; kernels on a device that only plays one; and random programs on the simulated driver.
//!
//! Without NVRTC what needs it says SKIPPED and passes; with `NEURO_REQUIRE_NVRTC` in the environment it fails instead.

mod bounds;
pub(crate) mod calls;
mod compiled;
mod exchange;
mod fake;
mod hooks;
mod launches;
mod late;
pub(crate) mod machine;
mod program;
mod shared;
mod soak;
mod streams;

use std::sync::Once;

use super::nvrtc_version;

/// Whether NVRTC is there. Fails where it is required and is not.
pub(super) fn nvrtc_is_here() -> bool {
    let Err(missing) = nvrtc_version() else {
        return true;
    };
    assert!(
        std::env::var_os("NEURO_REQUIRE_NVRTC").is_none(),
        "NEURO_REQUIRE_NVRTC is set: {missing}"
    );
    static SAID: Once = Once::new();
    // On the real standard error, which no test runner holds back: a skip must not look like a pass.
    SAID.call_once(|| {
        let text = format!("\nSKIPPED: CUDA C: {missing}\n");
        crate::backend::host::os::say(&text);
    });
    false
}
