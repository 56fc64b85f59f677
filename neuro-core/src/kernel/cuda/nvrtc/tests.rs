//! What is compiled, where NVRTC is; and how a program that it refuses is told so.

use super::super::tests::nvrtc_is_here;
use super::*;

const DOUBLE: &str = r#"
extern "C" __global__ void twice(float* x, unsigned int n) {
    unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= 2.0f;
}
"#;

#[test]
fn code_and_text_of_an_architecture_come_from_one_compilation() {
    if !nvrtc_is_here() {
        return;
    }
    assert!(nvrtc_version().unwrap() >= (11, 2));
    let compiled = compile(DOUBLE, "twice.cu", &["--gpu-architecture=sm_80"]).unwrap();
    let text = String::from_utf8(compiled.ptx).unwrap();
    assert!(text.contains(".target sm_80") && text.contains(".entry twice(") && !text.contains('\0'));
    assert!(compiled.cubin.unwrap().starts_with(b"\x7fELF"));
    assert_eq!((compiled.log, compiled.lowered), (String::new(), vec![]));
    let virtual_only = compile(DOUBLE, "twice.cu", &["--gpu-architecture=compute_80"]).unwrap();
    assert!(virtual_only.cubin.is_none() && !virtual_only.ptx.is_empty());
}

#[test]
fn what_the_compiler_says_is_in_the_error() {
    if !nvrtc_is_here() {
        return;
    }
    let said = |source, options: &[&str]| match compile(source, "mine.cu", options).unwrap_err() {
        Error::InvalidArgument { what, .. } => what,
        other => panic!("{other}"),
    };
    let what = said("__global__ void f() { nothing = 1; }", &[]);
    assert!(
        what.contains("mine.cu(1)") && what.contains("\"nothing\" is undefined"),
        "{what}"
    );
    let what = said(DOUBLE, &["--gpu-architecture=sm_299"]);
    assert!(what.contains("sm_299"), "{what}");
    let what = said("int \0x;", &[]);
    assert!(what.contains("zero byte at byte 4"), "{what}");
    // And what it only remarks is in the log.
    let remarked = compile("extern \"C\" __global__ void f() { int unused; }", "w.cu", &[]).unwrap();
    assert!(remarked.log.contains("unused"), "{}", remarked.log);
}

#[test]
fn instances_of_templates_are_made_and_their_names_told() {
    if !nvrtc_is_here() {
        return;
    }
    let source = "template <typename T> __global__ void scale(T* x, T by) { x[threadIdx.x] *= by; }";
    let wanted = ["scale<float>".to_owned(), "scale<double>".to_owned()];
    let compiled = compile_with_names(source, "scale.cu", &[], &wanted).unwrap();
    let text = String::from_utf8(compiled.ptx).unwrap();
    assert_eq!(compiled.lowered.len(), 2);
    for ((asked, lowered), wanted) in compiled.lowered.iter().zip(&wanted) {
        assert!(
            asked == wanted && text.contains(&format!(".entry {lowered}(")),
            "{lowered}"
        );
    }
    assert!(compile_with_names(source, "scale.cu", &[], &["absent<int>".to_owned()]).is_err());
}

#[test]
fn threads_compile_at_the_same_time() {
    if !nvrtc_is_here() {
        return;
    }
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                let source = DOUBLE
                    .replace("2.0f", &format!("{number}.0f"))
                    .replace("twice", &format!("by{number}"));
                let compiled = compile(&source, "by.cu", &["--gpu-architecture=compute_75"]).unwrap();
                let text = String::from_utf8(compiled.ptx).unwrap();
                assert!(text.contains(&format!(".entry by{number}(")));
            });
        }
    });
}

#[test]
fn architectures_are_told_lowest_first() {
    if !nvrtc_is_here() {
        return;
    }
    let found = architectures().unwrap().unwrap();
    assert!(found.contains(&80) && found.is_sorted(), "{found:?}");
}
