#!/usr/bin/env bash
# Tests, lints and format of the benchmarks in Rust that need no peers in C (a workspace of their own); and those of devices, with
# little of each, for what is right: contents, calls of the driver, the validation layer. Their times are not looked at.
. "$(dirname "$0")/../lib.sh"

export CARGO_TARGET_DIR=$ROOT/bench/target
workspace=(--manifest-path bench/Cargo.toml --package neuro-replay --package bench-worker --package bench-layer --package device-worker --package cuda-worker)
cargo fmt "${workspace[@]}" --check
cargo clippy --quiet --locked "${workspace[@]}" --all-targets -- -D warnings
cargo test --quiet --locked "${workspace[@]}"
require_vulkan
bash scripts/bench.sh device --quick
bash scripts/bench.sh cuda --quick
