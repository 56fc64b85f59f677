#!/usr/bin/env bash
# Lints of all targets. Warnings are denied here, not in the sources, so that a newer compiler breaks no user's build.
. "$(dirname "$0")/../lib.sh"

cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
