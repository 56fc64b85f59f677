#!/usr/bin/env bash
# tests/python, on the installed module.
. "$(dirname "$0")/../lib.sh"

need tests/python "the Python tests"
require_vulkan
# -rs: a line for each skip, so that test.sh sees it.
"$PYTHON" -m pytest -rs -p no:cacheprovider tests/python
