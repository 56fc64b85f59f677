//! Allocators with memory of their own, set as they come. Each is one to the process and serves every thread.

use std::ptr::NonNull;

use libmimalloc_sys::{mi_free, mi_malloc_aligned};
use snmalloc_sys::{sn_rust_alloc, sn_rust_dealloc};
use tikv_jemalloc_sys::{MALLOCX_ALIGN, mallocx, sdallocx};

use super::{ALIGN, Address, Peer};
use bench_worker::Result;

/// A peer called `$name` by its C functions: how to get `$bytes`, and how to free `$block`, which has `$size` bytes.
macro_rules! library {
    ($name:ident, $bytes:ident => $allocate:expr, ($block:ident, $size:ident) => $free:expr) => {
        pub struct $name;

        impl Peer for $name {
            type Handle = Address;

            fn new() -> Result<Self> {
                Ok(Self)
            }

            #[inline]
            fn allocate(&mut self, bytes: u32) -> Option<Address> {
                let $bytes = bytes as usize;
                // SAFETY: all of them take any size above 0 and any power of two as the alignment.
                NonNull::new(unsafe { $allocate }.cast()).map(Address)
            }

            #[inline]
            unsafe fn free(&mut self, block: Address, bytes: u32) {
                let ($block, $size) = (block.0.as_ptr().cast(), bytes as usize);
                let _ = $size;
                // SAFETY: the block is live and came from this library with this size and ALIGN; nobody uses it after this.
                unsafe { $free };
            }

            fn place(block: Address) -> usize {
                block.0.addr().get()
            }

            fn memory(block: Address) -> Option<NonNull<u8>> {
                Some(block.0)
            }

            fn twin(&self) -> Option<Self> {
                Some(Self)
            }
        }
    };
}

library!(Glibc, bytes => libc::aligned_alloc(ALIGN, bytes), (block, bytes) => libc::free(block));
library!(Jemalloc, bytes => mallocx(bytes, MALLOCX_ALIGN(ALIGN)), (block, bytes) => sdallocx(block, bytes, MALLOCX_ALIGN(ALIGN)));
library!(Mimalloc, bytes => mi_malloc_aligned(bytes, ALIGN), (block, bytes) => mi_free(block));
library!(Snmalloc, bytes => sn_rust_alloc(ALIGN, bytes), (block, bytes) => sn_rust_dealloc(block, ALIGN, bytes));
