"""The package around the native module: stubs, command line, names, docstrings."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest

import neuro_memory as nm

ROOT = Path(__file__).parents[2]


def run(*command: str) -> str:
    """Output of a command of this interpreter, which must succeed."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_stubs_match_the_binary() -> None:
    allowed = str(ROOT / "tests" / "python" / "stubtest-allowlist.txt")
    run("-m", "mypy.stubtest", "neuro_memory._neuro_memory", "--allowlist", allowed, "--ignore-unused-allowlist")


def test_types_of_a_program() -> None:
    run("-m", "mypy", "--strict", str(ROOT / "tests" / "python" / "typed_program.py"))


@pytest.mark.parametrize("command", [(), ("info",), ("stats",), ("doctor",)])
def test_command_line(command: tuple[str, ...]) -> None:
    out = run("-m", "neuro_memory", *command)
    assert "live_bytes           0" in out if command == ("stats",) else f"neuro_memory {nm.__version__}" in out


def test_examples() -> None:
    for example in sorted((ROOT / "examples" / "python").glob("hello*.py")):
        run(str(example))


def test_docstring_of_the_package() -> None:
    assert doctest.testmod(nm).failed == 0
    assert doctest.testmod(nm).attempted > 3


def test_every_public_name_is_there_and_documented() -> None:
    for name in nm.__all__:
        if name == "hooks" and not (Path(nm.__file__).parent / "hooks").exists():
            continue
        value = getattr(nm, name)
        assert name.startswith("__") or value.__doc__, name
    for kind in (nm.Tensor, nm.MemoryPool, nm.PoolStats):
        for name in dir(kind):
            assert name.startswith("_") or getattr(kind, name).__doc__, f"{kind.__name__}.{name}"


def test_the_header_is_in_the_package() -> None:
    shipped = Path(nm.get_include()) / "neuro_memory.h"
    assert shipped.read_bytes() == (ROOT / "include" / "neuro_memory.h").read_bytes()


def test_it_is_marked_as_typed() -> None:
    assert os.path.exists(Path(nm.__file__).with_name("py.typed"))
