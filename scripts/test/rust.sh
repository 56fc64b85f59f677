#!/usr/bin/env bash
# All Rust tests that need no special build: units, properties, documentation, header drift.
. "$(dirname "$0")/../lib.sh"

cargo test --locked --workspace
