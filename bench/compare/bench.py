"""What every benchmark here shares: its options, and the rows it prints as they are measured."""

import argparse
from pathlib import Path

from .rounds import Arm, Sample, compare, ratios
from .table import Row, print_header, print_row, print_verdict, save

READING = (
    "A ratio is time over time, round by round; below 1 ours is faster. 'middle half': between the quartiles of the\n"
    "rounds. A goal counts by the median. Times are medians of one iteration."
)


def options_of(description: str) -> argparse.ArgumentParser:
    """The options that all have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    parser.add_argument("--sessions", type=int, default=3, help="fresh processes a comparison (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds a session (default %(default)s)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a busy machine")
    parser.add_argument("--only", default="", metavar="TEXT", help="only rows whose name contains it")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a goal is missed")
    return parser


class Bench:
    """The rows, printed as they are measured."""

    def __init__(self, options: argparse.Namespace, facts: dict[str, str], title: str) -> None:
        self._options = options
        self._facts = facts | {"clock": options.clock}
        self.rows: list[Row] = []
        print_header(self._facts, title, READING)

    def wanted(self, name: str) -> bool:
        return self._options.only in name

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print_row(row)

    def compare(self, arms: list[Arm], *, clock: str | None = None, pinned: bool = True) -> dict[str, Sample]:
        chosen = self._options
        clock = clock or chosen.clock
        return compare(arms, sessions=chosen.sessions, rounds=chosen.rounds, clock=clock, pinned=pinned)

    def ratio(self, name: str, arms: list[Arm], goals: list[tuple[str, str, float | None]]) -> None:
        """One comparison; a row for every (arm, arm it is compared with, goal)."""
        if not self.wanted(name):
            return
        samples = self.compare(arms)
        for ours, other, goal in goals:
            seconds = {arm: samples[arm].median for arm in (ours, other)}
            self.add(Row(name, other, ratios(samples, ours, other), goal, seconds=seconds))

    def finish(self, **more: object) -> int:
        """Verdict, file (with what `more` there is), and the exit status."""
        all_met = print_verdict(self.rows)
        if self._options.json:
            save(self._options.json, self._facts, self.rows, more)
        return 1 if self._options.strict and not all_met else 0
