#!/usr/bin/env bash
# How much of the specification is built: its programs run once more (they ran in `rust`), and the rest is named.
. "$(dirname "$0")/../lib.sh"

cargo test --quiet --locked -p neuro-core --test spec specification -- --exact --nocapture
