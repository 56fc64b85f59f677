//! Interim pool over the system allocator, so that the floors above can be built at the same time.
#![allow(missing_docs, clippy::undocumented_unsafe_blocks, clippy::missing_errors_doc)]

use std::alloc::Layout;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, OnceLock};

use crate::{Device, Error, Result};

/// What a new block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Init {
    Uninit,
    Zeroed,
}

static BLOCKS: Mutex<Option<HashMap<usize, (Layout, Arc<Inner>)>>> = Mutex::new(None);

#[derive(Default, Debug)]
struct Inner {
    state: Mutex<PoolStats>,
}

#[derive(Clone, Debug)]
pub struct MemoryPool(Arc<Inner>);

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct PoolStats {
    pub limit_bytes: Option<usize>,
    pub alignment: usize,
    pub live_bytes: usize,
    pub peak_bytes: usize,
    pub reserved_bytes: usize,
    pub committed_bytes: usize,
    pub side_bytes: usize,
    pub live_blocks: usize,
    pub peak_blocks: usize,
    pub total_allocations: u64,
    pub regions: usize,
    pub free_runs: usize,
    pub largest_free_bytes: usize,
}

impl MemoryPool {
    fn make(limit: Option<usize>) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(PoolStats {
                limit_bytes: limit,
                alignment: 64,
                ..Default::default()
            }),
        }))
    }
    pub fn new(limit_bytes: usize) -> Self {
        Self::make(Some(limit_bytes))
    }
    pub fn unlimited() -> Self {
        Self::make(None)
    }
    pub fn global() -> &'static MemoryPool {
        static G: OnceLock<MemoryPool> = OnceLock::new();
        G.get_or_init(MemoryPool::unlimited)
    }
    pub fn with_alignment(self, bytes: usize) -> Self {
        self.0.state.lock().unwrap().alignment = bytes;
        self
    }
    pub fn allocate<T>(&self, count: usize) -> Result<PoolPtr<T>> {
        let ptr = self.allocate_bytes(count * size_of::<T>(), None, Init::Uninit)?.cast();
        Ok(PoolPtr { ptr, len: count })
    }
    pub fn allocate_bytes(&self, bytes: usize, alignment: Option<usize>, init: Init) -> Result<NonNull<u8>> {
        let mut s = self.0.state.lock().unwrap();
        let align = alignment.unwrap_or(s.alignment).max(64);
        if !align.is_power_of_two() || align > 2 << 20 {
            return Err(Error::InvalidArgument {
                op: "allocate",
                what: format!("alignment {align}"),
            });
        }
        let size = bytes.max(1).next_multiple_of(64);
        if s.live_bytes.saturating_add(size) > s.limit_bytes.unwrap_or(1 << 40) {
            return Err(Error::OutOfMemory {
                device: Device::Cpu,
                asked: bytes,
                alignment: align,
                live: s.live_bytes,
                live_blocks: s.live_blocks,
                reserved: s.live_bytes,
                largest: 0,
                limit: s.limit_bytes,
                cause: None,
            });
        }
        let layout = Layout::from_size_align(size, align).unwrap();
        let ptr = NonNull::new(unsafe {
            if init == Init::Zeroed {
                std::alloc::alloc_zeroed(layout)
            } else {
                std::alloc::alloc(layout)
            }
        })
        .unwrap();
        s.live_bytes += size;
        s.live_blocks += 1;
        s.total_allocations += 1;
        s.peak_bytes = s.peak_bytes.max(s.live_bytes);
        BLOCKS
            .lock()
            .unwrap()
            .get_or_insert_default()
            .insert(ptr.as_ptr() as usize, (layout, self.0.clone()));
        Ok(ptr)
    }
    pub unsafe fn free(address: NonNull<u8>) -> Result<()> {
        let Some((layout, pool)) = BLOCKS
            .lock()
            .unwrap()
            .get_or_insert_default()
            .remove(&(address.as_ptr() as usize))
        else {
            return Err(Error::InvalidFree {
                address: address.as_ptr() as usize,
                reason: "not a block",
            });
        };
        let mut s = pool.state.lock().unwrap();
        s.live_bytes -= layout.size();
        s.live_blocks -= 1;
        unsafe { std::alloc::dealloc(address.as_ptr(), layout) };
        Ok(())
    }
    pub unsafe fn reallocate(address: NonNull<u8>, new_bytes: usize, alignment: Option<usize>) -> Result<NonNull<u8>> {
        let (layout, pool) = BLOCKS
            .lock()
            .unwrap()
            .get_or_insert_default()
            .get(&(address.as_ptr() as usize))
            .cloned()
            .ok_or(Error::InvalidFree {
                address: address.as_ptr() as usize,
                reason: "not a block",
            })?;
        let new = MemoryPool(pool).allocate_bytes(new_bytes, alignment, Init::Uninit)?;
        unsafe {
            new.copy_from_nonoverlapping(address, layout.size().min(new_bytes));
            Self::free(address)?;
        }
        Ok(new)
    }
    pub fn owns(address: *const u8) -> bool {
        Self::block_of(address).is_some()
    }
    pub fn block_of(address: *const u8) -> Option<usize> {
        BLOCKS
            .lock()
            .unwrap()
            .get_or_insert_default()
            .get(&(address as usize))
            .map(|b| b.0.size())
    }
    pub fn stats(&self) -> PoolStats {
        *self.0.state.lock().unwrap()
    }
    pub fn trim(&self, _keep_bytes: usize) -> usize {
        0
    }
    pub fn trim_all(_keep_bytes: usize) -> usize {
        0
    }
    pub fn reset_peak(&self) {
        let mut s = self.0.state.lock().unwrap();
        s.peak_bytes = s.live_bytes;
    }
    pub fn limit(&self) -> Option<usize> {
        self.stats().limit_bytes
    }
    pub fn alignment(&self) -> usize {
        self.stats().alignment
    }
    pub fn global_stats() -> PoolStats {
        Self::global().stats()
    }
}

#[derive(Debug)]
pub struct PoolPtr<T> {
    ptr: NonNull<T>,
    len: usize,
}
impl PoolPtr<u8> {
    pub(crate) fn from_bytes(ptr: NonNull<u8>, len: usize) -> Self {
        Self { ptr, len }
    }
    pub(crate) fn ptr(&self) -> NonNull<u8> {
        self.ptr
    }
}
impl<T> PoolPtr<T> {
    pub fn as_ptr(&self) -> *const T {
        self.ptr.as_ptr()
    }
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr.as_ptr()
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub fn as_uninit(&self) -> &[MaybeUninit<T>] {
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().cast(), self.len) }
    }
    pub fn as_uninit_mut(&mut self) -> &mut [MaybeUninit<T>] {
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr().cast(), self.len) }
    }
}
impl<T> Drop for PoolPtr<T> {
    fn drop(&mut self) {
        let _ = unsafe { MemoryPool::free(self.ptr.cast()) };
    }
}
unsafe impl<T: Send> Send for PoolPtr<T> {}
unsafe impl<T: Sync> Sync for PoolPtr<T> {}
