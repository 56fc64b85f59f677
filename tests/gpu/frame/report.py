"""What gpu-check says: a line when a step is over, the table, the JSON file, and the status."""

import json
from dataclasses import asdict
from typing import Any

from result import Result

# Longer words are cut in the table; the JSON file has them whole.
WIDTH = 100


def head(facts: dict[str, Any]) -> str:
    names = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    found = f"{facts['device']} ({facts['api']}), driver: {facts['driver']}" if facts["device"] else f"no CUDA device: {facts['why']}"
    return f"neuro-memory {facts['bundle']['version']} ({facts['commit']}) on {found}\n{facts['date']}, {facts['system']}\n{names}\n"


def line(result: Result) -> str:
    return f"{result.result:8}{result.name}: {result.why} ({result.seconds:.1f} s)"


def cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def rows(results: list[Result]) -> list[tuple[str, str, str, str]]:
    made = []
    for result in results:
        made.append((result.name, result.result, f"{result.seconds:.1f}", cut(result.why)))
        for check in result.checks:
            made.append(("  " + str(check["check"]), said(check), "", cut(figure(check))))
    return made


def said(check: dict[str, Any]) -> str:
    if check.get("skipped"):
        return "SKIPPED"
    return "ok" if check.get("ok") else "FAILED"


def figure(check: dict[str, Any]) -> str:
    """What was measured, and what was wanted; or why not."""
    if check.get("skipped"):
        return str(check["skipped"])
    words = ""
    if check.get("figure") is not None:
        number = check["figure"]
        words = f"{number:.4g}" if isinstance(number, float) else str(number)
        words += f" {check['unit']}" if check.get("unit") else ""
    if check.get("goal"):
        words += f" (goal: {check['goal']}" + ("; missed)" if check.get("met") is False else ")")
    if not check.get("ok") and check.get("detail"):
        words += f" {check['detail']}"
    return words.strip()


def count(results: list[Result]) -> dict[str, int]:
    return {word: sum(result.result == word for result in results) for word in ("ok", "FAILED", "SKIPPED")}


def table(facts: dict[str, Any], results: list[Result], seconds: float) -> str:
    made = [("step", "result", "seconds", "")] + rows(results)
    width = max(len(row[0]) for row in made)
    text = "\n".join(f"{name:{width}}  {word:8}{took:>8}  {words}".rstrip() for name, word, took, words in made)
    counts = count(results)
    end = f"{counts['ok']} ok, {counts['FAILED']} failed, {counts['SKIPPED']} skipped, {seconds:.0f} s"
    logs = "".join(f"\n{result.name}: {result.log}" for result in results if result.result == "FAILED" and result.log)
    return f"\n{text}\n\n{end}{logs}"


def as_json(facts: dict[str, Any], results: list[Result], seconds: float) -> str:
    versions = dict(facts["versions"])
    for result in results:
        versions |= result.versions
    whole = facts | {
        "versions": versions,
        "seconds": round(seconds, 1),
        "counts": count(results),
        "result": "ok" if status(results) == 0 else "FAILED",
        "steps": [asdict(result) | {"seconds": round(result.seconds, 2)} for result in results],
    }
    return json.dumps(whole, indent=1) + "\n"


def status(results: list[Result]) -> int:
    """0 only where something was tried and nothing failed."""
    counts = count(results)
    return 0 if counts["ok"] and not counts["FAILED"] else 1
