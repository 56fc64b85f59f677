#!/bin/sh
# Compiles and runs the C tests against the library in $NM_LIB_DIR (default: target/debug).
#
#   tests/c/run.sh [--valgrind] [test_pool ...]
#
# Prints every test and, last, "N passed, N failed"; the exit status is 0 only where none failed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
lib_dir=$(cd "${NM_LIB_DIR:-$root/target/debug}" && pwd)
cc=${CC:-cc}
valgrind=
if [ "${1:-}" = --valgrind ]; then
    shift
    command -v valgrind >/dev/null || { echo "valgrind is not here: apt install valgrind" >&2; exit 1; }
    # For tests that would take too long there.
    export NM_UNDER_VALGRIND=1
    # Fair: it runs one thread at a time, and without this lets the same one run on, so that whoever waits for a lock starves.
    valgrind="valgrind --fair-sched=yes --quiet --leak-check=full --error-exitcode=99 --suppressions=$here/valgrind.supp"
fi
[ -e "$lib_dir/libneuro_memory.so" ] || { echo "no libneuro_memory.so in $lib_dir: cargo build -p neuro-capi" >&2; exit 1; }
command -v "$cc" >/dev/null || { echo "no C compiler $cc: apt install gcc, or set CC" >&2; exit 1; }

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
# Programs ask for the soname.
ln -s "$lib_dir/libneuro_memory.so" "$build/libneuro_memory.so.0"
ln -s "$lib_dir/libneuro_memory.so" "$build/libneuro_memory.so"

[ $# -gt 0 ] || set -- $(cd "$here" && ls test_*.c | sed 's/\.c$//')
passed=0 failed=0
for test in "$@"; do
    echo "$test"
    mkdir -p "$build/$(dirname "$test")"
    # POSIX for threads, fork and temporary files; the header itself needs C99 alone.
    "$cc" -std=c99 -Wall -Wextra -Wpedantic -Werror -g -O1 -D_POSIX_C_SOURCE=200809L -I"$root/include" \
        "$here/$test.c" -o "$build/$test" -L"$build" -lneuro_memory -Wl,-rpath,"$build" -pthread
    status=0
    (cd "$build" && $valgrind "./$test") >"$build/output" 2>&1 || status=$?
    # What was not tested stands at the edge, where scripts/test.sh sees it.
    sed 's/^/  /; s/^  SKIPPED/SKIPPED/' "$build/output"
    ok=$(grep -c '^ok ' "$build/output" || true)
    bad=$(grep -c '^FAILED ' "$build/output" || true)
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        echo "  $test ended with status $status"
        bad=1
    fi
    passed=$((passed + ok)) failed=$((failed + bad))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
