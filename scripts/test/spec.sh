#!/usr/bin/env bash
# The specification, block by block. Part of `rust` too; here its count is printed.
. "$(dirname "$0")/../lib.sh"

cargo test --quiet --locked -p neuro-core --test spec -- --nocapture
