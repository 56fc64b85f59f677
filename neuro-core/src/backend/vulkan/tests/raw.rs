//! Work of others on tensors where they lie: a real shader, ordered with uploads, copies and downloads, and nothing that the layer
//! says about it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ash::vk::Handle;
use ash::{Instance, StaticFn, vk};

#[path = "../../../../../examples/rust/shader/double.rs"]
mod double;

use self::double::{Doubler, Point};
use super::process::alone;
use super::watched;
use crate::backend::Backend;
use crate::vulkan::{self, Access, GetInstanceProcAddr, Handles, QueueTurn, SemaphoreValue};
use crate::{DType, Device, DynTensor, Error, MemoryPool};

/// The device of these handles, for the bindings. All of it is found by the function that the handles have.
pub(super) fn bindings(handles: &Handles) -> ash::Device {
    let functions = StaticFn {
        // SAFETY: two names for the type of one function: `VkInstance` is a pointer in both.
        get_instance_proc_addr: unsafe {
            std::mem::transmute::<GetInstanceProcAddr, vk::PFN_vkGetInstanceProcAddr>(handles.get_instance_proc_addr)
        },
    };
    // SAFETY: the handles are valid until the process ends.
    unsafe {
        let instance = Instance::load(&functions, vk::Instance::from_raw(handles.instance));
        ash::Device::load(instance.fp_v1_0(), vk::Device::from_raw(handles.device))
    }
}

pub(super) fn doubler(device: Device) -> Doubler {
    let handles = vulkan::handles(device).unwrap();
    // SAFETY: the device stays, and the family is that of its queue.
    unsafe { Doubler::new(bindings(&handles), handles.queue_family) }.unwrap()
}

fn point(of: &SemaphoreValue) -> Point {
    (vk::Semaphore::from_raw(of.semaphore), of.value)
}

/// Doubles the numbers of `tensor`, from which `other` is read only in name; the value that is signalled.
fn twice(doubler: &Doubler, tensor: &DynTensor, other: &DynTensor) -> u64 {
    let view = vulkan::buffer(tensor).unwrap();
    // SAFETY: whole tensors, which are shorter than the longest range.
    let commands = unsafe { doubler.record(vk::Buffer::from_raw(view.buffer), view.offset, view.bytes) }.unwrap();
    let mut all = vec![commands];
    if std::env::var_os(BARRIER).is_some() {
        all.insert(0, barrier(tensor.device()));
    }
    let submit = |turn: &QueueTurn<'_>| {
        let waits: Vec<Point> = turn.waits.iter().map(point).collect();
        let queue = vk::Queue::from_raw(turn.queue);
        // SAFETY: the turn is this thread's.
        unsafe { doubler.submit(queue, &waits, point(&turn.signal), &all) }.unwrap();
        Ok::<_, Error>(turn.signal.value)
    };
    // SAFETY: `Doubler` does as is asked.
    unsafe {
        vulkan::with_queue(
            &[(other, Access::Read), (tensor, Access::Write), (tensor, Access::Read)],
            submit,
        )
    }
    .unwrap()
}

/// Says to a test that shaders are to begin with a barrier, which they need not.
const BARRIER: &str = "NEURO_TEST_VULKAN_BARRIER";

/// Commands that order all that follows behind all before.
fn barrier(device: Device) -> vk::CommandBuffer {
    let handles = vulkan::handles(device).unwrap();
    let device = bindings(&handles);
    let all = vk::MemoryBarrier::default()
        .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
        .dst_access_mask(vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE);
    let stages = vk::PipelineStageFlags::ALL_COMMANDS;
    let pool = vk::CommandPoolCreateInfo::default().queue_family_index(handles.queue_family);
    // SAFETY: the device stays, and the pool is this call's own.
    unsafe {
        let info = vk::CommandBufferAllocateInfo::default()
            .command_pool(device.create_command_pool(&pool, None).unwrap())
            .command_buffer_count(1);
        let commands = device.allocate_command_buffers(&info).unwrap()[0];
        device
            .begin_command_buffer(commands, &vk::CommandBufferBeginInfo::default())
            .unwrap();
        device.cmd_pipeline_barrier(commands, stages, stages, vk::DependencyFlags::empty(), &[all], &[], &[]);
        device.end_command_buffer(commands).unwrap();
        commands
    }
}

pub(super) fn double(doubler: &Doubler, tensor: &DynTensor) {
    twice(doubler, tensor, tensor);
}

