#!/usr/bin/env bash
# The C tests against the development build (checks on), as they are and under valgrind. tests/c/run.sh does it.
. "$(dirname "$0")/../lib.sh"

need tests/c/run.sh "the runner of the C tests"
cargo build --quiet --locked -p neuro-capi
require_vulkan
export NM_LIB_DIR=$TARGET/debug
# Tests of CUDA devices have a part of their own, `cuda`, which has a device for them.
tests=()
for source in tests/c/test_*.c; do
    case $source in *test_cuda*) ;; *) tests+=("$(basename "$source" .c)") ;; esac
done
sh tests/c/run.sh "${tests[@]}"
say "under valgrind"
sh tests/c/run.sh --valgrind "${tests[@]}"
