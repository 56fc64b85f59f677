"""gpu-check's frame: how it reads what steps say, and that no step outlives its time."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import read
import report
from bundle import Bundle
from result import Result
from run import run
from steps import Step

RUST = "test a::b ... ok\ntest result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.50s\n"
BROKEN = "failures:\n    a::b::c\n\ntest result: FAILED. 11 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n"
NONE = RUST.replace("12 passed", "0 passed")
FOUND = "========= COMPUTE-SANITIZER\n========= Invalid __global__ read of size 4 bytes\n========= ERROR SUMMARY: 2 errors\n"


@pytest.mark.parametrize(
    ("reader", "status", "text", "result", "why"),
    [
        (read.rust, 0, RUST, "ok", "12 passed"),
        (read.rust, 0, RUST + "late kernels: 7 programs of 240 operations on 2 threads\n", "ok", "7 programs"),
        (read.rust, 86, RUST, "FAILED", "status 86"),
        (read.rust, -11, "", "FAILED", "signal 11"),
        (read.rust, 101, BROKEN, "FAILED", "a::b::c"),
        (read.rust, 0, NONE, "FAILED", "0 passed"),
        (read.rust, 0, "SKIPPED: the driver: needs hardware\n" + RUST, "SKIPPED", "needs hardware"),
        (read.sanitized, 0, RUST + "========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n", "ok", "0 errors"),
        (read.sanitized, 113, RUST + FOUND, "FAILED", "2 errors; the first: Invalid __global__ read"),
        (read.sanitized, 0, RUST, "FAILED", "did not say"),
        (read.sanitized, 101, BROKEN + "========= ERROR SUMMARY: 0 errors\n", "FAILED", "a::b::c"),
        (read.c, 0, "ok one\nok two\n", "ok", "2 passed"),
        (read.c, 1, "ok one\nFAILED two\n", "FAILED", "two"),
        (read.c, 86, "ok one\n", "FAILED", "status 86"),
        (read.c, 0, "SKIPPED: all of it: no headers\n", "SKIPPED", "no headers"),
        (read.c, 0, "", "FAILED", "nothing"),
        (read.pytest, 0, "..\n3 passed, 1 skipped in 0.10s\n", "ok", "3 passed, 1 skipped"),
        (read.pytest, 1, "FAILED tests/test_x.py::one - no\n1 failed, 2 passed in 0.1s\n", "FAILED", "tests/test_x.py::one"),
        (read.pytest, 0, "5 skipped in 0.10s\n", "SKIPPED", "5 skipped"),
        (read.pytest, 5, "no tests ran in 0.01s\n", "FAILED", "nothing"),
        (read.pytest, 5, "1 skipped in 0.10s\n", "SKIPPED", "1 skipped"),
        (read.lines, 0, '{"check": "a", "ok": true}\nwords\n{"check": "b", "skipped": "no torch"}\n', "ok", "1 passed, 1 skipped"),
        (read.lines, 0, '{"check": "a", "ok": false}\n', "FAILED", "a"),
        (read.lines, 1, '{"check": "a", "ok": true}\n', "FAILED", "status 1"),
        (read.lines, 0, '{"check": "b", "skipped": "no torch"}\n', "SKIPPED", "no torch"),
        (read.lines, 0, "", "FAILED", "nothing"),
        (read.lines, 0, '{"check": "a"}\n', "FAILED", "a"),
    ],
)
def test_what_steps_say(reader: Any, status: int, text: str, result: str, why: str) -> None:
    made = reader("step", status, text)
    assert made.result == result and why in made.why, made


class NoBundle(Bundle):
    def __init__(self) -> None:
        self.folder = Path("/")

    def environment(self, work: Path, *, more: tuple[Path, ...] = ()) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin"}


def test_a_step_ends_with_its_time_and_its_children_with_it(tmp_path: Path) -> None:
    program = "echo 'ok one'; (sleep 1.5; touch {0}/late) & sleep 60"
    step = Step("slow one", ("sh", "-c", program.format(tmp_path)), read.c, 0.5)
    start = time.monotonic()
    made = run(step, NoBundle(), tmp_path, tmp_path, 100, True)
    assert time.monotonic() - start < 1.4
    assert (made.result, made.why) == ("FAILED", "not done after 0 s") and Path(made.log).read_text() == "ok one\n"
    time.sleep(1.5)
    assert not (tmp_path / "late").exists()


def test_what_does_not_run(tmp_path: Path) -> None:
    fine = Step("fine", ("true",), lambda name, status, text: Result(name, "ok"), 5)
    gone = Step("gone", ("/nowhere/at-all",), read.c, 5)
    absent = Step("absent", ("true",), read.c, 5, missing=lambda: "no such tool")
    assert run(fine, NoBundle(), tmp_path, tmp_path, 10, True).result == "ok"
    assert run(gone, NoBundle(), tmp_path, tmp_path, 10, True).result == "FAILED"
    assert run(fine, NoBundle(), tmp_path, tmp_path, 0, True).why.startswith("the time for all steps")
    made = run(absent, NoBundle(), tmp_path, tmp_path, 10, True)
    assert (made.result, made.why) == ("SKIPPED", "no such tool")
    assert run(fine, NoBundle(), tmp_path, tmp_path, 10, False).why == "no CUDA device"


def test_the_report() -> None:
    check = {"check": "copies", "ok": True, "figure": 53.21, "unit": "GB/s", "goal": "≥ 54", "met": False}
    results = [Result("a", "ok", "1 passed", 1.25, checks=[check]), Result("b", "SKIPPED", "no loader")]
    assert report.figure({"check": "c", "ok": False, "detail": "Traceback\n  line 1\nValueError: no\n"}) == "ValueError: no"
    facts = {"versions": {"python": "3"}, "device": "card"}
    said = report.table(facts, results, 2)
    assert "53.21 GB/s (goal: ≥ 54; missed)" in said and "1 ok, 0 failed, 1 skipped, 2 s" in said
    assert report.status(results) == 0 and report.status(results[1:]) == 1
    assert report.status([*results, Result("c", "FAILED", "no")]) == 1
    whole = json.loads(report.as_json(facts, results, 2))
    assert whole["result"] == "ok" and whole["steps"][0]["checks"][0]["unit"] == "GB/s"
