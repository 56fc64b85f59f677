//! Kernels of bit operations, local arrays, strides and casts, against plain Rust.

use super::{Flat, Params, Random, near, sample};

#[test]
fn bits_of_integers() {
    let (module, mut memory, mut random) = (sample("integers"), Flat::default(), Random(5));
    let mut x: Vec<u32> = (0..93).map(|_| random.next() as u32).collect();
    x.extend([0, 1, 7, u32::MAX, 1 << 31, 0x7fff_ffff, 0x8000_0001]);
    let at_x = memory.put(&x, u32::to_le_bytes);
    let y = memory.put(&[0u32; 800], u32::to_le_bytes);
    let params = Params::default().pointer(at_x).pointer(y).int(100);
    module
        .kernel("bits")
        .unwrap()
        .run([4, 1, 1], [32, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    let want = x.iter().flat_map(|&v| {
        let (low, high, signed) = (v.to_le_bytes(), (!v).to_le_bytes(), v.cast_signed());
        let permuted = u32::from_le_bytes([high[2], low[2], high[3], low[1]]);
        let quotient = signed.wrapping_div(-3).wrapping_add(signed % 10).cast_unsigned();
        let hi = (u64::from(v) * 0x9e37_79b9) >> 32;
        let counts = [v.count_ones(), v.leading_zeros(), v.reverse_bits(), permuted];
        counts
            .into_iter()
            .chain([hi as u32, v.rotate_left(7), v % 1000 + v / 7, quotient])
    });
    assert_eq!(memory.words(y, 800), want.collect::<Vec<_>>());
}

#[test]
fn local_arrays() {
    let (module, mut memory, mut random) = (sample("integers"), Flat::default(), Random(6));
    let x: Vec<i32> = (0..16 * 40).map(|_| random.next() as i32).collect();
    let (at_x, y) = (memory.put(&x, i32::to_le_bytes), memory.put(&x, i32::to_le_bytes));
    let params = Params::default().pointer(at_x).pointer(y).int(40);
    module
        .kernel("sorted_local")
        .unwrap()
        .run([2, 1, 1], [32, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    let mut want = x.clone();
    want.chunks_mut(16).for_each(|row| row.sort_unstable());
    assert_eq!(memory.get(y, x.len(), i32::from_le_bytes), want);
}

#[test]
fn generated_shapes() {
    let (module, mut memory, mut random) = (sample("generated"), Flat::default(), Random(7));
    let x = random.floats(60);
    let at_x = memory.put(&x, f32::to_le_bytes);
    let y = memory.put(&x, f32::to_le_bytes);
    // The transpose of a tensor of shape 3 x 4 x 5.
    let (shape, strides) = (
        memory.put(&[5i64, 4, 3], i64::to_le_bytes),
        memory.put(&[1i64, 5, 20], i64::to_le_bytes),
    );
    let params = Params::default()
        .pointer(at_x)
        .pointer(y)
        .pointer(shape)
        .pointer(strides)
        .int(3)
        .long(60);
    module
        .kernel("strided")
        .unwrap()
        .run([4, 1, 1], [16, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    let cell = |at: usize| {
        let v = x[at / 12 + at / 3 % 4 * 5 + at % 3 * 20];
        if v > 0.0 { v * 1.5 } else { (v.exp() - 1.0) * 1.5 }
    };
    near(&memory.floats(y, 60), &(0..60).map(cell).collect::<Vec<f32>>(), 1e-6);
    let words = memory.put(&[1u64; 20], u64::to_le_bytes);
    let params = Params::default().pointer(words).long(i64::MIN + 5).long(19);
    module
        .kernel("fill")
        .unwrap()
        .run([3, 1, 1], [8, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    let want: Vec<i64> = (0..20).map(|at| if at < 19 { i64::MIN + 5 } else { 1 }).collect();
    assert_eq!(memory.get(words, 20, i64::from_le_bytes), want);
}

#[test]
fn casts() {
    let (module, mut memory) = (sample("generated"), Flat::default());
    let x = [
        0.0f32,
        1.9,
        -1.9,
        100.5,
        127.0,
        -128.0,
        3.0e10,
        -7.0e18,
        0.3,
        1.0039063,
        f32::NAN,
    ];
    let at_x = memory.put(&x, f32::to_le_bytes);
    let (a, b) = (
        memory.put(&[0u8; 11], u8::to_le_bytes),
        memory.put(&[0u8; 11], u8::to_le_bytes),
    );
    let (c, d) = (
        memory.put(&[0u16; 11], u16::to_le_bytes),
        memory.put(&[0u64; 11], u64::to_le_bytes),
    );
    let (e, bf) = (
        memory.put(&[0u64; 11], u64::to_le_bytes),
        memory.put(&[0u16; 11], u16::to_le_bytes),
    );
    let positive = memory.put(&[9u8; 11], u8::to_le_bytes);
    let mut params = Params::default()
        .pointer(at_x)
        .pointer(a)
        .pointer(b)
        .pointer(c)
        .pointer(d)
        .pointer(e);
    params = params.pointer(bf).pointer(positive).int(11);
    module
        .kernel("casts")
        .unwrap()
        .run([1, 1, 1], [16, 1, 1], 0, &params.0, &mut memory)
        .unwrap();
    assert_eq!(memory.get(a, 6, i8::from_le_bytes), [0, 1, -1, 100, 127, -128]);
    assert_eq!(memory.get(b, 5, u8::from_le_bytes), [0, 1, 0, 100, 127]);
    assert_eq!(memory.get(c, 6, i16::from_le_bytes), [0, 1, -1, 100, 127, -128]);
    let want = x.iter().map(|&x| if x.is_nan() { i64::MIN } else { x as i64 });
    assert_eq!(memory.get(d, 11, i64::from_le_bytes), want.collect::<Vec<_>>());
    assert_eq!(
        memory.get(e, 10, f64::from_le_bytes),
        x[..10].iter().map(|&x| f64::from(x)).collect::<Vec<_>>()
    );
    assert_eq!(memory.get(bf, 10, u16::from_le_bytes)[8..], [0x3e9a, 0x3f80]);
    assert_eq!(
        memory.get(positive, 11, u8::from_le_bytes),
        [0, 1, 0, 1, 1, 0, 1, 0, 1, 1, 0]
    );
}
