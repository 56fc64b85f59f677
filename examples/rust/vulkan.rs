//! A shader of one's own on a tensor of a pool, where it lies: nothing is copied, and nobody waits before the result is read.
//!
//! `cargo run -p neuro-core --example vulkan`. Without a Vulkan device it says SKIPPED, or fails where `NEURO_REQUIRE_VULKAN` is set.

use ash::vk::Handle;
use ash::{Instance, StaticFn, vk};
use neuro_core::vulkan::{self, Access, GetInstanceProcAddr, Handles, SemaphoreValue};
use neuro_core::{DType, Device, DynTensor, Error, MemoryPool, Scalar};

#[path = "shader/double.rs"]
mod double;
use double::{Doubler, Point};

/// The device that this library opened, for the crate `ash`.
fn device(handles: &Handles) -> ash::Device {
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

fn point(of: &SemaphoreValue) -> Point {
    (vk::Semaphore::from_raw(of.semaphore), of.value)
}

/// Doubles the numbers of a tensor on the device. It may still be at it when this returns: what is done with the tensor is ordered behind.
fn double_on_device(doubler: &Doubler, tensor: &DynTensor) -> Result<(), Box<dyn std::error::Error>> {
    let view = vulkan::buffer(tensor)?;
    assert!(view.bytes <= view.max_range, "bind longer tensors range by range");
    // SAFETY: the tensor lies there, and is whole, so that its offset can be bound.
    let commands = unsafe { doubler.record(vk::Buffer::from_raw(view.buffer), view.offset, view.bytes) }?;
    // SAFETY: what is submitted waits for all it is told to, signals what it is told to, writes this tensor only, and ends with a
    // barrier to the host; an error means that nothing was submitted.
    unsafe {
        vulkan::with_queue(&[(tensor, Access::Write)], |turn| {
            let waits: Vec<Point> = turn.waits.iter().map(point).collect();
            let queue = vk::Queue::from_raw(turn.queue);
            doubler.submit(queue, &waits, point(&turn.signal), &[commands])?;
            Ok(())
        })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = match MemoryPool::new_gpu(Device::Vulkan(0), 64 << 20) {
        Ok(pool) => pool,
        Err(Error::Unavailable { what, reason }) if std::env::var_os("NEURO_REQUIRE_VULKAN").is_none() => {
            println!("SKIPPED: examples/rust/vulkan.rs: {what}: {reason}");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let handles = vulkan::handles(pool.device())?;
    // SAFETY: the device stays until the process ends, and the family is that of its queue.
    let doubler = unsafe { Doubler::new(device(&handles), handles.queue_family) }?;

    let mut numbers = DynTensor::zeros(&[1000, 1000], DType::F32)?;
    numbers.fill(Scalar::Float(1.5))?;
    let there = numbers.to_pool(&pool)?;
    for _ in 0..3 {
        double_on_device(&doubler, &there)?;
    }
    let back = there.to_device(Device::Cpu)?; // behind the shader
    assert!(back.to_vec::<f32>()?.iter().all(|&number| number == 12.0));
    println!(
        "1.5, doubled three times on {}: {}",
        pool.device(),
        back.item::<f32>(&[0, 0])?
    );
    Ok(())
}
