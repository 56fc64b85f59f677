//! NumPy's handler structure (version 1) and the five functions of ours that go into it.
//!
//! `malloc` and `calloc` find their pool through the context pointer. `realloc` and `free` are told apart from foreign
//! memory by address (H2); they trust neither the context nor the size, which NumPy does not promise to be right.

use std::ffi::{CStr, c_char, c_void};
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{NonNull, null_mut};
use std::sync::OnceLock;

use neuro_core::{Error, Init, MemoryPool};

/// The name that NumPy demands of a handler's capsule.
pub(super) const CAPSULE_NAME: &CStr = c"mem_handler";
/// The name of NumPy's own handler.
const DEFAULT_NAME: &CStr = c"default_allocator";
/// The layout written down here.
const VERSION: u8 = 1;

type MallocFn = unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void;
type CallocFn = unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void;
type ReallocFn = unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> *mut c_void;
type FreeFn = unsafe extern "C" fn(*mut c_void, *mut c_void, usize);

/// `PyDataMemAllocator`: the functions, and the pointer they are called with.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Allocator {
    pub(super) ctx: *mut c_void,
    pub(super) malloc: MallocFn,
    pub(super) calloc: CallocFn,
    pub(super) realloc: ReallocFn,
    pub(super) free: FreeFn,
}

/// `PyDataMem_Handler`: name, version, functions.
#[repr(C)]
pub(super) struct Handler {
    name: [c_char; 127],
    version: u8,
    pub(super) allocator: Allocator,
}

// What NumPy's header gives on every 64-bit system.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Handler>() == 168 && offset_of!(Handler, allocator) == 128);

impl Handler {
    /// A handler of ours, named so that `np._core.multiarray.get_handler_name(array)` shows it.
    pub(super) fn new(allocator: Allocator) -> Self {
        let mut name = [0; 127];
        for (slot, byte) in name.iter_mut().zip(c"neuro_memory".to_bytes()) {
            *slot = *byte as c_char;
        }
        Self {
            name,
            version: VERSION,
            allocator,
        }
    }

    /// Whether `handler` is NumPy's own in the layout known here, so that its functions may be read and replaced.
    ///
    /// # Safety
    /// `handler` points to 128 readable bytes: name and version, which every version of the structure begins with.
    pub(super) unsafe fn is_known_default(handler: NonNull<Handler>) -> bool {
        // SAFETY: by contract; the reads stay inside the first 128 bytes and make no reference to the rest.
        let (name, version) = unsafe {
            let name: *const [c_char; 127] = &raw const (*handler.as_ptr()).name;
            (
                &*name.cast::<[u8; 127]>(),
                (&raw const (*handler.as_ptr()).version).read(),
            )
        };
        version == VERSION && CStr::from_bytes_until_nul(name) == Ok(DEFAULT_NAME)
    }
}

/// What `malloc` and `calloc` are called with.
pub(super) struct Context {
    pub(super) pool: MemoryPool,
    pub(super) alignment: usize,
}

impl Context {
    /// All five functions on the context at `context`, which must outlive their use (H3).
    pub(super) fn allocator(context: *mut Self) -> Allocator {
        Allocator {
            ctx: context.cast(),
            malloc,
            calloc,
            realloc,
            free,
        }
    }

    fn allocate(&self, bytes: usize, init: Init) -> *mut c_void {
        guarded(|| self.pool.allocate_bytes(bytes, Some(self.alignment), init))
    }
}

/// The functions that NumPy had before us, for memory that is not ours.
static FOREIGN: OnceLock<Foreign> = OnceLock::new();

/// See [`FOREIGN`].
struct Foreign(Allocator);

// SAFETY: the pointer and the functions belong to NumPy's shared library or libc, live for good, and are only passed on
// under the conditions under which NumPy called us.
unsafe impl Send for Foreign {}
// SAFETY: as above.
unsafe impl Sync for Foreign {}

/// Remembers whom to pass foreign memory to. The first call decides: later ones could only see our own functions.
pub(super) fn remember_foreign(allocator: Allocator) {
    FOREIGN.get_or_init(|| Foreign(allocator));
}

pub(super) fn foreign() -> Allocator {
    FOREIGN.get().map_or(LIBC, |foreign| foreign.0)
}

/// Foreign memory where NumPy's own functions are not known: what they have always ended in.
const LIBC: Allocator = Allocator {
    ctx: null_mut(),
    malloc: libc_malloc,
    calloc: libc_calloc,
    realloc: libc_realloc,
    free: libc_free,
};

unsafe extern "C" fn libc_malloc(_: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: no preconditions.
    unsafe { libc::malloc(bytes) }
}

