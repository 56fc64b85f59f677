//! One large block, taken, written to, and freed, over and over.

use bench_worker::{Part, Result};

use crate::peers::Peer;

/// Bytes from one write to the next: the smallest page.
pub const PAGE: usize = 4096;

pub struct TouchLoop<P> {
    peer: P,
    bytes: u32,
    steps: usize,
}

impl<P: Peer> TouchLoop<P> {
    pub fn boxed(mut peer: P, bytes: u32) -> Result<Box<dyn Part>> {
        let block = peer.allocate(bytes).ok_or("there is no room")?;
        P::memory(block).ok_or("there is no memory to touch")?;
        // SAFETY: the block is ours, of this length, and not used after this.
        unsafe { peer.free(block, bytes) };
        Ok(Box::new(Self { peer, bytes, steps: 0 }))
    }
}

impl<P: Peer> Part for TouchLoop<P> {
    fn draw(&mut self, steps: usize) {
        self.steps = steps;
    }

    fn run(&mut self) {
        for _ in 0..self.steps {
            let block = self.peer.allocate(self.bytes).expect("there is room");
            // SAFETY: the block is ours, of this length, and not used after the free.
            unsafe {
                touch::<P>(block, self.bytes);
                self.peer.free(block, self.bytes);
            }
        }
    }
}

/// Writes a byte to each page of the block. Volatile: nobody reads it.
///
/// # Safety
/// The block is the caller's, and has `bytes` bytes.
pub unsafe fn touch<P: Peer>(block: P::Handle, bytes: u32) {
    if let Some(memory) = P::memory(block) {
        for at in (0..bytes as usize).step_by(PAGE) {
            // SAFETY: `at` is inside the block.
            unsafe { memory.add(at).write_volatile(1) };
        }
    }
}
