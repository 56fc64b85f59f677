"""Side-by-side timing: several processes, driven in turns, compared round by round."""

from .bench import Bench, options_of
from .machine import describe
from .rounds import Arm, Spread, one_process, ratios
from .table import Row, duration

__all__ = [
    "Arm",
    "Bench",
    "Row",
    "Spread",
    "describe",
    "duration",
    "one_process",
    "options_of",
    "ratios",
]
