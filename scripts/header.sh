#!/usr/bin/env bash
# Writes include/neuro_memory.h anew. The writer is the drift test of neuro-capi itself: one generator, not two.
. "$(dirname "$0")/lib.sh"

NM_BLESS=1 cargo test --quiet --locked -p neuro-capi --test header
say "include/neuro_memory.h is up to date"
