"""The steps: what each runs, for how long, how its output is read, and why it may not be able to run."""

import ctypes
import fnmatch
import functools
import glob
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import read
from bundle import Bundle
from result import Result

# Of the tests that are written in Rust.
CONTRACT = "backend::cuda::tests::machine::"
ORDERING = "kernel::cuda::tests::late::"
PROGRAMS = ORDERING + "programs_with_late_kernels_compute_what_they_should"
# The devices of one card share its errors; one test at a time says which it was.
ONE_BY_ONE = "--test-threads=1"
VULKAN_TESTS = ("test_devices", "test_transfers", "test_vulkan")


@dataclass(frozen=True)
class Step:
    name: str
    command: tuple[str, ...]
    # Reads status and output into a result.
    read: Callable[[str, int, str], Result]
    limit: float
    environment: Mapping[str, str] = field(default_factory=dict)
    # Folders with Python packages that it sees, too.
    packages: tuple[Path, ...] = ()
    # Why it cannot run here; "" where it can.
    missing: Callable[[], str] = lambda: ""


def steps(bundle: Bundle, quick: bool, vulkan: str) -> list[Step]:
    """All of them, in the order in which they run: what others rest on first."""
    core = str(bundle.core_tests)
    seconds = "2" if quick else "20"
    debug = {"NEURO_DEVICE_DEBUG": "1"}
    all_steps = [
        Step("contract", (core, CONTRACT, ONE_BY_ONE), read.rust, 90),
        Step("ordering", (core, ORDERING, ONE_BY_ONE, "--nocapture"), read.rust, 90, {"NEURO_SOAK_SECONDS": seconds}),
    ]
    for program in sorted(bundle.c_tests.glob("test_cuda*")):
        all_steps.append(Step(f"c {program.name}", (str(program),), read.c, 40))
    pytest = (sys.executable, "-m", "pytest", "-rs", "-q", "-p", "no:cacheprovider", "--rootdir", str(bundle.python_tests))
    for module in sorted(bundle.python_tests.glob("test_cuda*.py")):
        all_steps.append(
            Step(f"python {module.stem}", (*pytest, str(module)), read.pytest, 60, packages=(bundle.pytest,), missing=without_numpy)
        )
    drivers = os.pathsep.join(file for file in vulkan_drivers() if fnmatch.fnmatch(Path(file).name, vulkan))
    for name in VULKAN_TESTS:
        all_steps.append(
            Step(
                f"vulkan {name}",
                (str(bundle.c_tests / name),),
                read.c,
                40,
                # The newer name and the older one of the same.
                {"VK_DRIVER_FILES": drivers, "VK_ICD_FILENAMES": drivers, "NEURO_REQUIRE_VULKAN": "1"},
                missing=functools.partial(without_vulkan, vulkan),
            )
        )
    for check in sorted(bundle.checks.glob("check_*.py")):
        limit = 40 if quick else 150
        environment = {"NEURO_GPU_QUICK": "1" if quick else "0"}
        name = check.stem.replace("_", " ", 1)
        all_steps.append(Step(name, (sys.executable, str(check)), read.lines, limit, environment))
    # What is slow and of unknown length comes last, so that it takes no time from the rest.
    watched = [
        ("contract", CONTRACT, {}),
        ("ordering", PROGRAMS, debug | {"NEURO_SOAK_SECONDS": "2" if quick else "6"}),
    ]
    for tool, options in (("memcheck", ("--leak-check", "full")), ("initcheck", ())):
        for name, tests, environment in watched:
            command = (sanitizer() or "compute-sanitizer", "--tool", tool, "--error-exitcode", str(read.SANITIZER_STATUS), *options)
            all_steps.append(
                Step(
                    f"{name} {tool}",
                    (*command, core, tests, ONE_BY_ONE, "--nocapture"),
                    read.sanitized,
                    100,
                    environment,
                    missing=without_sanitizer,
                )
            )
    return all_steps


@functools.cache
def sanitizer() -> str | None:
    """compute-sanitizer: on the PATH, of the toolkit, or of a Python package."""
    packages = [*site.getsitepackages(), site.getusersitepackages()]
    places = [
        "/usr/local/cuda*/bin",
        "/usr/local/cuda*/compute-sanitizer",
        "/opt/cuda/bin",
        "/opt/cuda/extras/compute-sanitizer",
        f"{sys.prefix}/bin",
        f"{sys.prefix}/compute-sanitizer",
        *(f"{folder}/nvidia/*/{part}" for folder in packages for part in ("bin", "compute-sanitizer")),
    ]
    on_path = shutil.which("compute-sanitizer")
    found = [on_path] if on_path else []
    for place in places:
        found += sorted(glob.glob(f"{place}/compute-sanitizer"), reverse=True)
    return next((tool for tool in found if answers(tool)), None)


def answers(tool: str) -> bool:
    try:
        return subprocess.run([tool, "--version"], capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def without_sanitizer() -> str:
    if sanitizer():
        return ""
    return "compute-sanitizer is neither on the PATH, nor in /usr/local/cuda*, nor in a Python package (nvidia-cuda-sanitizer-api)"


def without_numpy() -> str:
    command = [sys.executable, "-c", "import numpy"]
    return "" if subprocess.run(command, capture_output=True, check=False).returncode == 0 else "NumPy is not here"


@functools.cache
def vulkan_drivers() -> list[str]:
    """The files that tell the loader of drivers, of all makers."""
    data = [os.environ.get("XDG_DATA_DIRS", ""), "/etc", "/usr/share", "/usr/local/share", "/etc/xdg", os.path.expanduser("~/.local/share")]
    folders = [folder for entry in data for folder in entry.split(os.pathsep) if folder]
    return sorted({file for folder in folders for file in glob.glob(f"{folder}/vulkan/icd.d/*.json")})


def without_vulkan(pattern: str) -> str:
    try:
        ctypes.CDLL("libvulkan.so.1")
    except OSError as wrong:
        return f"no Vulkan loader: {wrong}"
    found = [Path(file).name for file in vulkan_drivers()]
    if not fnmatch.filter(found, pattern):
        return f"no Vulkan driver called {pattern}; there are: {', '.join(found) or 'none'}"
    return ""
