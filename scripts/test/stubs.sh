#!/usr/bin/env bash
# The stubs say what the module is: stubtest compares them with the installed extension; mypy reads them as a user would.
. "$(dirname "$0")/../lib.sh"

allowed=$ROOT/tests/python/stubtest-allowlist.txt
need "$allowed" "what stubtest must not complain about"
mkdir -p "$BUILD"
# From elsewhere, for the same reason as in module.sh.
cd "$BUILD"
"$PYTHON" -m mypy.stubtest neuro_memory --ignore-disjoint-bases \
    --allowlist "$allowed" --ignore-unused-allowlist
