"""The programs of tests/gpu that need no framework which brings a runtime of its own: they run on the simulated driver, which ends a process in
which it found something with status 86. Frameworks that are not here, or find no device, are skipped by the programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parent.parent / "gpu"
if not PROGRAMS.is_dir():
    pytest.skip("SKIPPED: needs hardware: where gpu-check runs this, it runs the programs themselves", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("cuda")
# What has to run here; the rest is skipped.
RUN = {
    "check_exchange_others.py": {
        "numba both ways by the array interface",
        "cuda core views ours",
        "what the array interface says",
        "what we take and refuse by the array interface",
    },
    "check_hooks_numba.py": {"numbas arrays lie in the pool", "numbas out of memory", "numba too late and at the end"},
    "check_hooks_others.py": {"cuda cores buffers lie in the pool"},
}


@pytest.mark.parametrize("program", RUN)
def test_on_this_device(program):
    done = subprocess.run([sys.executable, str(PROGRAMS / program)], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, ([line for line in lines if not line.get("ok", True)], done.stderr)
    ran = {line["check"] for line in lines if "check" in line and "skipped" not in line}
    assert ran >= RUN[program], lines
