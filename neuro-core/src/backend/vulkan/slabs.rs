//! Memory of a device: each slab is one buffer. Memory comes from the crate gpu-allocator; it knows which kind of the device's memory
//! is meant for what, and maps what the host can reach. Slabs of [`OWN_MEMORY`] and more have memory of their own, so that giving
//! one back gives it to the driver.
//!
//! Locks: the allocator's is held during the driver's calls for memory (they are rare: a pool asks for slabs, not for blocks), the
//! table's only to look something up.

use std::collections::BTreeMap;
use std::ptr::NonNull;

use ash::{Device, Instance, vk};
use gpu_allocator::vulkan::{Allocation, AllocationCreateDesc, AllocationScheme, Allocator, AllocatorCreateDesc};
use gpu_allocator::{AllocationSizes, AllocatorDebugSettings, MemoryLocation};
use smallvec::SmallVec;

use super::discover::{Found, Kind, heaps, own_heap};
use super::import::Importer;
use super::record::Buffers;
use super::share::Sharer;
use crate::backend::budget::Budget;
use crate::backend::health::Health;
use crate::backend::{Facts, Identity, Op, Refusal, Slab, SlabId, SlabKind, Span};
use crate::sync::global::{Mutex, lock};

/// What blocks begin on. Whatever a kernel or a copy wants is no more on the devices there are.
const ALIGNMENT: u64 = 256;
/// From this length on a slab has memory of its own.
const OWN_MEMORY: u64 = 1 << 20;
/// Shared memory for smaller slabs is taken in such steps.
const SHARED_MEMORY: u64 = 4 << 20;
/// Pieces of memory that the allocator keeps though no slab is in them: one a kind of memory at the most, and there are no more kinds.
const KEPT_EMPTY: u64 = vk::MAX_MEMORY_TYPES as u64;

pub(super) struct Slabs {
    device: Device,
    facts: Facts,
    pub(super) max_memory_allocation_size: u64,
    pub(super) max_memory_allocation_count: u64,
    /// Where to ask for the budget; `None` where the driver knows of none.
    budget: Option<(Instance, vk::PhysicalDevice)>,
    /// Of the queues that use them.
    pub(super) families: Vec<u32>,
    pub(super) importer: Option<Importer>,
    pub(super) sharer: Option<Sharer>,
    /// `None` at the end.
    allocator: Mutex<Option<Allocator>>,
    pub(super) table: Mutex<Table>,
}

#[derive(Default)]
pub(super) struct Table {
    last: u64,
    pub(super) held: BTreeMap<SlabId, Held>,
}

pub(super) struct Held {
    pub(super) buffer: vk::Buffer,
    pub(super) bytes: u64,
    pub(super) memory: Memory,
}

/// What is behind a buffer.
pub(super) enum Memory {
    /// The allocator's.
    Allocated(Allocation),
    /// Memory of its own, where the host reaches it, and whether others may import it.
    Own {
        memory: vk::DeviceMemory,
        host: Option<NonNull<u8>>,
        is_exported: bool,
    },
}

// SAFETY: the address is a fact; who uses it proves that he may where he does so.
unsafe impl Send for Memory {}

impl Memory {
    /// Where the host reaches it, if it does so without flushing. Of a device's own memory that is not enough: what the processor does
    /// not cache takes many times as long to read.
    fn host(&self, kind: SlabKind) -> Option<NonNull<u8>> {
        let wanted = match kind {
            SlabKind::Device | SlabKind::Exported => {
                vk::MemoryPropertyFlags::HOST_COHERENT | vk::MemoryPropertyFlags::HOST_CACHED
            }
            SlabKind::Upload | SlabKind::Readback => vk::MemoryPropertyFlags::HOST_COHERENT,
        };
        match self {
            Memory::Allocated(memory) => memory
                .mapped_ptr()
                .filter(|_| memory.memory_properties().contains(wanted))
                .map(NonNull::cast),
            Memory::Own { host, .. } => *host,
        }
    }
}

