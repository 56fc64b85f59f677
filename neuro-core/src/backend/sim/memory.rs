//! The simulated device's memory: words of the host, full of a mark at first.

use std::ptr::NonNull;

use crate::backend::Span;

/// What fresh memory holds, and what is left of memory that was given back.
const FRESH: u8 = 0xcd;
const GONE: u8 = 0xdd;

#[derive(Debug)]
pub(super) enum Memory {
    /// Words, so that it is aligned; used by bytes.
    Own(Box<[u64]>),
    /// The words that are mapped of so many bytes of addresses. Only the device reaches them, so they may move.
    Range(Vec<u64>, u64),
    /// Memory of the host that was imported.
    Host(NonNull<u8>, u64),
}

// SAFETY: imported memory stays until the slab is freed, says the contract of `import_host`, and is used under the device's lock.
unsafe impl Send for Memory {}

impl Memory {
    pub(super) fn new(bytes: u64) -> Self {
        Self::Own(vec![u64::from_ne_bytes([FRESH; 8]); bytes.div_ceil(8) as usize].into_boxed_slice())
    }

    pub(super) fn start(&mut self) -> NonNull<u8> {
        match self {
            Memory::Own(words) => NonNull::from(&mut **words).cast(),
            Memory::Range(words, _) => NonNull::from(&mut **words).cast(),
            Memory::Host(start, _) => *start,
        }
    }

    pub(super) fn bytes(&mut self, span: &Span) -> &mut [u8] {
        debug_assert!(span.offset + span.bytes <= self.len());
        // SAFETY: within the words, or within the imported bytes. The host writes them only while tests have no work under way
        // there.
        unsafe { std::slice::from_raw_parts_mut(self.start().add(span.offset as usize).as_ptr(), span.bytes as usize) }
    }

    /// Leaves a mark on memory that goes away; the host's stays as it is.
    pub(super) fn mark_gone(&mut self) {
        match self {
            Memory::Own(words) => words.fill(u64::from_ne_bytes([GONE; 8])),
            Memory::Range(words, _) => words.clear(),
            Memory::Host(..) => {}
        }
    }

    /// Maps or unmaps words of a range until `bytes` bytes are mapped.
    pub(super) fn map(&mut self, bytes: u64) {
        if let Memory::Range(words, _) = self {
            words.resize(bytes as usize / 8, u64::from_ne_bytes([FRESH; 8]));
        }
    }

    /// Bytes of addresses, mapped or not.
    pub(super) fn addresses(&self) -> u64 {
        match self {
            Memory::Range(_, bytes) => *bytes,
            _ => self.len(),
        }
    }

    /// Bytes that work can use.
    pub(super) fn len(&self) -> u64 {
        match self {
            Memory::Own(words) => size_of_val(&**words) as u64,
            Memory::Range(words, _) => size_of_val(&**words) as u64,
            Memory::Host(_, bytes) => *bytes,
        }
    }
}
