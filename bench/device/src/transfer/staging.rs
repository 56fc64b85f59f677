//! A staging loop, written by hand for one buffer on the device: what a program can do that knows all of this beforehand.
//!
//! Each way has a few chunks of memory that both sides reach, mapped for good. While the device copies one, the host fills or
//! empties another. The commands of each piece, in each chunk, are recorded once; a timeline says how far the device is.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use ash::vk;
use bench_worker::Result;

use crate::gpu::Gpu;

/// Bytes of a chunk, and chunks each way.
const CHUNK: usize = 1 << 20;
const CHUNKS: usize = 4;

pub struct Staging {
    up: Side,
    down: Side,
}

/// One way. Each has a timeline of its own: who waits for one is not woken by the other.
struct Side {
    gpu: &'static Gpu,
    timeline: vk::Semaphore,
    submitted: u64,
    /// How far the device is known to be.
    seen: u64,
    chunk: usize,
    host: NonNull<u8>,
    /// Of each chunk, the work that uses it.
    until: [u64; CHUNKS],
    /// The next chunk.
    next: usize,
    /// Of each piece, in each chunk.
    commands: Vec<[vk::CommandBuffer; CHUNKS]>,
}

const READS_AND_WRITES: vk::AccessFlags =
    vk::AccessFlags::from_raw(vk::AccessFlags::TRANSFER_READ.as_raw() | vk::AccessFlags::TRANSFER_WRITE.as_raw());

impl Staging {
    /// For copies of `bytes` bytes.
    ///
    /// # Errors
    /// What the driver said.
    pub fn new(gpu: &'static Gpu, bytes: usize) -> Result<Self> {
        let (own, host) = (
            vk::MemoryPropertyFlags::DEVICE_LOCAL,
            vk::MemoryPropertyFlags::HOST_VISIBLE | vk::MemoryPropertyFlags::HOST_COHERENT,
        );
        let none = vk::MemoryPropertyFlags::empty();
        let (there, _) = gpu.backed(bytes as u64, own, host)?;
        let cached = vk::MemoryPropertyFlags::HOST_CACHED;
        let readable = Side::new(gpu, bytes, there, false, host | cached, none);
        Ok(Self {
            up: Side::new(gpu, bytes, there, true, host, own)?,
            down: readable.or_else(|_| Side::new(gpu, bytes, there, false, host, none))?,
        })
    }

    /// Copies `source` to the device; it may be changed when this returns.
    ///
    /// # Errors
    /// What the driver said.
    pub fn up(&mut self, source: &[u8]) -> Result<()> {
        for (piece, bytes) in source.chunks(self.up.chunk).enumerate() {
            let chunk = self.up.turn();
            self.up.wait(self.up.until[chunk])?;
            let to = self.up.at(chunk);
            // SAFETY: the chunk is that long, and the device is done with it.
            unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
            self.up.until[chunk] = self.up.submit(self.up.commands[piece][chunk])?;
        }
        Ok(())
    }

    /// Copies to all of `target` what is on the device.
    ///
    /// # Errors
    /// What the driver said.
    pub fn down(&mut self, target: &mut [MaybeUninit<u8>]) -> Result<()> {
        let mut ahead = VecDeque::with_capacity(CHUNKS);
        let mut pieces = 0..target.len().div_ceil(self.down.chunk);
        for bytes in target.chunks_mut(self.down.chunk) {
            while ahead.len() < CHUNKS
                && let Some(piece) = pieces.next()
            {
                // Whoever used the chunk before has waited for it.
                let chunk = self.down.turn();
                ahead.push_back((chunk, self.down.submit(self.down.commands[piece][chunk])?));
            }
            let (chunk, until) = ahead.pop_front().ok_or("a piece is under way for each")?;
            self.down.wait(until)?;
            let from = self.down.at(chunk);
            // SAFETY: the chunk is that long, and the device has written it.
            unsafe { from.copy_to_nonoverlapping(NonNull::from(&mut *bytes).cast(), bytes.len()) };
        }
        Ok(())
    }

    /// Waits for all that was submitted.
    ///
    /// # Errors
    /// What the driver said.
    pub fn settle(&mut self) -> Result<()> {
        self.up.wait(self.up.submitted)?;
        self.down.wait(self.down.submitted)
    }
}

