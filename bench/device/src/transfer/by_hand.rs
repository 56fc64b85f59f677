//! Copies by hand: through a staging loop, into buffers that are there; and with the processor alone, within the host.

use bench_worker::Result;
use neuro_core::Device;

use super::Copier;
use super::staging::Staging;
use crate::gpu::Gpu;

/// `NEW`: what comes down comes into a new buffer of the C library each time, as ours comes into a new tensor.
pub struct StagingLoop<const NEW: bool> {
    staging: Staging,
    source: Vec<u8>,
    back: Vec<u8>,
}

impl<const NEW: bool> Copier for StagingLoop<NEW> {
    fn new(device: Device, bytes: usize) -> Result<Self> {
        Ok(Self {
            staging: Staging::new(Gpu::open(device)?, bytes)?,
            source: vec![1; bytes],
            back: vec![2; bytes],
        })
    }

    fn source(&mut self) -> Result<&mut [u8]> {
        Ok(&mut self.source)
    }

    fn up(&mut self) -> Result<()> {
        self.staging.up(&self.source)
    }

    fn down(&mut self) -> Result<()> {
        if NEW {
            self.back = Vec::new();
            self.back.reserve_exact(self.source.len());
        } else {
            self.back.clear();
        }
        self.staging
            .down(&mut self.back.spare_capacity_mut()[..self.source.len()])?;
        // SAFETY: `down` has written to all of that.
        unsafe { self.back.set_len(self.source.len()) };
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        self.staging.settle()
    }

    fn both(&self) -> Result<(&[u8], &[u8])> {
        Ok((&self.source, &self.back))
    }
}

/// Between three buffers of the host: what the memory itself takes.
pub struct Memcpy {
    source: Vec<u8>,
    there: Vec<u8>,
    back: Vec<u8>,
}

impl Copier for Memcpy {
    fn new(_: Device, bytes: usize) -> Result<Self> {
        Ok(Self {
            source: vec![1; bytes],
            there: vec![2; bytes],
            back: vec![3; bytes],
        })
    }

    fn source(&mut self) -> Result<&mut [u8]> {
        Ok(&mut self.source)
    }

    fn up(&mut self) -> Result<()> {
        std::hint::black_box(&mut self.there).copy_from_slice(std::hint::black_box(&self.source));
        Ok(())
    }

    fn down(&mut self) -> Result<()> {
        std::hint::black_box(&mut self.back).copy_from_slice(std::hint::black_box(&self.there));
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn both(&self) -> Result<(&[u8], &[u8])> {
        Ok((&self.source, &self.back))
    }
}
