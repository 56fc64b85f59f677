//! Small programs of our own for what the samples do not reach.

use std::time::Instant;

use super::super::launch;
use super::{Flat, Params, Random, parse};

/// Runs `body` with one thread per element; `%rd0` and `%rd1` are the addresses of its elements of 8 bytes in and out.
fn run(body: &str, x: &[u64], block: u32) -> Result<Vec<u64>, String> {
    let text = format!(
        ".version 7.0\n.target sm_75\n.address_size 64\n.extern .shared .align 8 .b8 dynamic[];\n\
         .visible .entry k(.param .u64 .ptr .global .align 8 k_0, .param .u64 k_1) .maxntid 64, 1, 1 {{\n\
         .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<20>; .reg .b64 %rd<9>; .reg .f32 %f<9>; .reg .f64 %d<9>;\n\
         ld.param.u64 %rd0, [k_0]; ld.param.u64 %rd1, [k_1]; mov.u32 %r0, %tid.x; mul.wide.u32 %rd2, %r0, 8;\n\
         add.s64 %rd0, %rd0, %rd2; add.s64 %rd1, %rd1, %rd2;\n{body}\nret;\n}}\n"
    );
    let mut memory = Flat::default();
    let (from, to) = (memory.put(x, u64::to_le_bytes), memory.put(x, u64::to_le_bytes));
    let params = Params::default().pointer(from).pointer(to);
    parse(&text)?
        .kernel("k")
        .unwrap()
        .run([1, 1, 1], [block, 1, 1], 512, &params.0, &mut memory)?;
    Ok(memory.get(to, x.len(), u64::from_le_bytes))
}

fn one(body: &str, x: u64) -> u64 {
    run(body, &[x], 1).unwrap()[0]
}

#[test]
fn directed_rounding() {
    let binary = |name: &str, a: f32, b: f32| {
        let text = format!(
            "ld.global.v2.f32 {{%f1, %f2}}, [%rd0]; {name}.f32 %f3, %f1, %f2; mov.b32 %r1, %f3;
             st.global.u32 [%rd1+4], 0; st.global.u32 [%rd1], %r1;"
        );
        f32::from_bits(one(&text, u64::from(a.to_bits()) | u64::from(b.to_bits()) << 32) as u32)
    };
    let mut random = Random(21);
    for _ in 0..300 {
        let (a, b) = (random.float(), random.float() * 1e-3);
        let exact = [
            ("add", f64::from(a) + f64::from(b)),
            ("mul", f64::from(a) * f64::from(b)),
        ];
        for (name, exact) in exact {
            let (down, up) = (binary(&format!("{name}.rm"), a, b), binary(&format!("{name}.rp"), a, b));
            assert!(
                f64::from(down) <= exact && exact <= f64::from(up),
                "{name} {a} {b}: {down} {exact} {up}"
            );
            assert!(down == up || down.next_up() == up, "{name} {a} {b}: {down} {up}");
            let zero = binary(&format!("{name}.rz"), a, b);
            assert_eq!(zero, if exact > 0.0 { down } else { up });
            assert_eq!(binary(&format!("{name}.rn"), a, b), exact as f32);
        }
    }
    // What the sum loses is far below a double.
    assert_eq!(binary("add.rm", 1.0, -1e-30), 1.0f32.next_down());
    assert_eq!(binary("add.rp", 1.0, 1e-30), 1.0f32.next_up());
    assert_eq!(binary("add.rn", 1.0, 1e-30), 1.0);
    assert_eq!(binary("mul.rz", f32::MAX, 2.0), f32::MAX);
    assert_eq!(binary("min", f32::NAN, 2.0), 2.0);
    assert!(binary("min.NaN", f32::NAN, 2.0).is_nan());
    assert_eq!(binary("max", -0.0, 0.0).to_bits(), 0);
    assert_eq!(binary("add.sat", 0.75, 2.0), 1.0);
    assert_eq!(binary("copysign", -3.0, 2.0), -2.0);
}

