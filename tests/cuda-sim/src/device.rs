//! What a device has and says of itself.

use std::collections::BTreeSet;

use races::Clock;

/// Bytes of memory, unless a test says otherwise.
const MEMORY: u64 = 1 << 30;

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) memory: u64,
    pub(crate) used: u64,
    /// How often the context is retained.
    pub(crate) retained: u32,
    /// Devices whose memory its kernels may use.
    pub(crate) peers: BTreeSet<u32>,
    /// The streams that its context has of itself, once they are used.
    pub(crate) legacy: Option<u32>,
    pub(crate) per_thread: Option<u32>,
    /// What streams that are gone have done: a device that is at its end has done that, too.
    pub(crate) gone: Clock,
}

impl Device {
    pub(crate) fn new() -> Self {
        Self {
            memory: MEMORY,
            used: 0,
            retained: 0,
            peers: BTreeSet::new(),
            legacy: None,
            per_thread: None,
            gone: Clock::default(),
        }
    }
}

/// The answer to `cuDeviceGetAttribute`; `None`: no such attribute.
pub(crate) fn attribute(attribute: u32, ordinal: u32) -> Option<i32> {
    Some(match attribute {
        // Threads of a block, its three dimensions, those of a grid.
        1..=3 => 1024,
        4 => 64,
        5 => i32::MAX,
        6 | 7 => 65535,
        // Shared memory of a block, constant memory, threads of a warp, longest pitch, registers, clock, alignment of textures.
        8 => 48 << 10,
        9 => 64 << 10,
        10 => 32,
        11 => i32::MAX,
        12 => 65536,
        13 => 1_000_000,
        14 => 512,
        // Copies overlap; multiprocessors; no time limit; not integrated; host memory can be mapped; not exclusive.
        15 => 1,
        16 => 16,
        17 | 18 | 20 => 0,
        19 => 1,
        // Kernels overlap; ECC; bus, device; TCC; clock of memory, its bus; second cache; threads of a multiprocessor; copy engines.
        31 => 1,
        32 | 35 => 0,
        33 => ordinal as i32 + 1,
        34 | 50 => 0,
        36 => 1_000_000,
        37 => 256,
        38 => 1 << 20,
        39 => 2048,
        40 => 2,
        // Unified addresses, capability 9.0, priorities of streams.
        41 => 1,
        75 => 9,
        76 => 0,
        78 => 1,
        // Managed memory, registers and shared memory of a multiprocessor.
        83 => 0,
        81 => 228 << 10,
        82 => 65536,
        // Host pointers of registered memory, shared memory on request, registering, mapping of ranges, no handles of files, no pools.
        91 | 99 | 102 => 1,
        97 => 227 << 10,
        103 | 115 => 0,
        _ => return None,
    })
}

/// Its UUID: the same for each device of that number.
pub(crate) fn uuid(ordinal: u32) -> [u8; 16] {
    let mut uuid = *b"cuda-sim device\0";
    uuid[15] = ordinal as u8;
    uuid
}
