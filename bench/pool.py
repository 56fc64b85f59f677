"""Our pool against other allocators: `make bench-pool`, or `python bench/pool.py [--json FILE] [--plot FILE.svg]`.

README.md in this folder says how to read the output and what it does not show.
"""

import os
import sys
import tomllib
from pathlib import Path

from compare import Arm, Bench, Row, describe, duration, one_process, options_of, ratios

HERE = Path(__file__).resolve().parent
WORKER = HERE / "target/release/pool-worker"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

#: Allocators with memory of their own, for any thread.
LIBRARIES = ("glibc", "jemalloc", "mimalloc", "snmalloc")
#: Allocators in memory they are given, for one thread.
ARENAS = ("rlsf", "talc")
#: The crates they come from, for the head of the output.
CRATES = ("tikv-jemalloc-sys", "libmimalloc-sys", "snmalloc-sys", "rlsf", "talc", "offset-allocator")
COLOURS = {"pool": "#1f6feb", "heap": "#6cb0ff", "none": "#e3e5e8", "reuse": "#e3e5e8"}

#: Seconds a step, by work and peer: what the last table and the picture show.
Times = dict[str, dict[str, float]]


def arms(spec: dict[str, object], peers: tuple[str, ...]) -> list[Arm]:
    return [Arm(peer, spec, None, (str(WORKER), peer)) for peer in peers]


class Pools:
    """The benchmark's rows."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.times: Times = {}

    def measure(
        self,
        name: str,
        spec: dict[str, object],
        peers: tuple[str, ...],
        goals: list[tuple[str, tuple[str, ...], float | None]],
        pinned: bool = True,
    ) -> None:
        """One comparison; a row for every (arm, arms of which the fastest is what it is compared with, goal)."""
        if not self.bench.wanted(name):
            return
        samples = self.bench.compare(arms(spec, peers), pinned=pinned)
        seconds = {peer: samples[peer].median for peer in peers}
        self.times[name] = seconds
        for ours, others, goal in goals:
            best = min(others, key=seconds.__getitem__)
            against = best if len(others) == 1 else f"best peer: {best}"
            shown = {peer: seconds[peer] for peer in (ours, best)}
            self.bench.add(Row(name, against, ratios(samples, ours, best), goal, seconds=shown))

    def live_rows(self) -> None:
        """Blocks of random sizes that live for a random time."""
        peers = ("pool", *LIBRARIES, *ARENAS, "heap", "offset-allocator", "none")
        best = ("pool", (*LIBRARIES, *ARENAS), 0.7)
        offsets = ("heap", ("offset-allocator",), None)
        for low, high, slots in ((64, 4 * KIB, 1000), (64, 4 * KIB, 10_000), (64, MIB, 1000)):
            self.measure(f"{span(low, high)}, {slots:,} slots", live(low, high, slots), peers, [best, offsets])
        touched = live(64, 4 * KIB, 10_000) | {"touch": True}
        with_memory = ("pool", *LIBRARIES, *ARENAS)
        informs = ("pool", (*LIBRARIES, *ARENAS), None)
        self.measure(f"{span(64, 4 * KIB)}, 10,000 slots, touched", touched, with_memory, [informs])

    def large_rows(self) -> None:
        """The same with large blocks: two comparisons, because a library's step takes many times as long."""
        low, high, slots = 256 * KIB, 64 * MIB, 100
        name, spec = f"{span(low, high)}, {slots} slots", live(low, high, slots)
        goals = [("heap", ("offset-allocator",), 1.0), ("pool", ("offset-allocator",), 1.3), ("pool", ARENAS, None)]
        self.measure(name, spec, ("pool", "heap", "offset-allocator", *ARENAS, "none"), goals)
        goals = [("pool", ("mimalloc",), 0.05), ("pool", LIBRARIES, None)]
        self.measure(f"{name}, libraries", spec, ("mimalloc", "pool", "glibc", "jemalloc", "snmalloc"), goals)

    def touch_rows(self) -> None:
        """64 MiB taken, written to on every page, and freed: two comparisons, since a fresh mapping each time is slow."""
        name, spec = "64 MiB touched in a loop", {"work": "touch_loop", "bytes": 64 * MIB}
        self.measure(name, spec, ("reuse", "pool"), [("pool", ("reuse",), 1.05)])
        peers = ("glibc", "pool", "jemalloc", "mimalloc", "snmalloc")
        self.measure(f"{name}, libraries", spec, peers, [("pool", LIBRARIES, None)])

    def thread_rows(self) -> None:
        """Two threads at once."""
        each, handoff = live(64, 4 * KIB, 1000) | {"threads": 2}, {"work": "handoff", "low": 64, "high": 4 * KIB}
        for name, spec in (("two threads, each its own", each), ("two threads, one frees", handoff)):
            if self.bench.wanted(name) and len(os.sched_getaffinity(0)) < 2:
                self.bench.add(Row(name, "", note="needs two processors"))
                continue
            goals = [("pool", ("mimalloc",), 1.0), ("pool", LIBRARIES, None)]
            self.measure(name, spec, ("pool", *LIBRARIES), goals, pinned=False)

    def side_row(self) -> None:
        """Bytes of records a block."""
        name, blocks, goal = "records of 1,000,000 × 64 B", 1_000_000, 8
        if not self.bench.wanted(name):
            return
        each = {peer: ask(peer, {"fact": "side", "blocks": blocks})["side"] / blocks for peer in ("pool", "heap")}
        note = ", ".join(f"{peer} {value:.2f} B a block" for peer, value in each.items())
        self.bench.add(Row(name, f"at most {goal} B", holds=each["pool"] <= goal, note=note))

    def kept_row(self) -> None:
        """What is left of 1 GiB two seconds after it was freed."""
        name, goal = "kept 2 s after 1 GiB was freed", 2 * MIB
        if not self.bench.wanted(name):
            return
        question = {"fact": "kept", "bytes": GIB, "seconds": 2.0}
        kept = {peer: ask(peer, question) for peer in ("pool", *LIBRARIES)}
        committed = kept["pool"]["committed"]
        note = f"pool says {committed / MIB:.1f} MiB; resident: "
        note += ", ".join(f"{peer} {answer['resident'] / MIB:.1f} MiB" for peer, answer in kept.items())
        self.bench.add(Row(name, f"at most {goal // MIB} MiB", holds=committed <= goal, note=note))


