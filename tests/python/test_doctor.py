"""`python -m neuro_memory doctor`: what is there is used, what is missing is no failure, what is broken is found."""

import os
import subprocess
import sys

import pytest

import neuro_memory as nm

DEVICE = {"device": "vulkan:99", "name": "a card", "kind": "discrete", "driver": "a driver", "unusable": None}


def ended(*command: str, **environment: str) -> tuple[int, list[list[str]], str]:
    """Its status, its lines in status, subject and words, and the last line."""
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )
    assert done.stderr == ""
    *lines, last = done.stdout.splitlines()
    return done.returncode, [[line[:9].strip(), line[9:26].strip(), line[26:]] for line in lines], last


def patched(patch: str) -> tuple[int, list[list[str]], str]:
    """The same in an interpreter where something is otherwise."""
    return ended("-c", f"import sys, neuro_memory as nm\n{patch}\nfrom neuro_memory import _doctor\nsys.exit(_doctor.doctor())")


def words_of(lines: list[list[str]], status: str, what: str) -> str:
    found = [words for said, subject, words in lines if (said, subject) == (status, what)]
    assert len(found) == 1, lines
    return found[0]


def test_here() -> None:
    status, lines, last = ended("-m", "neuro_memory", "doctor")
    assert (status, last) == (0, "all that is there works")
    assert {line[0] for line in lines} <= {"OK", "MISSING"}
    assert nm.__version__ in words_of(lines, "OK", "extension")
    words_of(lines, "OK", "numpy hook")
    for kind in ("cuda", "vulkan"):
        count = sum(device["device"].startswith(kind) for device in nm.devices()[0])
        words = words_of(lines, "OK" if count else "MISSING", kind)
        assert f"has {count} device" in words or not count
    assert "nvrtc" in [line[1] for line in lines]
    assert "a child has" in words_of(lines, "OK", "fork")
    assert "huge pages" in [line[1] for line in lines]
    for device in nm.devices()[0]:
        words = words_of(lines, "MISSING" if device["unusable"] else "OK", device["device"])
        assert device["name"] in words and (device["unusable"] or "1048579 bytes there and back") in words


def test_without_a_driver() -> None:
    nowhere = "/nonexistent/driver.json"
    status, lines, _ = ended("-m", "neuro_memory", "doctor", VK_DRIVER_FILES=nowhere, VK_ICD_FILENAMES=nowhere)
    assert status == 0
    assert "apt install libvulkan1 mesa-vulkan-drivers" in words_of(lines, "MISSING", "vulkan")
    others = any(device["device"].startswith("cuda") for device in nm.devices()[0])
    assert words_of(lines, "OK", "fork") == "a child has the memory of the host" + (", and no devices" if others else "")


def test_without_numpy() -> None:
    status, lines, _ = patched("sys.modules['numpy'] = None")
    assert status == 0
    assert "pip install numpy" in words_of(lines, "MISSING", "numpy")


def test_nvrtc_is_used(nvrtc: None) -> None:
    lines = ended("-m", "neuro_memory", "doctor")[1]
    assert words_of(lines, "OK", "nvrtc") == "NVRTC {}.{} compiles CUDA C".format(*nm.cuda.nvrtc_version())


def test_without_nvrtc() -> None:
    status, lines, _ = ended("-m", "neuro_memory", "doctor", NEURO_NVRTC="/nonexistent/libnvrtc.so")
    assert status == 0
    words = words_of(lines, "MISSING", "nvrtc")
    assert "/nonexistent/libnvrtc.so" in words and "pip install nvidia-cuda-nvrtc" in words


def test_a_device_that_cannot_be_used_is_missing() -> None:
    status, lines, _ = patched(f"nm.devices = lambda: ([{DEVICE | {'unusable': 'too old'}!r}], {{}})")
    assert status == 0
    assert words_of(lines, "MISSING", "vulkan:99") == "a card (discrete), a driver: too old"


@pytest.mark.parametrize(
    ("what", "patch", "words"),
    [
        ("vulkan:99", f"nm.devices = lambda: ([{DEVICE!r}], {{}})", "NeuroMemoryError: vulkan:99 is not available"),
        (
            "vulkan:99",
            f"nm.devices = lambda: ([{DEVICE!r}], {{}})\n"
            "class Liar:\n  def to(self, where): return self if where != 'cpu' else bytes(9)\n"
            "nm.from_buffer = lambda sent: Liar()",
            "what came back is not what was sent",
        ),
        ("numpy hook", "import neuro_memory.hooks._numpy as n; n._core._numpy_set_handler = lambda handler: None", "not in the pool"),
        (
            "fork",
            f"zeros = nm.zeros\nimport os\nowner = os.getpid()\n"
            "nm.zeros = lambda *a: zeros(*a) if os.getpid() == owner else os.abort()",
            "ended by signal 6",
        ),
        (
            "nvrtc",
            "nm.cuda.nvrtc_version = lambda: (1, 2)\n"
            "from neuro_memory import _neuro_memory as core\ncore._cuda_ptx = lambda *a: b'//'",
            "has no kernel in it",
        ),
        ("fork", "import os\nowner = os.getpid()\nnm.zeros = lambda *a: nm.ones(*a)", "cannot use the memory"),
    ],
)
def test_what_is_broken_is_found(what: str, patch: str, words: str) -> None:
    status, lines, last = patched(patch)
    assert (status, last) == (1, "1 broken")
    assert words in words_of(lines, "BROKEN", what)
