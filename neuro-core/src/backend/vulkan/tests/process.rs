//! What needs a process of its own: a missing driver, forks, the end of the process, and another setting of the layer.

use std::sync::OnceLock;

use super::{free, part, submit, watched, words};
use crate::backend::vulkan::{VulkanDevice, devices};
use crate::backend::{Backend, Op, Queue, Refusal, Slab, SlabKind, Ticket};

/// Says to a test that it is in a process of its own.
const ALONE: &str = "NEURO_TEST_VULKAN_ALONE";

fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Runs tests of these names in a process of its own: its exit status, and what it said.
pub(super) fn alone(tests: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .args(tests.iter().map(|test| format!("backend::vulkan::tests::{test}")))
        .envs(variables.iter().copied().chain([(ALONE, "1")]))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code(), said.concat())
}

/// The layer looks across submissions only if its settings say so, and is slow then: so once, and not with the long programs.
#[test]
fn submissions_are_ordered_as_well_as_pieces() {
    watched(|_| {
        let tests = [
            "b1_work_of_a_queue_is_done_in_order",
            "b2_waits_order_queues",
            "b3_done_never_goes_back",
            "b4_what_work_wrote_is_seen",
            "b5_what_the_host_wrote_is_seen",
            "b7_slabs_are_apart_and_can_be_freed",
            "b9_from_many_threads",
            "pieces_that_depend_on_each_other_are_done_in_order",
            "work_without_pieces_hands_on_what_it_waited_for",
        ];
        const CHECK: &str = "VALIDATION_CHECK_ENABLE_SYNCHRONIZATION_VALIDATION_QUEUE_SUBMIT";
        let (code, said) = alone(&tests, &[("VK_LAYER_ENABLES", CHECK)]);
        let passed = format!("{} passed", tests.len());
        assert!(code == Some(0) && said.contains(&passed), "{said}");
    });
}

#[test]
fn a_missing_driver_is_named_with_what_to_do() {
    if is_alone() {
        println!("refused: {}", devices().unwrap_err());
        return;
    }
    watched(|_| {
        const NONE: &str = "/nonexistent/icd.json";
        // The second is what loaders before 1.3.207 read.
        let variables = [("VK_DRIVER_FILES", NONE), ("VK_ICD_FILENAMES", NONE)];
        let (code, said) = alone(&["process::a_missing_driver_is_named_with_what_to_do"], &variables);
        assert_eq!(code, Some(0), "{said}");
        for part in [
            "refused: ",
            "found no driver",
            "VK_DRIVER_FILES",
            "apt install libvulkan1 mesa-vulkan-drivers",
        ] {
            assert!(said.contains(part), "{said}");
        }
    });
}

/// Everything that can be asked of a device, by somebody who may not: nothing is done, and nothing hangs.
fn is_refused(device: &VulkanDevice, slab: &Slab, why: &str) -> bool {
    let lost = |refusal: Refusal| matches!(refusal, Refusal::Lost(words) if words.contains(why));
    let ticket = Ticket {
        queue: Queue::COMPUTE,
        number: 1,
    };
    free(device, slab);
    // SAFETY: without pieces it uses no memory.
    let submitted = unsafe { device.submit(Queue::COMPUTE, &[], &[]) };
    submitted.is_err_and(lost)
        && device.allocate(64, SlabKind::Device).is_err_and(lost)
        && device.done(Queue::UPLOAD).is_err_and(lost)
        && device.wait(ticket).is_err_and(lost)
        && devices().is_err_and(|words| words.contains(why))
        && VulkanDevice::open(0).is_err_and(|words| words.contains(why))
}

#[test]
fn a_forked_child_is_refused_and_its_parent_goes_on() {
    if !is_alone() {
        // No other test runs in a process that forks.
        return watched(|_| {
            let (code, said) = alone(&["process::a_forked_child_is_refused_and_its_parent_goes_on"], &[]);
            assert_eq!(code, Some(0), "{said}");
        });
    }
    watched(|device| {
        let slab = device.allocate(64, SlabKind::Readback).unwrap();
        // SAFETY: the child only asks what is refused before any lock is taken, and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = i32::from(!is_refused(device, &slab, "forked"));
            // SAFETY: ends this process at once, without the exit functions that are its parent's.
            unsafe { libc::_exit(code) };
        }
        let mut status = -1;
        // SAFETY: `status` lives; the child is this process's own.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child was not refused, or crashed");
        let to = part(&slab, 0, 64);
        device
            .wait(submit(device, Queue::COMPUTE, &[], &[Op::Fill { to, value: 3 }]))
            .unwrap();
        assert_eq!(words(&slab), [3; 16]);
        free(device, &slab);
    });
}

/// What a destructor of some other library finds, which runs behind this library's last word.
extern "C" fn late() {
    let Some((device, slab)) = LATE.get() else { return };
    let before = device.slabs.count();
    let refused = is_refused(device, slab, "ending") && device.slabs.count() == before;
    // SAFETY: ends the process at once, which is about to end.
    unsafe { libc::_exit(if refused { 42 } else { 43 }) };
}

static LATE: OnceLock<(&VulkanDevice, Slab)> = OnceLock::new();

#[test]
fn nothing_is_called_when_the_process_ends() {
    if !is_alone() {
        return watched(|_| {
            let (code, said) = alone(&["process::nothing_is_called_when_the_process_ends"], &[]);
            assert_eq!(code, Some(42), "{said}");
        });
    }
    // SAFETY: `late` is a function of this program. Registered before the device is opened, it runs after what that registers.
    assert_eq!(unsafe { libc::atexit(late) }, 0);
    let device = VulkanDevice::open(0).unwrap();
    let slab = device.allocate(1 << 20, SlabKind::Readback).unwrap();
    let to = part(&slab, 0, 1 << 20);
    // Work is in flight when it ends.
    for value in 0..20 {
        submit(device, Queue::COMPUTE, &[], &[Op::Fill { to, value }]);
    }
    assert!(LATE.set((device, slab)).is_ok());
    std::process::exit(0);
}
