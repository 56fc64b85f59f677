//! What the driver says, as a [`Refusal`]. Codes stay numbers: a newer driver may have some that nobody here knows.

use std::ffi::{CStr, c_char};

use super::driver::{Code, Driver};
use crate::backend::Refusal;
use crate::backend::health::Health;

pub(super) const SUCCESS: Code = 0;
pub(super) const INVALID_VALUE: Code = 1;
pub(super) const OUT_OF_MEMORY: Code = 2;
/// The driver has ended with the process.
pub(super) const DEINITIALIZED: Code = 4;
pub(super) const NOT_READY: Code = 600;

/// Codes after which the context answers nothing else: errors of memory and of links, what kernels did wrong, and their time-out, a
/// context that is gone, a device that is.
const STICKY: [Code; 13] = [214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 910];

/// What a code means, in the driver's words.
pub(super) fn words(driver: &Driver, code: Code) -> String {
    let ask = |call: Option<unsafe extern "C" fn(Code, *mut *const c_char) -> Code>| {
        let mut text = std::ptr::null();
        // SAFETY: there is room for one address.
        let said = unsafe { call?(code, &mut text) };
        // SAFETY: a string of the driver's own, which stays.
        (said == SUCCESS && !text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    match (ask(driver.error_name), ask(driver.error_string)) {
        (Some(name), Some(words)) => format!("{name}, {words}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => format!("code {code}, which this driver has no words for"),
    }
}

impl Driver {
    /// What `code` means as the answer of `call`.
    ///
    /// # Errors
    /// Whatever is not success.
    pub(super) fn answer(&self, health: &Health, call: &'static str, code: Code) -> Result<(), Refusal> {
        match code {
            SUCCESS => Ok(()),
            OUT_OF_MEMORY => Err(Refusal::NoMemory),
            DEINITIALIZED => Err(Refusal::Lost("the driver has ended with the process".to_owned())),
            sticky if STICKY.contains(&sticky) => Err(health.lose(|| {
                format!(
                    "{call}: {}; CUDA answers nothing else in this process from here on, so start it anew",
                    words(self, sticky)
                )
            })),
            code => Err(Refusal::Call {
                call,
                code: i64::from(code),
                meaning: words(self, code),
            }),
        }
    }
}
