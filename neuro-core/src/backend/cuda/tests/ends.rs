//! Ends: a device that is shut down, a process that ends, and a forked child. The latter two in processes of their own.

use std::sync::OnceLock;

use super::*;

/// Says to a test that it is in a process of its own.
const ALONE: &str = "NEURO_TEST_CUDA_ALONE";

/// Runs a test of this file in a process of its own: its exit status, and what it said. `None`: this is that process.
fn alone(test: &str) -> Option<(Option<i32>, String)> {
    if std::env::var_os(ALONE).is_some() {
        return None;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("backend::cuda::tests::ends::{test}")])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Some((output.status.code(), said.concat()))
}

/// All that can be left: slabs of every kind, a range, guests, work under way.
fn all_kinds(bed: &Bed) -> Vec<Slab> {
    let kinds = [SlabKind::Device, SlabKind::Upload, SlabKind::Readback];
    let mut slabs: Vec<Slab> = kinds.iter().map(|&kind| bed.slab(4096, kind)).collect();
    let ranges = bed.device.ranges().unwrap();
    let piece = ranges.granularity();
    let range = ranges.reserve(4 * piece, piece).unwrap();
    ranges.extend(range.id, 3 * piece).unwrap();
    slabs.push(range);
    let mut last: Vec<Ticket> = Vec::new();
    for queue in [Queue::UPLOAD, bed.open(0).unwrap(), Queue::COMPUTE, Queue::DOWNLOAD] {
        for slab in &slabs {
            let to = part(slab, 0, 4096);
            // SAFETY: what is mapped, each behind the one before, until the device ends.
            last = vec![unsafe { bed.device.submit(queue, &last, &[Op::Fill { to, value: 9 }]) }.unwrap()];
        }
    }
    slabs
}

#[test]
fn a_shutdown_gives_everything_back() {
    for seed in 1..10 {
        let bed = Bed::new(seed);
        all_kinds(&bed);
        bed.shut_down(&[]);
        let calls = bed.world.calls();
        assert_eq!(calls.of("cuDevicePrimaryCtxRelease_v2"), 1);
        bed.shut_down(&[]);
        assert_eq!(bed.world.calls().counts, calls.counts, "once is enough");
        bed.end();
    }
}

#[test]
fn a_shutdown_keeps_what_the_host_may_look_into() {
    for seed in 1..10 {
        let bed = Bed::new(seed);
        let slabs = all_kinds(&bed);
        bed.shut_down(&[slabs[1].id, slabs[2].id]);
        assert_eq!(bed.world.findings(), Vec::<String>::new());
        let leaks = bed.world.leaks();
        assert_eq!(leaks.len(), 3, "{leaks:?}");
        assert!(leaks[2].contains("context of device 0, retained 1 times"), "{leaks:?}");
        assert_eq!([&slabs[1], &slabs[2]].map(words), [[9; 1024], [9; 1024]]);
        assert_eq!(bed.world.findings(), Vec::<String>::new(), "the host may look");
    }
}

/// Pools are trimmed, and their threads free, after the end of their device as well.
#[test]
fn what_went_with_the_device_is_trimmed_and_freed_without_a_call() {
    let bed = Bed::new(1);
    let slabs = all_kinds(&bed);
    bed.shut_down(&slabs.iter().map(|slab| slab.id).take(3).collect::<Vec<_>>());
    let before = bed.world.calls().counts;
    // SAFETY: no work uses it.
    assert_eq!(unsafe { bed.device.ranges().unwrap().shorten(slabs[3].id, 0) }, 0);
    bed.free(&slabs[1]);
    bed.device.close_stream(QUEUES[3]);
    assert_eq!(bed.world.calls().counts, before);
}

/// Where marks cannot be recorded or waited for, a shutdown waits all the same before it gives memory back.
#[test]
fn a_shutdown_waits_although_calls_are_refused() {
    for call in ["cuEventCreate", "cuEventRecord", "cuEventSynchronize"] {
        for nth in 1..5 {
            for seed in 1..6 {
                let bed = Bed::new(seed);
                all_kinds(&bed);
                bed.world.fail_nth_call(call, nth, 98765);
                bed.end();
            }
        }
    }
}

