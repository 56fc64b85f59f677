//! Kinds of memory as the program sees them: those that both the device and the host reach become two.
//!
//! What is shown of a device is a list in which each kind says which of the driver's it stands for.

use ash::vk;

const BOTH: vk::MemoryPropertyFlags = vk::MemoryPropertyFlags::from_raw(
    vk::MemoryPropertyFlags::DEVICE_LOCAL.as_raw() | vk::MemoryPropertyFlags::HOST_VISIBLE.as_raw(),
);

/// The kinds that are shown, in their order, and for each the driver's.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) memory: vk::PhysicalDeviceMemoryProperties,
    real: Vec<u32>,
}

impl Shown {
    /// Of what the driver has. `apart`: whether kinds are split.
    pub(crate) fn of(memory: &vk::PhysicalDeviceMemoryProperties, apart: bool) -> Self {
        let types = memory.memory_types_as_slice();
        let both = types.iter().filter(|kind| kind.property_flags.contains(BOTH)).count();
        let heaps = memory.memory_heap_count as usize;
        if !apart || types.len() + both > vk::MAX_MEMORY_TYPES || heaps * 2 > vk::MAX_MEMORY_HEAPS {
            let real = (0..memory.memory_type_count).collect();
            return Self { memory: *memory, real };
        }
        let mut shown = Self {
            memory: *memory,
            real: Vec::new(),
        };
        // Behind each heap's number by `heaps` stands the part of it that is shown to be the host's.
        for at in 0..heaps {
            let size = memory.memory_heaps[at].size;
            let flags = vk::MemoryHeapFlags::empty();
            shown.memory.memory_heaps[heaps + at] = vk::MemoryHeap { size, flags };
        }
        shown.memory.memory_heap_count *= 2;
        let mut kinds = Vec::new();
        for (real, kind) in (0..).zip(types) {
            if kind.property_flags.contains(BOTH) {
                let of_the_host = vk::MemoryPropertyFlags::HOST_VISIBLE
                    | vk::MemoryPropertyFlags::HOST_COHERENT
                    | vk::MemoryPropertyFlags::HOST_CACHED;
                kinds.push((real, kind.heap_index, kind.property_flags & !of_the_host));
                let host = kind.property_flags & of_the_host;
                kinds.push((real, kind.heap_index + heaps as u32, host));
            } else {
                kinds.push((real, kind.heap_index, kind.property_flags));
            }
        }
        for (slot, &(_, heap_index, property_flags)) in shown.memory.memory_types.iter_mut().zip(&kinds) {
            *slot = vk::MemoryType {
                property_flags,
                heap_index,
            };
        }
        shown.memory.memory_type_count = kinds.len() as u32;
        shown.real = kinds.into_iter().map(|(real, ..)| real).collect();
        shown
    }

    /// The driver's kind that a shown one stands for.
    pub(crate) fn real(&self, shown: u32) -> u32 {
        self.real.get(shown as usize).copied().unwrap_or(shown)
    }

    /// A set of the driver's kinds, as the shown ones that stand for them.
    pub(crate) fn bits(&self, real: u32) -> u32 {
        let numbered = (0..).zip(&self.real);
        numbered.fold(0, |bits, (shown, &kind)| bits | (real >> kind & 1) << shown)
    }

    /// A set of kinds that host memory can become: only shown ones that the host reaches.
    pub(crate) fn host_bits(&self, real: u32) -> u32 {
        let reach =
            |&(_, kind): &(u32, &vk::MemoryType)| kind.property_flags.contains(vk::MemoryPropertyFlags::HOST_VISIBLE);
        let kinds = (0..).zip(self.memory.memory_types_as_slice());
        let host = kinds.filter(reach).fold(0, |bits, (shown, _)| bits | 1 << shown);
        self.bits(real) & host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: vk::MemoryPropertyFlags = vk::MemoryPropertyFlags::DEVICE_LOCAL;

    fn memory(kinds: &[vk::MemoryPropertyFlags]) -> vk::PhysicalDeviceMemoryProperties {
        let mut memory = vk::PhysicalDeviceMemoryProperties {
            memory_heap_count: 1,
            memory_type_count: kinds.len() as u32,
            ..Default::default()
        };
        memory.memory_heaps[0].size = 1 << 30;
        for (slot, &kind) in memory.memory_types.iter_mut().zip(kinds) {
            slot.property_flags = kind;
        }
        memory
    }

    #[test]
    fn what_both_reach_is_shown_as_two() {
        let coherent = vk::MemoryPropertyFlags::HOST_VISIBLE | vk::MemoryPropertyFlags::HOST_COHERENT;
        let all = memory(&[DEVICE, DEVICE | coherent, coherent]);
        let shown = Shown::of(&all, true);
        let flags: Vec<_> = shown
            .memory
            .memory_types_as_slice()
            .iter()
            .map(|kind| kind.property_flags)
            .collect();
        assert_eq!(flags, [DEVICE, DEVICE, coherent, coherent]);
        assert_eq!((0..4).map(|kind| shown.real(kind)).collect::<Vec<_>>(), [0, 1, 1, 2]);
        assert_eq!(shown.bits(0b010), 0b0110);
        assert_eq!(shown.host_bits(0b010), 0b0100);
        assert_eq!(shown.memory.memory_heap_count, 2);
        assert!(shown.memory.memory_heaps[1].flags.is_empty() && shown.memory.memory_heaps[1].size == 1 << 30);
    }

    #[test]
    fn without_being_asked_it_shows_what_there_is() {
        let all = memory(&[BOTH]);
        let shown = Shown::of(&all, false);
        assert_eq!(shown.memory.memory_type_count, 1);
        assert_eq!(
            (shown.real(0), shown.bits(1), shown.memory.memory_heap_count),
            (0, 1, 1)
        );
    }
}
