//! Loads and stores of the host in memory that a device still uses: pages are protected as long as the host cannot know that the work
//! is done, and whoever touches them is looked at.
//!
//! ```text
//! a device still reads  -> the pages may be read, and a store faults
//! a device still writes -> every access faults
//! ```
//!
//! Invariants:
//! - P1: the simulation touches such pages through `/proc/self/mem` only, so it never faults there itself.
//! - P2: `table`'s lock is held for a few instructions, in which no memory is asked for and none of the host is touched. So the
//!   signal handler may take it: no thread that it interrupts holds it.
//! - P3: the last one who lets a page go makes it accessible again.
//!
//! Left out: a page is looked at until the first access in it; after that it is open until work that uses it comes or goes. System
//! calls that touch a protected page fail with `EFAULT`, and are no finding: programs that hand page-locked memory to them switch
//! the protection off.

mod cover;
mod handler;
pub(crate) mod table;

pub(crate) use cover::Cover;
pub(crate) use handler::{host_function_clock, install, set_host_function_clock};

/// Bytes of a page.
pub(crate) fn page() -> u64 {
    // SAFETY: asks for a number.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}
