#!/usr/bin/env bash
# The replay's own tests, its lints and its format: the benchmarks in Rust are a workspace of their own. Measures nothing.
. "$(dirname "$0")/../lib.sh"

export CARGO_TARGET_DIR=$ROOT/bench/target
workspace=(--manifest-path bench/Cargo.toml --package neuro-replay)
cargo fmt "${workspace[@]}" --check
cargo clippy --quiet --locked "${workspace[@]}" --all-targets -- -D warnings
cargo test --quiet --locked "${workspace[@]}"
