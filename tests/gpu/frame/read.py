"""Reads what steps have said: Rust's and C's tests, pytest, compute-sanitizer, and lines of JSON. Success needs both: a status of 0, and that
something was tried."""

import json
import re
from typing import Any

from result import Result

# With which compute-sanitizer ends a program in which it found something.
SANITIZER_STATUS = 113


def ended(status: int) -> str:
    return f"ended with signal {-status}" if status < 0 else f"ended with status {status}"


def rust(name: str, status: int, text: str) -> Result:
    """A binary of Rust's test harness."""
    # From the number on: without capture a test's own words stand before it.
    done = re.findall(r"test result: \w+\. (\d+) passed; (\d+) failed", text)
    passed, failed = (sum(int(pair[at]) for pair in done) for at in (0, 1))
    broken = re.findall(r"^    (\w+(?:::\w+)+)$", text, re.MULTILINE)
    if skipped := re.search(r"^SKIPPED: (.*)", text, re.MULTILINE):
        return Result(name, "SKIPPED", skipped[1])
    if status != 0 or failed or not passed:
        return Result(name, "FAILED", ", ".join(dict.fromkeys(broken)) or f"{passed} passed, {ended(status)}")
    programs = re.search(r"late kernels: (\d+ programs.*)", text)
    return Result(name, "ok", programs[1] if programs else f"{passed} passed")


def sanitized(name: str, status: int, text: str) -> Result:
    """The same under compute-sanitizer."""
    inner = rust(name, status, text)
    errors = re.findall(r"ERROR SUMMARY: (\d+) error", text)
    first = re.search(r"^=+ (Error: .*|Invalid .*|Uninitialized .*|Program hit .*|Leaked .*)", text, re.MULTILINE)
    if not errors and "compute-sanitizer" not in text.lower():
        return Result(name, "FAILED", f"compute-sanitizer did not say what it found; {ended(status)}")
    if status == SANITIZER_STATUS or any(int(count) for count in errors):
        count = sum(map(int, errors))
        return Result(name, "FAILED", f"{count} errors" + (f"; the first: {first[1]}" if first else ""))
    if inner.result == "ok":
        inner.why += ", 0 errors"
    return inner


def c(name: str, status: int, text: str) -> Result:
    """A program of tests/c."""
    good, bad = (re.findall(rf"^{word} (.*)", text, re.MULTILINE) for word in ("ok", "FAILED"))
    if status != 0 or bad:
        return Result(name, "FAILED", ", ".join(bad) or f"{len(good)} passed, {ended(status)}")
    skipped = re.search(r"^SKIPPED: (.*)", text, re.MULTILINE)
    if not good:
        return Result(name, "SKIPPED" if skipped else "FAILED", skipped[1] if skipped else "nothing was tried")
    return Result(name, "ok", f"{len(good)} passed" + (f"; not all: {skipped[1]}" if skipped else ""))


def pytest(name: str, status: int, text: str) -> Result:
    """A run of pytest."""
    last = re.findall(r"^(?:=+ )?((?:\d+ \w+(?:, )?)+) in [\d.]+s", text, re.MULTILINE)
    said = last[-1] if last else ""
    broken = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    # 5: no test was there to run, as where a whole file is skipped.
    if status not in (0, 5):
        return Result(name, "FAILED", said + (": " + ", ".join(broken) if broken else f", {ended(status)}"))
    if "passed" not in said:
        return Result(name, "SKIPPED" if "skipped" in said else "FAILED", said or "nothing was tried")
    return Result(name, "ok", said)


def lines(name: str, status: int, text: str) -> Result:
    """A program that prints a line of JSON for each of its checks."""
    checks: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said.get("versions"), dict):
            versions |= said["versions"]
        elif "check" in said:
            checks.append(said)
    bad = [str(check["check"]) for check in checks if not check.get("ok", "skipped" in check)]
    skipped = [check for check in checks if check.get("skipped")]
    tried = len(checks) - len(skipped)
    if bad or status != 0:
        made = Result(name, "FAILED", ", ".join(bad) or f"{tried} tried, {ended(status)}", checks=checks)
    elif not tried:
        made = Result(name, "SKIPPED" if skipped else "FAILED", str(skipped[0]["skipped"]) if skipped else "nothing was tried", checks=checks)
    else:
        made = Result(name, "ok", f"{tried} passed" + (f", {len(skipped)} skipped" if skipped else ""), checks=checks)
    made.versions = versions
    return made
