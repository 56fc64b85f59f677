"""Side-by-side timing: several processes, driven in turns, compared round by round."""

from .machine import describe
from .rounds import Arm, Sample, Spread, compare, one_process
from .table import Row, print_header, print_row, print_verdict, save

__all__ = [
    "Arm",
    "Row",
    "Sample",
    "Spread",
    "compare",
    "describe",
    "one_process",
    "print_header",
    "print_row",
    "print_verdict",
    "save",
]
