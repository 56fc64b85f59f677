#!/usr/bin/env bash
# Every interleaving of the lock-free parts, by loom: tests named loom_… of neuro-core, built with cfg(loom).
. "$(dirname "$0")/../lib.sh"

# A target directory of its own: other flags, so sharing one would build both anew at each turn.
list() { RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$TARGET/loom cargo test --locked -p neuro-core --lib --release "$@"; }
list loom_
# The filter is a name: had they been renamed, no test would have run.
list -- --list loom_ 2>/dev/null | grep -q ': test$' || die "no test is named loom_…"
