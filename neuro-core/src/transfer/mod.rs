//! Copies between the host and a device, and within a device.
//!
//! - Where the host reaches a block, it copies itself, once nothing under way uses the block.
//! - Else through the staging ring: up, the caller's bytes are in the ring when the call returns, and the device fetches them in
//!   order with everything else; down, the call returns when they are all there.
//!
//! Absent on purpose: shapes (`tensor/`), and which device is meant.

#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::VecDeque;

use crate::backend::{Op, Queue, Span, Ticket};
use crate::error::Result;
use crate::pool::device::{Access, CHUNK, Chunk, DeviceBlock, Omission, omitted, submit};

/// Pieces that a copy to the host has under way at once.
const AHEAD: usize = 2;

/// Copies `bytes` to the start of `block`. The bytes may be changed when it returns; the copy may still be under way.
///
/// # Errors
/// [`Error::DeviceLost`](crate::Error::DeviceLost), [`Error::Driver`](crate::Error::Driver); the block then holds anything.
pub(crate) fn upload(bytes: &[u8], block: &DeviceBlock) -> Result<()> {
    debug_assert!(bytes.len() <= block.bytes());
    let _inside = block.engine().enter()?;
    if let Some(host) = block.host()
        && (block.is_idle() || omitted(Omission::WaitBeforeHostWrites))
    {
        block.engine().backend().host_uses(block.part(0, bytes.len()), true);
        // SAFETY: `host` is where the block is for the host, as long as that; nothing else uses it: this is the only handle that
        // has it, and no work is under way.
        unsafe { host.copy_from_nonoverlapping(std::ptr::NonNull::from(bytes).cast(), bytes.len()) };
        return Ok(());
    }
    let ring = block.engine().upload_ring();
    for (piece, bytes) in bytes.chunks(CHUNK).enumerate() {
        let chunk = ring.take(block.engine())?;
        let from = part(&chunk, bytes.len());
        block.engine().backend().host_uses(from, true);
        // SAFETY: the chunk is ours, idle (G1), and at least that long.
        unsafe {
            chunk
                .host
                .copy_from_nonoverlapping(std::ptr::NonNull::from(bytes).cast(), bytes.len())
        };
        let to = block.part(piece * CHUNK, bytes.len());
        // SAFETY: the spans are the block's and the chunk's, which goes back behind this work.
        let ticket = unsafe { submit(Queue::UPLOAD, &[(block, Access::Write)], &[], &[Op::Copy { from, to }]) };
        ring.give(chunk, ticket.as_ref().ok().copied());
        ticket?;
    }
    Ok(())
}

/// Copies bytes of `block` from `offset` on to `bytes`.
///
/// # Errors
/// As [`upload`]; `bytes` then hold anything.
pub(crate) fn download(block: &DeviceBlock, offset: usize, bytes: &mut [u8]) -> Result<()> {
    debug_assert!(offset + bytes.len() <= block.bytes());
    let engine = block.engine();
    let _inside = engine.enter()?;
    if let Some(host) = block.host() {
        if !omitted(Omission::WaitBeforeHostReads) {
            engine.wait(&block.waits_of_host(Access::Read)?)?;
        }
        let len = bytes.len();
        engine.backend().host_uses(block.part(offset, len), false);
        let to = std::ptr::NonNull::from(bytes).cast::<u8>();
        // SAFETY: the block is there for the host, and all that wrote it is done. What writes it later needs a handle, and the
        // caller's borrow keeps those away who would do so meanwhile.
        unsafe { to.copy_from_nonoverlapping(host.add(offset), len) };
        return Ok(());
    }
    let ring = engine.download_ring();
    let mut under_way: VecDeque<(Chunk, Ticket, &mut [u8])> = VecDeque::new();
    let mut rest = bytes.chunks_mut(CHUNK).enumerate().peekable();
    let mut result = Ok(());
    loop {
        while result.is_ok() && under_way.len() < AHEAD && rest.peek().is_some() {
            // Only who has none waits for a chunk.
            let chunk = if under_way.is_empty() {
                ring.take(engine).map(Some)
            } else {
                ring.try_take(engine)
            };
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            let Some((piece, bytes)) = rest.next() else {
                ring.give(chunk, None);
                break;
            };
            let (from, to) = (
                block.part(offset + piece * CHUNK, bytes.len()),
                part(&chunk, bytes.len()),
            );
            // SAFETY: the spans are the block's and the chunk's, which is ours until the work is done.
            match unsafe { submit(Queue::DOWNLOAD, &[(block, Access::Read)], &[], &[Op::Copy { from, to }]) } {
                Ok(ticket) => under_way.push_back((chunk, ticket, bytes)),
                Err(error) => {
                    ring.give(chunk, None);
                    result = Err(error);
                }
            }
        }
        let Some((chunk, ticket, bytes)) = under_way.pop_front() else {
            return result;
        };
        let waited = if omitted(Omission::WaitBeforeHostReads) {
            Ok(())
        } else {
            engine.wait(&[ticket])
        };
        if waited.is_ok() {
            engine.backend().host_uses(part(&chunk, bytes.len()), false);
            // SAFETY: the chunk is ours, and the work that wrote it is done.
            unsafe {
                std::ptr::NonNull::from(&mut *bytes)
                    .cast::<u8>()
                    .copy_from_nonoverlapping(chunk.host, bytes.len())
            };
        }
        ring.give(chunk, Some(ticket));
        result = result.and(waited);
    }
}

/// Whether [`upload`] copies by the processor, and is done with it when it returns.
pub(crate) fn is_at_once(block: &DeviceBlock) -> bool {
    block.host().is_some() && block.is_idle()
}

/// Has `queue` copy `bytes` bytes from one block to the start of another of the same device, and says what work that is.
///
/// # Errors
/// As [`upload`].
pub(crate) fn copy(
    queue: Queue,
    from: &DeviceBlock,
    from_offset: usize,
    to: &DeviceBlock,
    bytes: usize,
) -> Result<Option<Ticket>> {
    if bytes == 0 {
        return Ok(None);
    }
    let op = Op::Copy {
        from: from.part(from_offset, bytes),
        to: to.part(0, bytes),
    };
    // SAFETY: the spans are the blocks'.
    unsafe { submit(queue, &[(from, Access::Read), (to, Access::Write)], &[], &[op]) }.map(Some)
}

/// The first `bytes` bytes of a chunk.
fn part(chunk: &Chunk, bytes: usize) -> Span {
    Span {
        bytes: bytes as u64,
        ..chunk.span
    }
}
