"""Memory of a CUDA device on the simulated driver: the library's own time, and what it asks the driver for. `make bench-cuda`.

README.md in this folder says how to read the output and what it does not show.
"""

import argparse
import sys
from pathlib import Path

from compare import Arm, Bench, Row, Spread, describe, duration, one_process, options_of

HERE = Path(__file__).resolve().parent
WORKER = HERE / "target/release/cuda-worker"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

#: Of the device; what nobody writes to is not there.
MEMORY = 16 * GIB
#: Of one allocation and one free.
PAIR_GOAL = 80e-9
#: Bytes page-locked over bytes asked for.
PINNED_GOAL = 1.01

#: Bounds of sizes in bytes, slots.
MIXES = ((64 * KIB, 64 * KIB, 1), (MIB, 16 * MIB, 50), (4 * KIB, MIB, 1000))
#: Blocks that a step of training uses and frees beside its own, at least.
FEW_BLOCKS = 20
#: What a steady program does not ask the driver for.
NEVER = (
    "cuMemAlloc_v2",
    "cuMemCreate",
    "cuMemHostAlloc",
    "cuMemHostRegister_v2",
    "cuMemFree_v2",
    "cuMemFreeHost",
    "cuMemHostUnregister",
    "cuCtxSynchronize",
    "device-wide waits",
    "cuEventCreate",
    "cuEventDestroy_v2",
)


class Cuda:
    """The benchmark's rows."""

    def __init__(self, bench: Bench, options: argparse.Namespace) -> None:
        self.bench = bench
        self.quick = options.quick
        self.sessions = options.sessions
        self.driver = options.driver
        #: Rows that are not about time.
        self.counts: list[Row] = []

    def count(self, row: Row) -> None:
        self.counts.append(row)
        self.bench.add(row)

    def pair_rows(self) -> None:
        """An allocation and a free. What is timed makes no call of the driver, or the measured process fails."""
        cases: dict[str, dict[str, object]] = {}
        for low, high, slots in MIXES:
            name = f"{span(low, high)}, {slots:,} slot{'s' if slots > 1 else ''}"
            cases[name] = {"work": "replace", "low": low, "high": high, "slots": slots}
        cases["200 activations, their gradients"] = {"work": "trace"}
        for low, high, slots in MIXES[1:]:
            cases[f"{span(low, high)}, {slots:,} slots, used"] = {"work": "used", "low": low, "high": high, "slots": slots}
        for name, spec in cases.items():
            if not self.bench.wanted(name):
                continue
            # Nothing is handed out for a kernel to use by the arm that hands out numbers.
            arms = ("pool",) if spec["work"] == "used" else ("pool", "none")
            samples = self.bench.compare([Arm(arm, spec, None, program(self.driver, arm)) for arm in arms])
            spread = Spread.of(samples["pool"].seconds)
            note = f"middle half {duration(spread.low)}–{duration(spread.high)}"
            note += f", all rounds {duration(spread.minimum)}–{duration(spread.maximum)}"
            seconds = {arm: samples[arm].median for arm in arms}
            met = spread.median <= PAIR_GOAL
            self.bench.add(Row(name, f"at most {duration(PAIR_GOAL)}", holds=met, note=note, seconds=seconds))

    def training_rows(self) -> None:
        """What steps of training ask the driver for; with few blocks freed in each, and with ten times as many."""
        name = "training step"
        if not self.bench.wanted(name):
            return
        steps = 20 if self.quick else 300
        few = [self.training(steps, FEW_BLOCKS) for _ in range(self.sessions)]
        freed = few[0]["freed"]
        more = 9 * round(freed)
        many = [self.training(steps, FEW_BLOCKS + more) for _ in range(self.sessions)]
        for call in NEVER:
            most = max(told["calls"][call] for told in (*few, *many))
            self.count(Row(f"{name}: {call}", "none", holds=most == 0, note=f"{most:g} a step at most, of {steps} steps"))
        for call in ("cuLaunchKernel", "cuMemcpyAsync"):
            self.bench.add(Row(f"{name}: {call}", "", note=f"{few[0]['calls'][call]:g} a step"))
        records = [sorted(told["calls"]["cuEventRecord"] for told in side) for side in (few, many)]
        note = "; ".join(
            f"{figures[0]:g}–{figures[-1]:g} a step with {told[0]['freed']:g} blocks freed"
            for figures, told in zip(records, (few, many), strict=True)
        )
        # Between two runs of the same there is as much: copies end when they do.
        apart = records[1][0] - records[0][-1]
        self.count(Row(f"{name}: cuEventRecord", "none for a free", holds=apart * 100 <= more, note=note))

    def training(self, steps: int, blocks: int) -> dict:
        return self.ask({"fact": "training", "steps": steps, "blocks": blocks}, checked=True)

    def weights_row(self) -> None:
        """Page-locked memory for the weights of a model."""
        name = "page-locked for weights"
        if not self.bench.wanted(name):
            return
        told = self.ask({"fact": "weights"})
        share, powers = told["pinned"] / told["asked"], told["powers"] / told["asked"]
        note = f"{told['tensors']} tensors of {told['asked'] / GIB:.1f} GiB: {told['pinned'] / GIB:.2f} GiB, ×{share:.4f};"
        note += f" rounded to powers of two {told['powers'] / GIB:.2f} GiB, ×{powers:.2f}"
        # The pool's own word is worth as much as the driver's count.
        holds = share <= PINNED_GOAL and told["told"] == told["pinned"]
        self.count(Row(name, f"at most ×{PINNED_GOAL}", holds=holds, note=note))

    def ask(self, question: dict[str, object], checked: bool = False) -> dict:
        """A fresh process's answer to what is not a time."""
        with one_process(program(self.driver, "pool", checked=checked)) as worker:
            return worker.ask(eval=question)