/// Everything that can be asked of a device, by somebody who may not: nothing is done, and nothing hangs.
fn is_refused(device: &CudaDevice, slab: &Slab, why: &str) -> bool {
    let lost = |refusal: Refusal| matches!(refusal, Refusal::Lost(words) if words.contains(why));
    let (queue, number) = (Queue::COMPUTE, 1);
    // SAFETY: nobody uses it any more.
    unsafe { device.free(slab.id) };
    // SAFETY: without pieces it uses no memory.
    let submitted = unsafe { device.submit(queue, &[], &[]) };
    // SAFETY: a default stream stays.
    let opened = unsafe { device.open_stream(0) };
    device.close_stream(QUEUES[3]);
    let ranges = device.ranges().unwrap();
    submitted.is_err_and(lost)
        && opened.is_err_and(lost)
        && device.allocate(64, SlabKind::Device).is_err_and(lost)
        && device.done(Queue::UPLOAD).is_err_and(lost)
        && device.wait(Ticket { queue, number }).is_err_and(lost)
        && device.so_far(queue).is_err_and(lost)
        && device.hold(queue, &[]).is_err_and(lost)
        && device.load_module(b"\0").is_err_and(lost)
        && ranges.reserve(2 << 20, 2 << 20).is_err_and(lost)
        && device.budget().is_none()
        && CudaDevice::open(0).is_err_and(|words| words.contains(why))
        && devices().is_err_and(|words| words.contains(why))
}

#[test]
fn a_forked_child_calls_nothing_and_its_parent_goes_on() {
    if let Some((code, said)) = alone("a_forked_child_calls_nothing_and_its_parent_goes_on") {
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains("FINDING"), "{said}");
        return;
    }
    let bed = Bed::new(1);
    let (slab, other) = (bed.slab(64, SlabKind::Readback), bed.slab(64, SlabKind::Device));
    bed.fill(Queue::COMPUTE, &[], &other, 1).unwrap();
    // SAFETY: the child only asks what is refused before any lock is taken, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let fine = is_refused(bed.device, &other, "forked") && cuda_sim::forked_calls() == 0;
        // SAFETY: ends this process at once, without the exit functions that are its parent's.
        unsafe { libc::_exit(i32::from(!fine)) };
    }
    let mut status = -1;
    // SAFETY: `status` lives; the child is this process's own.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child was not refused, or crashed");
    bed.device
        .wait(bed.fill(Queue::COMPUTE, &[], &slab, 3).unwrap())
        .unwrap();
    assert_eq!(words(&slab), [3; 16]);
    bed.end();
}

/// What a destructor of some other library finds, which runs behind this library's last word.
extern "C" fn late() {
    let Some((bed, slab)) = LATE.get() else { return };
    let before = bed.world.calls().counts;
    let refused = is_refused(bed.device, slab, "ending") && bed.world.calls().counts == before;
    // SAFETY: ends the process at once, which is about to end.
    unsafe { libc::_exit(if refused { 42 } else { 43 }) };
}

static LATE: OnceLock<(Bed, Slab)> = OnceLock::new();

#[test]
fn nothing_is_called_when_the_process_ends() {
    if let Some((code, said)) = alone("nothing_is_called_when_the_process_ends") {
        assert_eq!(code, Some(42), "{said}");
        return;
    }
    // SAFETY: `late` is a function of this program. Registered before the device is opened, it runs after what that registers.
    assert_eq!(unsafe { libc::atexit(late) }, 0);
    let bed = Bed::new(1);
    let slabs = all_kinds(&bed);
    assert!(LATE.set((bed, slabs[0])).is_ok());
    std::process::exit(0);
}

/// World 0 has the last word of a process: whatever is left, and under way, it has nothing to say, and the status is the program's.
#[test]
fn a_process_ends_with_everything_left() {
    if let Some((code, said)) = alone("a_process_ends_with_everything_left") {
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("1 passed") && !said.contains("FINDING"), "{said}");
        return;
    }
    let device = CudaDevice::simulated(driver(), 0);
    let slab = device.allocate(1 << 20, SlabKind::Device).unwrap();
    for value in 0..20 {
        let to = part(&slab, 0, 1 << 20);
        // SAFETY: one queue, and the slab stays.
        unsafe { device.submit(Queue::COMPUTE, &[], &[Op::Fill { to, value }]) }.unwrap();
    }
}
