"""Every program in README.md runs as it stands: Python and C here, Rust as a documentation test of neuro-core."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIB_DIR = Path(os.environ.get("NEURO_LIB_DIR", ROOT / "target" / "release"))


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README in this language."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no {language} block"
    return found


@pytest.mark.parametrize("program", blocks("python"))
def test_python_program(program, tmp_path):
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout and not run.stderr


@pytest.mark.parametrize("program", blocks("c"))
def test_c_program(program, tmp_path):
    (tmp_path / "program.c").write_text(program)
    compiler = [*os.environ.get("CC", "cc").split(), "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    library = [f"-I{ROOT}/include", "program.c", f"-L{LIB_DIR}", "-lneuro_memory", f"-Wl,-rpath,{LIB_DIR}"]
    subprocess.run([*compiler, *library, "-o", "program"], cwd=tmp_path, check=True)
    run = subprocess.run([tmp_path / "program"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "aligned to " in run.stdout
