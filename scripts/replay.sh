#!/usr/bin/env bash
# replay.sh [OPTION…] [TRACE.csv…]: replays traces on our pool and on models of other placement rules; with no argument those
# of bench/traces. `--help` lists the options. Figures only mean something on a machine that does nothing else.
. "$(dirname "$0")/lib.sh"

command -v cargo >/dev/null || die "no Rust toolchain: cargo is not on the PATH; \`make setup\` says how to get one"
[ $# -gt 0 ] || set -- bench/traces/*.csv

# Benchmarks are a workspace of their own, with a target of its own.
export CARGO_TARGET_DIR=$ROOT/bench/target
cargo build --quiet --release --locked --manifest-path bench/Cargo.toml --package neuro-replay
exec "$CARGO_TARGET_DIR/release/neuro-replay" "$@"
