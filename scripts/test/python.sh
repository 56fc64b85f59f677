#!/usr/bin/env bash
# tests/python, on the installed module.
. "$(dirname "$0")/../lib.sh"

need tests/python "the Python tests"
require_vulkan
# Tests of CUDA devices have a part of their own, `cuda`, which has a device for them, and those with PyTorch the part `torch`.
# -rs: a line for each skip, so that test.sh sees it.
"$PYTHON" -m pytest -rs -p no:cacheprovider --ignore-glob="*/test_cuda*.py" --ignore-glob="*/test_torch*.py" tests/python
