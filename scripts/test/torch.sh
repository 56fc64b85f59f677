#!/usr/bin/env bash
# Tensors of PyTorch on the CPU and ours, without a copy: where PyTorch is in .venv, where set-up installs it in CI.
. "$(dirname "$0")/../lib.sh"

need requirements/torch.txt "the version of PyTorch"
tests=(tests/python/test_torch*.py)
need "${tests[0]}" "the tests with PyTorch"
if ! "$PYTHON" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'; then
    in_ci && die "PyTorch is not in .venv, and set-up installs it in CI"
    skip torch "needs 3 GB of packages: $PYTHON -m pip install -r requirements/torch.txt"
    exit 0
fi
bash scripts/module.sh
"$PYTHON" -m pytest -rs -p no:cacheprovider "${tests[@]}"
