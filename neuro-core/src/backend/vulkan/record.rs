//! The pieces of one submission, as commands.
//!
//! Commands of a queue begin in order, and what they do to memory is ordered by barriers only. So there is one
//!
//! - before the first piece: behind all transfers that were submitted to this queue before, and on the queue of kernels behind all
//!   that was (what other queues did is ordered by the semaphores that the submission waits for);
//! - before each piece that touches what a piece since the last barrier wrote, or writes what one read;
//! - behind the last piece: for the host, which sees what was written once it has seen the semaphore; if it can see any of it.

use ash::{Device, vk};
use smallvec::SmallVec;

use crate::backend::{Op, Queue, Span};

/// How many uses are remembered between barriers. One more barrier costs less than a long search.
const REMEMBERED: usize = 32;

/// What a piece does with bytes.
#[derive(Clone, Copy)]
struct Touch {
    span: Span,
    writes: bool,
}

impl Touch {
    fn conflicts(&self, other: &Touch) -> bool {
        (self.writes || other.writes)
            && self.span.slab == other.span.slab
            && self.span.offset < other.span.offset + other.span.bytes
            && other.span.offset < self.span.offset + self.span.bytes
    }
}

/// What was touched since the last barrier.
#[derive(Default)]
struct Since(SmallVec<[Touch; 8]>);

impl Since {
    /// Whether a barrier has to stand before `op`, which is remembered.
    fn needs_barrier(&mut self, op: &Op) -> bool {
        let of = |span, writes| Touch { span, writes };
        let touches: SmallVec<[Touch; 2]> = match *op {
            Op::Copy { from, to } => [of(from, false), of(to, true)].into_iter().collect(),
            Op::Fill { to, .. } => [of(to, true)].into_iter().collect(),
        };
        let conflict = |touch: &Touch| self.0.iter().any(|earlier| earlier.conflicts(touch));
        let needed = self.0.len() >= REMEMBERED || touches.iter().any(conflict);
        if needed {
            self.0.clear();
        }
        self.0.extend(touches);
        needed
    }
}

/// Buffers of a piece: where it reads, if it does, and where it writes; and whether the host sees what it writes.
#[derive(Clone, Copy)]
pub(super) struct Buffers {
    pub(super) source: Option<vk::Buffer>,
    pub(super) target: vk::Buffer,
    pub(super) seen: bool,
}

const TRANSFERS: vk::AccessFlags =
    vk::AccessFlags::from_raw(vk::AccessFlags::TRANSFER_READ.as_raw() | vk::AccessFlags::TRANSFER_WRITE.as_raw());
const HOST: vk::AccessFlags =
    vk::AccessFlags::from_raw(vk::AccessFlags::HOST_READ.as_raw() | vk::AccessFlags::HOST_WRITE.as_raw());

/// What a barrier stands behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Behind {
    Transfers,
    /// Kernels of others, too.
    Everything,
}

impl Behind {
    /// What is submitted to a queue before this: only the one for kernels is lent to others. Copies of other queues do not wait for
    /// kernels, even where both share a real queue.
    pub(super) fn of(queue: Queue) -> Self {
        if queue == Queue::COMPUTE {
            Behind::Everything
        } else {
            Behind::Transfers
        }
    }

    fn stages(self) -> (vk::PipelineStageFlags, vk::AccessFlags) {
        match self {
            Behind::Transfers => (vk::PipelineStageFlags::TRANSFER, vk::AccessFlags::TRANSFER_WRITE),
            Behind::Everything => (vk::PipelineStageFlags::ALL_COMMANDS, vk::AccessFlags::MEMORY_WRITE),
        }
    }
}

