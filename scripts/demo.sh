#!/usr/bin/env bash
# `make demo`: sets up, builds, runs examples/demo/run.py. Arguments go to it (`--help` lists them).
. "$(dirname "$0")/lib.sh"

need examples/demo/run.py "the demo"
bash scripts/build.sh
say "set-up and build: $(seconds_since 0) s"
say ""
start=$SECONDS
"$PYTHON" examples/demo/run.py --lib-dir "$(lib_dir release)" --include-dir include --out out/demo "$@"
say ""
say "demo: $(seconds_since "$start") s"
