#!/usr/bin/env python3
"""gpu-check: what neuro-memory promises, tried on this machine's NVIDIA device. Runs from a bundle (`make gpu-bundle`), and needs nothing
beside it but Python 3.11, the driver, and whichever of PyTorch, CuPy, JAX and compute-sanitizer are here.

    python3 gpu-check [--json FILE] [--only NAME]… [--quick] [--logs FOLDER] [--list]

One table is printed: each step with `ok`, `FAILED`, or `SKIPPED` and why. Status 0 only where something was tried and nothing failed.
"""

import sys
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(f"gpu-check: Python 3.11 or newer is needed; this is {sys.version.split()[0]} ({sys.executable})")

sys.dont_write_bytecode = True  # the bundle may be somewhere that is only read
sys.path.insert(0, str(Path(__file__).resolve().parent / "frame"))

from main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))