def program(driver: Path, arm: str, checked: bool = False) -> tuple[str, ...]:
    """The command of an arm. `checked`: the driver also watches what the host does with page-locked memory, which takes time."""
    settings = {"LD_LIBRARY_PATH": driver, "NEURO_CUDA_SIM_MEMORY": MEMORY, "NEURO_CUDA_SIM_PROTECT": int(checked)}
    return ("env", *(f"{name}={value}" for name, value in settings.items()), str(WORKER), arm)


def span(low: int, high: int) -> str:
    return size(low) if low == high else f"{size(low)}–{size(high)}"


def size(nbytes: int) -> str:
    return f"{nbytes // MIB} MiB" if nbytes >= MIB else f"{nbytes // KIB} KiB"


def main() -> int:
    parser = options_of(__doc__.splitlines()[0])
    parser.add_argument("--driver", type=Path, required=True, metavar="FOLDER", help="with the simulated driver as libcuda.so.1")
    parser.add_argument("--quick", action="store_true", help="little of each, for what is right: the times mean nothing")
    options = parser.parse_args()
    if options.quick:
        options.sessions, options.rounds = 1, 2
    for built in (WORKER, options.driver / "libcuda.so.1"):
        if not built.exists():
            sys.exit(f"{built} is not there: `bash scripts/bench.sh cuda` builds it")
    with one_process(program(options.driver, "pool")) as worker:
        told = worker.ask(eval={"fact": "device"})
    facts = describe([])
    facts["device"] = f"{told['name']} of the simulated driver: nothing is claimed about hardware"
    title = "neuro-memory on a CUDA device that is not there: the library's own time, without the driver's"
    cuda = Cuda(Bench(options, facts, title), options)
    for rows in (cuda.pair_rows, cuda.training_rows, cuda.weights_row):
        rows()
    status = cuda.bench.finish()
    if options.quick:
        status = int(not all(row.met for row in cuda.counts))
    return status


if __name__ == "__main__":
    sys.exit(main())
