//! Kernels whose threads work together: barriers, shuffles, votes, atomics, softmax.

use super::{Flat, Params, Random, near, sample};

#[test]
fn sums_of_blocks() {
    let (module, mut memory, mut random) = (sample("reduce"), Flat::default(), Random(11));
    let x = random.floats(500);
    let (at_x, sums) = (
        memory.put(&x, f32::to_le_bytes),
        memory.put(&[0f32; 4], f32::to_le_bytes),
    );
    let params = Params::default().pointer(at_x).pointer(sums).int(500);
    module
        .kernel("block_sum")
        .unwrap()
        .run([4, 1, 1], [128, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    let want: Vec<f32> = x.chunks(128).map(|block| block.iter().sum()).collect();
    near(&memory.floats(sums, 4), &want, 1e-5);
}

#[test]
fn sums_of_warps() {
    let (module, mut memory, mut random) = (sample("reduce"), Flat::default(), Random(12));
    let x: Vec<i32> = (0..700).map(|_| (random.next() % 2001) as i32 - 1000).collect();
    let at_x = memory.put(&x, i32::to_le_bytes);
    let (total, largest) = (
        memory.put(&[5i32], i32::to_le_bytes),
        memory.put(&[-5i32], i32::to_le_bytes),
    );
    let params = Params::default().pointer(at_x).pointer(total).pointer(largest).int(700);
    module
        .kernel("warp_sum")
        .unwrap()
        .run([4, 1, 1], [192, 1, 1], 6 * 4, &params.0, &mut memory)
        .unwrap();
    assert_eq!(memory.get(total, 1, i32::from_le_bytes), [5 + x.iter().sum::<i32>()]);
    // The first warp of each block gives its largest.
    let want = x
        .chunks(192)
        .map(|block| *block[..32].iter().max().unwrap())
        .max()
        .unwrap();
    assert_eq!(memory.get(largest, 1, i32::from_le_bytes), [want]);
    let error = module
        .kernel("warp_sum")
        .unwrap()
        .run([1, 1, 1], [192, 1, 1], 5 * 4, &params.0, &mut memory)
        .unwrap_err();
    assert!(
        error.contains("kernel warp_sum: block [0, 0, 0], thread [160, 0, 0], line"),
        "{error}"
    );
    assert!(error.contains("Shared"), "{error}");
}

#[test]
fn histogram_by_atomics() {
    let (module, mut memory, mut random) = (sample("reduce"), Flat::default(), Random(13));
    let x: Vec<u8> = (0..3000).map(|_| (random.next() % 200) as u8).collect();
    let (at_x, counts) = (
        memory.put(&x, u8::to_le_bytes),
        memory.put(&[1u32; 256], u32::to_le_bytes),
    );
    let weight = memory.put(&[0.25f32], f32::to_le_bytes);
    let params = Params::default()
        .pointer(at_x)
        .pointer(counts)
        .pointer(weight)
        .int(3000);
    module
        .kernel("histogram")
        .unwrap()
        .run([3, 1, 1], [96, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    let mut want = vec![1u32; 256];
    x.iter().for_each(|&value| want[usize::from(value)] += 1);
    assert_eq!(memory.words(counts, 256), want);
    assert_eq!(memory.floats(weight, 1), [1500.25]);
}

#[test]
fn votes_and_compare_and_swap() {
    let (module, mut memory, mut random) = (sample("integers"), Flat::default(), Random(14));
    let mut x: Vec<i32> = (0..64).map(|_| (random.next() % 100) as i32).collect();
    x[40] = -1;
    let (at_x, y) = (
        memory.put(&x, i32::to_le_bytes),
        memory.put(&[7u32; 4], u32::to_le_bytes),
    );
    let product = memory.put(&[1u64], u64::to_le_bytes);
    let params = Params::default().pointer(at_x).pointer(y).pointer(product);
    module
        .kernel("votes")
        .unwrap()
        .run([1, 1, 1], [64, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    let odd = |warp: &[i32]| {
        warp.iter()
            .enumerate()
            .fold(0u32, |sum, (lane, x)| sum | ((*x & 1) as u32) << lane)
    };
    assert_eq!(memory.words(y, 4), [odd(&x[..32]), 1, odd(&x[32..]), 0]);
    let step = |product: u64, x: &i32| product.wrapping_mul(3).wrapping_add(u64::from(*x == 0));
    assert_eq!(memory.get(product, 1, u64::from_le_bytes), [x.iter().fold(1, step)]);
}

#[test]
fn softmax_of_rows() {
    let (module, mut memory, mut random) = (sample("softmax"), Flat::default(), Random(15));
    let x = random.floats(5 * 77);
    let (at_x, y) = (memory.put(&x, f32::to_le_bytes), memory.put(&x, f32::to_le_bytes));
    let params = Params::default().pointer(at_x).pointer(y).int(77);
    module
        .kernel("softmax")
        .unwrap()
        .run([5, 1, 1], [32, 1, 1], 128, &params.0, &mut memory)
        .unwrap();
    let row = |row: &[f32]| {
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - top).exp()).sum();
        row.iter()
            .map(|x| (f64::from(x - top).exp() / sum) as f32)
            .collect::<Vec<_>>()
    };
    let (got, want) = (
        memory.floats(y, x.len()),
        x.chunks(77).flat_map(row).collect::<Vec<_>>(),
    );
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() <= 4e-6 * want, "got {got}, want {want}");
    }
}

#[test]
fn functions_of_one_value() {
    let (module, mut memory, mut random) = (sample("softmax"), Flat::default(), Random(16));
    let mut x: Vec<f32> = random.floats(90).iter().map(|x| x.abs() + 0.01).collect();
    // The last ones need the slow reduction of sine, which reads a table of the module.
    x.extend([1.0, 0.5, 1.5, 2.5, 1.0e-3, 700.0, 2.0e5, 1.0e6, 123_456_790.0, 3.0e8]);
    let at_x = memory.put(&x, f32::to_le_bytes);
    let y = memory.put(&vec![0f32; x.len() * 8], f32::to_le_bytes);
    let params = Params::default().pointer(at_x).pointer(y).int(x.len() as i32);
    module
        .kernel("functions")
        .unwrap()
        .run([1, 1, 1], [128, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    let wide = x.iter().flat_map(|&x| {
        let v = f64::from(x);
        let sigmoid = v / (1.0 + (-v).exp());
        let rounded = v.round() + v.trunc() + v.ceil();
        [
            v.ln(),
            1.0 / v.sqrt(),
            v.tanh(),
            v.sin() + v.cos(),
            v.powf(1.7f32.into()),
            v.sin(),
            sigmoid,
            rounded,
        ]
    });
    near(
        &memory.floats(y, x.len() * 8),
        &wide.map(|value| value as f32).collect::<Vec<_>>(),
        1e-6,
    );
}
