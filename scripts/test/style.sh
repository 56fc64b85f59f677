#!/usr/bin/env bash
# What the compiler does not check: the order of the floors, sizes, where unsafe may stand; and rustfmt.
. "$(dirname "$0")/../lib.sh"

python3 scripts/tidy.py
cargo fmt --all --check
# A workspace of its own; not --all, which would go through the product again.
cargo fmt --manifest-path bench/pool/Cargo.toml --check
