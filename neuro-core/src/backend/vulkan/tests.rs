//! The rules of all backends on a device, and what is Vulkan's own. Everything runs under the validation layer (`validation.rs`).
//!
//! Without a driver these say SKIPPED and pass; with `NEURO_REQUIRE_VULKAN` in the environment they fail instead.

mod adopt;
mod limits;
mod process;
mod programs;
mod raw;
mod share;

use std::sync::Once;

use super::discover::Kind;
use super::{VulkanDevice, devices, validation};
use crate::backend::{Backend, OWN_QUEUES, Op, Queue, Slab, SlabKind, Span, Ticket};

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

/// What the host sees in a slab.
fn bytes_of(slab: &Slab) -> Vec<u8> {
    let first = slab.host.unwrap();
    // SAFETY: the slab is that long, and nothing writes to it when tests look.
    (0..slab.bytes as usize)
        .map(|at| unsafe { first.add(at).read_volatile() })
        .collect()
}

/// The same as words.
fn words(slab: &Slab) -> Vec<u32> {
    let bytes = bytes_of(slab);
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
        .collect()
}

#[test]
fn pieces_that_depend_on_each_other_are_done_in_order() {
    watched(|device| {
        let [a, b, out] =
            [SlabKind::Device, SlabKind::Device, SlabKind::Readback].map(|kind| device.allocate(64, kind).unwrap());
        for queue in OWN_QUEUES {
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
                words(&out),
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
                Queue::COMPUTE,
                &[],
                &[
                    fill,
                    Op::Fill {
                        to: part(&a, 0, 0),
                        value: 9,
                    },
                ],
            );
            let between = submit(device, Queue::UPLOAD, &[written], &[]);
            let copy = Op::Copy {
                from: part(&a, 0, all),
                to: part(&out, 0, all),
            };
            let read = submit(device, Queue::DOWNLOAD, &[between], &[copy]);
            device.wait(read).unwrap();
            assert!(words(&out).iter().all(|&word| word == value));
        }
        [a, out].iter().for_each(|slab| free(device, slab));
    });
}

#[test]
fn limits_are_the_devices() {
    watched(|device| {
        let found = &device.found;
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
        assert_eq!(device.found.uuid, all[0].uuid);
        assert!(std::ptr::eq(device, VulkanDevice::open(0).unwrap()), "opened once");
        let beyond = VulkanDevice::open(all.len() as u32).unwrap_err();
        assert!(beyond.contains(&format!("{} devices", all.len())), "{beyond}");
    });
}
