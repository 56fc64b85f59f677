//! AddressSanitizer, if the program has it: found at run time, so that every build of the library shows its pools to it.

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::host::os;

type Mark = unsafe extern "C" fn(*const c_void, usize);

/// The two functions that mark memory.
#[derive(Clone, Copy)]
pub(super) struct Asan {
    poison: Mark,
    unpoison: Mark,
}

impl Asan {
    /// `None` in a program without AddressSanitizer.
    pub(super) fn find() -> Option<Asan> {
        // It does not come later, and a search in vain costs memory and what the program's own `dlerror` would say. No lock: a
        // fork could catch it.
        static ABSENT: AtomicBool = AtomicBool::new(false);
        if ABSENT.load(Ordering::Relaxed) {
            return None;
        }
        let find = |name: &CStr| {
            let address = os::symbol(name)?;
            // SAFETY: AddressSanitizer's public interface gives these names this type (sanitizer/asan_interface.h).
            Some(unsafe { std::mem::transmute::<*mut c_void, Mark>(address.as_ptr()) })
        };
        let found = find(c"__asan_poison_memory_region").zip(find(c"__asan_unpoison_memory_region"));
        ABSENT.store(found.is_none(), Ordering::Relaxed);
        found.map(|(poison, unpoison)| Asan { poison, unpoison })
    }

    /// Marks memory of a pool that nobody may touch.
    pub(super) fn poison(self, address: usize, bytes: usize) {
        // SAFETY: it marks addresses of the program's own mappings and touches none of them.
        unsafe { (self.poison)(std::ptr::without_provenance(address), bytes) }
    }

    /// Takes the mark away.
    pub(super) fn unpoison(self, address: usize, bytes: usize) {
        // SAFETY: as in `poison`.
        unsafe { (self.unpoison)(std::ptr::without_provenance(address), bytes) }
    }
}