#[test]
fn conversions() {
    let convert = |how: &str, to: &str, from: &str, x: u64| {
        let width = |register: &str| match &register[1..2] {
            "h" => "u16",
            "f" => "f32",
            "d" => "f64",
            _ if register.starts_with("%rd") => "u64",
            _ => "u32",
        };
        let (store, load) = (width(to), width(from));
        one(
            &format!(
                "st.global.u64 [%rd1], 0; ld.global.{load} {from}, [%rd0]; cvt.{how} {to}, {from};
                      st.global.{store} [%rd1], {to};"
            ),
            x,
        )
    };
    let bits = |x: f32| u64::from(x.to_bits());
    assert_eq!(convert("rni.s32.f32", "%r1", "%f1", bits(2.5)), 2);
    assert_eq!(
        convert("rpi.s32.f32", "%r1", "%f1", bits(-2.5)),
        u64::from((-2i32).cast_unsigned())
    );
    assert_eq!(convert("rzi.u32.f32", "%r1", "%f1", bits(-9.0)), 0);
    assert_eq!(convert("rzi.s32.f32", "%r1", "%f1", bits(1e20)), 0x7fff_ffff);
    assert_eq!(convert("rzi.s32.f32", "%r1", "%f1", bits(f32::NAN)), 0);
    assert_eq!(convert("s32.s8", "%r1", "%r2", 0x1234_5680), 0xffff_ff80);
    assert_eq!(convert("u32.u8", "%r1", "%r2", 0x1234_5680), 0x80);
    assert_eq!(convert("sat.u8.s32", "%r1", "%r2", 300), 255);
    assert_eq!(convert("s64.s32", "%rd3", "%r2", 0xffff_fffe), u64::MAX - 1);
    assert_eq!(
        convert("rn.f32.u64", "%f1", "%rd3", u64::MAX),
        bits(18_446_744_073_709_551_615.0)
    );
    assert_eq!(
        convert("rz.f32.f64", "%f1", "%d1", 0.1f64.to_bits()),
        bits(0.1f32.next_down())
    );
    assert_eq!(convert("rn.bf16.f32", "%h1", "%f1", bits(0.3)), 0x3e9a);
    assert_eq!(convert("f32.bf16", "%f1", "%h1", 0x3e9a), 0x3e9a_0000);
    assert_eq!(convert("sat.f32.f32", "%f1", "%f2", bits(f32::NAN)), 0);
}

#[test]
fn fields_vectors_and_choices() {
    assert_eq!(
        one(
            "ld.global.u32 %r1, [%rd0]; bfe.s32 %r2, %r1, 4, 8; cvt.s64.s32 %rd3, %r2; st.global.u64 [%rd1], %rd3;",
            0xf80
        ),
        u64::MAX - 7
    );
    assert_eq!(
        one(
            "ld.global.u64 %rd3, [%rd0]; bfi.b64 %rd4, %rd3, -1, 8, 4; st.global.u64 [%rd1], %rd4;",
            5
        ),
        !0xfff | 0x5ff
    );
    let text = "ld.global.u64 %rd3, [%rd0]; mov.b64 {%r1, %r2}, %rd3; lop3.b32 %r1, %r1, %r2, 0xff00, 0x96;
                mov.b64 %rd4, {%r2, %r1}; st.global.u64 [%rd1], %rd4;";
    assert_eq!(one(text, 0x0000_0003_0000_0005), 0xff06_0000_0003);
    let text = "ld.global.v4.u16 {%h1, _, %h2, %h3}, [%rd0]; st.global.v4.b16 [%rd1], {%h3, %h2, %h1, 7};";
    assert_eq!(one(text, 0x0004_0003_0002_0001), 0x0007_0001_0003_0004);
    // A register holds no more than its width (X3), which a store that is wider than the register shows.
    for read in [
        "ld.global.s8 %r1, [%rd0];",
        "ld.global.u32 %r2, [%rd0]; cvt.s16.s8 %r1, %r2;",
    ] {
        assert_eq!(one(&format!("{read} st.global.u64 [%rd1], %r1;"), 0x80), 0xffff_ff80);
    }
    // A predicate pair with a third predicate, and a choice of labels.
    let text = "ld.global.u32 %r1, [%rd0]; setp.gt.u32 %p1, %r1, 0; setp.lt.and.u32 %p2|%p3, %r1, 2, !%p1;
                list: .branchtargets A, B, C; brx.idx %r1, list;
                A: mov.u64 %rd3, 10; bra.uni E; B: mov.u64 %rd3, 20; bra E; C: mov.u64 %rd3, 30;
                E: selp.b64 %rd4, 1, 0, %p2; @%p3 add.s64 %rd4, %rd4, 2; @!%p1 add.s64 %rd4, %rd4, 4;
                add.s64 %rd3, %rd3, %rd4; st.global.u64 [%rd1], %rd3;";
    assert_eq!([0, 1, 2].map(|x| one(text, x)), [15, 20, 30]);
    assert!(run(text, &[3], 1).unwrap_err().contains("3 is beyond its 3 labels"));
}

#[test]
fn scopes_and_windows() {
    // Registers and labels of an inner scope hide those outside; shared and local memory through generic addresses.
    let text = ".local .align 8 .b8 depot[16]; .shared .align 8 .b8 fixed[8];
        mov.u64 %rd3, 5; { .reg .b64 %rd3; mov.u64 %rd3, 7; bra L; trap; L: add.s64 %rd4, %rd3, 1; }
        { bra L; trap; L: add.s64 %rd4, %rd4, %rd3; }
        mov.u64 %rd5, dynamic; cvta.shared.u64 %rd6, %rd5; st.u64 [%rd6], %rd4; ld.shared.u64 %rd7, [dynamic];
        mov.u64 %rd5, depot; cvta.local.u64 %rd6, %rd5; st.local.u64 [depot], %rd7; ld.u64 %rd8, [%rd6];
        cvta.to.local.u64 %rd6, %rd6; sub.s64 %rd6, %rd6, %rd5; add.s64 %rd8, %rd8, %rd6;
        ld.shared.u64 %rd7, [fixed]; add.s64 %rd8, %rd8, %rd7;
        { bra OUT; } trap; OUT: st.u64 [%rd1], %rd8;";
    assert_eq!(one(text, 0), 13);
}

