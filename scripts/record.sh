#!/usr/bin/env bash
# record.sh [NAME…]: records the traces of bench/traces anew, each by a process of its own. The same NumPy gives the same files.
. "$(dirname "$0")/lib.sh"

bash scripts/setup.sh demo
[ $# -gt 0 ] || set -- digits resnet20 gpt2
for name in "$@"; do
    "$PYTHON" bench/record/record.py "$name"
done