impl Slabs {
    /// # Errors
    /// What the allocator said.
    pub(super) fn new(
        instance: &Instance,
        device: &Device,
        found: &Found,
        mut families: Vec<u32>,
    ) -> Result<Self, String> {
        families.sort_unstable();
        families.dedup();
        let allocator = Allocator::new(&AllocatorCreateDesc {
            instance: instance.clone(),
            device: device.clone(),
            physical_device: found.physical,
            debug_settings: AllocatorDebugSettings::default(),
            buffer_device_address: false,
            allocation_sizes: AllocationSizes::new(SHARED_MEMORY, SHARED_MEMORY),
        })
        .map_err(|error| error.to_string())?;
        let sharer = Sharer::new(instance, device, found);
        let (max_slab_bytes, longest_by) = found.longest_slab();
        let knows_budget = found.heaps.iter().any(|heap| heap.budget.is_some());
        Ok(Self {
            device: device.clone(),
            facts: Facts {
                alignment: ALIGNMENT.max(found.min_storage_buffer_offset_alignment),
                max_slab_bytes,
                longest_by,
                memory_bytes: found.memory_bytes(),
                import_alignment: found.min_imported_host_pointer_alignment,
                shares_memory: matches!(found.kind, Kind::Integrated | Kind::Software),
                bind_alignment: found.min_storage_buffer_offset_alignment.max(4),
                identity: sharer.is_some().then_some(Identity {
                    device: found.uuid,
                    driver: found.driver_uuid,
                }),
            },
            max_memory_allocation_size: found.max_memory_allocation_size,
            max_memory_allocation_count: found.max_memory_allocation_count,
            budget: knows_budget.then(|| (instance.clone(), found.physical)),
            families,
            importer: Importer::new(instance, device, found),
            sharer,
            allocator: Mutex::new(Some(allocator)),
            table: Mutex::new(Table::default()),
        })
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// As [`Backend::budget`](crate::backend::Backend::budget).
    pub(super) fn budget(&self) -> Option<Budget> {
        let (instance, physical) = self.budget.as_ref()?;
        let heaps = heaps(instance, *physical, true);
        let heap = own_heap(&heaps)?;
        let (bytes, used) = heap.budget?;
        Budget::of(heap.bytes, bytes, used)
    }

    /// # Errors
    /// As [`Backend::allocate`](crate::backend::Backend::allocate).
    pub(super) fn allocate(&self, bytes: u64, kind: SlabKind, health: &Health) -> Result<Slab, Refusal> {
        debug_assert!(bytes > 0, "a slab of no bytes");
        if bytes > self.facts.max_slab_bytes {
            return Err(Refusal::NoMemory);
        }
        let bytes = bytes.max(4).next_multiple_of(4);
        if kind == SlabKind::Exported {
            return self.allocate_exported(bytes, health);
        }
        self.make(bytes, None, kind, health, |buffer| {
            self.back(buffer, bytes, kind, health).map(Memory::Allocated)
        })
    }

    /// Whether one more piece of memory may be asked for. Drivers need not check it.
    pub(super) fn has_room_for_one(&self) -> bool {
        lock(&self.allocator)
            .as_ref()
            .is_some_and(|allocator| self.has_room(allocator))
    }

    /// The same, under the allocator's lock.
    fn has_room(&self, allocator: &Allocator) -> bool {
        let (slabs, own) = {
            let table = lock(&self.table);
            let own = table
                .held
                .values()
                .filter(|held| matches!(held.memory, Memory::Own { .. }));
            (table.held.len() as u64, own.count() as u64)
        };
        // The report is long, so it is asked for only when it may matter.
        slabs + KEPT_EMPTY < self.max_memory_allocation_count
            || own + (allocator.generate_report().blocks.len() as u64) < self.max_memory_allocation_count
    }

    /// Puts memory behind a buffer.
    fn back(&self, buffer: vk::Buffer, bytes: u64, kind: SlabKind, health: &Health) -> Result<Allocation, Refusal> {
        // SAFETY: the buffer is of this device.
        let mut requirements = unsafe { self.device.get_buffer_memory_requirements(buffer) };
        requirements.alignment = requirements.alignment.max(self.facts.alignment);
        if requirements.size > self.max_memory_allocation_size {
            return Err(Refusal::NoMemory);
        }
        let mut allocator = lock(&self.allocator);
        let allocator = allocator.as_mut().ok_or(Refusal::NoMemory)?;
        if !self.has_room(allocator) {
            return Err(Refusal::NoMemory);
        }
        let memory = allocator
            .allocate(&AllocationCreateDesc {
                name: "slab",
                requirements,
                location: match kind {
                    SlabKind::Device | SlabKind::Exported => MemoryLocation::GpuOnly,
                    SlabKind::Upload => MemoryLocation::CpuToGpu,
                    // Cached where the device has such memory, says the allocator: the host reads other memory very slowly.
                    SlabKind::Readback => MemoryLocation::GpuToCpu,
                },
                linear: true,
                allocation_scheme: if bytes >= OWN_MEMORY {
                    AllocationScheme::DedicatedBuffer(buffer)
                } else {
                    AllocationScheme::GpuAllocatorManaged
                },
            })
            .map_err(|error| health.refusal_of_memory(&error))?;
        // SAFETY: both are of this device, and the buffer has no memory yet; the allocator kept to the requirements.
        let bound = unsafe { self.device.bind_buffer_memory(buffer, memory.memory(), memory.offset()) };
        if let Err(code) = bound {
            let freed = allocator.free(memory);
            debug_assert!(freed.is_ok(), "{freed:?}");
            return Err(health.refusal("vkBindBufferMemory", code));
        }
        Ok(memory)
    }

    pub(super) fn enter(&self, held: Held, kind: SlabKind) -> Slab {
        let (bytes, host) = (held.bytes, held.memory.host(kind));
        let mut table = lock(&self.table);
        table.last += 1;
        let id = SlabId(table.last);
        table.held.insert(id, held);
        Slab { id, bytes, host }
    }

    /// Gives a slab back.
    ///
    /// # Safety
    /// As [`Backend::free`](crate::backend::Backend::free).
    pub(super) unsafe fn free(&self, slab: SlabId) {
        let held = lock(&self.table).held.remove(&slab);
        debug_assert!(held.is_some(), "{slab:?} is freed, and is not there");
        let Some(held) = held else { return };
        // SAFETY: no work uses the buffer, says the contract, and the table has it no more.
        unsafe { self.give_back(held) };
    }

    /// # Safety
    /// No work uses it.
    unsafe fn give_back(&self, held: Held) {
        // SAFETY: by contract.
        unsafe { self.device.destroy_buffer(held.buffer, None) };
        match held.memory {
            Memory::Allocated(memory) => {
                let freed = lock(&self.allocator)
                    .as_mut()
                    .map_or(Ok(()), |allocator| allocator.free(memory));
                debug_assert!(freed.is_ok(), "{freed:?}");
            }
            // SAFETY: its only buffer is gone.
            Memory::Own { memory, .. } => unsafe { self.device.free_memory(memory, None) },
        }
    }

    /// Gives everything back but the slabs of `keep`; whether one of these is left.
    ///
    /// # Safety
    /// No work uses any of them, and none will.
    pub(super) unsafe fn destroy(&self, keep: &[SlabId]) -> bool {
        let all = std::mem::take(&mut lock(&self.table).held);
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = all.into_iter().partition(|(slab, _)| keep.contains(slab));
        // SAFETY: forwarded contract.
        gone.into_values().for_each(|held| unsafe { self.give_back(held) });
        let left = !kept.is_empty();
        lock(&self.table).held = kept;
        if !left {
            drop(lock(&self.allocator).take());
        }
        left
    }

    /// The buffer of a slab.
    ///
    /// # Errors
    /// As [`buffers`](Self::buffers).
    pub(super) fn buffer(&self, slab: SlabId) -> Result<vk::Buffer, Refusal> {
        let held = lock(&self.table).held.get(&slab).map(|held| held.buffer);
        held.ok_or_else(|| is_not_there(slab))
    }

    /// The buffers of each piece of work.
    ///
    /// # Errors
    /// [`Refusal::Call`] for a slab that is not there: no driver is asked to use it.
    pub(super) fn buffers(&self, ops: &[Op]) -> Result<SmallVec<[Buffers; 4]>, Refusal> {
        let table = lock(&self.table);
        let held = |span: &Span| {
            let Some(held) = table.held.get(&span.slab) else {
                return Err(is_not_there(span.slab));
            };
            debug_assert!(
                span.offset.checked_add(span.bytes).is_some_and(|end| end <= held.bytes),
                "{span:?} in a slab of {} bytes",
                held.bytes
            );
            Ok(held)
        };
        let buffers = |source, target: &Held| Buffers {
            source,
            target: target.buffer,
            // For whatever it was made: that the host maps it is enough.
            seen: target.memory.host(SlabKind::Upload).is_some(),
        };
        ops.iter()
            .map(|op| match op {
                Op::Copy { from, to } => {
                    debug_assert_eq!(from.bytes, to.bytes);
                    Ok(buffers(Some(held(from)?.buffer), held(to)?))
                }
                Op::Fill { to, .. } => {
                    debug_assert!(to.offset.is_multiple_of(4) && to.bytes.is_multiple_of(4), "{to:?}");
                    Ok(buffers(None, held(to)?))
                }
            })
            .collect()
    }

    /// How many slabs there are.
    #[cfg(all(test, not(loom)))]
    pub(super) fn count(&self) -> usize {
        lock(&self.table).held.len()
    }
}

pub(super) fn is_not_there(slab: SlabId) -> Refusal {
    Refusal::Call {
        call: "submit",
        code: 0,
        meaning: format!("slab {} is not there", slab.0),
    }
}