/// # Safety
/// `commands` is being recorded, for a queue that can do transfers.
unsafe fn barrier(
    device: &Device,
    commands: vk::CommandBuffer,
    behind: Behind,
    then: vk::PipelineStageFlags,
    access: vk::AccessFlags,
) {
    let (stages, writes) = behind.stages();
    let memory = vk::MemoryBarrier::default()
        .src_access_mask(writes)
        .dst_access_mask(access);
    let none = vk::DependencyFlags::empty();
    // SAFETY: forwarded contract; every queue has the stages ALL_COMMANDS, TRANSFER and HOST.
    unsafe { device.cmd_pipeline_barrier(commands, stages, then, none, &[memory], &[], &[]) };
}

/// Records `ops`, whose buffers are `buffers`, behind what was submitted to the queue before.
///
/// # Errors
/// What the driver said; `commands` may then be recorded again.
///
/// # Safety
/// `commands` is of `device`, of a queue that can do transfers, from a pool that lets single buffers be reset; nobody else uses it or
/// its pool, and it is not in flight. The spans lie in the buffers, as [`Op`] says, which live until the work is done.
pub(super) unsafe fn record(
    device: &Device,
    commands: vk::CommandBuffer,
    behind: Behind,
    ops: &[Op],
    buffers: &[Buffers],
) -> Result<(), vk::Result> {
    let info = vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
    let mut since = Since::default();
    // SAFETY: forwarded contract. Spans lie in the buffers, those of fills by words; what a copy reads and writes does not
    // overlap; both are contracts of `Backend`. Pieces of no bytes, which Vulkan does not allow, are left out.
    unsafe {
        device.begin_command_buffer(commands, &info)?;
        barrier(device, commands, behind, vk::PipelineStageFlags::TRANSFER, TRANSFERS);
        for (op, &Buffers { source, target, .. }) in ops.iter().zip(buffers) {
            let (Op::Copy { to, .. } | Op::Fill { to, .. }) = op;
            if to.bytes == 0 {
                continue;
            }
            if since.needs_barrier(op) {
                barrier(
                    device,
                    commands,
                    Behind::Transfers,
                    vk::PipelineStageFlags::TRANSFER,
                    TRANSFERS,
                );
            }
            match (*op, source) {
                (Op::Copy { from, to }, Some(source)) => {
                    let region = vk::BufferCopy::default()
                        .src_offset(from.offset)
                        .dst_offset(to.offset)
                        .size(to.bytes);
                    device.cmd_copy_buffer(commands, source, target, &[region]);
                }
                (Op::Fill { to, value }, _) => device.cmd_fill_buffer(commands, target, to.offset, to.bytes, value),
                (Op::Copy { .. }, None) => debug_assert!(false, "a copy has a source"),
            }
        }
        if buffers.iter().any(|buffers| buffers.seen) {
            barrier(device, commands, Behind::Transfers, vk::PipelineStageFlags::HOST, HOST);
        }
        device.end_command_buffer(commands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::SlabId;

    fn span(slab: u64, offset: u64, bytes: u64) -> Span {
        let slab = SlabId(slab);
        Span { slab, offset, bytes }
    }

    #[test]
    fn barriers_stand_between_uses_that_conflict() {
        let fill = |to| Op::Fill { to, value: 0 };
        let copy = |from, to| Op::Copy { from, to };
        let mut since = Since::default();
        let mut needs = |op| since.needs_barrier(&op);
        assert!(!needs(fill(span(1, 0, 8))));
        assert!(!needs(fill(span(1, 8, 8))), "neighbours");
        assert!(!needs(fill(span(2, 0, 8))), "another slab");
        assert!(needs(copy(span(1, 4, 8), span(3, 0, 8))), "reads what was written");
        assert!(!needs(copy(span(1, 0, 8), span(3, 8, 8))), "two reads");
        assert!(needs(fill(span(1, 8, 4))), "writes what was read");
        assert!(needs(fill(span(1, 0, 12))), "writes what was written");
        assert!(!needs(fill(span(3, 0, 8))), "the barrier before was behind the copy");
        // A long list ends in a barrier rather than in a long search.
        let barriers = (0..200).filter(|&at| needs(fill(span(9, at * 8, 8)))).count();
        assert_eq!(barriers, 200 / REMEMBERED);
    }
}
