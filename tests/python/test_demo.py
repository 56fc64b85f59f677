"""The demo, with fewer rounds: it keeps its promises, and it would say so if it did not."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIB_DIR = Path(os.environ.get("NEURO_LIB_DIR", ROOT / "target" / "release"))


def demo(out: Path, *options: str) -> subprocess.CompletedProcess:
    """Runs examples/demo/run.py as `scripts/demo.sh` does."""
    places = ["--lib-dir", LIB_DIR, "--include-dir", ROOT / "include", "--cc", os.environ.get("CC", "cc"), "--out", out]
    command = [sys.executable, ROOT / "examples" / "demo" / "run.py", *places, *options]
    return subprocess.run(command, capture_output=True, text=True)


def test_all_promises_are_kept(tmp_path):
    run = demo(tmp_path, "--trainings", "1", "--rounds", "1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "\n  NO " not in run.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"classify", "held_out.safetensors", "weights.safetensors"}


def test_a_broken_promise_is_named_and_ends_with_status_1(tmp_path):
    run = demo(tmp_path, "--trainings", "1", "--rounds", "1", "--epochs", "1")
    assert run.returncode == 1, run.stdout + run.stderr
    broken = [line for line in run.stdout.splitlines() if line.startswith("  NO ")]
    assert broken == ["  NO   digits: accuracy on held-out images is 0.95 or more"]
