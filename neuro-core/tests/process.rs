//! Pools and the process around them: fork, and a narrow address space.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use neuro_core::{Init, MemoryPool};

const FORKS: usize = 1000;

/// Uses old and new blocks and a new pool; what a forked child must be able to do. No assertion may unwind here.
fn child_works(pool: &MemoryPool, inherited: &[u8]) -> bool {
    let sum: usize = inherited.iter().map(|&byte| usize::from(byte)).sum();
    let Ok(block) = pool.allocate::<u8>(5000) else {
        return false;
    };
    drop(block);
    let own = MemoryPool::new(1 << 20);
    let Ok(block) = own.allocate::<u64>(100) else {
        return false;
    };
    drop(block);
    pool.trim(0);
    sum == inherited.len() && own.stats().live_blocks == 0 && MemoryPool::global_stats().live_blocks > 0
}

/// Forks; the child ends with status 0 if it could work, and the alarm ends it if it hangs.
fn fork_once(pool: &MemoryPool, inherited: &[u8]) -> libc::c_int {
    // SAFETY: the child calls only this library, the C library's allocator (which glibc keeps usable after fork) and
    // `_exit`.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: both take plain numbers; `_exit` runs no destructor of the parent's.
            unsafe {
                libc::alarm(20);
                libc::_exit(if child_works(pool, inherited) { 0 } else { 1 });
            }
        }
        child => {
            let mut status = 0;
            // SAFETY: `child` is our child and `status` is writable.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            status
        }
    }
}

#[test]
fn fork_while_eight_threads_allocate_a_thousand_times() {
    let pool = MemoryPool::unlimited();
    let mut kept = pool.allocate::<u8>(100_000).unwrap();
    kept.as_uninit_mut().fill(std::mem::MaybeUninit::new(1));
    // SAFETY: all of the block was just written, and nobody writes it while `kept` lives.
    let inherited = unsafe { std::slice::from_raw_parts(kept.as_ptr(), kept.len()) };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (pool, stop) = (&pool, &stop);
            scope.spawn(move || {
                let mut size = thread * 997;
                while !stop.load(Ordering::Relaxed) {
                    size = (size * 31 + 17) % if thread % 2 == 0 { 100_000 } else { 5_000 };
                    let shared = pool.allocate::<u8>(size);
                    let own = MemoryPool::unlimited();
                    drop((shared, own.allocate::<u8>(64)));
                }
            });
        }
        let failed = (0..FORKS)
            .map(|number| (number, fork_once(&pool, inherited)))
            .find(|&(_, status)| status != 0);
        stop.store(true, Ordering::Relaxed); // before the assertion, or a failure would wait for the threads for good
        assert_eq!(failed, None, "(child, status); status 14: it hung");
    });
    drop(kept);
    assert_eq!(pool.stats().live_blocks, 0);
}

/// The test below runs this binary again, told by this variable what to do.
const NARROW: &str = "NEURO_MEMORY_TEST_NARROW";

#[test]
fn two_gibibytes_of_address_space_are_enough() {
    if std::env::var_os(NARROW).is_some() {
        return narrow();
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again
        .args(["--exact", "two_gibibytes_of_address_space_are_enough", "--nocapture"])
        .env(NARROW, "1");
    // SAFETY: setrlimit is safe to call between fork and exec, and `limit` is a live rlimit.
    unsafe {
        again.pre_exec(|| {
            let limit = libc::rlimit {
                rlim_cur: 2 << 30,
                rlim_max: 2 << 30,
            };
            if libc::setrlimit(libc::RLIMIT_AS, &limit) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    let output = again.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("narrow: done"),
        "{output:?}"
    );
}

/// Under a limit of 2 GiB of addresses: regions chain, most of it can be used, the rest of the process keeps room, and
/// what cannot be had is an error.
fn narrow() {
    let pool = MemoryPool::unlimited();
    let first = pool.allocate::<u8>(1).unwrap();
    assert!(pool.stats().reserved_bytes < 1 << 30, "{:?}", pool.stats());
    let blocks: Vec<_> = (0..12).map(|_| pool.allocate::<u8>(100 << 20).unwrap()).collect();
    assert!(pool.stats().regions > 1);
    std::thread::spawn(|| vec![1u8; 10 << 20].len()).join().unwrap();
    let error = pool
        .allocate_bytes(1 << 30, None, Init::Zeroed)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("out of memory") && error.contains("the system said"),
        "{error}"
    );
    drop(blocks);
    let pools: Vec<_> = (0..100).map(|_| MemoryPool::new(1 << 20)).collect();
    let small: Vec<_> = pools.iter().map(|pool| pool.allocate::<u8>(1000).unwrap()).collect();
    drop((small, first));
    assert_eq!(MemoryPool::global_stats().live_blocks, 0);
    MemoryPool::trim_all(0);
    // An array that grows: the regions of its earlier sizes must not stand in the way of the next.
    for limit in [None, Some(1 << 30)] {
        let pool = limit.map_or_else(MemoryPool::unlimited, MemoryPool::new);
        for mebibytes in [1, 100, 200, 400, 600, 800] {
            drop(pool.allocate::<u8>(mebibytes << 20).unwrap());
        }
    }
    println!("narrow: done");
}
