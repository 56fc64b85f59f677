"""What is installed and what it holds: `python -m neuro_memory info` and `... stats`."""

import argparse
import platform

import neuro_memory as nm


def info() -> None:
    """Prints versions, and where the native module lies (C programs can link to it)."""
    from neuro_memory import _neuro_memory

    print(f"neuro_memory {nm.__version__}")
    print(f"native module  {_neuro_memory.__file__}")
    print(f"python         {platform.python_version()} on {platform.platform()}")
    print("devices        cpu")


def stats() -> None:
    """Prints the counts of all pools of this process; a fresh one shows what the library itself costs."""
    for name, value in nm.stats().asdict().items():
        print(f"{name:20} {'none' if value is None else value}")


def main() -> None:
    """Runs the command named on the command line."""
    commands = {"info": info, "stats": stats}
    parser = argparse.ArgumentParser(prog="python -m neuro_memory", description=__doc__)
    parser.add_argument("command", choices=sorted(commands), nargs="?", default="info")
    commands[parser.parse_args().command]()


if __name__ == "__main__":
    main()
