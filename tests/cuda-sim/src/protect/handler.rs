//! The signal handler: looks at who touches protected pages, and lets him go on.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::OnceLock;

use races::{Clock, Event};

use super::table::{self, Kind};
use crate::life;

static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

thread_local! {
    /// What a function that runs on this thread for a stream lies behind; null: none runs.
    static BEHIND: Cell<*const Clock> = const { Cell::new(std::ptr::null()) };
    /// Where this thread last faulted in memory that is not of this simulation.
    static LAST_FOREIGN: Cell<u64> = const { Cell::new(0) };
}

/// The clock of the function that runs on this thread for a stream; null: none runs.
pub(crate) fn host_function_clock() -> *const Clock {
    BEHIND.get()
}

pub(crate) fn set_host_function_clock(clock: *const Clock) {
    BEHIND.set(clock);
}

/// Takes the signal, once.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all zeros are an action (the default); the handler has the type that SA_SIGINFO asks for, and the previous
        // action is stored before a page is protected.
        unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = on_fault as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            let mut previous: libc::sigaction = MaybeUninit::zeroed().assume_init();
            if libc::sigaction(libc::SIGSEGV, std::ptr::null(), &mut previous) == 0 {
                let _ = PREVIOUS.set(previous);
                libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut());
            }
        }
    });
}

/// Whether the access that faulted was a store.
#[cfg(target_arch = "x86_64")]
fn is_store(context: *mut c_void) -> bool {
    // SAFETY: the kernel hands a ucontext_t to handlers with SA_SIGINFO.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    context.uc_mcontext.gregs[libc::REG_ERR as usize] & 2 != 0
}

#[cfg(not(target_arch = "x86_64"))]
fn is_store(_: *mut c_void) -> bool {
    false
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands information about the fault to handlers with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() }.addr() as u64;
    if life::is_forked() {
        table::unlock_after_fork();
    }
    match table::region_at(address) {
        Some((Kind::Pinned, _)) => {
            let behind = host_function_clock();
            table::touch(address, is_store(context), |work| {
                // SAFETY: not null, and it stays as long as the function runs, on whose thread this is.
                !behind.is_null()
                    && unsafe { &*behind }.is_behind(Event {
                        actor: work.actor as usize,
                        count: work.count,
                    })
            });
            if open_page(address) {
                return;
            }
        }
        Some((Kind::Device, _)) => say(b"cuda-sim: the host follows a pointer of a device\n"),
        Some((Kind::Closed, _)) => {
            say(b"cuda-sim: use after free: the host touches page-locked memory that was given back\n")
        }
        // Perhaps it was given back since the fault, and is accessible again. If not, the access faults again.
        None if LAST_FOREIGN.replace(address) != address => return,
        None => {}
    }
    hand_on(signal, info, context);
}

/// Makes the page of an address accessible, and leaves `errno` as it was.
fn open_page(address: u64) -> bool {
    let page = super::page();
    let start = std::ptr::with_exposed_provenance_mut((address - address % page) as usize);
    // SAFETY: a page of page-locked memory, which was accessible before the simulation protected it; errno is this thread's.
    unsafe {
        let errno = libc::__errno_location();
        let was = *errno;
        let opened = libc::mprotect(start, page as usize, libc::PROT_READ | libc::PROT_WRITE) == 0;
        *errno = was;
        opened
    }
}

fn say(words: &[u8]) {
    // SAFETY: readable bytes.
    unsafe { libc::write(2, words.as_ptr().cast(), words.len()) };
}

/// What would have happened without this handler.
fn hand_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let previous = PREVIOUS
        .get()
        .filter(|previous| ![libc::SIG_DFL, libc::SIG_IGN].contains(&previous.sa_sigaction));
    let Some(previous) = previous else {
        // SAFETY: the default action: the access faults again, and ends the process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    if previous.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: somebody set it as a handler of this type.
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
            unsafe { std::mem::transmute(previous.sa_sigaction) };
        handler(signal, info, context);
    } else {
        // SAFETY: as above.
        let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(previous.sa_sigaction) };
        handler(signal);
    }
}
