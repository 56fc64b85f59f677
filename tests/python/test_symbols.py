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


def test_c_and_python_share_one_set_of_pools() -> None:
    library = ctypes.CDLL(_neuro_memory.__file__)
    library.neuro_abi_version.restype = ctypes.c_uint32
    abi = re.search(r"#define NEURO_ABI_VERSION (\d+)", HEADER.read_text())
    assert abi and library.neuro_abi_version() == int(abi[1])

    default = ctypes.c_void_p()
    assert library.neuro_pool_default(ctypes.byref(default)) == 0
    library.neuro_pool_allocate.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
    library.neuro_pool_free.argtypes = library.neuro_pool_release.argtypes = [ctypes.c_void_p]
    before = nm.default_pool().stats()
    block = ctypes.c_void_p()
    assert library.neuro_pool_allocate(default, 5000, 0, ctypes.byref(block)) == 0
    assert nm.default_pool().stats().live_blocks == before.live_blocks + 1
    assert library.neuro_pool_free(block) == 0
    assert library.neuro_pool_release(default) == 0
    assert nm.default_pool().stats().live_bytes == before.live_bytes


def test_the_module_needs_nothing_but_python() -> None:
    code = "import sys, neuro_memory; print(sorted(m for m in sys.modules if m.split('.')[0] in ('numpy', 'jax', 'ml_dtypes')))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"


def test_a_c_extension_finds_the_functions_through_the_capsule() -> None:
    pointer = ctypes.pythonapi.PyCapsule_Import
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    find = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(pointer(b"neuro_memory._C_API", 0))
    library = ctypes.CDLL(_neuro_memory.__file__)
    for name in declared():
        assert find(name.encode()) == ctypes.cast(getattr(library, name), ctypes.c_void_p).value, name
    assert find(b"neuro_nothing") is None
    library.neuro_last_error.restype = ctypes.c_char_p
    assert b"neuro_nothing" in library.neuro_last_error()
    assert ctypes.CFUNCTYPE(ctypes.c_uint32)(find(b"neuro_abi_version"))() == library.neuro_abi_version()