def live(low: int, high: int, slots: int) -> dict[str, object]:
    return {"work": "live_set", "low": low, "high": high, "slots": slots, "touch": False, "threads": 1}


def span(low: int, high: int) -> str:
    return f"{size(low)}–{size(high)}"


def size(nbytes: int) -> str:
    return f"{nbytes // MIB} MiB" if nbytes >= MIB else f"{nbytes // KIB} KiB" if nbytes >= KIB else f"{nbytes} B"


def ask(peer: str, question: dict[str, object]) -> dict:
    """A fresh process's answer to what is not a time."""
    with one_process((str(WORKER), peer)) as worker:
        return worker.ask(eval=question)


def versions() -> dict[str, str]:
    """Of the peers, as the lock file pins them; glibc's stands with the system's."""
    packages = tomllib.loads((HERE / "Cargo.lock").read_text())["package"]
    found = {package["name"]: package["version"].partition("+")[0] for package in packages}
    return {"crates": ", ".join(f"{name} {found[name]}" for name in CRATES)}


def print_times(times: Times) -> None:
    """All medians: a line for each piece of work, a column for each peer."""
    peers = list(dict.fromkeys(peer for row in times.values() for peer in row))
    print(f"\n{'medians of one step':<42}" + "".join(f"{peer:>{max(9, len(peer) + 2)}}" for peer in peers))
    for name, row in times.items():
        cells = (f"{duration(row[peer]) if peer in row else '':>{max(9, len(peer) + 2)}}" for peer in peers)
        print(f"{name:<42}" + "".join(cells))


def main() -> int:
    parser = options_of(__doc__.splitlines()[0])
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the medians there")
    options = parser.parse_args()
    if not WORKER.exists():
        sys.exit(f"{WORKER} is not there: `bash scripts/bench.sh pool` builds it")
    pools = Pools(Bench(options, describe([]) | versions(), "neuro-memory's pool and other allocators, 64-byte alignment"))
    for rows in (pools.live_rows, pools.large_rows, pools.touch_rows, pools.thread_rows, pools.side_row, pools.kept_row):
        rows()
    print_times(pools.times)
    if options.plot:
        # Only here: to measure needs nothing but Python.
        from compare.plot import save_bars

        save_bars(options.plot, "Time of one step (median), by piece of work: shorter is faster", pools.times, COLOURS)
    return pools.bench.finish(times=pools.times)


if __name__ == "__main__":
    sys.exit(main())
