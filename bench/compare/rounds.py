"""Arms, rounds, ratios.

A comparison runs its arms in processes of their own, so that no arm sees the state another's allocator is in. The
processes take turns: every round times each arm once, in an order that alternates, and gives one ratio. What disturbs
the machine for longer than a round disturbs both sides of a ratio. Several sessions, each with fresh processes, cover
what is decided once a process: where its memory lies, how much of it is in huge pages.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

#: The measured process of arms in Python; a native program that speaks its JSON lines can stand in for it.
PYTHON = (sys.executable, str(Path(__file__).with_name("worker.py")))
#: Seconds that one batch of the first arm takes; all arms of a comparison do the same number of iterations.
BATCH_SECONDS = 0.03
#: Batches before the first one that counts: allocators reach the state they stay in.
WARM_UP = 3


@dataclass(frozen=True)
class Arm:
    """One way to do the work: `setup` once a process, then `statement` over and over.

    Both are Python source for the Python worker; another `program` says what it takes.
    """

    name: str
    setup: object
    statement: object
    program: tuple[str, ...] = PYTHON


@dataclass
class Sample:
    """Seconds an iteration of one arm, one value a round."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Spread:
    """A ratio over all rounds."""

    median: float
    low: float
    high: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return cls(statistics.median(values), quartiles[0], quartiles[2], min(values), max(values))


class Worker:
    """A measured process."""

    def __init__(self, cpu: int | None, program: tuple[str, ...] = PYTHON) -> None:
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if cpu is not None:
            os.sched_setaffinity(self._process.pid, {cpu})

    def ask(self, **request: object) -> object:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the measured process ended with {self._process.wait()} during {request}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"the measured process failed:\n{answer['error']}")
        return answer["ok"]

    def time(self, statement: object, times: int, clock: str) -> float:
        """Seconds an iteration."""
        return self.ask(time=statement, times=times, clock=clock) / times

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=60)


@contextmanager
def one_process(program: tuple[str, ...] = PYTHON) -> Iterator[Worker]:
    """A fresh process to ask for things that are not times."""
    worker = Worker(None, program)
    try:
        yield worker
    finally:
        worker.close()


def compare(
    arms: list[Arm], *, sessions: int, rounds: int, clock: str, pinned: bool = True
) -> dict[str, Sample]:
    """Times all arms side by side; values with the same index are of the same round.

    Arms with several threads are not `pinned`: they place their threads themselves.
    """
    samples = {arm.name: Sample() for arm in arms}
    # All arms on one processor: two are not always equally fast. Ours is another one, if there is.
    cpus = sorted(os.sched_getaffinity(0))
    for _ in range(sessions):
        with ExitStack() as stack:
            workers = {}
            for arm in arms:
                workers[arm.name] = Worker(cpus[-1] if pinned else None, arm.program)
                stack.callback(workers[arm.name].close)
                workers[arm.name].ask(exec=arm.setup)
            times = _iterations(workers[arms[0].name], arms[0].statement, clock)
            for number in range(-WARM_UP, rounds):
                for arm in arms if number % 2 else reversed(arms):
                    seconds = workers[arm.name].time(arm.statement, times, clock)
                    if number >= 0:
                        samples[arm.name].seconds.append(seconds)
    return samples


def ratios(samples: dict[str, Sample], numerator: str, denominator: str) -> Spread:
    """`numerator` over `denominator`, round by round."""
    pairs = zip(samples[numerator].seconds, samples[denominator].seconds, strict=True)
    return Spread.of([a / b for a, b in pairs])


def _iterations(worker: Worker, statement: object, clock: str) -> int:
    times = 1
    while True:
        seconds = worker.time(statement, times, clock) * times
        if seconds >= BATCH_SECONDS / 2 or times >= 1 << 24:
            return max(1, round(times * BATCH_SECONDS / max(seconds, 1e-9)))
        times *= 4
