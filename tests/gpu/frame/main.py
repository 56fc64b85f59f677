"""The course of gpu-check: the bundle is made ready, the steps run one after the other, the table and the JSON file are written."""

import argparse
import datetime
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import report
from bundle import Bundle
from result import Result
from run import run
from steps import steps

# The whole may take this long; a step that would begin later has failed.
SECONDS = 470
QUICK_SECONDS = 240


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu-check", description="neuro-memory on this machine's NVIDIA device")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all of it as JSON")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="steps whose name has it; may be given more than once")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="where to keep what each step has said (default: gpu-check-logs here)")
    parser.add_argument("--vulkan", default="*nvidia*", metavar="PATTERN", help="which Vulkan drivers to look at (default: *nvidia*)")
    parser.add_argument("--list", action="store_true", help="print the names of the steps, and run none")
    return parser.parse_args()


def main(folder: Path) -> int:
    chosen = arguments()
    bundle = Bundle(folder)
    todo = [step for step in steps(bundle, chosen.quick, chosen.vulkan) if wanted(step.name, chosen.only)]
    if chosen.list:
        print(*(step.name for step in todo), sep="\n")
        return 0
    if not todo:
        print(f"gpu-check: no step is called {' or '.join(chosen.only)}; --list prints their names", file=sys.stderr)
        return 2
    logs = (chosen.logs or Path("gpu-check-logs")).resolve()
    logs.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    whole = QUICK_SECONDS if chosen.quick else SECONDS
    results: list[Result] = []
    facts: dict[str, object] = {}
    work = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    try:
        bundle.unpack(work)
        facts = {
            "commit": bundle.manifest["commit"],
            "bundle": bundle.manifest,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "system": platform.platform(),
            "quick": chosen.quick,
        }
        facts |= bundle.look(work)
        print(report.head(facts), flush=True)
        device = facts["device"] is not None
        for step in todo:
            left = whole - (time.monotonic() - start)
            result = run(step, bundle, work, logs, left, device)
            results.append(result)
            print(report.line(result), flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    seconds = time.monotonic() - start
    print(report.table(facts, results, seconds))
    if chosen.json:
        chosen.json.write_text(report.as_json(facts, results, seconds))
    return report.status(results)


def wanted(name: str, only: list[str]) -> bool:
    return not only or any(part in name for part in only)
