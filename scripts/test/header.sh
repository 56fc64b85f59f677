#!/usr/bin/env bash
# The headers, each alone and first, as C99 and as C++17, without a warning. That they are current tests neuro-capi.
. "$(dirname "$0")/../lib.sh"

need include/neuro_memory.h "the header"
work=$BUILD/header
mkdir -p "$work"
strict=(-Wall -Wextra -Werror -pedantic -Iinclude)
for header in include/*.h include/*.hpp; do
    [ -e "$header" ] || continue
    name=$(basename "$header")
    # Twice: it must guard itself.
    printf '#include <%s>\n#include <%s>\nint main(void) { return 0; }\n' "$name" "$name" >"$work/one.c"
    cp "$work/one.c" "$work/one.cpp"
    case $header in *.h) gcc -std=c99 "${strict[@]}" -Wstrict-prototypes -fsyntax-only "$work/one.c" && say "C99: $name" ;; esac
    g++ -std=c++17 "${strict[@]}" -fsyntax-only "$work/one.cpp" && say "C++17: $name"
done
