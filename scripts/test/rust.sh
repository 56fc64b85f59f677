#!/usr/bin/env bash
# All Rust tests that need no special build: units, properties, documentation, header drift.
. "$(dirname "$0")/../lib.sh"

# Where the tests of Vulkan devices can run, they must: a skip would hide that they did not.
require_vulkan
require_nvrtc

cargo test --locked --workspace
