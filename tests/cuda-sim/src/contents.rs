//! What memory holds: a device's, made as it is written; and the host's, where it lies, read and written past its protection.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// What fresh memory holds, and what a device finds where memory was given back.
pub(crate) const FRESH: u8 = 0xcd;
pub(crate) const GONE: u8 = 0xdd;

const CHUNK: u64 = 16 << 10;

/// Bytes of a device. Chunks that nobody has written are not there.
#[derive(Debug, Default)]
pub(crate) struct Contents(BTreeMap<u64, Box<[u8]>>);

impl Contents {
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) {
        each_chunk(offset, into.len(), |chunk, within, part| match self.0.get(&chunk) {
            Some(bytes) => into[part.clone()].copy_from_slice(&bytes[within..within + part.len()]),
            None => into[part].fill(FRESH),
        });
    }

    pub(crate) fn write(&mut self, offset: u64, from: &[u8]) {
        each_chunk(offset, from.len(), |chunk, within, part| {
            let bytes = self
                .0
                .entry(chunk)
                .or_insert_with(|| vec![FRESH; CHUNK as usize].into_boxed_slice());
            bytes[within..within + part.len()].copy_from_slice(&from[part]);
        });
    }
}

fn each_chunk(offset: u64, len: usize, mut each: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let within = (at % CHUNK) as usize;
        let part = (CHUNK as usize - within).min(len - done);
        each(at / CHUNK, within, done..done + part);
        done += part;
    }
}

/// The process's own memory as a file, which heeds no protection of pages.
fn memory() -> Option<&'static File> {
    static MEMORY: OnceLock<Option<File>> = OnceLock::new();
    let opened = MEMORY.get_or_init(|| File::options().read(true).write(true).open("/proc/self/mem").ok());
    opened.as_ref()
}

/// Whether pages may be protected here at all.
pub(crate) fn passes_protection() -> bool {
    static PASSES: OnceLock<bool> = OnceLock::new();
    *PASSES.get_or_init(|| {
        let page = crate::protect::page() as usize;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new page, which nobody else knows, unmapped again; it is only touched through the file.
        unsafe {
            let start = libc::mmap(std::ptr::null_mut(), page, libc::PROT_NONE, flags, -1, 0);
            if start == libc::MAP_FAILED {
                return false;
            }
            let mut byte = [0];
            let passes =
                host_write(start.addr() as u64, &[7]) && host_read(start.addr() as u64, &mut byte) && byte == [7];
            libc::munmap(start, page);
            passes
        }
    })
}

/// Reads memory of the host; false where there is none.
pub(crate) fn host_read(address: u64, into: &mut [u8]) -> bool {
    memory().is_some_and(|memory| memory.read_exact_at(into, address).is_ok())
}

/// Writes memory of the host; false where there is none.
pub(crate) fn host_write(address: u64, from: &[u8]) -> bool {
    memory().is_some_and(|memory| memory.write_all_at(from, address).is_ok())
}

/// Writes memory of the host that nothing protects, in the plain way, which tools that watch memory understand; false where there is
/// none.
///
/// # Safety
/// What is there may be overwritten.
pub(crate) unsafe fn host_write_plainly(address: u64, from: &[u8]) -> bool {
    let mut was = vec![0; from.len()];
    if !host_read(address, &mut was) {
        return false;
    }
    // SAFETY: memory is there, as was just seen; forwarded contract.
    unsafe {
        let to = std::ptr::with_exposed_provenance_mut::<u8>(address as usize);
        std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_across_chunks() {
        let mut contents = Contents::default();
        let bytes: Vec<u8> = (0..50_000u32).map(|i| (i * 7 + i / 256) as u8).collect();
        contents.write(CHUNK - 11, &bytes);
        let mut back = vec![0; bytes.len() + 20];
        contents.read(CHUNK - 21, &mut back);
        assert_eq!(back[..10], [FRESH; 10]);
        assert_eq!(back[10..bytes.len() + 10], bytes);
        assert_eq!(back[bytes.len() + 10..], [FRESH; 10]);
    }

    #[test]
    fn the_hosts_memory_is_reached_and_what_is_none_is_not() {
        let mut there = *b"abcdef";
        let address = there.as_mut_ptr().expose_provenance() as u64;
        let mut two = [0; 2];
        assert!(host_read(address + 1, &mut two) && &two == b"bc");
        assert!(host_write(address, b"xy"));
        assert_eq!(std::hint::black_box(&there), b"xycdef");
        assert!(!host_read(8, &mut two) && !host_write(8, &two));
        assert!(passes_protection());
    }
}
