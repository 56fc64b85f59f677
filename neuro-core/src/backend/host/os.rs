//! Every call to the operating system that host memory needs. A port to another system is another version of this file.
//!
//! Linux. Lengths and addresses are multiples of the page size; the callers in `host/mod.rs` see to that.

use std::io;
#[cfg(feature = "vulkan")]
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// User addresses of a 64-bit Linux: 47 bits on x86-64; aarch64 may have more, and is asked for no more.
const USER_ADDRESS_SPACE: usize = 1 << 47;

fn check(status: libc::c_int) -> io::Result<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn config(name: libc::c_int) -> usize {
    // SAFETY: sysconf takes any name and touches no memory of ours.
    let value = unsafe { libc::sysconf(name) };
    usize::try_from(value).unwrap_or(0)
}

/// A fact that never changes, looked up once, or a few times at once. No lock: a fork could catch one in the middle, and the
/// child would wait for ever.
fn once(known: &AtomicUsize, look_up: impl FnOnce() -> usize) -> usize {
    match known.load(Ordering::Relaxed) {
        0 => {
            let fact = look_up();
            known.store(fact, Ordering::Relaxed);
            fact
        }
        fact => fact,
    }
}

/// Bytes of a page.
pub(crate) fn page_size() -> usize {
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    once(&PAGE, || config(libc::_SC_PAGESIZE).max(4096))
}

/// Bytes of memory the machine has.
pub(crate) fn machine_memory() -> usize {
    static MEMORY: AtomicUsize = AtomicUsize::new(0);
    once(&MEMORY, || config(libc::_SC_PHYS_PAGES).saturating_mul(page_size()))
}

/// Bytes of address space the process may still take: its limit (`ulimit -v`) less what it has.
pub(crate) fn address_space_left() -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is a live, writable rlimit.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
    if status != 0 || limit.rlim_cur == libc::RLIM_INFINITY {
        return USER_ADDRESS_SPACE; // what the process has taken of it is next to nothing
    }
    let ceiling = usize::try_from(limit.rlim_cur)
        .unwrap_or(USER_ADDRESS_SPACE)
        .min(USER_ADDRESS_SPACE);
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<usize>().ok())
        .unwrap_or(0);
    ceiling.saturating_sub(pages.saturating_mul(page_size()))
}

