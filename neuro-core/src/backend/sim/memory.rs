//! The simulated device's memory: words of the host, full of a mark at first.

use crate::backend::Span;

/// What fresh memory holds, and what is left of memory that was given back.
const FRESH: u8 = 0xcd;
pub(super) const GONE: u8 = 0xdd;

/// Words, so that it is aligned; used by bytes.
#[derive(Debug)]
pub(super) struct Memory(pub(super) Box<[u64]>);

impl Memory {
    pub(super) fn new(bytes: u64) -> Self {
        Self(vec![u64::from_ne_bytes([FRESH; 8]); bytes.div_ceil(8) as usize].into_boxed_slice())
    }

    pub(super) fn bytes(&mut self, span: &Span) -> &mut [u8] {
        let all = size_of_val(&*self.0);
        // SAFETY: the bytes of the words, borrowed as these are. The host writes them through the slab's address only while
        // tests have no work under way there.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast::<u8>(), all) };
        &mut bytes[span.offset as usize..(span.offset + span.bytes) as usize]
    }

    pub(super) fn len(&self) -> u64 {
        size_of_val(&*self.0) as u64
    }
}
