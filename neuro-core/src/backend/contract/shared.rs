//! B11: memory that is exported and imported.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::*;

/// How many descriptors the process has for the same file as `fd`. Other tests open and close files of their own.
pub(crate) fn like(fd: impl AsFd) -> usize {
    let file_of = |path: PathBuf| {
        let facts = std::fs::metadata(path).ok();
        facts.map(|facts| (facts.dev(), facts.ino()))
    };
    let ours = file_of(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into());
    assert!(ours.is_some());
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    all.filter(|entry| file_of(entry.as_ref().unwrap().path()) == ours)
        .count()
}

pub(crate) fn b11_exported_memory_is_one_for_all(backend: &dyn Backend) {
    b11_between(backend, backend);
}

/// B11 between two devices of one identity.
pub(crate) fn b11_between(one: &dyn Backend, other: &dyn Backend) {
    let no_memory = tempfile::tempfile().unwrap();
    let before = like(&no_memory);
    if one.facts().identity.is_none() {
        let refused = one.allocate(BYTES, SlabKind::Exported).unwrap_err();
        assert!(matches!(refused, Refusal::Call { .. }), "{refused:?}");
        let slab = device_slab(one);
        assert!(matches!(one.export(slab.id), Err(Refusal::Call { .. })));
        // SAFETY: nobody takes it for memory.
        let refused = unsafe { other.import_fd(no_memory.as_fd(), BYTES) };
        assert!(matches!(refused, Err(Refusal::Call { .. })), "{refused:?}");
        assert_eq!(like(&no_memory), before);
        give_back(one, &slab);
        return;
    }
    assert_eq!(one.facts().identity, other.facts().identity);
    let slab = one.allocate(BYTES, SlabKind::Exported).unwrap();
    assert_eq!(slab.bytes, BYTES);
    let (fd, bytes) = one.export(slab.id).unwrap();
    assert!(bytes >= BYTES);
    // SAFETY: what was just exported.
    let imported: Vec<Slab> = (0..3)
        .map(|_| unsafe { other.import_fd(fd.as_fd(), bytes) }.unwrap())
        .collect();
    assert!(imported.iter().all(|slab| slab.bytes == bytes));
    drop(fd);
    let (near, far) = (
        Window::new(one, SlabKind::Readback),
        Window::new(other, SlabKind::Readback),
    );
    for value in [7, 1 << 20, u32::MAX] {
        one.wait(submit(one, Queue::COMPUTE, &[], &[fill(span(&slab), value)]))
            .unwrap();
        for import in &imported {
            other
                .wait(submit(other, Queue::DOWNLOAD, &[], &[copy(span(import), far.span())]))
                .unwrap();
            assert!(far.holds(value, false));
            other
                .wait(submit(other, Queue::UPLOAD, &[], &[fill(span(import), !value)]))
                .unwrap();
            one.wait(submit(one, Queue::COMPUTE, &[], &[copy(span(&slab), near.span())]))
                .unwrap();
            assert!(near.holds(!value, false));
            one.wait(submit(one, Queue::COMPUTE, &[], &[fill(span(&slab), value)]))
                .unwrap();
        }
    }
    // It stays until the last is gone, and is none of theirs to export.
    give_back(one, &slab);
    assert!(matches!(other.export(imported[0].id), Err(Refusal::Call { .. })));
    for import in &imported {
        other
            .wait(submit(other, Queue::DOWNLOAD, &[], &[copy(span(import), far.span())]))
            .unwrap();
        assert!(far.holds(u32::MAX, false));
        give_back(other, import);
    }
    // Other memory is not exported, and no other file imported; nor are descriptors lost.
    let plain = device_slab(one);
    assert!(matches!(one.export(plain.id), Err(Refusal::Call { .. })));
    give_back(one, &plain);
    for _ in 0..3 {
        // SAFETY: no memory.
        let refused = unsafe { other.import_fd(no_memory.as_fd(), bytes) };
        assert!(matches!(refused, Err(Refusal::Call { .. })), "{refused:?}");
        // SAFETY: as above.
        assert!(unsafe { other.import_fd(no_memory.as_fd(), 0) }.is_err());
        // SAFETY: as above.
        assert!(unsafe { other.import_fd(no_memory.as_fd(), u64::MAX) }.is_err());
    }
    assert_eq!(like(&no_memory), before, "descriptors of the file");
    let slab = one.allocate(BYTES, SlabKind::Exported).unwrap();
    let (fd, bytes) = one.export(slab.id).unwrap();
    let before = like(&fd);
    for _ in 0..8 {
        let (again, _) = one.export(slab.id).unwrap();
        // SAFETY: what was just exported.
        let import = unsafe { other.import_fd(again.as_fd(), bytes) }.unwrap();
        give_back(other, &import);
    }
    assert_eq!(like(&fd), before, "descriptors of the memory");
    give_back(one, &slab);
}