/// Takes `len` bytes of addresses that no access may touch yet; they cost no memory.
///
/// # Errors
/// What the system said, `ENOMEM` in most cases.
pub(crate) fn reserve(len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new private mapping at an address the system chooses overlaps nothing.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

/// Gives back a part of a reservation. Where the system refuses, since that would split a mapping and it counts too many
/// already, the part's memory goes back and its addresses stay taken: what it held is gone either way.
///
/// # Safety
/// `address..address + len` is part of a reservation of the caller, and nothing uses it any more.
pub(crate) unsafe fn release(address: NonNull<u8>, len: usize) {
    // SAFETY: forwarded contract.
    if check(unsafe { libc::munmap(address.as_ptr().cast(), len) }).is_err() {
        // SAFETY: forwarded contract; this splits no mapping. Callers are drops, which have nobody to tell of an error.
        let _ = check(unsafe { libc::madvise(address.as_ptr().cast(), len, libc::MADV_DONTNEED) });
    }
}

/// Makes a part of a reservation readable and writable. It reads as zeros until written.
///
/// # Errors
/// What the system said: `ENOMEM` where it counts commitments strictly, or has no more mappings to give.
///
/// # Safety
/// `address..address + len` is part of a reservation of the caller.
pub(crate) unsafe fn commit(address: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: forwarded contract; making own memory accessible invalidates no reference.
    check(unsafe { libc::mprotect(address.as_ptr().cast(), len, libc::PROT_READ | libc::PROT_WRITE) })
}

/// Asks for huge pages on a committed part. Advice: a system without them loses nothing but speed.
///
/// # Safety
/// As [`commit`].
pub(crate) unsafe fn advise_huge_pages(address: NonNull<u8>, len: usize) {
    // SAFETY: forwarded contract; the advice changes no contents.
    unsafe { libc::madvise(address.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
}

/// Gives the pages of a committed part back to the system. The part stays accessible and reads as zeros.
///
/// # Errors
/// What the system said (`EINVAL` for locked pages); the contents are then unchanged or partly zero.
///
/// # Safety
/// `address..address + len` is a committed part of a reservation of the caller, and its contents are no longer wanted.
pub(crate) unsafe fn discard(address: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: forwarded contract: on a private anonymous mapping the next read finds zeros.
    check(unsafe { libc::madvise(address.as_ptr().cast(), len, libc::MADV_DONTNEED) })
}

/// Touches the pages of a committed part, so that the first use of it does not fault. Advice: where the system cannot, the
/// faults come later.
///
/// # Safety
/// As [`commit`].
pub(crate) unsafe fn populate(address: NonNull<u8>, len: usize) {
    // SAFETY: forwarded contract; populating changes no contents.
    unsafe { libc::madvise(address.as_ptr().cast(), len, libc::MADV_POPULATE_WRITE) };
}

fn membarrier(command: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes numbers and touches no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } as libc::c_int)
}

/// Writes to standard error as it is, past the lock that the standard library has for it: for those who hold other locks.
pub(crate) fn say(text: &str) {
    // SAFETY: the bytes are readable; where nobody reads them, nobody can be told.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

/// What a thread does to itself: blocked, it would end the process past the program's own handler.
const OF_THE_THREAD: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];

/// All signals that come from elsewhere are blocked in this thread until this is dropped.
pub(crate) struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    pub(crate) fn now() -> Self {
        // SAFETY: a set of signals is plain numbers, and both are written before they are read.
        unsafe {
            let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            for signal in OF_THE_THREAD {
                libc::sigdelset(&mut all, signal);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            Self(before)
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set is what `now` was given by the system.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// The address of a function that some library of the process, or the program, exports.
pub(crate) fn symbol(name: &std::ffi::CStr) -> Option<NonNull<libc::c_void>> {
    // SAFETY: the name ends with a zero; looking it up runs nothing of anybody's.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

/// Says that this process is going to use [`barrier_on_all_threads`].
///
/// # Errors
/// What the system said: `ENOSYS` where it has no such call, `EPERM` in some sandboxes.
pub(crate) fn register_barrier() -> io::Result<()> {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

/// Makes each thread of the process pass a full memory barrier before this returns.
///
/// # Errors
/// What the system said.
pub(crate) fn barrier_on_all_threads() -> io::Result<()> {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

/// Registers what runs around `fork` in the forking thread: `prepare` before it, `parent` and `child` after it.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn at_fork(
    prepare: unsafe extern "C" fn(),
    parent: unsafe extern "C" fn(),
    child: unsafe extern "C" fn(),
) -> io::Result<()> {
    // SAFETY: the three are functions of this library, which stays loaded as long as a pool exists, that is for good.
    match unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Has `function` run when the process ends, before what was registered earlier.
///
/// # Errors
/// `ENOMEM`.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub(crate) fn at_exit(function: extern "C" fn()) -> io::Result<()> {
    // SAFETY: a function of this library, which stays loaded; were it unloaded, the C library would run it then and forget it.
    match unsafe { libc::atexit(function) } {
        0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::ENOMEM)),
    }
}

/// Closes `copy`, which was a copy of `original`, unless somebody has closed it already: then it is nothing, or another file.
///
/// # Safety
/// `copy` is nobody else's, as long as it is what it was.
#[cfg(feature = "vulkan")]
pub(crate) unsafe fn close_if_still(copy: RawFd, original: BorrowedFd<'_>) {
    let file_of = |fd: RawFd| {
        let mut facts = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: only asks about the number, whatever that is; there is room for the answer.
        let status = unsafe { libc::fstat(fd, facts.as_mut_ptr()) };
        // SAFETY: the call has filled it.
        (status == 0)
            .then(|| unsafe { facts.assume_init() })
            .map(|facts| (facts.st_dev, facts.st_ino))
    };
    let still = file_of(copy);
    if still.is_some() && still == file_of(original.as_raw_fd()) {
        // SAFETY: it is what it was, so the caller's.
        unsafe { libc::close(copy) };
    }
}

/// Has `$function`, an `extern "C" fn()`, run when the program or library that holds it is loaded: the list of such
/// functions that ELF systems keep.
macro_rules! at_load {
    ($function:path) => {
        #[used]
        // SAFETY: the loader calls each entry of this section with the C convention, once; more arguments than the function
        // takes are ignored.
        #[unsafe(link_section = ".init_array")]
        static AT_LOAD: extern "C" fn() = $function;
    };
}
pub(crate) use at_load;

#[cfg(test)]
mod tests {
    use super::*;

    /// Law: a thread that is started meanwhile takes no signal of the program's, but its own faults reach the program's handler.
    #[test]
    fn faults_are_not_blocked() {
        let blocked = SignalsBlocked::now();
        let is_blocked = |signal| {
            // SAFETY: a set of signals is plain numbers, and is written before it is read.
            unsafe {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &mut set);
                libc::sigismember(&set, signal) == 1
            }
        };
        let in_a_thread = std::thread::spawn(move || {
            (
                [libc::SIGINT, libc::SIGTERM, libc::SIGALRM].map(is_blocked),
                OF_THE_THREAD.map(is_blocked),
            )
        });
        drop(blocked);
        assert_eq!(in_a_thread.join().unwrap(), ([true; 3], [false; 5]));
    }

    /// Whether this is the process of its own that the test below starts: without room for mappings no other test works.
    const ALONE: &str = "NEURO_TEST_WITHOUT_MAPPINGS";

    /// Of a machine on which the test below can be made.
    const MOST_MAPPINGS: usize = 1 << 21;

    #[test]
    fn memory_goes_back_where_no_mapping_can_be_split() {
        let limit: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        // Some machines allow so many that the kernel would fill gigabytes with them. Said on the real standard error, which
        // no test runner holds back: a skip must not look like a pass.
        if limit > MOST_MAPPINGS {
            let text = format!("\nSKIPPED: giving memory back without mappings: max_map_count is {limit}\n");
            io::Write::write_all(&mut io::stderr(), text.as_bytes()).unwrap();
            return;
        }
        if std::env::var_os(ALONE).is_none() {
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "backend::host::os::tests::memory_goes_back_where_no_mapping_can_be_split",
                ])
                .env(ALONE, "1")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        let page = page_size();
        let (part, rest) = (reserve(3 * page).unwrap(), reserve((limit + 2) * page).unwrap());
        // SAFETY: both are this test's own; `part` is open where it is written and read.
        let (full, value) = unsafe {
            commit(part, 3 * page).unwrap();
            let middle = part.add(page);
            middle.write(7);
            // Every second page is open: each is a mapping, and so is each between, until the system has no more.
            let full = (0..=limit / 2).any(|i| commit(rest.add((2 * i + 1) * page), page).is_err());
            release(middle, page);
            (full, middle.read())
        };
        // SAFETY: whole mappings of this test's own, which may always go.
        unsafe {
            release(rest, (limit + 2) * page);
            release(part, 3 * page);
        }
        assert!(full, "{limit} mappings were not too many");
        assert_eq!(value, 0);
    }
}
