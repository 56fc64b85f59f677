//! Wrong input is an error that says where, and never a panic.

use super::{Flat, Params, Random, SAMPLES, parse};

fn kernel(body: &str) -> String {
    format!(".version 7.0\n.target sm_75\n.address_size 64\n.entry k(.param .u64 p)\n{{\n{body}\n}}\n")
}

#[test]
fn wrong_text_is_refused() {
    let cases = [
        (
            ".reg .b32 %r<4>;\nmov.u32 %r4, 1;",
            "line 7: mov.u32: register %r4 is not one of the 4",
        ),
        (
            ".reg .b32 %r<4>;\nadd.s32 %r1, %r2, %x;",
            "line 7: add.s32: %x is not declared",
        ),
        ("bra NOWHERE;", "line 6: there is no label NOWHERE"),
        ("{ L: } bra L;", "line 6: there is no label L"),
        ("L: L:", "label L stands here a second time"),
        ("@%p1 ret;", "line 6: %p1 is not declared"),
        (".reg .b32 %r<99999999>;", "line 6: more than 65536 registers"),
        (".shared .b8 s[300000];", "needs more than the"),
        (".local .b8 s[4294967295][4294967295];", "an array that is too large"),
        (
            ".reg .b32 %r<2>; ld.global.u32 %r0, [absent+4];",
            "absent is not declared",
        ),
        (".reg .b32 %r<2>; mov.u32 %r0, %r1", "line 7: expected `;`, found `}`"),
        (".reg .b32 %r<2>; mov.u32 %tid.x, %r1;", "%tid.x cannot be written"),
        (".reg .b32 %r<2>; add.s32 %r0, %r1, 1.5;", "a number with a point"),
        (".align 3 .b8 x;", ""),
        (".shared .align 3 .b8 x;", "an alignment of 3"),
        ("ret; /* no end", "line 6: a comment does not end"),
        ("ret; \u{e4}", "has no place in PTX"),
    ];
    for (body, want) in cases {
        match (parse(&kernel(body)), want) {
            (Ok(_), "") => {}
            (Ok(_), _) => panic!("{body} was accepted"),
            (Err(error), _) => assert!(error.contains(want) && !want.is_empty(), "{body}: {error}"),
        }
    }
    for text in [
        "hello",
        ".version 7.0\n.entry k(",
        ".entry k(.param .u64 p",
        ".func f() {",
        "\"",
        ".entry k(.b32 p) { }",
    ] {
        assert!(parse(text).unwrap_err().starts_with("line "), "{text}");
    }
}

#[test]
fn what_is_not_known_fails_only_when_it_is_reached() {
    let cases = [
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0, %f1}, %rd1, %rd2, 1, 1, 1, 0, 0;",
        "cp.async.bulk.tensor.2d.shared::cluster.global [a], [b, {c, d}], [e];",
        "call.uni (retval0), __internal_fmad, (param0, param1);",
        "add.rn.f16x2 a, b, c;",
        "mov.b128 a, b;",
        "ld.texture.f32 a, [b];",
        "mov.u64 x, %clock64;",
    ];
    let shown = "`mov.u64 x, %clock64`";
    for body in cases {
        let name = body.split(' ').next().unwrap();
        let start = ".reg .b64 x; .reg .b32 a, b, c; .reg .pred %p; setp.eq.u64 %p, x, 1;";
        for (guard, reached) in [("@%p ", false), ("@!%p ", true)] {
            let text = kernel(&format!("{start} {guard}{body} ret;"));
            let module = parse(&text).unwrap_or_else(|error| panic!("{body}: {error}"));
            let got = module
                .kernel("k")
                .unwrap()
                .run([1; 3], [1; 3], 0, &[0; 8], &mut Flat::default());
            match (got, reached) {
                (Ok(()), false) => {}
                (Err(error), true) => {
                    assert!(error.contains(name) && error.contains("line 6"), "{error}");
                    assert!(!body.contains("clock") || error.contains(shown), "{error}");
                }
                (got, _) => panic!("{body}: {got:?}"),
            }
        }
    }
}

#[test]
fn wrong_addresses_are_errors() {
    let start = ".reg .b64 %a; .reg .b32 %r; ld.param.u64 %a, [p];";
    let cases = [
        ("ld.global.u32 %r, [%a+64];", "no array has 4 bytes"),
        ("st.global.u32 [%a+2], %r;", "misaligned"),
        ("st.global.v2.u32 [%a+4], {%r, %r};", "misaligned"),
        (
            "st.global.u32 [%a+60], %r; ld.param.u32 %r, [p+8];",
            "outside of the 8 bytes",
        ),
        ("ld.shared.u32 %r, [0];", "outside of the 0 bytes"),
        ("ld.local.u32 %r, [-4];", "outside of the 0 bytes"),
        ("atom.shared.add.u32 %r, [%a], 1;", "outside of the 0 bytes"),
        ("st.param.u32 [p], %r;", "parameters cannot be written"),
        ("trap;", "trap"),
    ];
    for (body, want) in cases {
        let mut memory = Flat::default();
        let params = Params::default().pointer(memory.put(&[0u32; 16], u32::to_le_bytes));
        let module = parse(&kernel(&format!("{start} {body}"))).unwrap();
        let error = module
            .kernel("k")
            .unwrap()
            .run([1; 3], [1; 3], 0, &params.0, &mut memory)
            .unwrap_err();
        assert!(error.contains(want), "{body}: {error}");
    }
    let module = parse(&kernel("ret;")).unwrap();
    let error = module
        .kernel("k")
        .unwrap()
        .run([1; 3], [1; 3], 0, &[0; 7], &mut Flat::default())
        .unwrap_err();
    assert!(error.contains("got 7 bytes of parameters, needs 8"), "{error}");
}

/// Parses, and runs what was parsed for a few steps with parameters of zeros.
fn survives(text: &str) {
    let Ok(module) = parse(text) else { return };
    for kernel in module.kernels() {
        let bytes = kernel
            .params
            .last()
            .map_or(0, |param| (param.offset + param.bytes) as usize);
        let params = vec![1; bytes];
        let _ = super::super::launch::run(kernel, [[1; 3], [3, 1, 1]], 64, &params, &mut Flat::default(), 2000);
    }
}

#[test]
fn samples_cut_off_anywhere_do_not_panic() {
    let mut random = Random(31);
    for (_, text) in SAMPLES {
        for _ in 0..60 {
            survives(&text[..random.next() as usize % text.len()]);
        }
    }
}

#[test]
fn samples_with_changes_do_not_panic() {
    let mut random = Random(32);
    let signs = b"%,;[]{}()@!|+-.:0<>rdfp9u\"";
    for (_, text) in SAMPLES {
        for _ in 0..60 {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..1 + random.next() % 3 {
                let at = random.next() as usize % bytes.len();
                match random.next() % 3 {
                    0 => drop(bytes.remove(at)),
                    1 => bytes[at] = signs[random.next() as usize % signs.len()],
                    _ => bytes.swap(at, at / 2),
                }
            }
            survives(std::str::from_utf8(&bytes).unwrap());
        }
    }
}
