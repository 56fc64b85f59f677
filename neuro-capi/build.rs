//! Gives the shared library its soname: programs that link it ask for this file name from then on.

/// The number counts incompatible interfaces; it is the major version from 1.0 on, and 0 before.
const SONAME: &str = "libneuro_memory.so.0";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{SONAME}");
    }
}
