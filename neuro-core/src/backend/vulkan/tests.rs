//! The rules of all backends on a device, and what is Vulkan's own. Everything runs under the validation layer (`validation.rs`).
//!
//! Without a driver these say SKIPPED and pass; with `NEURO_REQUIRE_VULKAN` in the environment they fail instead.

use std::ptr::NonNull;
use std::sync::{Once, OnceLock};

use super::discover::Kind;
use super::{VulkanDevice, devices, validation};
use crate::backend::{Backend, Op, QUEUES, Queue, Refusal, Slab, SlabKind, Span, Ticket};

/// The device that tests run on, with a look at what the validation layer said when the test is through.
struct Watched(&'static VulkanDevice);

impl Watched {
    /// Fails where a device is required and not there.
    fn get() -> Option<Self> {
        let required = std::env::var_os("NEURO_REQUIRE_VULKAN").is_some();
        let missing = match VulkanDevice::open(0) {
            Ok(device) if validation::on() => return Some(Self(device)),
            Ok(_) => "no validation layer (Debian, Ubuntu: apt install vulkan-validationlayers)".to_owned(),
            Err(why) => why,
        };
        assert!(!required, "NEURO_REQUIRE_VULKAN is set: {missing}");
        static SAID: Once = Once::new();
        // On the real standard error, which no test runner holds back: a skip must not look like a pass.
        SAID.call_once(|| {
            let text = format!("\nSKIPPED: Vulkan devices: {missing}\n");
            crate::backend::host::os::say(&text);
        });
        None
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Messages of tests that run beside this one count, too: whoever caused one sees it here at the latest.
        let messages = validation::messages();
        if !std::thread::panicking() {
            assert!(
                messages.is_empty(),
                "the validation layer says:\n{}",
                messages.join("\n")
            );
        }
    }
}

/// Runs `test` on the device, if there is one.
fn watched(test: impl FnOnce(&VulkanDevice)) {
    if let Some(device) = Watched::get() {
        test(device.0);
    }
}

/// Hands a rule a device that it shares with nobody.
fn alone_with(rule: fn(&dyn Backend)) {
    watched(|_| rule(&VulkanDevice::make(0).unwrap()));
}

crate::backend::contract::contract!(with alone_with);

fn part(slab: &Slab, offset: u64, bytes: u64) -> Span {
    let slab = slab.id;
    Span { slab, offset, bytes }
}

fn submit(device: &VulkanDevice, queue: Queue, waits: &[Ticket], ops: &[Op]) -> Ticket {
    // SAFETY: tests keep slabs until all work is done, and order their work.
    unsafe { device.submit(queue, waits, ops) }.unwrap()
}

fn free(device: &VulkanDevice, slab: &Slab) {
    // SAFETY: tests wait for all work first.
    unsafe { device.free(slab.id) };
}

/// The words that the host sees in a slab.
fn words(slab: &Slab, count: usize) -> Vec<u32> {
    let first: NonNull<u32> = slab.host.unwrap().cast();
    assert!(count as u64 * 4 <= slab.bytes);
    // SAFETY: the slab is that long, and nothing writes to it when tests look.
    (0..count).map(|at| unsafe { first.add(at).read_volatile() }).collect()
}

#[test]
fn pieces_that_depend_on_each_other_are_done_in_order() {
    watched(|device| {
        let [a, b, out] =
            [SlabKind::Device, SlabKind::Device, SlabKind::Readback].map(|kind| device.allocate(64, kind).unwrap());
        for queue in QUEUES {
            let fill = |to, value| Op::Fill { to, value };
            let copy = |from, to| Op::Copy { from, to };
            let pieces = [
                fill(part(&a, 0, 64), 7),
                fill(part(&a, 16, 16), 8),
                copy(part(&a, 0, 64), part(&b, 0, 64)),
                copy(part(&b, 8, 24), part(&b, 40, 24)),
                copy(part(&b, 0, 64), part(&out, 0, 64)),
            ];
            let ticket = submit(device, queue, &[], &pieces);
            device.wait(ticket).unwrap();
            assert_eq!(
                words(&out, 16),
                [7, 7, 7, 7, 8, 8, 8, 8, 7, 7, 7, 7, 8, 8, 8, 8],
                "{queue:?}"
            );
        }
        [a, b, out].iter().for_each(|slab| free(device, slab));
    });
}

/// A submission without pieces still stands between what it waits for and who waits for it.
#[test]
fn work_without_pieces_hands_on_what_it_waited_for() {
    watched(|device| {
        let [a, out] = [SlabKind::Device, SlabKind::Readback].map(|kind| device.allocate(1 << 20, kind).unwrap());
        let all = 1 << 20;
        for value in 0..8 {
            let fill = Op::Fill {
                to: part(&a, 0, all),
                value,
            };
            let written = submit(
                device,
                Queue::Compute,
                &[],
                &[
                    fill,
                    Op::Fill {
                        to: part(&a, 0, 0),
                        value: 9,
                    },
                ],
            );
            let between = submit(device, Queue::Upload, &[written], &[]);
            let copy = Op::Copy {
                from: part(&a, 0, all),
                to: part(&out, 0, all),
            };
            let read = submit(device, Queue::Download, &[between], &[copy]);
            device.wait(read).unwrap();
            assert!(words(&out, (all / 4) as usize).iter().all(|&word| word == value));
        }
        [a, out].iter().for_each(|slab| free(device, slab));
    });
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

const PROGRAM_WORDS: u64 = 256;

/// A random program of fills and copies on slabs of its own, on all queues, each step behind the one before; and the same on plain
/// vectors. Both hold the same in the end.
fn random_program(device: &VulkanDevice, random: &mut Random) {
    let bytes = PROGRAM_WORDS * 4;
    let kinds = [SlabKind::Upload, SlabKind::Device, SlabKind::Device, SlabKind::Readback];
    let slabs = kinds.map(|kind| device.allocate(bytes, kind).unwrap());
    let mut model = [[0u32; PROGRAM_WORDS as usize]; 4];
    let mut last: Vec<Ticket> = Vec::new();
    let all = |value| {
        slabs.each_ref().map(|slab| Op::Fill {
            to: part(slab, 0, bytes),
            value,
        })
    };
    last = vec![submit(device, Queue::Compute, &last, &all(0))];
    for _ in 0..random.below(5) + 1 {
        let mut pieces = Vec::new();
        for _ in 0..random.below(6) {
            let (to, length) = (random.below(4) as usize, random.below(PROGRAM_WORDS / 2) + 1);
            let at = random.below(PROGRAM_WORDS - length + 1);
            let target = part(&slabs[to], at * 4, length * 4);
            let (target_words, value) = (at as usize..(at + length) as usize, random.below(1 << 32) as u32);
            let from = random.below(4) as usize;
            let source = random.below(PROGRAM_WORDS - length + 1);
            let overlaps = from == to && source < at + length && at < source + length;
            if random.below(3) == 0 || overlaps {
                pieces.push(Op::Fill { to: target, value });
                model[to][target_words].fill(value);
            } else {
                let read = model[from][source as usize..(source + length) as usize].to_vec();
                model[to][target_words].copy_from_slice(&read);
                let from = part(&slabs[from], source * 4, length * 4);
                pieces.push(Op::Copy { from, to: target });
            }
        }
        let queue = QUEUES[random.below(3) as usize];
        last = vec![submit(device, queue, &last, &pieces)];
    }
    for (slab, expected) in slabs.iter().zip(&model) {
        // The host looks at the first slab as it is, and then at the others by copies in it.
        let whole = |slab| part(slab, 0, bytes);
        let copy = Op::Copy {
            from: whole(slab),
            to: whole(&slabs[0]),
        };
        let pieces = if slab.id == slabs[0].id { &[][..] } else { &[copy][..] };
        last = vec![submit(device, Queue::Download, &last, pieces)];
        device.wait(last[0]).unwrap();
        assert_eq!(words(&slabs[0], PROGRAM_WORDS as usize), expected);
    }
    slabs.iter().for_each(|slab| free(device, slab));
}

#[test]
fn a_hundred_threads_of_random_programs() {
    watched(|device| {
        std::thread::scope(|scope| {
            for thread in 1..=100u64 {
                scope.spawn(move || {
                    let mut random = Random(thread.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                    (0..50).for_each(|_| random_program(device, &mut random));
                });
            }
        });
    });
}

#[test]
fn limits_are_the_devices() {
    watched(|device| {
        let found = device.found();
        let longest = device.facts().max_slab_bytes;
        assert!(longest > 0 && longest.is_multiple_of(4) && longest <= found.max_memory_allocation_size);
        assert!(device.facts().alignment >= 256 && device.facts().alignment.is_power_of_two());
        // Odd lengths become words; short slabs begin on the alignment, too, where the host can see it.
        let odd = [1, 5, 4095, (1 << 20) + 1].map(|bytes| {
            let slab = device.allocate(bytes, SlabKind::Upload).unwrap();
            assert_eq!(slab.bytes, bytes.next_multiple_of(4));
            assert!(slab.host.unwrap().addr().get().is_multiple_of(64), "{slab:?}");
            slab
        });
        odd.iter().for_each(|slab| free(device, slab));
    });
}

#[test]
fn devices_are_found_in_the_same_order() {
    watched(|device| {
        let all = devices().unwrap();
        let names: Vec<String> = all
            .iter()
            .map(|found| format!("{:?} {}", found.kind, found.name))
            .collect();
        let again: Vec<String> = devices()
            .unwrap()
            .iter()
            .map(|found| format!("{:?} {}", found.kind, found.name))
            .collect();
        assert_eq!(names, again);
        let usable: Vec<Kind> = all
            .iter()
            .filter(|found| found.unusable.is_none())
            .map(|found| found.kind)
            .collect();
        assert!(usable.is_sorted(), "{usable:?}");
        for found in &all {
            println!("{found:?}");
            assert!(!found.name.is_empty() && !found.heaps.is_empty());
            assert!(found.max_storage_buffer_range >= 1 << 27 && found.max_memory_allocation_count >= 4096);
        }
        assert_eq!(device.found().uuid, all[0].uuid);
        assert!(std::ptr::eq(device, VulkanDevice::open(0).unwrap()), "opened once");
        let beyond = VulkanDevice::open(all.len() as u32).unwrap_err();
        assert!(beyond.contains(&format!("{} devices", all.len())), "{beyond}");
    });
}

/// Says to a test that it is in a process of its own.
const ALONE: &str = "NEURO_TEST_VULKAN_ALONE";

fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Runs tests of these names in a process of its own: its exit status, and what it said.
fn alone(tests: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
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
        let (code, said) = alone(&["a_missing_driver_is_named_with_what_to_do"], &variables);
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
        queue: Queue::Compute,
        number: 1,
    };
    free(device, slab);
    // SAFETY: without pieces it uses no memory.
    let submitted = unsafe { device.submit(Queue::Compute, &[], &[]) };
    submitted.is_err_and(lost)
        && device.allocate(64, SlabKind::Device).is_err_and(lost)
        && device.done(Queue::Upload).is_err_and(lost)
        && device.wait(ticket).is_err_and(lost)
        && devices().is_err_and(|words| words.contains(why))
        && VulkanDevice::open(0).is_err_and(|words| words.contains(why))
}

#[test]
fn a_forked_child_is_refused_and_its_parent_goes_on() {
    if !is_alone() {
        // No other test runs in a process that forks.
        return watched(|_| {
            let (code, said) = alone(&["a_forked_child_is_refused_and_its_parent_goes_on"], &[]);
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
            .wait(submit(device, Queue::Compute, &[], &[Op::Fill { to, value: 3 }]))
            .unwrap();
        assert_eq!(words(&slab, 16), [3; 16]);
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
            let (code, said) = alone(&["nothing_is_called_when_the_process_ends"], &[]);
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
        submit(device, Queue::Compute, &[], &[Op::Fill { to, value }]);
    }
    assert!(LATE.set((device, slab)).is_ok());
    std::process::exit(0);
}