#[test]
fn shuffles_of_segments() {
    let shuffle = |how: &str, lane: u32, clamp: u32| {
        let text = format!(
            "shfl.sync.{how}.b32 %r1|%p1, %r0, {lane}, {clamp}, -1; selp.b32 %r2, 1, 0, %p1;
             st.global.v2.u32 [%rd1], {{%r1, %r2}};"
        );
        run(&text, &[0; 32], 32)
            .unwrap()
            .iter()
            .map(|x| (x & 0xff, x >> 32))
            .collect::<Vec<_>>()
    };
    assert_eq!(shuffle("up", 2, 0)[..4], [(0, 0), (1, 0), (0, 1), (1, 1)]);
    assert_eq!(shuffle("down", 1, 31)[30..], [(31, 1), (31, 0)]);
    // Segments of 8 lanes.
    assert_eq!(shuffle("idx", 3, 0x181f)[8..10], [(11, 1), (11, 1)]);
    assert_eq!(shuffle("bfly", 8, 0x181f)[0..2], [(0, 0), (1, 0)]);
}

#[test]
fn meeting_points() {
    // Half of a warp takes part; the whole block counts at a barrier; the sum of a warp.
    let text = "setp.lt.u32 %p1, %r0, 16; @!%p1 bra L; vote.sync.ballot.b32 %r1, %p1, 0xffff; L:
        activemask.b32 %r2; barrier.cta.red.popc.aligned.u32 %r3, 0, %p1; redux.sync.add.s32 %r4, %r0, 0xffffffff;
        add.s32 %r3, %r3, %r4; @%p1 add.s32 %r3, %r3, %r1; st.global.v2.u32 [%rd1], {%r3, %r2};";
    let got = run(text, &[0; 32], 32).unwrap();
    let mask = u64::from(u32::MAX) << 32;
    assert_eq!((got[0], got[31]), (mask | (16 + 496 + 0xffff), mask | (16 + 496)));
    // Lane 0 comes later than the others, and changes its mind before.
    let text = "setp.ne.u32 %p1, %r0, 0; setp.eq.u32 %p2, %r0, 0; @%p2 vote.sync.ballot.b32 %r1, 1, 1;
        @%p2 setp.eq.u32 %p1, %r1, 1; vote.sync.ballot.b32 %r2, %p1, -1; st.global.u32 [%rd1], %r2;";
    assert_eq!(run(text, &[0; 32], 32).unwrap(), [u64::from(u32::MAX); 32]);
    // A thread that has ended is waited for by nobody; one that cannot come is an error.
    run("setp.eq.u32 %p1, %r0, 3; @%p1 exit; bar.sync 0;", &[0; 40], 40).unwrap();
    let error = run("setp.eq.u32 %p1, %r0, 3; @%p1 bar.sync 1; bar.sync 0;", &[0; 40], 40).unwrap_err();
    assert!(
        error.contains("thread [0, 0, 0]") && error.contains("waits for ever"),
        "{error}"
    );
    // A thread that spins on shared memory lets the one that it waits for run.
    let text =
        "setp.eq.u32 %p1, %r0, 0; @!%p1 bra W; S: ld.volatile.shared.u32 %r1, [dynamic]; setp.eq.u32 %p2, %r1, 0;
        @%p2 bra S; bra E; W: st.shared.u32 [dynamic], 1; E: bar.sync 0;";
    run(text, &[0; 2], 2).unwrap();
}

#[test]
fn limits_and_speed() {
    let text = ".visible .entry k() { .reg .b32 %r<3>; .reg .pred %p; mov.u32 %r0, 0;
        L: add.s32 %r0, %r0, 1; xor.b32 %r1, %r1, %r0; setp.lt.u32 %p, %r0, 250000; @%p bra L; M: @%p bra M; ret; }
        .entry forever() { L: bra L; }";
    let module = parse(text).unwrap();
    let start = Instant::now();
    module
        .kernel("k")
        .unwrap()
        .run([1, 1, 1], [1, 1, 1], 0, &[], &mut Flat::default())
        .unwrap();
    let taken = start.elapsed();
    println!("a million instructions: {taken:?}");
    assert!(taken.as_secs() < 2, "a million instructions took {taken:?}");
    let kernel = module.kernel("forever").unwrap();
    let error = launch::run(kernel, [[1; 3]; 2], 0, &[], &mut Flat::default(), 25_000).unwrap_err();
    assert!(error.contains("does not end"), "{error}");
    for (grid, block, shared) in [
        ([0, 1, 1], [1; 3], 0),
        ([1; 3], [33, 32, 1], 0),
        ([1; 3], [u32::MAX; 3], 0),
        ([1; 3], [1; 3], 1 << 20),
    ] {
        kernel.run(grid, block, shared, &[], &mut Flat::default()).unwrap_err();
    }
}
