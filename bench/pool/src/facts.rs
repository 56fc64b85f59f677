//! What is not a time: bytes for records, and what is left when everything was freed.

use std::time::Duration;

use bench_worker::{Random, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::peers::Peer;
use crate::work::touch::touch;

/// A question of `bench/pool.py`.
#[derive(Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// Bytes of records while so many blocks of 64 bytes are live.
    Side { blocks: usize },
    /// Bytes held a while after about so many bytes in blocks of all sizes were touched and freed.
    Kept { bytes: usize, seconds: f64 },
}

pub fn tell<P: Peer>(fact: Fact) -> Result<Value> {
    let peer = P::new()?;
    match fact {
        Fact::Side { blocks } => side(peer, blocks),
        Fact::Kept { bytes, seconds } => kept(peer, bytes, seconds),
    }
}

fn side<P: Peer>(mut peer: P, blocks: usize) -> Result<Value> {
    for _ in 0..blocks {
        peer.allocate(64).ok_or("there is no room")?;
    }
    let side = peer.side_bytes().ok_or("does not tell what its records take")?;
    Ok(json!({ "side": side }))
}

/// Sizes in bytes; each range gets the same share of the memory.
const RANGES: [(u32, u32); 4] = [
    (64, 4 << 10),
    (4 << 10, 256 << 10),
    (256 << 10, 4 << 20),
    (4 << 20, 64 << 20),
];

fn kept<P: Peer>(mut peer: P, bytes: usize, seconds: f64) -> Result<Value> {
    let mut random = Random::new(1);
    let mut sizes = Vec::new();
    for (low, high) in RANGES {
        let mut share = 0;
        while share < bytes / RANGES.len() {
            let size = random.size(low, high);
            share += size as usize;
            sizes.push(size);
        }
    }
    random.shuffle(&mut sizes);
    // Made and written to before the first look, so that the list itself is no difference.
    let mut blocks: Vec<_> = sizes.iter().map(|_| None).collect();
    let before = resident()?;
    for (block, &size) in blocks.iter_mut().zip(&sizes) {
        let handle = peer.allocate(size).ok_or("there is no room")?;
        // SAFETY: the block is ours, and has `size` bytes.
        unsafe { touch::<P>(handle, size) };
        *block = Some((handle, size));
    }
    random.shuffle(&mut blocks);
    for (handle, size) in blocks.drain(..).flatten() {
        // SAFETY: the block is ours, of this size, and not used after this.
        unsafe { peer.free(handle, size) };
    }
    std::thread::sleep(Duration::from_secs_f64(seconds));
    // The system's figure first: to ask the peer could make it tidy up.
    let after = resident()?;
    Ok(json!({
        "resident": after.saturating_sub(before),
        "committed": peer.committed_bytes(),
    }))
}

/// Resident bytes of this process.
fn resident() -> Result<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm
        .split_whitespace()
        .nth(1)
        .ok_or("statm has a second figure")?
        .parse()?;
    // SAFETY: asks for a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages * usize::try_from(page)?)
}
