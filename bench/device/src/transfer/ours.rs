//! Ours: a tensor in one pool, put into another. The tensor there is made each time, and the one before is dropped.

use std::marker::PhantomData;

use bench_worker::Result;
use neuro_core::{DType, Device, DynTensor, MemoryPool};

use super::Copier;

/// A kind of host memory.
pub trait Host: 'static {
    /// # Errors
    /// Where there is none of it.
    fn pool() -> Result<MemoryPool>;
}

/// All kinds, for who uses one after the other.
pub const HOSTS: &[fn() -> Result<MemoryPool>] = &[Pageable::pool];

/// As it comes.
pub struct Pageable;

impl Host for Pageable {
    fn pool() -> Result<MemoryPool> {
        Ok(MemoryPool::unlimited())
    }
}

/// Tensors in host memory of kind `H` and on the device.
pub struct Ours<H> {
    pools: (MemoryPool, MemoryPool),
    source: DynTensor,
    there: Option<DynTensor>,
    back: Option<DynTensor>,
    kind: PhantomData<H>,
}

impl<H: Host> Copier for Ours<H> {
    fn new(device: Device, bytes: usize) -> Result<Self> {
        let pools = (H::pool()?, MemoryPool::of_device(device)?);
        let source = DynTensor::zeros_in(&pools.0, None, &[bytes], DType::U8)?;
        Ok(Self {
            pools,
            source,
            there: None,
            back: None,
            kind: PhantomData,
        })
    }

    fn source(&mut self) -> Result<&mut [u8]> {
        Ok(self.source.as_mut_slice()?)
    }

    fn up(&mut self) -> Result<()> {
        self.there = None;
        self.there = Some(self.source.to_pool(&self.pools.1)?);
        Ok(())
    }

    fn down(&mut self) -> Result<()> {
        self.back = None;
        let there = self.there.as_ref().ok_or("nothing is there")?;
        self.back = Some(there.to_pool(&self.pools.0)?);
        Ok(())
    }

    /// The device does its copies in their order, so what comes down last is behind all others.
    fn settle(&mut self) -> Result<()> {
        if let Some(there) = &self.there {
            there.slice(0, 0, 1, 1)?.to_pool(&self.pools.0)?;
        }
        Ok(())
    }

    fn both(&self) -> Result<(&[u8], &[u8])> {
        let back = self.back.as_ref().ok_or("nothing came back")?;
        Ok((self.source.as_slice()?, back.as_slice()?))
    }
}
