"""What is installed, whether it works, and what it holds: `python -m neuro_memory info`, `... doctor` and `... stats`."""

import argparse
import platform
import sys
from collections.abc import Callable

import neuro_memory as nm

from ._doctor import doctor


def info() -> None:
    """Prints versions, and where the native module lies (C programs can link to it)."""
    from neuro_memory import _neuro_memory

    print(f"neuro_memory {nm.__version__}")
    print(f"native module  {_neuro_memory.__file__}")
    print(f"python         {platform.python_version()} on {platform.platform()}")
    print("device         cpu")
    devices, missing = nm.devices()
    for device in devices:
        memory = sum(heap["bytes"] for heap in device["heaps"] if heap["device_local"]) / 2**30
        print(f"device         {device['device']}: {device['name']} ({device['kind']}, {memory:.1f} GiB, {device['api']})")
        print(f"  driver       {device['driver']}")
        if device["unusable"]:
            print(f"  not usable   {device['unusable']}")
    for name, reason in missing.items():
        print(f"no {name:12}{reason}")


def stats() -> None:
    """Prints the counts of all pools of this process; a fresh one shows what the library itself costs."""
    for name, value in nm.stats().asdict().items():
        print(f"{name:20} {'none' if value is None else value}")


def main() -> int | None:
    """Runs the command named on the command line; what the process ends with."""
    commands: dict[str, Callable[[], int | None]] = {"doctor": doctor, "info": info, "stats": stats}
    parser = argparse.ArgumentParser(prog="python -m neuro_memory", description=__doc__)
    parser.add_argument("command", choices=sorted(commands), nargs="?", default="info")
    return commands[parser.parse_args().command]()


if __name__ == "__main__":
    sys.exit(main())
