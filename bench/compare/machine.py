"""What a reader of the numbers must know about the machine and the versions."""

import importlib.metadata
import os
import platform
from datetime import date
from pathlib import Path


def describe(packages: list[str]) -> dict[str, str]:
    """Names and values, in the order to print them."""
    facts = {
        "date": date.today().isoformat(),
        "processor": f"{_cpu()}, {os.cpu_count()} processors",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        "huge pages": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "load": f"{os.getloadavg()[0]:.1f} in the last minute (more than 0.5: the numbers are of a busy machine)",
        "python": platform.python_version(),
    }
    for package in packages:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "absent"
    settings = {name: value for name, value in os.environ.items() if name.startswith(("MALLOC_", "GLIBC_", "NUMPY_"))}
    if settings:
        facts["environment"] = " ".join(f"{name}={value}" for name, value in settings.items())
    return facts


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _chosen(path: str) -> str:
    """The word in brackets: what the system is set to."""
    try:
        return Path(path).read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return "unknown"
