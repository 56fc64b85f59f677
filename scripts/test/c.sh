#!/usr/bin/env bash
# Each tests/c/*.c is a program: run as it is, then under valgrind, against the development build (checks on).
. "$(dirname "$0")/../lib.sh"

need tests/c "the C tests"
cargo build --quiet --locked -p neuro-capi
lib=$TARGET/debug
work=$BUILD/c
mkdir -p "$work"
export LD_LIBRARY_PATH=$lib
# Reachable memory is not an error: the pools of a process live until its end.
valgrind=(valgrind --quiet --leak-check=full --errors-for-leak-kinds=definite,indirect,possible --error-exitcode=99)
[ ! -e tests/c/valgrind.supp ] || valgrind+=(--suppressions=tests/c/valgrind.supp)

count=0
for source in tests/c/*.c; do
    need "$source" "a C test"
    program=$work/$(basename "$source" .c)
    gcc -std=c99 -g -O1 -Wall -Wextra -Werror -pedantic -Iinclude -Itests/c "$source" -o "$program" \
        -L"$lib" -lneuro_memory -lpthread -lm
    say "$source"
    "$program"
    say "$source under valgrind"
    NM_UNDER_VALGRIND=1 "${valgrind[@]}" "$program"
    count=$((count + 1))
done
say "C: $count programs, each run twice"
