//! The shared library, as programs find it that look for a CUDA driver: by name, with its own control, and with the last word.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of the programs below a child runs.
const PROGRAM: &str = "NEURO_CUDA_SIM_TEST_PROGRAM";

/// The library that cargo has made beside this test.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    test.with_file_name("libcuda_sim.so")
}

/// The call of that name.
fn find(opened: *mut c_void, name: &str) -> *mut c_void {
    let symbol = CString::new(name).expect("a name");
    // SAFETY: an open library, and a name.
    let address = unsafe { libc::dlsym(opened, symbol.as_ptr()) };
    assert!(!address.is_null(), "the library has no {name}");
    address
}

/// Calls a function of the library: arguments as their C types.
macro_rules! call {
    ($opened:ident, $name:ident($($argument:expr => $kind:ty),* $(,)?) -> $answer:ty) => {{
        let address = find($opened, stringify!($name));
        // SAFETY: the library's call of that name has this type; pointers are those of live variables.
        unsafe {
            let call = std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($kind),*) -> $answer>(address);
            call($($argument),*)
        }
    }};
}

/// Opens the driver as a program does, and submits two pieces of work that nothing orders, if that is the program.
fn program(guilty: bool) {
    // SAFETY: a name; the library's constructors are made to run in any program.
    let opened = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!opened.is_null(), "there is no libcuda.so.1");
    let (mut device, mut context, mut a) = (-1, 0usize, 0u64);
    assert_eq!(call!(opened, cuInit(0 => u32) -> u32), 0);
    assert_eq!(call!(opened, cuDeviceGet(&mut device => *mut i32, 0 => i32) -> u32), 0);
    assert_eq!(device, 0);
    assert_eq!(
        call!(opened, cuDevicePrimaryCtxRetain(&mut context => *mut usize, device => i32) -> u32),
        0
    );
    assert_eq!(call!(opened, cuCtxPushCurrent_v2(context => usize) -> u32), 0);
    let streams = [0, 1].map(|_| {
        let mut stream = 0usize;
        assert_eq!(
            call!(opened, cuStreamCreate(&mut stream => *mut usize, 1 => u32) -> u32),
            0
        );
        stream
    });
    call!(opened, neuro_cuda_sim_fail(c"cuMemAlloc_v2".as_ptr() => *const c_char, 1 => u64, 2 => u32) -> ());
    assert_eq!(
        call!(opened, cuMemAlloc_v2(&mut a => *mut u64, 4096 => usize) -> u32),
        2
    );
    assert_eq!(
        call!(opened, cuMemAlloc_v2(&mut a => *mut u64, 4096 => usize) -> u32),
        0
    );
    assert_eq!(
        call!(opened, cuMemsetD32Async(a => u64, 1 => u32, 9 => usize, streams[0] => usize) -> u32),
        0
    );
    if !guilty {
        assert_eq!(call!(opened, cuStreamSynchronize(streams[0] => usize) -> u32), 0);
    }
    assert_eq!(
        call!(opened, cuMemsetD32Async(a => u64, 1 => u32, 9 => usize, streams[1] => usize) -> u32),
        0
    );
    let calls = call!(opened, neuro_cuda_sim_calls(c"cuMemsetD32Async".as_ptr() => *const c_char) -> u64);
    assert_eq!(calls, 2);
    assert_eq!(call!(opened, neuro_cuda_sim_pinned_bytes() -> u64), 0);
    let mut words = [0u8; 16];
    let count = call!(opened, neuro_cuda_sim_findings(words.as_mut_ptr().cast() => *mut c_char, 16 => usize) -> usize);
    assert_eq!(count, usize::from(guilty));
    let words = CStr::from_bytes_until_nul(&words).expect("it ends in a zero");
    assert_eq!(words, if guilty { c"cuMemsetD32Asyn" } else { c"" });
    println!("the program is over");
}

#[test]
fn programs_find_the_library_and_its_last_word_counts() {
    match std::env::var(PROGRAM).as_deref() {
        Ok("guilty") => return program(true),
        Ok(_) => return program(false),
        Err(_) => {}
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("driver-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the driver");
    std::os::unix::fs::symlink(library(), folder.join("libcuda.so.1")).expect("a link to the library");
    for (program, status) in [("innocent", 0), ("guilty", 86)] {
        let mut child = Command::new(std::env::current_exe().expect("this test has a path"));
        child
            .args(["--nocapture", "--test-threads=1"])
            .env(PROGRAM, program)
            .env("LD_LIBRARY_PATH", &folder);
        let output = child.output().expect("a child runs");
        let text = [&output.stdout, &output.stderr]
            .map(|bytes| String::from_utf8_lossy(bytes))
            .join("\n");
        assert_eq!(output.status.code(), Some(status), "{text}");
        assert!(text.contains("the program is over"), "{text}");
        assert_eq!(
            text.contains("cuda-sim: FINDING cuMemsetD32Async"),
            program == "guilty",
            "{text}"
        );
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    let bytes = std::fs::read(library()).expect("the library");
    assert!(
        bytes.windows(13).any(|part| part == b"libcuda.so.1\0"),
        "the library has another name inside"
    );
}
