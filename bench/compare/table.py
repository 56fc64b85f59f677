"""Rows as a reader sees them, and as a program does (JSON)."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .rounds import Spread


@dataclass
class Row:
    """One line: a ratio with its goal, or a fact with its verdict."""

    name: str
    against: str
    #: The ratio, or None where the row states a fact.
    ratio: Spread | None = None
    #: The ratio's upper limit, or None where the row only informs.
    goal: float | None = None
    #: A fact's verdict; a ratio's is computed.
    holds: bool | None = None
    note: str = ""
    #: Median seconds an iteration of every arm.
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met: by the median, as printed (two digits); None without one."""
        if self.ratio is None or self.goal is None:
            return self.holds
        return round(self.ratio.median, 2) <= self.goal


def print_header(facts: dict[str, str], title: str, reading: str) -> None:
    print(title)
    for name, value in facts.items():
        print(f"  {name:<14} {value}")
    print(f"\n{reading}\n")
    print(f"{'what':<38} {'against':<26} {'ratio':>6}  {'middle half':<12} {'all rounds':<12} {'goal':>6}  {'met':<4} times")


def print_row(row: Row) -> None:
    goal = "" if row.goal is None else f"≤{row.goal:.2f}"
    met = {None: "", True: "yes", False: "NO"}[row.met]
    times = ", ".join(f"{name} {duration(value)}" for name, value in row.seconds.items())
    tail = "; ".join(part for part in (times, row.note) if part)
    if row.ratio is None:
        figures = f"{'':>6}  {'':<12} {'':<12}"
    else:
        r = row.ratio
        middle, everything = f"{r.low:.2f}–{r.high:.2f}", f"{r.minimum:.2f}–{r.maximum:.2f}"
        figures = f"{r.median:>6.2f}  {middle:<12} {everything:<12}"
    print(f"{row.name:<38} {row.against:<26} {figures} {goal:>6}  {met:<4} {tail}", flush=True)


def print_verdict(rows: list[Row]) -> bool:
    """The last line; whether every goal is met."""
    goals = [row for row in rows if row.met is not None]
    missed = [f"{row.name} against {row.against}" for row in goals if not row.met]
    print(f"\n{len(goals) - len(missed)} of {len(goals)} goals met" + "".join(f"\n  missed: {name}" for name in missed))
    return not missed


def save(path: Path, facts: dict[str, str], rows: list[Row], more: dict[str, object]) -> None:
    data = {"machine": facts, "rows": [asdict(row) | {"met": row.met} for row in rows]} | more
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
