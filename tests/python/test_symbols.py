"""The extension carries the C interface, so that C code and Python in one process share one set of pools."""

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import neuro_memory as nm
from neuro_memory import _neuro_memory

HEADER = Path(__file__).parents[2] / "include" / "neuro_memory.h"


def declared() -> set[str]:
    """The functions of the committed header."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", HEADER.read_text(), flags=re.DOTALL)
    return set(re.findall(r"\b(neuro_\w+)\s*\(", text))


def test_every_function_of_the_header_is_exported() -> None:
    out = subprocess.run(["nm", "-D", "--defined-only", _neuro_memory.__file__], check=True, capture_output=True, text=True)
    exported = {line.split()[-1] for line in out.stdout.splitlines()}
    assert len(declared()) > 20
    assert declared() <= exported, sorted(declared() - exported)
    assert "PyInit__neuro_memory" in exported


def test_c_sees_the_blocks_that_python_made() -> None:
    library = ctypes.CDLL(_neuro_memory.__file__)
    version = library.neuro_abi_version
    version.restype = ctypes.c_uint32
    assert version() > 0
    tensor = nm.zeros(1000)
    owns = library.neuro_pool_owns
    owns.restype, owns.argtypes = ctypes.c_bool, [ctypes.c_void_p]
    assert owns(tensor.data_ptr)
    assert not owns(ctypes.addressof(ctypes.c_int()))


def test_the_module_needs_nothing_but_python() -> None:
    code = "import sys, neuro_memory; print(sorted(m for m in sys.modules if m.split('.')[0] in ('numpy', 'jax', 'ml_dtypes')))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"
