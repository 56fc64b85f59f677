#!/usr/bin/env bash
# Data races, by ThreadSanitizer: neuro-core/tests/tsan_*.rs, programs without libtest (which it would accuse).
. "$(dirname "$0")/../lib.sh"

host=$(rustc -vV | sed -n 's/^host: //p')
# RUSTC_BOOTSTRAP: sanitizers are a nightly flag of a compiler that has them. The standard library is not instrumented,
# hence the mismatch that is allowed, and the one suppression: std's own Arc, used inside thread::spawn.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer"
export CARGO_TARGET_DIR=$TARGET/tsan
export TSAN_OPTIONS="suppressions=$ROOT/neuro-core/tests/tsan.supp exitcode=66"
for source in neuro-core/tests/tsan_*.rs; do
    need "$source" "a program for ThreadSanitizer"
    name=$(basename "$source" .rs)
    cargo test --quiet --locked -p neuro-core "${quick_build[@]}" --test "$name" --target "$host"
    say "$name: no data race"
done