unsafe extern "C" fn libc_calloc(_: *mut c_void, count: usize, size: usize) -> *mut c_void {
    // SAFETY: no preconditions.
    unsafe { libc::calloc(count, size) }
}

unsafe extern "C" fn libc_realloc(_: *mut c_void, ptr: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: the caller's block is not a pool's, so it is the C library's.
    unsafe { libc::realloc(ptr, bytes) }
}

unsafe extern "C" fn libc_free(_: *mut c_void, ptr: *mut c_void, _: usize) {
    // SAFETY: as in `libc_realloc`.
    unsafe { libc::free(ptr) }
}

/// `malloc` of a context of ours.
///
/// # Safety
/// `ctx` points to a live [`Context`].
unsafe extern "C" fn malloc(ctx: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: by contract.
    unsafe { &*ctx.cast::<Context>() }.allocate(bytes, Init::Uninit)
}

/// `calloc` of a context of ours.
///
/// # Safety
/// `ctx` points to a live [`Context`].
unsafe extern "C" fn calloc(ctx: *mut c_void, count: usize, size: usize) -> *mut c_void {
    let Some(bytes) = count.checked_mul(size) else {
        return null_mut();
    };
    // SAFETY: by contract.
    unsafe { &*ctx.cast::<Context>() }.allocate(bytes, Init::Zeroed)
}

/// `realloc` of a context of ours. A block stays in the pool it came from, a foreign one stays foreign.
///
/// # Safety
/// `ctx` points to a live [`Context`]; `ptr` is NULL or a block that NumPy owns.
unsafe extern "C" fn realloc(ctx: *mut c_void, ptr: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: by contract.
    let context = unsafe { &*ctx.cast::<Context>() };
    if ptr.is_null() {
        return context.allocate(bytes, Init::Uninit);
    }
    // SAFETY: by contract.
    unsafe { resize(ptr, bytes, context.alignment) }
}

/// Gives a block another size: its pool does if it has one, else the functions before us.
///
/// # Safety
/// `ptr` is a block that NumPy owns.
pub(super) unsafe fn resize(ptr: *mut c_void, bytes: usize, alignment: usize) -> *mut c_void {
    match NonNull::new(ptr.cast::<u8>()) {
        Some(block) if MemoryPool::owns(block.as_ptr()) => guarded(|| {
            // SAFETY: NumPy owns the block and uses only the address returned from here on, or the old one after NULL.
            unsafe { MemoryPool::reallocate(block, bytes, Some(alignment)) }
        }),
        _ => {
            let foreign = foreign();
            // SAFETY: not a pool's block, so it came from these functions.
            unsafe { (foreign.realloc)(foreign.ctx, ptr, bytes) }
        }
    }
}

/// `free` for every context, and for none.
///
/// # Safety
/// `ptr` is NULL or a block that NumPy owns and gives up.
unsafe extern "C" fn free(_: *mut c_void, ptr: *mut c_void, bytes: usize) {
    let Some(block) = NonNull::new(ptr.cast::<u8>()) else {
        return;
    };
    // All is done inside, so that no result has to be carried through: nearly all frees end at the first line.
    // A panic's message is out already; the block is lost, the process goes on.
    let _ = catch_unwind(|| {
        // SAFETY: by contract nobody uses the block any more. Foreign blocks lie in no pool and are refused.
        if let Err(error) = unsafe { MemoryPool::free(block) } {
            // SAFETY: by contract; the pool has just refused it.
            unsafe { free_refused(block, bytes, &error) };
        }
    });
}

/// A block that its pool refused: foreign, or freed twice, or written behind its end. Asked only now: nearly all are ours.
///
/// # Safety
/// `block` is a block that NumPy owns and gives up.
#[cold]
unsafe fn free_refused(block: NonNull<u8>, bytes: usize, error: &Error) {
    if MemoryPool::owns(block.as_ptr()) {
        return report(error);
    }
    let foreign = foreign();
    // SAFETY: not a pool's block, so it came from these functions.
    unsafe { (foreign.free)(foreign.ctx, block.as_ptr().cast(), bytes) }
}

/// An address for NumPy: NULL, which it turns into `MemoryError`, for an error or a panic.
fn guarded(work: impl FnOnce() -> Result<NonNull<u8>, Error>) -> *mut c_void {
    // The pointer is taken out inside: a whole result would be copied on its way out.
    let address = || work().map_or(null_mut(), |block| block.as_ptr().cast());
    catch_unwind(AssertUnwindSafe(address)).unwrap_or(null_mut())
}

/// A double or a wild free by somebody's C code. `free` has no way to say so but this; nothing was changed.
#[cold]
fn report(error: &Error) {
    // Not `eprintln!`, which panics where standard error is closed.
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("neuro_memory: array data: {error}\n"),
    );
}
