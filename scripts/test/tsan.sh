#!/usr/bin/env bash
# Data races, by ThreadSanitizer: tests/tsan of neuro-core, without libtest (which it would accuse).
. "$(dirname "$0")/../lib.sh"

host=$(rustc -vV | sed -n 's/^host: //p')
need neuro-core/tests/tsan.rs "the program for ThreadSanitizer"
# RUSTC_BOOTSTRAP: sanitizers are a nightly flag of a compiler that has them. The standard library is not instrumented,
# hence the mismatch that is allowed, and the one suppression: std's own Arc, used inside thread::spawn.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer"
export CARGO_TARGET_DIR=$TARGET/tsan
mkdir -p "$BUILD"
printf 'race:<alloc::sync::Arc<std::thread::\n' >"$BUILD/tsan.supp"
export TSAN_OPTIONS="suppressions=$BUILD/tsan.supp exitcode=66"
cargo test --locked -p neuro-core --test tsan --target "$host"
