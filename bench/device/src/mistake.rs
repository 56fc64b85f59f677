//! Two copies to the same bytes with nothing that orders them: the validation layer has to report it, or its silence elsewhere
//! would say nothing.

use ash::vk;
use bench_worker::Result;
use serde_json::Value;

use crate::gpu::Gpu;

/// # Errors
/// What the driver said.
pub fn make(device: neuro_core::Device) -> Result<Value> {
    let gpu = Gpu::open(device)?;
    let none = vk::MemoryPropertyFlags::empty();
    let (from, _) = gpu.backed(512, none, none)?;
    let (to, _) = gpu.backed(512, none, none)?;
    let commands = gpu.commands(1)?[0];
    let region = |from| [vk::BufferCopy::default().src_offset(from).size(256)];
    let buffers = [commands];
    let work = [vk::SubmitInfo::default().command_buffers(&buffers)];
    // SAFETY: the copies lie in the buffers, which are never destroyed. That they race is what this is for: nobody looks at what
    // they write.
    unsafe {
        let device = &gpu.device;
        device.begin_command_buffer(commands, &vk::CommandBufferBeginInfo::default())?;
        device.cmd_copy_buffer(commands, from, to, &region(0));
        device.cmd_copy_buffer(commands, from, to, &region(256));
        device.end_command_buffer(commands)?;
        device.queue_submit(gpu.queue, &work, vk::Fence::null())?;
        device.device_wait_idle()?;
    }
    Ok(Value::Null)
}
