#!/usr/bin/env bash
# What README.md shows works: each block is run as its language says. So is the C program of docs/devices.md.
. "$(dirname "$0")/../lib.sh"

need README.md "the README"
require_vulkan
cargo build --quiet --locked -p neuro-capi
"$PYTHON" scripts/readme_snippets.py README.md --lib-dir "$(lib_dir debug)" --work "$BUILD/readme"
"$PYTHON" scripts/readme_snippets.py docs/devices.md --only c --lib-dir "$(lib_dir debug)" --work "$BUILD/readme"
