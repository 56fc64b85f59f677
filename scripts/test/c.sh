#!/usr/bin/env bash
# The C tests against the development build (checks on), as they are and under valgrind. tests/c/run.sh does it.
. "$(dirname "$0")/../lib.sh"

need tests/c/run.sh "the runner of the C tests"
cargo build --quiet --locked -p neuro-capi
require_vulkan
export NM_LIB_DIR=$TARGET/debug
sh tests/c/run.sh
say "under valgrind"
sh tests/c/run.sh --valgrind
