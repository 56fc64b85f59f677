//! The end of the process, and forked children: each in a process of its own.

use std::process::{Command, Output};

use super::driver::*;
use crate::codes::{DEINITIALIZED, NOT_INITIALIZED, SUCCESS};

/// Which of the programs below a child runs.
const PROGRAM: &str = "NEURO_CUDA_SIM_TEST_PROGRAM";

/// Runs this test binary again, with one test only, and a program for it.
fn child(test: &str, program: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this test has a path"));
    command.args([
        "--exact",
        "--nocapture",
        "--test-threads=1",
        &format!("tests::life::{test}"),
    ]);
    command.env(PROGRAM, program).output().expect("a child runs")
}

fn is(program: &str) -> bool {
    std::env::var(PROGRAM).is_ok_and(|said| said == program)
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

extern "C" fn ask_late() {
    let code = call!(cuInit(0 => u32));
    println!("late: {code}");
}

#[test]
fn after_the_end_the_driver_is_gone() {
    if is("late") {
        // SAFETY: a function without arguments. It was registered before the driver's own, so it runs after that.
        unsafe { libc::atexit(ask_late) };
        let session = Session::new(1);
        session.is_clean();
        return;
    }
    let output = child("after_the_end_the_driver_is_gone", "late");
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains(&format!("late: {DEINITIALIZED}")),
        "{}",
        text(&output)
    );
}

#[test]
fn a_forked_child_has_no_driver() {
    if is("fork") {
        let session = Session::new(1);
        let stream = stream();
        // SAFETY: the child calls what it is to be refused, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let codes = [call!(cuInit(0 => u32)), synchronize(stream)];
            let fine = codes == [NOT_INITIALIZED; 2] && crate::forked_calls() == 1;
            // SAFETY: ends the child.
            unsafe { libc::_exit(if fine { 7 } else { 8 }) };
        }
        let mut status = 0;
        // SAFETY: there is room for the status.
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(libc::WEXITSTATUS(status), 7);
        session.is_clean();
        return;
    }
    let output = child("a_forked_child_has_no_driver", "fork");
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("FINDING cuStreamSynchronize is called in a forked child"),
        "{}",
        text(&output)
    );
}

/// With world 0 alone, findings end the process with a status of their own; without findings it ends as it wants.
#[test]
fn findings_of_world_0_are_not_passed_over() {
    if is("guilty") || is("innocent") {
        let (mut device, mut context) = (-1, 0);
        assert_eq!(call!(cuInit(0 => u32)), SUCCESS);
        assert_eq!(call!(cuDeviceGet(&mut device => *mut i32, 1 => i32)), SUCCESS);
        assert_eq!(device, 1);
        assert_eq!(
            call!(cuDevicePrimaryCtxRetain(&mut context => *mut usize, device => i32)),
            SUCCESS
        );
        set_current(context);
        let (a, first, second) = (alloc(64), stream(), stream());
        assert_eq!(fill(a, 1, 16, first), SUCCESS);
        if is("innocent") {
            order(first, second);
        }
        assert_eq!(fill(a, 1, 16, second), SUCCESS);
        println!("the last words of the program");
        return;
    }
    for (program, status) in [("guilty", 86), ("innocent", 0)] {
        let mut command = Command::new(std::env::current_exe().expect("this test has a path"));
        command.args([
            "--exact",
            "--nocapture",
            "tests::life::findings_of_world_0_are_not_passed_over",
        ]);
        let output = command
            .env(PROGRAM, program)
            .env("NEURO_CUDA_SIM_DEVICES", "2")
            .output()
            .expect("a child runs");
        assert_eq!(output.status.code(), Some(status), "{}", text(&output));
        assert!(text(&output).contains("the last words of the program"));
        assert_eq!(
            text(&output).contains("cuda-sim: FINDING cuMemsetD32Async"),
            program == "guilty",
            "{}",
            text(&output)
        );
    }
}

/// What the host must not touch ends the process, with a word.
#[test]
fn the_host_is_stopped_where_it_has_no_business() {
    for (program, words) in [
        ("device", "the host follows a pointer of a device"),
        ("freed", "use after free: the host touches"),
    ] {
        if is(program) {
            let _session = Session::new(1);
            let (a, host) = (alloc(64), host_alloc(64));
            assert_eq!(host_free(host), SUCCESS);
            let at = if program == "device" { a } else { address(host) };
            // SAFETY: no memory of this process; that is what is tested, and it ends here.
            let byte = unsafe { std::ptr::with_exposed_provenance::<u8>(at as usize).read_volatile() };
            println!("followed: {byte}");
            return;
        }
        if std::env::var_os(PROGRAM).is_none() {
            let output = child("the_host_is_stopped_where_it_has_no_business", program);
            assert!(
                !output.status.success() && output.status.code().is_none(),
                "{}",
                text(&output)
            );
            assert!(text(&output).contains(words), "{}", text(&output));
        }
    }
}

/// A soak makes a world for each of its programs: that costs little.
#[test]
fn worlds_are_cheap() {
    let start = std::time::Instant::now();
    for seed in 0..100 {
        let session = Session::new(seed);
        let (a, host) = (alloc(32 << 20), host_alloc(16 << 20));
        let streams = [stream(), stream()];
        assert_eq!(fill(a, 1, 1024, streams[0]), SUCCESS);
        order(streams[0], streams[1]);
        assert_eq!(copy(address(host), a, 4096, streams[1]), SUCCESS);
        session.is_clean();
    }
    assert!(
        start.elapsed().as_secs_f32() < 3.0,
        "{:?} for 100 worlds",
        start.elapsed()
    );
}
