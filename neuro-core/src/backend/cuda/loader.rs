//! The CUDA driver, opened at run time. Nothing is linked, and what was opened stays open.

use std::ffi::CString;
use std::path::Path;

use super::driver::Driver;
use super::refuse;
use crate::backend::host::library::{Library, Names};
use crate::backend::life;
use crate::sync::global::OnceLock;

const LIBRARY: &str = "libcuda.so.1";
const ADVICE: &str = "install the driver of your NVIDIA card (Debian: apt install nvidia-driver; in a container: start it with the \
     card's driver, as --gpus all does)";

static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();

/// Opens the driver on first use.
///
/// # Errors
/// What was looked for, what was there, what to do; and why a process may not have it ([`life::enter`]).
pub(super) fn driver() -> Result<&'static Driver, String> {
    let _inside = life::enter()?;
    DRIVER.get_or_init(|| load(LIBRARY)).as_ref().map_err(Clone::clone)
}

fn load(library: &str) -> Result<Driver, String> {
    // SAFETY: the driver's constructors are made to run in any program.
    let opened = unsafe { Library::open(Path::new(library), Names::Own) }
        .map_err(|why| format!("looked for the CUDA driver, {library}: {why}; {ADVICE}"))?;
    let address_of = |symbol: &str| opened.address_of(&CString::new(symbol).ok()?);
    // SAFETY: the library is never closed, and its calls are documented to have these types.
    let driver = unsafe { Driver::of(address_of) };
    let driver =
        driver.map_err(|symbol| format!("the CUDA driver {library} lacks {symbol}: it is too old; {ADVICE}"))?;
    start(&driver)?;
    Ok(driver)
}

/// Has the driver look for devices.
///
/// # Errors
/// What it says, and what to do.
pub(super) fn start(driver: &Driver) -> Result<(), String> {
    // SAFETY: takes no flag but 0.
    let code = unsafe { (driver.init)(0) };
    life::watch_for_the_end();
    if code == 0 {
        return Ok(());
    }
    let words = refuse::words(driver, code);
    Err(match code {
        100 => {
            format!("the CUDA driver is there, and shows no device (cuInit: {words}); CUDA_VISIBLE_DEVICES may hide it")
        }
        34 | 35 | 803 => format!("the CUDA driver cannot be used (cuInit: {words}); {ADVICE}"),
        _ => format!("cuInit: {words}; {ADVICE}"),
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_missing_driver_is_named_with_what_to_do() {
        let words = load("libcuda-that-is-not-there.so.1").unwrap_err();
        for part in [
            "libcuda-that-is-not-there.so.1",
            "install the driver of your NVIDIA card",
        ] {
            assert!(words.contains(part), "{words}");
        }
    }

    #[test]
    fn another_library_is_too_old() {
        let words = load("libc.so.6").unwrap_err();
        assert!(words.contains("lacks cuInit"), "{words}");
    }
}
