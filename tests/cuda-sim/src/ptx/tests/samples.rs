//! Kernels of one element per thread, and tiles, against plain Rust.

use super::{Flat, Params, Random, sample};

#[test]
fn parameters_are_described() {
    let module = sample("elementwise");
    let names: Vec<&str> = module.kernels().map(|kernel| kernel.name.as_str()).collect();
    assert_eq!(names, ["doubled", "axpy_loop", "affine", "bytes", "halves", "doubles"]);
    let params = &module.kernel("axpy_loop").unwrap().params;
    let seen: Vec<_> = params
        .iter()
        .map(|param| (param.offset, param.bytes, param.is_pointer_sized))
        .collect();
    assert_eq!(seen, [(0, 4, false), (8, 8, true), (16, 8, true), (24, 8, true)]);
    let params = &module.kernel("affine").unwrap().params;
    let seen: Vec<_> = params
        .iter()
        .map(|param| (param.offset, param.bytes, param.is_pointer_sized))
        .collect();
    assert_eq!(seen, [(0, 24, false), (24, 8, true), (32, 8, true)]);
    assert!(module.kernel("absent").is_none());
}

#[test]
fn doubled_and_axpy() {
    let (module, mut memory, mut random) = (sample("elementwise"), Flat::default(), Random(1));
    let (x, y) = (random.floats(1000), random.floats(1000));
    let (at_x, at_y) = (memory.put(&x, f32::to_le_bytes), memory.put(&y, f32::to_le_bytes));
    let params = Params::default()
        .add(0.5f32.to_le_bytes())
        .pointer(at_x)
        .pointer(at_y)
        .long(1000);
    module
        .kernel("axpy_loop")
        .unwrap()
        .run([3, 1, 1], [64, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 0.5f32.mul_add(*x, *y)).collect();
    assert_eq!(memory.floats(at_y, 1000), want);
    let params = Params::default().pointer(at_x).pointer(at_y).int(1000);
    module
        .kernel("doubled")
        .unwrap()
        .run([4, 1, 1], [256, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    assert_eq!(memory.floats(at_y, 1000), x.iter().map(|x| x * 2.0).collect::<Vec<_>>());
}

#[test]
fn structures_by_value_and_vectors() {
    let (module, mut memory, mut random) = (sample("elementwise"), Flat::default(), Random(2));
    let x = random.floats(40);
    let (at_x, at_y) = (memory.put(&x, f32::to_le_bytes), memory.put(&x, f32::to_le_bytes));
    for (enabled, rows) in [(0, 10), (1, 7)] {
        let mut params = Params::default()
            .add(3.0f32.to_le_bytes())
            .add(0.25f32.to_le_bytes())
            .long(rows);
        params = params.add([enabled]).pointer(at_x).pointer(at_y);
        module
            .kernel("affine")
            .unwrap()
            .run([2, 1, 1], [8, 1, 1], 0, &params.0, &mut memory)
            .unwrap();
    }
    let changed = |(at, x): (usize, &f32)| match (at < 28, at % 4) {
        (false, _) => *x,
        (true, 3) => x.max(0.0) / 3.0,
        (true, _) => x.mul_add(3.0, 0.25),
    };
    assert_eq!(
        memory.floats(at_y, 40),
        x.iter().enumerate().map(changed).collect::<Vec<_>>()
    );
}

#[test]
fn bytes() {
    let (module, mut memory) = (sample("elementwise"), Flat::default());
    let a: Vec<u8> = (0..=255).collect();
    let b: Vec<i8> = (0..=255u8).map(|b| b.wrapping_mul(37).cast_signed()).collect();
    let (at_a, at_b) = (memory.put(&a, u8::to_le_bytes), memory.put(&b, i8::to_le_bytes));
    let out = memory.put(&a, u8::to_le_bytes);
    let params = Params::default().pointer(at_a).pointer(at_b).pointer(out).int(256);
    module
        .kernel("bytes")
        .unwrap()
        .run([2, 1, 1], [128, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    let want = a
        .iter()
        .zip(&b)
        .map(|(&a, &b)| (i32::from(a) + i32::from(b)).clamp(0, 255) as u8 ^ (a >> 3));
    assert_eq!(memory.get(out, 256, u8::from_le_bytes), want.collect::<Vec<_>>());
}

#[test]
fn all_halves() {
    let (module, mut memory) = (sample("elementwise"), Flat::default());
    let x: Vec<u16> = (0..=u16::MAX).collect();
    let at_x = memory.put(&x, u16::to_le_bytes);
    let wide = memory.put(&vec![0u32; x.len()], u32::to_le_bytes);
    let back = memory.put(&x, u16::to_le_bytes);
    let params = Params::default().pointer(at_x).pointer(wide).pointer(back).int(65536);
    module
        .kernel("halves")
        .unwrap()
        .run([256, 1, 1], [256, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    let wide = memory.floats(wide, x.len());
    let values = [
        (0x0000u16, 0.0f32),
        (0x3c00, 1.0),
        (0xc100, -2.5),
        (0x0001, 2f32.powi(-24)),
        (0x7bff, 65504.0),
    ];
    for (bits, value) in values {
        assert_eq!(wide[bits as usize], value);
    }
    // The nearest of the halves that are finite, found by search; beyond the middle to 65536 it is infinite.
    let finite = &wide[..0x7c00];
    let back = memory.get(back, x.len(), u16::from_le_bytes);
    for bits in 0..0x7c00usize {
        let value = wide[bits] * 1.5;
        let above = finite.partition_point(|&half| half < value);
        let want = if value >= 65520.0 {
            0x7c00
        } else if above == 0x7c00 {
            0x7bff
        } else if above == 0 {
            0
        } else {
            let (low, high) = (value - finite[above - 1], finite[above] - value);
            if low < high || (low == high && above % 2 == 1) {
                above - 1
            } else {
                above
            }
        };
        assert_eq!(usize::from(back[bits]), want, "{value}");
        assert_eq!(back[bits | 0x8000], back[bits] | 0x8000);
    }
    assert_eq!((back[0x7c00], back[0xfc00], back[0x7c01]), (0x7c00, 0xfc00, 0x7fff));
}

#[test]
fn doubles_and_long_indices() {
    let (module, mut memory, mut random) = (sample("elementwise"), Flat::default(), Random(3));
    let x: Vec<f64> = (0..35).map(|_| f64::from(random.float()).abs() + 0.1).collect();
    let k: Vec<i32> = (0..35).map(|k| k - 17).collect();
    let (at_x, at_k) = (memory.put(&x, f64::to_le_bytes), memory.put(&k, i32::to_le_bytes));
    let y = memory.put(&x, f64::to_le_bytes);
    let params = Params::default().pointer(at_x).pointer(at_k).pointer(y).long(5).long(7);
    module
        .kernel("doubles")
        .unwrap()
        .run([5, 1, 1], [8, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    let mut want = vec![0.0; 35];
    for at in 0..35 {
        want[at % 7 * 5 + at / 7] = x[at].sqrt() / f64::from(k[at]) + x[at].floor();
    }
    assert_eq!(memory.get(y, 35, f64::from_le_bytes), want);
}

#[test]
fn transpose_and_matmul() {
    let (module, mut memory, mut random) = (sample("tiles"), Flat::default(), Random(4));
    let (m, n, k) = (13, 21, 10);
    let (a, b) = (random.floats(m * k), random.floats(k * n));
    let (at_a, at_b) = (memory.put(&a, f32::to_le_bytes), memory.put(&b, f32::to_le_bytes));
    let (c, t) = (
        memory.put(&vec![0f32; m * n], f32::to_le_bytes),
        memory.put(&b, f32::to_le_bytes),
    );
    let params = Params::default()
        .pointer(at_a)
        .pointer(at_b)
        .pointer(c)
        .int(13)
        .int(21)
        .int(10);
    module
        .kernel("matmul")
        .unwrap()
        .run([3, 2, 1], [8, 8, 1], 0, &params.0, &mut memory)
        .unwrap();
    let cell = |at: usize| (0..k).fold(0.0, |sum, i| a[at / n * k + i].mul_add(b[i * n + at % n], sum));
    assert_eq!(memory.floats(c, m * n), (0..m * n).map(cell).collect::<Vec<f32>>());
    let params = Params::default().pointer(at_b).pointer(t).int(10).int(21);
    module
        .kernel("transpose")
        .unwrap()
        .run([3, 2, 1], [8, 8, 1], 0, &params.0, &mut memory)
        .unwrap();
    assert_eq!(
        memory.floats(t, k * n),
        (0..k * n).map(|at| b[at % k * n + at / k]).collect::<Vec<_>>()
    );
}
