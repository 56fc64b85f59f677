#!/usr/bin/env bash
# bench.sh SUBJECT: runs bench/SUBJECT.py on a release build. Figures only mean something on a machine that does nothing else.
. "$(dirname "$0")/lib.sh"

subject=${1:?which benchmark?}
need "bench/$subject.py" "the benchmark"
bash scripts/setup.sh demo
bash scripts/module.sh
exec "$PYTHON" "bench/$subject.py"
