#!/usr/bin/env bash
# What README.md shows works: each block is run as its language says. So are the programs of docs/devices.md and docs/cuda.md.
. "$(dirname "$0")/../lib.sh"

need README.md "the README"
require_vulkan
cargo build --quiet --locked -p neuro-capi
"$PYTHON" scripts/readme_snippets.py README.md --lib-dir "$(lib_dir debug)" --work "$BUILD/readme"
for language in c python; do
    "$PYTHON" scripts/readme_snippets.py docs/devices.md --only "$language" --lib-dir "$(lib_dir debug)" --work "$BUILD/readme"
done
"$PYTHON" scripts/readme_snippets.py docs/cuda.md --only python --lib-dir "$(lib_dir debug)" --work "$BUILD/readme"
