//! Many threads at once: each makes tensors on the device and on the host, copies them, hands them to others and frees them. What a
//! tensor has to hold is known, and looked at.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bench_worker::{Random, Result};
use neuro_core::{DType, Device, DynTensor, MemoryPool};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::transfer::HOSTS;

/// Most bytes on the device.
const LIMIT: usize = 1 << 30;
/// Tensors that a thread has at most, and places where they are left for others.
const HELD: usize = 6;
const PLACES: u32 = 64;
/// Sizes in bytes; one in [`RARE`] is long, of several pieces of a copy.
const SHORT: (u32, u32) = (1, 128 << 10);
const LONG: (u32, u32) = (1 << 20, 9 << 20);
const RARE: u32 = 64;

#[derive(Deserialize, Clone, Copy)]
pub struct Storm {
    threads: u32,
    operations: u32,
    seed: u32,
}

/// A tensor on the device, and what it holds: [`byte`] of this key.
struct Held {
    tensor: DynTensor,
    key: u32,
}

/// What all threads use.
struct Sea {
    device: MemoryPool,
    board: Vec<Mutex<Option<Held>>>,
    wrong: Mutex<Vec<String>>,
}

struct Sailor<'a> {
    sea: &'a Sea,
    host: MemoryPool,
    random: Random,
    held: Vec<Held>,
}

/// Byte `at` of what belongs to a key; of key 0 all are 0.
fn byte(key: u32, at: usize) -> u8 {
    let mixed = (u64::from(key) << 32 | at as u64 >> 3)
        .wrapping_mul(u64::from(key) * 2)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (at % 8 * 8)) as u8
}

/// The first byte that is not what belongs to a key.
fn wrong_in(bytes: &[u8], key: u32) -> Option<String> {
    let at = (0..bytes.len()).find(|&at| bytes[at] != byte(key, at))?;
    Some(format!(
        "byte {at} of {} is {}, not {}",
        bytes.len(),
        bytes[at],
        byte(key, at)
    ))
}

impl Storm {
    /// # Errors
    /// Where there is no such device, or a thread got no answer.
    pub fn run(self, device: Device) -> Result<Value> {
        let start = Instant::now();
        let sea = Sea {
            device: MemoryPool::new_gpu(device, LIMIT)?,
            board: (0..PLACES).map(|_| Mutex::new(None)).collect(),
            wrong: Mutex::default(),
        };
        let hosts = HOSTS.iter().map(|host| host()).collect::<Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            for thread in 0..self.threads {
                let (sea, host) = (&sea, hosts[thread as usize % hosts.len()].clone());
                let seed = self.seed.wrapping_mul(1009).wrapping_add(thread);
                scope.spawn(move || {
                    let mut sailor = Sailor {
                        sea,
                        host,
                        random: Random::new(seed.into()),
                        held: Vec::new(),
                    };
                    if let Err(error) = sailor.sail(self.operations) {
                        sea.tell(format!("thread {thread}: {error}"));
                    }
                });
            }
        });
        for place in &sea.board {
            let left = place.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(held) = left {
                sea.check(&held.tensor.to_pool(&hosts[0])?, held.key)?;
            }
        }
        let Sea { device, wrong, .. } = sea;
        let wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
        let pools = hosts.iter().chain([&device]);
        let (bytes, blocks) = pools.fold((0, 0), |(bytes, blocks), pool| {
            let stats = pool.stats();
            (bytes + stats.live_bytes, blocks + stats.live_blocks)
        });
        Ok(json!({
            "wrong": wrong.len(),
            "words": wrong.iter().take(3).collect::<Vec<_>>(),
            "live_bytes": bytes,
            "live_blocks": blocks,
            "made": device.stats().total_allocations,
            "peak": device.stats().peak_bytes,
            "seconds": start.elapsed().as_secs_f64(),
        }))
    }
}

impl Sea {
    fn tell(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Looks at what came to the host.
    fn check(&self, tensor: &DynTensor, key: u32) -> Result<()> {
        if let Some(what) = wrong_in(tensor.as_slice()?, key) {
            self.tell(what);
        }
        Ok(())
    }
}

impl Sailor<'_> {
    fn sail(&mut self, operations: u32) -> Result<()> {
        for _ in 0..operations {
            match self.random.below(100) {
                0..30 => self.upload()?,
                30..45 => self.copy()?,
                45..70 => self.look()?,
                70..76 => self.zeros()?,
                76..82 => drop(DynTensor::empty_in(&self.sea.device, None, &[self.size()], DType::U8)?),
                82..90 => drop(self.any()),
                _ => self.swap(),
            }
        }
        while let Some(held) = self.held.pop() {
            self.sea.check(&held.tensor.to_pool(&self.host)?, held.key)?;
        }
        Ok(())
    }

    fn size(&mut self) -> usize {
        let (low, high) = if self.random.below(RARE) == 0 { LONG } else { SHORT };
        self.random.size(low, high) as usize
    }

    /// One of those it has, taken out.
    fn any(&mut self) -> Option<Held> {
        let end = self.held.len() as u32;
        (end > 0).then(|| self.held.swap_remove(self.random.below(end) as usize))
    }

    fn keep(&mut self, tensor: DynTensor, key: u32) {
        if self.held.len() >= HELD {
            drop(self.any());
        }
        self.held.push(Held { tensor, key });
    }

    fn upload(&mut self) -> Result<()> {
        let (bytes, key) = (self.size(), self.random.below(1 << 30) + 1);
        let mut tensor = DynTensor::empty_in(&self.host, None, &[bytes], DType::U8)?;
        for (at, slot) in tensor.as_mut_slice::<u8>()?.iter_mut().enumerate() {
            *slot = byte(key, at);
        }
        let there = tensor.to_pool(&self.sea.device)?;
        self.keep(there, key);
        Ok(())
    }

    fn copy(&mut self) -> Result<()> {
        let Some(held) = self.any() else { return Ok(()) };
        let copy = held.tensor.to_pool(&self.sea.device)?;
        // The original is dropped half the time, with the copy under way.
        let key = held.key;
        if self.random.below(2) == 0 {
            self.held.push(held);
        }
        self.keep(copy, key);
        Ok(())
    }

    fn look(&mut self) -> Result<()> {
        let Some(held) = self.any() else { return Ok(()) };
        let back = held.tensor.to_pool(&self.host)?;
        self.sea.check(&back, held.key)?;
        self.held.push(held);
        Ok(())
    }

    fn zeros(&mut self) -> Result<()> {
        let bytes = self.size();
        let tensor = DynTensor::zeros_in(&self.sea.device, None, &[bytes], DType::U8)?;
        self.keep(tensor, 0);
        Ok(())
    }

    /// Leaves one for others, and takes what was left there.
    fn swap(&mut self) {
        let ours = self.any();
        let place = &self.sea.board[self.random.below(PLACES) as usize];
        let theirs = std::mem::replace(&mut *place.lock().unwrap_or_else(PoisonError::into_inner), ours);
        self.held.extend(theirs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_not_its_own_is_found() {
        let bytes = |key: u32| (0..5000).map(|at| byte(key, at)).collect::<Vec<u8>>();
        assert!(bytes(0).iter().all(|&byte| byte == 0));
        for key in [1, 2, 1 << 30] {
            let mut bytes = bytes(key);
            assert_eq!(wrong_in(&bytes, key), None);
            assert!(wrong_in(&bytes, key + 1).is_some() && wrong_in(&bytes, 0).is_some());
            bytes[4321] ^= 1;
            assert!(wrong_in(&bytes, key).is_some_and(|what| what.starts_with("byte 4321 of 5000")));
        }
    }
}
