//! Allocators that manage memory they are given: one mapping each, reserved at once and backed as it is touched, in huge
//! pages where the system has them. They keep their records in it. For one thread; neither has a lock here.

use std::alloc::Layout;
use std::ptr::NonNull;

use rlsf::Tlsf;
use talc::DefaultBinning;
use talc::source::Manual;

use super::{ALIGN, Address, Peer};
use bench_worker::Result;

/// Length of an arena: far more than any work here needs, so that no peer searches in a crowded one.
const ARENA: usize = 64 << 30;

/// A mapping of `bytes`, for the rest of the process.
fn map(bytes: usize) -> Result<NonNull<[u8]>> {
    // Twice as much address space as a huge page needs to be aligned in it.
    const HUGE: usize = 2 << 20;
    let (read_write, private) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping, at an address of the system's choice.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes + HUGE,
            read_write,
            private | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(format!("no {bytes} bytes of address space: {}", std::io::Error::last_os_error()).into());
    }
    let head = start.align_offset(HUGE);
    // SAFETY: `head` is less than HUGE, so the address is in the mapping, as are the `bytes` after it.
    let start = unsafe { start.add(head) };
    // SAFETY: memory of the mapping. Advice; a system without huge pages refuses it, and nothing else changes.
    unsafe { libc::madvise(start, bytes, libc::MADV_HUGEPAGE) };
    let start = NonNull::new(start.cast()).ok_or("mapped at 0")?;
    Ok(NonNull::slice_from_raw_parts(start, bytes))
}

/// What a peer needs to hear about a block.
fn layout(bytes: u32) -> Layout {
    // SAFETY: ALIGN is a power of two, and a u32 rounded up to it is no overflow.
    unsafe { Layout::from_size_align_unchecked(bytes as usize, ALIGN) }
}

/// 32 × 32 lists: blocks up to 128 GiB.
pub struct Rlsf(Tlsf<'static, u32, u32, 32, 32>);

impl Peer for Rlsf {
    type Handle = Address;

    fn new() -> Result<Self> {
        let mut tlsf = Tlsf::new();
        // SAFETY: the arena is nobody else's, and stays for the rest of the process.
        unsafe { tlsf.insert_free_block_ptr(map(ARENA)?) }.ok_or("rlsf refuses the arena")?;
        Ok(Self(tlsf))
    }

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<Address> {
        self.0.allocate(layout(bytes)).map(Address)
    }

    #[inline]
    unsafe fn free(&mut self, block: Address, _bytes: u32) {
        // SAFETY: the block is live and was made with ALIGN; nobody uses it after this.
        unsafe { self.0.deallocate(block.0, ALIGN) }
    }

    fn place(block: Address) -> usize {
        block.0.addr().get()
    }

    fn memory(block: Address) -> Option<NonNull<u8>> {
        Some(block.0)
    }
}

pub struct Talc(talc::base::Talc<Manual, DefaultBinning>);

impl Peer for Talc {
    type Handle = Address;

    fn new() -> Result<Self> {
        let mut talc = talc::base::Talc::new(Manual);
        let arena = map(ARENA)?;
        // SAFETY: the arena is nobody else's, and stays for the rest of the process.
        unsafe { talc.claim(arena.as_ptr().cast(), arena.len()) }.ok_or("talc refuses the arena")?;
        Ok(Self(talc))
    }

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<Address> {
        // SAFETY: no size here is 0.
        unsafe { self.0.allocate(layout(bytes)) }.map(Address)
    }

    #[inline]
    unsafe fn free(&mut self, block: Address, bytes: u32) {
        // SAFETY: the block is live and was made with this layout; nobody uses it after this.
        unsafe { self.0.deallocate(block.0.as_ptr(), layout(bytes)) }
    }

    fn place(block: Address) -> usize {
        block.0.addr().get()
    }

    fn memory(block: Address) -> Option<NonNull<u8>> {
        Some(block.0)
    }
}

/// One buffer, kept by hand: what a program does that avoids allocators. Holds one block at a time.
pub struct Reuse(Address);

/// Bytes of the buffer.
const KEPT: usize = 64 << 20;

impl Peer for Reuse {
    type Handle = Address;

    fn new() -> Result<Self> {
        Ok(Self(Address(map(KEPT)?.cast())))
    }

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<Address> {
        (bytes as usize <= KEPT).then_some(self.0)
    }

    #[inline]
    unsafe fn free(&mut self, _block: Address, _bytes: u32) {}

    fn place(block: Address) -> usize {
        block.0.addr().get()
    }

    fn memory(block: Address) -> Option<NonNull<u8>> {
        Some(block.0)
    }
}
