//! `include/neuro_memory.h` is what the sources say, and leaves out nothing that the library exports.

use std::path::PathBuf;

/// In the order of the header.
const SOURCES: [&str; 25] = [
    "status",
    "version",
    "dtype",
    "device",
    "discovery",
    "options",
    "pool",
    "stats",
    "scope",
    "tensor",
    "facts",
    "view",
    "contents",
    "transfer",
    "dlpack",
    "safetensors",
    "share",
    "access",
    "vulkan",
    "cuda",
    "cuda_kernel",
    "cuda_launch",
    "cuda_hook",
    "torch_hook",
    "function",
];

/// The top of the header.
const PREFACE: &str = "\
/* neuro_memory.h: pooled, aligned, reference-counted memory for ML code.
 *
 * Generated from neuro-capi/src by `NM_BLESS=1 cargo test -p neuro-capi --test header`: do not edit.
 *
 * Rules of this interface:
 * - A call that can fail returns a neuro_status_t: NEURO_OK, which is 0, or why it failed. neuro_last_error() says it in
 *   words, for each thread its own. Getters return a value; where they cannot, they return 0, NULL or false and set the
 *   error that neuro_last_status() and neuro_last_error() give.
 * - What a call makes stands last in its arguments and is NULL, or 0, after a failure.
 * - A handle from a call with an `out` is a reference of the caller's own, to be released once; release(NULL) does
 *   nothing. What a `_get_` gives is borrowed: it lives as long as the handle that was asked.
 * - A NULL pool is the default pool wherever one is taken, but for retain and release.
 * - Any thread may use any handle; a thread that keeps one keeps a reference. A handle is not an address: one that was
 *   released, or never was one, is told from a live one and refused.
 * - What this library cannot check is the caller's to keep: pointers point to what they are said to point to; no thread
 *   gives away the last reference to a handle while another uses it; nobody else uses elements while a call writes them.
 *   \"Caller:\" names what more a call needs.
 */
";

/// Conditions that the preface states for all calls.
const COMMON: [&str; 17] = [
    "A live `tensor` is not released meanwhile; `out` is NULL or writable",
    "A live `tensor` is not released meanwhile, and nobody else uses its elements",
    "A live `tensor` is not released meanwhile",
    "A live `pool` is not released meanwhile; `out` is NULL or writable",
    "A live `pool` is not released meanwhile",
    "A live `transfer` is not released meanwhile; `out` is NULL or writable",
    "A live `transfer` is not released meanwhile",
    "A live `scope` is not ended meanwhile; `out` is NULL or writable for its `struct_size`",
    "A live `scope` is not ended meanwhile",
    "A live `stream` is not released meanwhile",
    "A live `kernel` is not released meanwhile; `out` is NULL or writable",
    "A live `kernel` is not released meanwhile",
    "Live handles are not released meanwhile",
    "A live `file` is not released meanwhile; `out` is NULL or writable",
    "A live `file` is not released meanwhile",
    "`out` is NULL or writable for its `struct_size`",
    "`out` is NULL or writable",
];

/// The declarations of functions that are numbered, which the writer of headers does not see.
fn numbered() -> String {
    let mut text = "\
// What PyTorch's CUDAPluggableAllocator takes, sixteen of each: those of number N allocate from the pool that `neuro_torch_bind` gave N for.
// alloc: NULL for 0 bytes; what a failure is, was said to `neuro_torch_bind`. `device` is the number of the pool's device.
// free: of whatever address; one that is no live block is refused, with a line on standard error. Size and device are not looked at.
// record_stream (for set_record_stream_fn): the block is used on that stream, too, until it is freed. A failure throws where that was asked
// for, and is a line on standard error else; the memory is never handed out again then.
// empty_cache (for set_reset_fn): waits for the streams that it knows, and gives unused memory of the pool back to the device.
// Caller: a stream is a cudaStream_t of the device's primary context, or NULL, and stays until what was allocated on it is freed and the number is bound
// no more, as those do that PyTorch makes itself.
#ifdef __cplusplus
extern \"C\" {
#endif

"
    .to_owned();
    for number in 0..neuro_core::cuda::SLOTS {
        text += &format!(
            "void *neuro_torch_alloc_{number}(size_t bytes, int32_t device, void *cu_stream);\n\
             void neuro_torch_free_{number}(void *pointer, size_t bytes, int32_t device, void *cu_stream);\n\
             void neuro_torch_record_stream_{number}(void *pointer, void *cu_stream);\n\
             void neuro_torch_empty_cache_{number}(void);\n"
        );
    }
    text + "\n#ifdef __cplusplus\n}  // extern \"C\"\n#endif\n"
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
        .to_owned()
}

fn generate() -> String {
    let crate_root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config::from_file(crate_root.join("cbindgen.toml")).expect("cbindgen.toml can be read");
    config.header = Some(PREFACE.trim_end().to_owned());
    config.after_includes = Some(format!(
        "#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n\n\
         struct DLManagedTensor;\nstruct DLManagedTensorVersioned;\n\n\
         #define NEURO_VERSION_MAJOR {}\n#define NEURO_VERSION_MINOR {}\n#define NEURO_VERSION_PATCH {}\n\
         #define NEURO_VERSION \"{}\"",
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
        env!("CARGO_PKG_VERSION"),
    ));
    config.trailer = Some(numbered());
    let builder = SOURCES
        .iter()
        .fold(cbindgen::Builder::new().with_config(config), |builder, source| {
            builder.with_src(crate_root.join(format!("src/{source}.rs")))
        });
    let mut text = Vec::new();
    builder.generate().expect("the sources can be parsed").write(&mut text);
    let text = String::from_utf8(text).expect("the sources are UTF-8");
    // Rust's word for the section is no use to a C programmer, and the preface says what holds for every call.
    let text = text.replace("// # Safety\n// ", "// Caller: ");
    COMMON.iter().fold(text, |text, common| {
        text.replace(&format!("//\n// Caller: {common}.\n"), "")
            .replace(&format!("// Caller: {common}; "), "// Caller: ")
    })
}

#[test]
fn the_committed_header_is_what_the_sources_say() {
    let path = root().join("include/neuro_memory.h");
    let generated = generate();
    if std::env::var_os("NM_BLESS").is_some() {
        std::fs::write(&path, &generated).expect("include/ can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let line = committed
        .lines()
        .zip(generated.lines())
        .take_while(|(old, new)| old == new)
        .count();
    assert!(
        committed == generated,
        "include/neuro_memory.h is out of date from line {} on:\n  committed: {}\n  generated: {}\n\
         Write it anew with: NM_BLESS=1 cargo test -p neuro-capi --test header",
        line + 1,
        committed.lines().nth(line).unwrap_or("(end)"),
        generated.lines().nth(line).unwrap_or("(end)"),
    );
}

#[test]
fn every_exported_function_is_in_the_header() {
    let header = generate();
    let mut functions = 0;
    for file in std::fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            // Tests of a module, which export nothing.
            continue;
        }
        let source = std::fs::read_to_string(path).unwrap();
        let ways = ["extern \"C\" fn ", "extern \"C-unwind\" fn "];
        for after in ways.iter().flat_map(|way| source.split(way).skip(1)) {
            let name = after.split('(').next().unwrap();
            if name.starts_with('$') || !name.starts_with("neuro_") {
                continue; // one of a macro: `numbered`, and what `function.rs` finds by name; or the type of a pointer
            }
            assert!(
                header.contains(&format!("{name}(")),
                "{name} is missing: add its file to SOURCES"
            );
            functions += 1;
        }
    }
    assert!(functions > 50, "{functions} functions found");
}
