"""The programs of tests/gpu that check exchanges with PyTorch, and training: on the host, where they run as they do on a device but for what
needs one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
PROGRAMS = Path(__file__).resolve().parent.parent / "gpu"
# How many checks of each have to run.
RUN = {
    "check_exchange_torch.py": 6,
    "check_exchange_table.py": 1,
    "check_exchange_pinned.py": 2,
    "check_exchange_lifetimes.py": 4,
    "check_figures_exchange.py": 1,
    "check_training.py": 4,
}


@pytest.mark.parametrize("program", RUN)
def test_on_the_host(program):
    # One thread for each process: several wait for each other where others use the processor, too.
    environment = os.environ | {"NEURO_GPU_DEVICE": "cpu", "NEURO_GPU_QUICK": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, str(PROGRAMS / program)], env=environment, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    checks = [line for line in lines if "check" in line]
    assert done.returncode == 0, ([line for line in checks if not line["ok"]], done.stderr)
    assert sum("skipped" not in line for line in checks) >= RUN[program], checks


def test_a_training_that_differs_is_found():
    sys.path.insert(0, str(PROGRAMS))
    import models
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runs = {}
        for seed in (7, 7, 8):
            run = models.begin("transformer", "small", "cpu", seed)
            runs.setdefault(seed, []).append((run.train(4), run.digest()))
        assert runs[7][0] == runs[7][1] != runs[8][0]
        # One bit of one number.
        with torch.no_grad():
            run.model.places.view(-1)[3:4].view(torch.int32).bitwise_xor_(1)
        assert run.digest() != runs[8][0][1]
    finally:
        torch.set_num_threads(threads)
        sys.path.remove(str(PROGRAMS))
