//! What the tests share: a flat global memory, a writer of parameters, and the samples that NVRTC compiled from the
//! `.cu` files beside them (`--gpu-architecture=compute_75`; `integers` and `softmax` for `compute_90`).

mod broken;
mod integers;
mod operations;
mod samples;
mod sums;

use super::{Memory, Module, parse};

const SAMPLES: [(&str, &str); 6] = [
    ("elementwise", include_str!("samples/elementwise.ptx")),
    ("reduce", include_str!("samples/reduce.ptx")),
    ("tiles", include_str!("samples/tiles.ptx")),
    ("softmax", include_str!("samples/softmax.ptx")),
    ("integers", include_str!("samples/integers.ptx")),
    ("generated", include_str!("samples/generated.ptx")),
];

fn sample(name: &str) -> Module {
    let (_, text) = SAMPLES.iter().find(|(known, _)| *known == name).unwrap();
    parse(text).unwrap()
}

const BASE: u64 = 0x7f12_3456_0000;

/// One run of bytes at `BASE`; each array is followed by a gap that no kernel may touch.
#[derive(Default)]
struct Flat {
    bytes: Vec<u8>,
    arrays: Vec<std::ops::Range<u64>>,
}

impl Flat {
    /// Puts an array, and returns its address.
    fn put<const N: usize, T: Copy>(&mut self, values: &[T], bytes: fn(T) -> [u8; N]) -> u64 {
        let start = self.bytes.len();
        self.bytes.extend(values.iter().flat_map(|&value| bytes(value)));
        let (address, end) = (BASE + start as u64, BASE + self.bytes.len() as u64);
        self.arrays.push(address..end);
        self.bytes.resize((self.bytes.len() + 64).next_multiple_of(64), 0xa5);
        address
    }

    fn get<const N: usize, T>(&self, address: u64, count: usize, of: fn([u8; N]) -> T) -> Vec<T> {
        let start = (address - BASE) as usize;
        let chunks = self.bytes[start..start + count * N].chunks_exact(N);
        chunks.map(|chunk| of(chunk.try_into().unwrap())).collect()
    }

    fn floats(&self, address: u64, count: usize) -> Vec<f32> {
        self.get(address, count, f32::from_le_bytes)
    }

    fn words(&self, address: u64, count: usize) -> Vec<u32> {
        self.get(address, count, u32::from_le_bytes)
    }

    fn at(&self, address: u64, bytes: u32) -> Result<std::ops::Range<usize>, String> {
        let end = address.saturating_add(bytes.into());
        if !self
            .arrays
            .iter()
            .any(|array| array.start <= address && end <= array.end)
        {
            return Err(format!("no array has {bytes} bytes at {address:#x}"));
        }
        Ok((address - BASE) as usize..(end - BASE) as usize)
    }
}

impl Memory for Flat {
    fn load(&mut self, address: u64, bytes: u32) -> Result<u64, String> {
        let range = self.at(address, bytes)?;
        let mut value = [0; 8];
        value[..bytes as usize].copy_from_slice(&self.bytes[range]);
        Ok(u64::from_le_bytes(value))
    }

    fn store(&mut self, address: u64, bytes: u32, value: u64) -> Result<(), String> {
        let range = self.at(address, bytes)?;
        self.bytes[range].copy_from_slice(&value.to_le_bytes()[..bytes as usize]);
        Ok(())
    }
}

/// The bytes of parameters, each at a multiple of its size.
#[derive(Default)]
struct Params(Vec<u8>);

impl Params {
    fn add<const N: usize>(mut self, bytes: [u8; N]) -> Self {
        self.0.resize(self.0.len().next_multiple_of(N), 0);
        self.0.extend(bytes);
        self
    }

    fn pointer(self, address: u64) -> Self {
        self.add(address.to_le_bytes())
    }

    fn int(self, value: i32) -> Self {
        self.add(value.to_le_bytes())
    }

    fn long(self, value: i64) -> Self {
        self.add(value.to_le_bytes())
    }
}

/// Pseudo-random numbers, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 33)
    }

    fn float(&mut self) -> f32 {
        (self.next() % 20_001) as f32 / 1000.0 - 10.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

fn near(got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len());
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let close = (got - want).abs() <= tolerance * want.abs().max(1.0) || (got.is_nan() && want.is_nan());
        assert!(close, "element {at}: got {got}, want {want}");
    }
}