/// What the next submission to the queue of kernels would be.
fn next_turn(tensor: &DynTensor) -> (Vec<SemaphoreValue>, SemaphoreValue) {
    let mut seen = None;
    let look = |turn: &QueueTurn<'_>| {
        seen = Some((turn.waits.to_vec(), turn.signal));
        Err::<(), _>(Error::UnknownDevice {
            name: "of a test".to_owned(),
        })
    };
    // SAFETY: nothing is submitted, and the answer says so.
    let refused = unsafe { vulkan::with_queue(&[(tensor, Access::Write)], look) }.unwrap_err();
    assert!(matches!(refused, Error::UnknownDevice { .. }), "{refused}");
    seen.unwrap()
}

pub(super) fn numbers(count: usize, first: f32) -> (DynTensor, Vec<f32>) {
    let mut tensor = DynTensor::zeros(&[count], DType::F32).unwrap();
    let slice = tensor.as_mut_slice::<f32>().unwrap();
    slice
        .iter_mut()
        .zip(0..)
        .for_each(|(number, at)| *number = first + at as f32);
    let numbers = slice.to_vec();
    (tensor, numbers)
}

pub(super) fn times(numbers: &[f32], factor: f32) -> Vec<f32> {
    numbers.iter().map(|number| number * factor).collect()
}

pub(super) fn back(tensor: &DynTensor) -> Vec<f32> {
    tensor.to_device(Device::Cpu).unwrap().to_vec().unwrap()
}

#[test]
fn a_shader_works_on_a_tensor_where_it_lies() {
    watched(|_| {
        let pool = MemoryPool::new_gpu(Device::Vulkan(0), 16 << 20).unwrap();
        let doubler = doubler(pool.device());
        let (host, plain) = numbers(1001, 0.5);
        let [before, tensor, after] = [(); 3].map(|()| host.to_pool(&pool).unwrap());
        let [first, view, last] = [&before, &tensor, &after].map(|tensor| vulkan::buffer(tensor).unwrap());
        assert_eq!((view.buffer, view.bytes), (first.buffer, 4004));
        assert!(view.offset > 0 && view.offset.is_multiple_of(256), "{view:?}");
        assert!(first.offset != view.offset && last.offset != view.offset);
        assert!(view.max_range >= 1 << 27, "{view:?}");
        double(&doubler, &tensor);
        double(&doubler, &tensor);
        assert_eq!(back(&tensor), times(&plain, 4.0));
        // Neighbours in the same buffer are as they were.
        assert_eq!((back(&before), back(&after)), (plain.clone(), plain));
    });
}

/// Uploads, kernels, copies, kernels, fills and downloads, one on the other, on blocks that are used again, and nobody waits between.
#[test]
fn work_of_others_is_ordered_with_copies() {
    watched(|_| {
        let pool = MemoryPool::new_gpu(Device::Vulkan(0), 4 << 20).unwrap();
        let doubler = doubler(pool.device());
        for round in 0..20 {
            let (host, plain) = numbers(100_000, round as f32);
            let tensor = host.to_pool(&pool).unwrap();
            double(&doubler, &tensor);
            let copy = tensor.to_pool(&pool).unwrap();
            double(&doubler, &copy);
            double(&doubler, &tensor);
            double(&doubler, &tensor);
            let again = copy.to_pool(&pool).unwrap();
            drop(tensor); // its block is handed out again, behind the shader
            let empty = DynTensor::zeros_in(&pool, None, &[100_000], DType::F32).unwrap();
            double(&doubler, &empty);
            assert_eq!(back(&again), times(&plain, 4.0), "{round}");
            assert_eq!(back(&copy), times(&plain, 4.0), "{round}");
            assert!(back(&empty).iter().all(|&number| number == 0.0));
        }
    });
}

/// A tensor of the host that the device uses where it lies is one for shaders, too, where the device has the host's memory.
#[test]
fn a_shader_works_on_memory_of_the_host() {
    watched(|device| {
        let facts = device.facts();
        if !facts.shares_memory || facts.import_alignment.is_none() {
            return;
        }
        let pool = MemoryPool::new(16 << 20).with_gpu_support(true);
        let doubler = doubler(Device::Vulkan(0));
        let mut host = DynTensor::zeros_in(&pool, None, &[5000], DType::F32).unwrap();
        host.as_mut_slice::<f32>().unwrap().fill(1.5);
        let there = host.to_device(Device::Vulkan(0)).unwrap();
        let view = vulkan::buffer(&there).unwrap();
        assert!(
            view.offset.is_multiple_of(facts.bind_alignment) && view.bytes == 20_000,
            "{view:?}"
        );
        double(&doubler, &there);
        double(&doubler, &there);
        assert!(back(&there).iter().all(|&number| number == 6.0), "behind the shader");
        assert_eq!(host.to_vec::<f32>().unwrap()[4999], 6.0, "the same bytes");
    });
}

