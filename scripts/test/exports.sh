#!/usr/bin/env bash
# One instance a process: the Python extension exports every function that the header names, as does the C library.
. "$(dirname "$0")/../lib.sh"

need include/neuro_memory.h "the header"
mkdir -p "$BUILD"
extension=$(cd "$BUILD" && "$PYTHON" -c 'import neuro_memory._neuro_memory as m; print(m.__file__)')
cargo build --quiet --locked -p neuro-capi
"$PYTHON" scripts/exports.py include/neuro_memory.h "$extension" "$TARGET/debug/libneuro_memory.so"