impl Side {
    fn new(
        gpu: &'static Gpu,
        bytes: usize,
        there: vk::Buffer,
        up: bool,
        flags: vk::MemoryPropertyFlags,
        not: vk::MemoryPropertyFlags,
    ) -> Result<Self> {
        let chunk = CHUNK.min(bytes);
        let (buffer, memory) = gpu.backed((chunk * CHUNKS) as u64, flags, not)?;
        // SAFETY: the memory can be mapped, and is not yet.
        let host = unsafe {
            gpu.device
                .map_memory(memory, 0, vk::WHOLE_SIZE, vk::MemoryMapFlags::empty())?
        };
        let mut kind = vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE);
        let info = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
        let mut side = Self {
            gpu,
            // SAFETY: the device has timelines.
            timeline: unsafe { gpu.device.create_semaphore(&info, None)? },
            submitted: 0,
            seen: 0,
            chunk,
            host: NonNull::new(host.cast()).ok_or("it is mapped to an address")?,
            until: [0; CHUNKS],
            next: 0,
            commands: Vec::new(),
        };
        for piece in 0..bytes.div_ceil(chunk) {
            let commands = gpu.commands(CHUNKS as u32)?;
            let offset = piece * chunk;
            for (at, &commands) in commands.iter().enumerate() {
                let (staged, whole) = ((at * chunk) as u64, offset as u64);
                let region = vk::BufferCopy::default().size(chunk.min(bytes - offset) as u64);
                let (from, to, region) = match up {
                    true => (buffer, there, region.src_offset(staged).dst_offset(whole)),
                    false => (there, buffer, region.src_offset(whole).dst_offset(staged)),
                };
                // SAFETY: the region lies in both buffers.
                unsafe { record(gpu, commands, (from, to, region), piece == 0, !up)? };
            }
            side.commands
                .push(commands.try_into().map_err(|_| "one for each chunk")?);
        }
        Ok(side)
    }

    fn submit(&mut self, commands: vk::CommandBuffer) -> Result<u64> {
        let (buffers, timelines, numbers) = ([commands], [self.timeline], [self.submitted + 1]);
        let mut values = vk::TimelineSemaphoreSubmitInfo::default().signal_semaphore_values(&numbers);
        let info = vk::SubmitInfo::default()
            .command_buffers(&buffers)
            .signal_semaphores(&timelines)
            .push_next(&mut values);
        // SAFETY: the queue is this thread's; the commands are recorded, and done if they were submitted before: that was with the
        // same chunk, which was waited for.
        unsafe {
            self.gpu
                .device
                .queue_submit(self.gpu.queue, &[info], vk::Fence::null())?
        };
        self.submitted += 1;
        Ok(self.submitted)
    }

    fn wait(&mut self, until: u64) -> Result<()> {
        if self.seen >= until {
            return Ok(());
        }
        let (timelines, numbers) = ([self.timeline], [until]);
        let info = vk::SemaphoreWaitInfo::default().semaphores(&timelines).values(&numbers);
        // SAFETY: the timeline is of this device.
        unsafe { self.gpu.device.wait_semaphores(&info, u64::MAX)? };
        self.seen = until;
        Ok(())
    }

    /// The chunk whose turn it is.
    fn turn(&mut self) -> usize {
        let chunk = self.next;
        self.next = (chunk + 1) % CHUNKS;
        chunk
    }

    fn at(&self, chunk: usize) -> NonNull<u8> {
        // SAFETY: the memory has so many chunks.
        unsafe { self.host.add(chunk * self.chunk) }
    }
}

/// Records one copy. The `first` of a transfer is behind all that came before; what the host reads is made visible to it.
///
/// # Safety
/// The region lies in both buffers, the first of which is read.
unsafe fn record(
    gpu: &Gpu,
    commands: vk::CommandBuffer,
    (from, to, region): (vk::Buffer, vk::Buffer, vk::BufferCopy),
    first: bool,
    host_reads: bool,
) -> Result<()> {
    let barrier = |then, access| {
        let written = vk::AccessFlags::TRANSFER_WRITE;
        let memory = [vk::MemoryBarrier::default()
            .src_access_mask(written)
            .dst_access_mask(access)];
        let (stage, none) = (vk::PipelineStageFlags::TRANSFER, vk::DependencyFlags::empty());
        // SAFETY: the commands are being recorded, for a queue of copies.
        unsafe {
            gpu.device
                .cmd_pipeline_barrier(commands, stage, then, none, &memory, &[], &[])
        };
    };
    // SAFETY: forwarded contract; the commands are nobody else's yet.
    unsafe {
        gpu.device
            .begin_command_buffer(commands, &vk::CommandBufferBeginInfo::default())?;
        if first {
            barrier(vk::PipelineStageFlags::TRANSFER, READS_AND_WRITES);
        }
        gpu.device.cmd_copy_buffer(commands, from, to, &[region]);
        if host_reads {
            barrier(vk::PipelineStageFlags::HOST, vk::AccessFlags::HOST_READ);
        }
        Ok(gpu.device.end_command_buffer(commands)?)
    }
}
