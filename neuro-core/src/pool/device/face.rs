//! Faces: blocks of host memory, as a device uses them. The invariants are in `import.rs`.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use super::block::OtherHome;
use super::import::imports_of;
use super::{DeviceBlock, Engine};
use crate::backend::Span;
use crate::backend::host::STEP;
use crate::backend::planted::{Omission, omitted};
use crate::sync::global::lock;

/// The faces of a device, by the address of what they show (I2).
pub(super) type Faces = BTreeMap<usize, Weak<FaceBlock>>;

/// A block of host memory, as a device uses it. While it lives, so does the block.
#[derive(Clone, Debug)]
pub(crate) struct Face(Arc<FaceBlock>);

/// What the handles of a face share.
#[derive(Debug)]
pub(super) struct FaceBlock(DeviceBlock);

impl Drop for FaceBlock {
    fn drop(&mut self) {
        if let (Some(OtherHome::Host { engine, .. }), Some(host)) = (&self.0.other_home, self.0.host)
            && engine.is_here()
        {
            let mut faces = lock(engine.faces());
            let host = host.addr().get();
            if faces.get(&host).is_some_and(|face| face.strong_count() == 0) {
                faces.remove(&host);
            }
        }
    }
}

impl Deref for Face {
    type Target = DeviceBlock;

    fn deref(&self) -> &DeviceBlock {
        &self.0.0
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        let engine = self.engine();
        if !engine.is_here() {
            return;
        }
        if Arc::strong_count(&self.0) == 1 && !self.end_all_loans() {
            std::mem::forget(Arc::clone(&self.0)); // who has it may use it for ever
            return;
        }
        if self.is_idle() || omitted(Omission::HostBlockInUse) {
            return;
        }
        engine.keep(self.last_use(), Box::new(Arc::clone(&self.0)));
    }
}

impl Face {
    /// The face for `engine` of the `bytes` bytes at `host`, which lie in a live block of a pool; `keeper` keeps that block. `None`
    /// where the device does not reach them: why is in [`Engine::import_refused`], if it was tried.
    pub(crate) fn of(
        engine: &Arc<Engine>,
        host: NonNull<u8>,
        bytes: usize,
        keeper: impl FnOnce() -> Box<dyn Send + Sync>,
    ) -> Option<Self> {
        engine
            .backend()
            .facts()
            .import_alignment
            .filter(|&align| align <= STEP as u64)?;
        if bytes == 0 || !engine.is_here() {
            return None;
        }
        let start = host.addr().get();
        let range = start..start + bytes;
        let known = lock(engine.faces()).get(&start).and_then(Weak::upgrade);
        if let Some(face) = known.filter(|face| face.0.bytes() >= bytes) {
            return Some(Self(face));
        }
        let imports = imports_of(engine, host, &range)?;
        let first = imports.first()?;
        let span = Span {
            slab: first.slab(),
            offset: (start - first.addresses().start) as u64,
            bytes: range.len() as u64,
        };
        let home = OtherHome::Host {
            engine: Arc::clone(engine),
            _imports: imports,
            _keeper: keeper(),
        };
        let block = Arc::new(FaceBlock(DeviceBlock::without_pool(
            Some(home),
            span,
            bytes,
            Some(host),
        )));
        let mut faces = lock(engine.faces());
        // Somebody else may have made it meanwhile. What is dropped here is so without the lock, which its drop takes.
        let known = faces.get(&start).and_then(Weak::upgrade);
        let is_enough = known.as_ref().is_some_and(|face| face.0.bytes() >= bytes);
        if !is_enough {
            faces.insert(start, Arc::downgrade(&block));
        }
        drop(faces);
        Some(Self(known.filter(|_| is_enough).unwrap_or(block)))
    }
}
