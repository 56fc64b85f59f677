"""Runs the same work on NumPy's own memory and on a pool, in turn: what each run cost, and whether the bits agree."""

import hashlib
import resource
import statistics
import time
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Cost:
    """Wall time and page faults of one run."""

    seconds: float
    page_faults: int

    def __str__(self) -> str:
        return f"{self.seconds:.3f} s, {self.page_faults:,} page faults"


@dataclass
class Costs:
    """What all runs of one side cost, and how many of the arrays they made begin on 64 bytes."""

    runs: list[Cost] = field(default_factory=list)
    arrays: int = 0
    aligned: int = 0

    def add(self, cost: Cost, arrays: list[np.ndarray]) -> None:
        """One more run, and the arrays it made."""
        self.runs.append(cost)
        self.arrays += len(arrays)
        self.aligned += sum(array.ctypes.data % 64 == 0 for array in arrays)

    @property
    def median_seconds(self) -> float:
        """The run in the middle: a busy machine disturbs some runs, seldom half of them."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def spread(self) -> str:
        """The fastest and the slowest run."""
        seconds = [run.seconds for run in self.runs]
        return f"{min(seconds):.3f}–{max(seconds):.3f} s"

    @property
    def page_faults(self) -> int:
        """Of all runs together, so the first one's filling of an empty pool counts as well."""
        return sum(run.page_faults for run in self.runs)


@dataclass
class Comparison:
    """Both sides of a piece of work. `last` is what the pooled side made in its last run."""

    plain: Costs = field(default_factory=Costs)
    pooled: Costs = field(default_factory=Costs)
    same_bits: bool = True
    last: object = None


def compare(work, arrays_of, rounds: int, pooled_scope, say) -> Comparison:
    """Calls `work(round)` outside and inside `pooled_scope()`, `rounds` times each, in turn.

    `arrays_of(result)` names the arrays whose bits have to agree. Digests are taken outside the measured time.
    """
    outcome = Comparison()
    for number in range(rounds):
        outcome.last = None
        result, plain = measured(work, number)
        expected = digest(arrays_of(result))
        outcome.plain.add(plain, arrays_of(result))
        del result
        with pooled_scope():
            outcome.last, pooled = measured(work, number)
        outcome.same_bits &= digest(arrays_of(outcome.last)) == expected
        outcome.pooled.add(pooled, arrays_of(outcome.last))
        say(f"round {number + 1:2} of {rounds}: NumPy's own memory {plain}; pool {pooled}")
    return outcome


def measured(work, *arguments):
    """Calls `work(*arguments)`; returns its result and its `Cost`."""
    faults, start = page_faults(), time.perf_counter()
    result = work(*arguments)
    return result, Cost(time.perf_counter() - start, page_faults() - faults)


def page_faults() -> int:
    """Page faults of this process so far that needed no disk: for each, the kernel found and cleared memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def digest(arrays: list[np.ndarray]) -> bytes:
    """Of every bit of the arrays, with their types and shapes."""
    state = hashlib.blake2b(digest_size=16)
    for array in arrays:
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(np.ascontiguousarray(array))
    return state.digest()
