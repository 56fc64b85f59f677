//! CUDA C that is compiled for a device and loaded there; and that every kernel of the repository compiles.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::prototype::parameters_of;
use super::super::{CompileOptions, Module, compile};
use super::fake::Fake;
use super::nvrtc_is_here;
use crate::error::Error;

const FILL: &str = r#"extern "C" __global__ void fill(float* to, float value, unsigned int n) { if (threadIdx.x < n) to[threadIdx.x] = value; }"#;

#[test]
fn a_device_gets_a_binary_and_where_its_driver_does_not_take_that_text() {
    if !nvrtc_is_here() {
        return;
    }
    let is_binary = |image: &Vec<u8>| image.starts_with(b"\x7fELF");
    let (fake, engine, _) = Fake::new(1, (9, 0));
    let module = Module::compile_on(Arc::clone(&engine), FILL, &CompileOptions::new()).unwrap();
    assert_eq!(module.function("fill", None).unwrap().parameters().len(), 3);
    assert!(
        module
            .function("other", None)
            .unwrap_err()
            .to_string()
            .contains("kernel other: the source declares no kernel")
    );
    assert_eq!(fake.images().iter().map(is_binary).collect::<Vec<_>>(), [true]);
    fake.refuse_binaries();
    Module::compile_on(engine, FILL, &CompileOptions::new()).unwrap();
    assert_eq!(
        fake.images().iter().map(is_binary).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert!(String::from_utf8_lossy(&fake.images()[2]).contains(".target sm_90"));
    // Newer than the compiler: of a generation whose binaries it cannot make.
    let (fake, engine, _) = Fake::new(1, (99, 0));
    Module::compile_on(engine, FILL, &CompileOptions::new()).unwrap();
    assert_eq!(fake.images().iter().map(is_binary).collect::<Vec<_>>(), [false]);
    // Older than it can: the reason says so.
    let (_, engine, _) = Fake::new(1, (2, 0));
    let error = Module::compile_on(engine, FILL, &CompileOptions::new()).unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { .. }) && error.to_string().contains("capability 2.0"),
        "{error}"
    );
}

#[test]
fn options_of_the_callers_are_taken() {
    if !nvrtc_is_here() {
        return;
    }
    let (fake, engine, _) = Fake::new(1, (9, 0));
    let source = r#"extern "C" __global__ void fill(float* to, float value, unsigned int n) { to[0] = VALUE; }"#;
    let options = CompileOptions::new().name("mine.cu");
    let error = Module::compile_on(Arc::clone(&engine), source, &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("mine.cu") && error.contains("VALUE"), "{error}");
    let options = options
        .option("-DVALUE=1")
        .option("--gpu-architecture=compute_75")
        .instance("fill");
    Module::compile_on(engine, source, &options)
        .unwrap()
        .function("fill", None)
        .unwrap();
    assert!(String::from_utf8_lossy(&fake.images()[0]).contains(".target sm_75"));
}

/// All files of CUDA C below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            found.push(path);
        }
    }
}

#[test]
fn every_kernel_of_the_repository_compiles_for_every_generation() {
    if !nvrtc_is_here() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for folder in ["examples", "tests"] {
        sources(&root.join(folder), &mut found);
    }
    assert!(
        found.iter().any(|path| path.ends_with("examples/kernels/double.cu")),
        "{found:?}"
    );
    for path in found {
        let (source, name) = (
            std::fs::read_to_string(&path).unwrap(),
            path.to_string_lossy().into_owned(),
        );
        for architecture in ["sm_75", "sm_80", "sm_90"] {
            let compiled = compile(&source, &name, &[&format!("--gpu-architecture={architecture}")]).unwrap();
            assert!(compiled.log.is_empty(), "{name}: {}", compiled.log);
            let text = String::from_utf8(compiled.ptx).unwrap();
            assert!(text.contains(&format!(".target {architecture}")) && compiled.cubin.is_some());
            // Each kernel's parameters are found in its source, as many as the compiler has.
            for entry in text.split(".entry ").skip(1) {
                let (name, rest) = entry.split_once('(').unwrap();
                let count = rest.split(')').next().unwrap().matches(".param").count();
                match parameters_of(&source, name) {
                    Ok(parameters) => assert_eq!(parameters.len(), count, "{name}"),
                    // What only the simulated driver is tried on may have parameters that no launch of ours has.
                    Err(why) => {
                        let is_sample = path.to_string_lossy().contains("/ptx/samples/");
                        assert!(is_sample && why.contains("is not understood"), "{name}: {why}");
                    }
                }
            }
        }
    }
}
