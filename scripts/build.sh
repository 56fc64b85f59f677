#!/usr/bin/env bash
# The two products: the C library (release) and the Python module, installed into .venv. cargo decides what is stale.
. "$(dirname "$0")/lib.sh"

bash scripts/setup.sh demo
bash scripts/module.sh
say "building the C library"
cargo build --quiet --locked --release -p neuro-capi
# The name that programs linked against it look for.
ln -sf libneuro_memory.so "$TARGET/release/libneuro_memory.so.0"
say "built: $TARGET/release/libneuro_memory.{so,a} and the module in .venv"
