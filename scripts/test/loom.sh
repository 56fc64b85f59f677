#!/usr/bin/env bash
# Every interleaving of the lock-free parts, by loom: the modules loom_tests of neuro-core and neuro-capi, built with
# cfg(loom).
. "$(dirname "$0")/../lib.sh"

# A target directory of its own: other flags, so sharing one would build both anew at each turn.
export RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$TARGET/loom
build=(cargo test --quiet --locked -p neuro-core -p neuro-capi --lib "${quick_build[@]}")
# By name: had they been renamed, no test would run, and that would look like success.
list=$("${build[@]}" loom_ -- --list | grep ": test\$") || die "no test is named …loom_…, or they do not build"
say "$list"
for module in rc pool::table pool::gate pool::pending backend::life handles; do
    grep -q "^$module::loom_tests::loom_" <<<"$list" || die "no test is named $module::loom_tests::loom_…"
done
"${build[@]}" loom_
