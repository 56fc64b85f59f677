//! Random programs of fills and copies, and the same on plain bytes.

use super::{bytes_of, free, part, submit, watched};
use crate::backend::vulkan::VulkanDevice;
use crate::backend::{Backend, OWN_QUEUES, Op, Queue, Slab, SlabKind, Ticket};

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

/// Of each slab of a program.
const BYTES: u64 = 1024;

/// Slabs of a program, as plain memory.
type Model = [[u8; BYTES as usize]; 4];

/// One random piece on `slabs`, which the model does at once: copies of any bytes, fills of words.
fn random_piece(slabs: &[Slab; 4], model: &mut Model, random: &mut Random) -> Op {
    let range = |at: u64, length: u64| at as usize..(at + length) as usize;
    let [to, from] = [random.below(4) as usize, random.below(4) as usize];
    let length = random.below(BYTES / 2) + 1;
    let [at, source] = [(); 2].map(|()| random.below(BYTES - length + 1));
    let overlaps = from == to && source < at + length && at < source + length;
    if overlaps || random.below(3) == 0 {
        let (at, length, value) = (at / 4 * 4, length.next_multiple_of(4), random.below(1 << 32) as u32);
        let length = length.min(BYTES - at);
        let words = model[to][range(at, length)].chunks_exact_mut(4);
        words.for_each(|word| word.copy_from_slice(&value.to_ne_bytes()));
        Op::Fill {
            to: part(&slabs[to], at, length),
            value,
        }
    } else {
        let read = model[from];
        model[to][range(at, length)].copy_from_slice(&read[range(source, length)]);
        Op::Copy {
            from: part(&slabs[from], source, length),
            to: part(&slabs[to], at, length),
        }
    }
}

/// A random program on slabs of its own, on all queues, each step behind the one before. Both memories hold the same in the end.
fn random_program(device: &VulkanDevice, random: &mut Random) {
    let kinds = [SlabKind::Upload, SlabKind::Device, SlabKind::Device, SlabKind::Readback];
    let slabs = kinds.map(|kind| device.allocate(BYTES, kind).unwrap());
    let mut model: Model = [[0; BYTES as usize]; 4];
    let clear = slabs.each_ref().map(|slab| Op::Fill {
        to: part(slab, 0, BYTES),
        value: 0,
    });
    let mut last: Ticket = submit(device, Queue::COMPUTE, &[], &clear);
    for _ in 0..=random.below(5) {
        let pieces: Vec<Op> = (0..random.below(6))
            .map(|_| random_piece(&slabs, &mut model, random))
            .collect();
        let queue = OWN_QUEUES[random.below(3) as usize];
        last = submit(device, queue, &[last], &pieces);
    }
    let out = &slabs[3];
    // The host looks at the last slab as it is, and then at the others by copies in it.
    for (slab, expected) in slabs.iter().zip(&model).rev() {
        let (from, to) = (part(slab, 0, BYTES), part(out, 0, BYTES));
        let copy = [Op::Copy { from, to }];
        let pieces = if slab.id == out.id { &[][..] } else { &copy };
        last = submit(device, Queue::DOWNLOAD, &[last], pieces);
        device.wait(last).unwrap();
        assert_eq!(bytes_of(out), expected);
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
