"""Figures: two sides measured in turn, in one process and one run.

Each round times every arm once, in an order that turns around, and gives one ratio. What disturbs the machine for longer than a
round disturbs both sides of the ratio. A goal counts by the median.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """Quartiles of some values."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.4g} ({self.low:.4g}–{self.high:.4g})"


def spread(values: Sequence[float]) -> Spread:
    """Quartiles; between two values in proportion."""
    if not values:
        raise ValueError("quartiles of no values")
    ordered = sorted(values)

    def at(part: float) -> float:
        place = part * (len(ordered) - 1)
        left = int(place)
        right = min(left + 1, len(ordered) - 1)
        return ordered[left] + (ordered[right] - ordered[left]) * (place - left)

    return Spread(at(0.25), at(0.5), at(0.75))


def in_turn(arms: dict[str, Callable[[], float]], rounds: int, warm: int = 1) -> dict[str, list[float]]:
    """Seconds of each arm, a round each. An arm does its work once and says how long it took."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(-warm, rounds):
        names = list(arms) if number % 2 == 0 else list(reversed(arms))
        for name in names:
            took = arms[name]()
            if number >= 0:
                times[name].append(took)
    return times


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Quartiles of ours ÷ theirs, round by round."""
    return spread([mine / other for mine, other in zip(ours, theirs, strict=True)])


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """An arm that times a piece of work which is over when it returns."""

    def arm() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return arm


def figure(name: str, value: float | Spread, unit: str, goal: str = "", met: bool | None = None, detail: str = "") -> dict[str, Any]:
    """The line of a figure; of a spread the median, with the rest as detail. `met` is said where there is a goal."""
    if isinstance(value, Spread):
        detail = f"middle half {value.low:.4g}–{value.high:.4g}" + (f"; {detail}" if detail else "")
        value = value.median
    line: dict[str, Any] = {"check": name, "figure": round(value, 4), "unit": unit}
    if goal:
        line |= {"goal": goal, "met": bool(met)}
        if not met:
            detail = "goal missed" + (f"; {detail}" if detail else "")
    return line | ({"detail": detail} if detail else {})


def at_most(name: str, value: float | Spread, limit: float, detail: str = "", unit: str = "×") -> dict[str, Any]:
    """A figure whose goal is to be no more than a limit; a ratio counts rounded to two digits."""
    return _against(name, value, limit, "≤", detail, unit)


def at_least(name: str, value: float | Spread, limit: float, detail: str = "", unit: str = "×") -> dict[str, Any]:
    """A figure whose goal is to be no less than a limit; a ratio counts rounded to two digits."""
    return _against(name, value, limit, "≥", detail, unit)


def _against(name: str, value: float | Spread, limit: float, how: str, detail: str, unit: str) -> dict[str, Any]:
    shown = round(value.median if isinstance(value, Spread) else value, 2)
    met = shown <= limit if how == "≤" else shown >= limit
    return figure(name, value, unit, f"{how} {limit:g} {unit}", met, detail)
