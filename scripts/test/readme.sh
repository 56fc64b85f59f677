#!/usr/bin/env bash
# What README.md shows works: each block is run as its language says.
. "$(dirname "$0")/../lib.sh"

need README.md "the README"
cargo build --quiet --locked -p neuro-capi
"$PYTHON" scripts/readme_snippets.py README.md --lib-dir "$(lib_dir debug)" --work "$BUILD/readme"
