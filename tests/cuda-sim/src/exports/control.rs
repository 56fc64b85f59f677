//! Control of world 0 for programs in C and Python, and what it says when their process ends.

use std::ffi::{CStr, c_char};
use std::io::Write;

use crate::codes::Code;
use crate::gate::Locked;
use crate::{life, registry};

/// With which a process ends in whose world 0 something was wrong.
const STATUS: i32 = 86;

/// How many findings there are; as many of them as `len` bytes hold are written to `buf`, one on a line, with a zero at the end.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn neuro_cuda_sim_findings(buf: *mut c_char, len: usize) -> usize {
    let Some(world) = registry::find(0) else { return 0 };
    let mut locked = Locked::new(&world);
    locked.run_all();
    let findings = locked.findings();
    if !buf.is_null() && len > 0 {
        let words = findings.join("\n");
        let room = words.len().min(len - 1);
        // SAFETY: the caller's contract: there is room for `len` bytes, of which at most `len - 1` and the zero are used.
        unsafe {
            std::ptr::copy_nonoverlapping(words.as_ptr().cast(), buf, room);
            buf.add(room).write(0);
        }
    }
    findings.len()
}

/// How often a call was made; null: how often a whole device had to come to its end.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn neuro_cuda_sim_calls(name: *const c_char) -> u64 {
    let Some(world) = registry::find(0) else { return 0 };
    let calls = world.lock().calls.clone();
    if name.is_null() {
        return calls.device_syncs;
    }
    // SAFETY: the caller's contract: a string.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().map_or(0, |name| calls.of(name))
}

/// Copies so far that had an end in pageable memory.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn neuro_cuda_sim_pageable() -> u64 {
    registry::find(0).map_or(0, |world| world.lock().calls.pageable)
}

/// The device is lost, with this code.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn neuro_cuda_sim_lose(code: Code) {
    if let Some(world) = registry::find(0) {
        world.lock().lose(code);
        world.wake();
    }
}

/// The nth call of that name from now fails with this code; a null name: that may fail.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn neuro_cuda_sim_fail(name: *const c_char, nth: u64, code: Code) {
    let Some(world) = registry::find(0) else { return };
    // SAFETY: the caller's contract: a string, unless it is null.
    let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy());
    world.lock().faults.plan(name.as_deref(), nth, code);
}

/// Page-locked memory.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn neuro_cuda_sim_pinned_bytes() -> u64 {
    registry::find(0).map_or(0, |world| world.lock().calls.pinned_bytes)
}

/// Forgets findings, counts and faults, and decides anew, from this seed, in which order work is done. What is live stays.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn neuro_cuda_sim_reset(seed: u64) {
    if let Some(world) = registry::find(0) {
        let mut locked = Locked::new(&world);
        locked.run_all();
        locked.reset(seed);
    }
}

/// Runs when the process, or the library, comes to its end: after the functions of `atexit`, so that it has the last word.
extern "C" fn at_the_end() {
    if registry::is_tested() {
        return;
    }
    let mut words = Vec::new();
    if life::is_forked() {
        if life::forked_calls() == 0 {
            return;
        }
    } else if let Some(world) = registry::default_world() {
        words = Locked::new(&world).last_words();
        if words.is_empty() {
            return;
        }
    } else {
        return;
    }
    let mut stderr = std::io::stderr().lock();
    for finding in words {
        let _ = writeln!(stderr, "cuda-sim: FINDING {finding}");
    }
    // SAFETY: what the program has printed is printed; then the process ends with this status.
    unsafe {
        libc::fflush(std::ptr::null_mut());
        libc::_exit(STATUS);
    }
}

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_THE_END: extern "C" fn() = at_the_end;
