#!/usr/bin/env bash
# The stubs say what the module is: stubtest compares them with the installed extension; mypy reads them as a user would.
. "$(dirname "$0")/../lib.sh"

mkdir -p "$BUILD"
allow=()
[ ! -e tests/python/stubtest-allow.txt ] || allow=(--allowlist "$ROOT/tests/python/stubtest-allow.txt")
# From elsewhere, for the same reason as in module.sh.
cd "$BUILD"
"$PYTHON" -m mypy.stubtest neuro_memory --ignore-disjoint-bases "${allow[@]}"
