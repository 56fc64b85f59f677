"""The programs of tests/gpu, as far as they go without a device: how they isolate, count and report; that each says SKIPPED and why where
there is none; and, on the host, what they check of frameworks that are here."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent.parent / "gpu"
sys.path.insert(0, str(HERE))

import rounds  # noqa: E402

PROGRAMS = sorted(path.name for path in HERE.glob("check_*.py"))


def run(program: Path | str, *arguments: str, **environment: str) -> tuple[int, list[dict], str]:
    """Status, lines and other words of a program; no driver shows it a device."""
    done = subprocess.run(
        [sys.executable, str(HERE / program), *arguments],
        env=os.environ | {"PYTHONPATH": str(HERE), "CUDA_VISIBLE_DEVICES": "", "LD_LIBRARY_PATH": ""} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, [line for line in lines if "versions" not in line], done.stderr


@pytest.fixture
def program(tmp_path):
    """Makes a program of checks."""

    def make(checks: str) -> Path:
        path = tmp_path / "check_some.py"
        path.write_text(f"import os, sys, time\nfrom lines import Skip, check, main\nsys.path.append({str(HERE)!r})\n{checks}\nmain()\n")
        return path

    return make


MIXED = """
@check()
def good(): return {"figure": 1.5, "unit": "GB/s"}
@check()
def bad(): assert 1 == 2, "one is not two"
@check()
def faults(): os.abort()
@check()
def skipped(): raise Skip("no such thing")
@check("rmm")
def lacks(): raise AssertionError("not reached")
@check(limit=0.5)
def hangs(): time.sleep(60)
@check()
def several(): return [{"check": "a"}, {"check": "b", "figure": 2, "goal": "≤ 1", "met": False}]
@check()
def last(): print("a framework's own words")
"""


def test_one_check_does_not_hide_another(program):
    status, lines, words = run(program(MIXED))
    assert status == 1
    found = {line["check"]: line for line in lines}
    assert list(found) == ["good", "bad", "faults", "skipped", "lacks", "hangs", "a", "b", "last"]
    assert [name for name, line in found.items() if not line["ok"]] == ["bad", "faults", "hangs"]
    assert found["good"] == {"check": "good", "ok": True, "figure": 1.5, "unit": "GB/s"}
    assert found["bad"]["error"] == "AssertionError: one is not two" and "def bad" in found["bad"]["detail"]
    assert "SIGABRT" in found["faults"]["error"] and "in faults" in found["faults"]["detail"]
    assert "0 s" in found["hangs"]["error"] and "in hangs" in found["hangs"]["detail"]
    assert found["skipped"]["skipped"] == "no such thing" and "rmm" in found["lacks"]["skipped"]
    assert found["b"]["met"] is False
    assert "a framework's own words" in words


def test_what_is_required_and_what_is_left_out(program):
    path = program(MIXED)
    assert run(path, "--only", "skip")[:2] == (0, [{"check": "skipped", "ok": True, "skipped": "no such thing"}])
    assert run(path, "--only", "skip", "--require")[:2] == (1, [{"check": "skipped", "ok": False, "skipped": "no such thing"}])
    assert run(path, "--only", "several", "--require")[0] == 0
    status, lines, words = run(path, "--only", "no such check")
    assert (status, lines) == (1, []) and "no check here" in words


def test_a_process_that_ends_badly_is_told(program):
    checks = "import atexit\n@check()\ndef good(): atexit.register(os._exit, 7)\n"
    status, lines, _ = run(program(checks))
    assert status == 1 and lines[0] == {"check": "good", "ok": True}
    assert lines[1]["check"] == "end of the process of check_some.py" and "status 7" in lines[1]["error"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_without_a_device_each_says_why(name):
    status, lines, words = run(name)
    assert (status, words) == (0, ""), words
    assert lines and all(line["ok"] and line["skipped"] for line in lines)
    assert len({line["check"] for line in lines}) == len(lines)
    reasons = ("needs hardware: cuda:0: ", "cannot be imported", "does not start here", "finds no CUDA device")
    assert all(any(reason in line["skipped"] for reason in reasons) for line in lines), lines
    status, lines, _ = run(name, "--require")
    assert status == 1 and not any(line["ok"] for line in lines)


def test_no_two_programs_have_a_check_of_one_name():
    names = [line["check"] for name in PROGRAMS for line in run(name)[1]]
    assert len(set(names)) == len(names) > 40


def test_jax_on_the_host():
    status, lines, words = run("check_exchange_others.py", "--only", "jax", NEURO_GPU_DEVICE="cpu", JAX_PLATFORMS="cpu")
    assert status == 0, (lines, words)
    ran = [line["check"] for line in lines if "skipped" not in line]
    assert ran == ["jax takes ours", "we take jaxs"]


def test_quartiles():
    assert rounds.spread([3, 1, 2]) == (1.5, 2, 2.5)
    assert rounds.spread([5]) == (5, 5, 5)
    assert rounds.spread([1, 2, 3, 4, 5]) == (2, 3, 4)
    assert rounds.spread([4, 1]) == (1.75, 2.5, 3.25)
    with pytest.raises(ValueError, match="no values"):
        rounds.spread([])


def test_rounds_turn_their_order():
    said: list[str] = []

    def arm(name: str, took: float):
        return lambda: (said.append(name), took)[1]

    times = rounds.in_turn({"a": arm("a", 1.0), "b": arm("b", 2.0)}, 3, warm=1)
    assert said == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert times == {"a": [1.0] * 3, "b": [2.0] * 3}
    assert rounds.ratio(times["a"], times["b"]) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError):
        rounds.ratio([1.0], [1.0, 2.0])
    took = rounds.timed(lambda: sum(range(1000)))()
    assert 0 < took < 1


def test_figures_and_their_goals():
    assert rounds.figure("x", 1.23456, "GB/s") == {"check": "x", "figure": 1.2346, "unit": "GB/s"}
    assert rounds.figure("x", rounds.Spread(1, 2, 3), "ns", detail="more")["detail"] == "middle half 1–3; more"
    missed = rounds.at_most("x", rounds.Spread(0.9, 1.016, 1.2), 1.01)
    assert missed["met"] is False and missed["goal"] == "≤ 1.01 ×" and missed["detail"].startswith("goal missed; middle half")
    assert rounds.at_most("x", 1.014, 1.01)["met"] and rounds.at_least("x", 0.976, 0.98)["met"]
    assert not rounds.at_least("x", 0.974, 0.98)["met"] and rounds.at_least("x", 60.0, 54.0, unit="GB/s")["goal"] == "≥ 54 GB/s"
    assert math.isclose(rounds.at_least("x", 60.0, 54.0)["figure"], 60)


def test_the_loop_in_c(tmp_path):
    """With the C library's own functions, which heed only the arguments that they know."""
    import ctypes

    compiler = shutil.which("cc")
    assert compiler, "no C compiler"
    import check_figures_pool as pool

    built = tmp_path / "loop.so"
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", *pool.FLAGS, "-o", built, HERE / "loop.c"], check=True)
    loop, libc = ctypes.CDLL(str(built)), ctypes.CDLL(None)
    run = loop.loop_pluggable
    run.restype = ctypes.c_double
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64]
    take, give = (ctypes.cast(libc[name], ctypes.c_void_p) for name in ("malloc", "free"))
    assert 0 < run(take, give, 100, 0, None, 32, 100) < 1e6
    assert run(take, give, 100, 0, None, 0, 1) == run(take, give, 100, 0, None, 257, 1) == -2
    assert run(take, give, 1 << 62, 0, None, 1, 1) == -1
