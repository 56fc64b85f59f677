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

    /// Whether a device may use the bytes where they lie, instead of a copy in a pool of its own.
    const IN_PLACE: bool;
}

/// All kinds, for who uses one after the other.
pub const HOSTS: &[fn() -> Result<MemoryPool>] = &[Pageable::pool, GpuSupport::pool];

/// As it comes.
pub struct Pageable;

impl Host for Pageable {
    fn pool() -> Result<MemoryPool> {
        Ok(MemoryPool::unlimited())
    }

    const IN_PLACE: bool = false;
}

/// Of a pool that devices reach.
pub struct GpuSupport;

impl Host for GpuSupport {
    fn pool() -> Result<MemoryPool> {
        let pool = MemoryPool::unlimited().with_gpu_support(true);
        pool.gpu_support()?;
        Ok(pool)
    }

    const IN_PLACE: bool = true;
}

/// Tensors in host memory of kind `H` and on the device.
pub struct Ours<H> {
    pools: (MemoryPool, MemoryPool),
    source: DynTensor,
    there: Option<DynTensor>,
    back: Option<DynTensor>,
    /// Nothing may be copied up.
    shared: bool,
    kind: PhantomData<H>,
}

/// Whether the device's memory is the host's, and is shown as such.
fn is_shared(device: Device) -> bool {
    let found = neuro_core::devices();
    let shares = |info: &&neuro_core::DeviceInfo| matches!(info.kind, "software" | "integrated");
    found.devices.iter().filter(shares).any(|info| info.device == device)
        && std::env::var_os("NEURO_BENCH_APART").is_none()
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
            shared: H::IN_PLACE && is_shared(device),
            kind: PhantomData,
        })
    }

    fn source(&mut self) -> Result<&mut [u8]> {
        // They may be the same bytes, which nobody else has while they are written.
        (self.there, self.back) = (None, None);
        Ok(self.source.as_mut_slice()?)
    }

    fn up(&mut self) -> Result<()> {
        self.there = None;
        let there = match H::IN_PLACE {
            true => self.source.to_device(self.pools.1.device()),
            false => self.source.to_pool(&self.pools.1),
        };
        let there = there?;
        if self.shared && there.data_ptr() != self.source.data_ptr() {
            return Err("it was copied, and the device shares the host's memory".into());
        }
        self.there = Some(there);
        Ok(())
    }

    fn down(&mut self) -> Result<()> {
        self.back = None;
        let there = self.there.as_ref().ok_or("nothing is there")?;
        let back = match H::IN_PLACE {
            true if there.data_ptr() == self.source.data_ptr() => there.to_device(Device::Cpu),
            _ => there.to_pool(&self.pools.0),
        };
        self.back = Some(back?);
        Ok(())
    }

    /// The device does its copies in their order, so what comes down last is behind all others.
    fn settle(&mut self) -> Result<()> {
        if let Some(there) = &self.there {
            there.slice(0, 0, 1, 1)?.to_pool(&self.pools.0)?;
            there.synchronize()?;
        }
        Ok(())
    }

    fn both(&self) -> Result<(&[u8], &[u8])> {
        let back = self.back.as_ref().ok_or("nothing came back")?;
        Ok((self.source.as_slice()?, back.as_slice()?))
    }
}