#[test]
fn threads_take_turns() {
    watched(|_| {
        let pool = MemoryPool::new_gpu(Device::Vulkan(0), 16 << 20).unwrap();
        let (host, plain) = numbers(5000, 1.0);
        let shared = host.to_pool(&pool).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let doubler = doubler(pool.device());
                    for round in 0..10 {
                        let own = host.to_pool(&pool).unwrap();
                        double(&doubler, &own);
                        twice(&doubler, &own, &shared);
                        if round % 5 == 0 {
                            double(&doubler, &shared);
                        }
                        assert_eq!(back(&own), times(&plain, 4.0));
                    }
                });
            }
        });
        assert_eq!(back(&shared), times(&plain, 256.0));
    });
}

/// A turn that comes to nothing takes no number and leaves no lock behind.
#[test]
fn a_refusal_and_a_panic_leave_nothing_behind() {
    watched(|_| {
        let pool = MemoryPool::new_gpu(Device::Vulkan(0), 1 << 20).unwrap();
        let doubler = doubler(pool.device());
        let (host, plain) = numbers(64, 3.0);
        let tensor = host.to_pool(&pool).unwrap();
        let (_, first) = next_turn(&tensor);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: it submits nothing.
            let _ = unsafe {
                vulkan::with_queue(&[(&tensor, Access::Write)], |_| -> Result<(), Error> {
                    panic!("of a test")
                })
            };
        }));
        assert!(panicked.is_err());
        // Other tests use the queue, too: its numbers only rise.
        let value = twice(&doubler, &tensor, &tensor);
        let (waits, next) = next_turn(&tensor);
        assert!(first.value <= value && value < next.value);
        assert_eq!(first.semaphore, next.semaphore);
        assert!(
            waits
                .iter()
                .any(|wait| wait.semaphore == next.semaphore && wait.value + 1 == next.value)
        );
        assert_eq!(back(&tensor), times(&plain, 2.0));
    });
}

#[test]
fn what_is_not_on_one_vulkan_device_is_refused() {
    watched(|_| {
        let pool = MemoryPool::new_gpu(Device::Vulkan(0), 1 << 20).unwrap();
        let (host, _) = numbers(64, 0.0);
        let text = vulkan::buffer(&host).unwrap_err().to_string();
        assert!(text.contains("lies on cpu") && text.contains("to_device"), "{text}");
        let there = host.to_pool(&pool).unwrap();
        let never = |_: &QueueTurn<'_>| -> Result<(), Error> { panic!("nothing is to be submitted") };
        for (tensors, part) in [
            (&[(&host, Access::Read)][..], "lies on cpu"),
            (&[(&there, Access::Read), (&host, Access::Read)], "lies on cpu"),
            (&[], "no tensor is named"),
        ] {
            // SAFETY: nothing is submitted.
            let text = unsafe { vulkan::with_queue(tensors, never) }.unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        }
        for device in [
            Device::Cpu,
            Device::Cuda(0),
            Device::Vulkan(999),
            Device::Vulkan(99_999),
        ] {
            let text = vulkan::handles(device).unwrap_err().to_string();
            assert!(text.contains(&device.to_string()), "{text}");
        }
        // A part of a tensor lies in the same buffer.
        let (whole, part) = (vulkan::buffer(&there).unwrap(), there.slice(0, 3, 60, 2).unwrap());
        let view = vulkan::buffer(&part).unwrap();
        assert_eq!((view.buffer, view.offset), (whole.buffer, whole.offset + 12));
        assert_eq!(view.bytes, 4 * 57, "from element 3 to element 59");
        let empty = vulkan::buffer(&there.slice(0, 5, 5, 1).unwrap()).unwrap();
        assert_eq!(empty.bytes, 0);
    });
}

/// Under the check that looks across submissions: fills and copies of this library wait for the shaders before them. It does not see
/// that semaphores that count order anything, so shaders begin with a barrier here.
#[test]
fn submissions_of_others_are_ordered_as_the_layer_sees_it() {
    watched(|_| {
        let tests = [
            "raw::a_shader_works_on_a_tensor_where_it_lies",
            "raw::work_of_others_is_ordered_with_copies",
            "raw::threads_take_turns",
        ];
        const CHECK: &str = "VALIDATION_CHECK_ENABLE_SYNCHRONIZATION_VALIDATION_QUEUE_SUBMIT";
        let (code, said) = alone(&tests, &[("VK_LAYER_ENABLES", CHECK), (BARRIER, "1")]);
        let passed = format!("{} passed", tests.len());
        assert!(code == Some(0) && said.contains(&passed), "{said}");
    });
}
