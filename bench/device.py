"""Memory of a device against gpu-allocator and a staging loop by hand: `make bench-device`, or `python bench/device.py`.

README.md in this folder says how to read the output and what it does not show.
"""

import argparse
import os
import secrets
import sys
import tempfile
import tomllib
from pathlib import Path

from compare import Arm, Bench, Row, Spread, describe, duration, one_process, options_of, ratios
from compare.vulkan import Vulkan

HERE = Path(__file__).resolve().parent
BUILT = HERE / "target/release"
KIB, MIB = 1 << 10, 1 << 20

#: The crates that the peers are made of, for the head of the output.
CRATES = ("gpu-allocator", "ash")
#: Kinds of host memory that copies begin and end in: names of arms.
HOSTS = ("pageable", "gpu support")

PAIR_GOAL, SHARE_GOAL, WORST_GOAL = 60e-9, 0.2, 5e-6
#: Bytes for each of which the driver may be asked once.
BYTES_A_CALL = 64 * MIB
#: At least 0.9 of the speed.
COPY_GOAL = 1 / 0.9

#: Bounds of sizes in bytes, slots.
MIXES = ((256, 64 * KIB, 10_000), (4 * KIB, MIB, 1000), (MIB, 16 * MIB, 50), (64 * KIB, 64 * KIB, 1))
SIZES = (4, 4 * KIB, 64 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB)


class Devices:
    """The benchmark's rows."""

    def __init__(self, bench: Bench, vulkan: Vulkan, options: argparse.Namespace, shared: bool) -> None:
        self.bench = bench
        self.vulkan = vulkan
        self.quick = options.quick
        self.sessions = options.sessions
        self.seed = options.seed
        #: Whether the device's memory is to be shown apart from the host's, and what that is called.
        self.views = {"": False, ", memory apart": True} if shared else {"": False}
        #: Rows about what is right, not about how fast it is.
        self.truths: list[Row] = []

    def truth(self, row: Row) -> None:
        self.truths.append(row)
        self.bench.add(row)

    def arm(self, name: str, spec: dict[str, object], apart: bool = False) -> Arm:
        return Arm(name, spec, None, self.vulkan.program(name, apart=apart))

    def replace_rows(self) -> None:
        """An allocation and a free, in slots. The peer by itself: its step may take a thousand times as long."""
        for low, high, slots in MIXES[1:2] if self.quick else MIXES:
            name = f"{span(low, high)}, {slots:,} slot{'s' if slots > 1 else ''}"
            if not self.bench.wanted(name):
                continue
            spec = {"work": "replace", "low": low, "high": high, "slots": slots}
            arms = ("block", "tensor", "heap", "none")
            samples = self.bench.compare([self.arm(arm, spec) for arm in arms])
            seconds = {arm: samples[arm].median for arm in arms}
            met = seconds["block"] <= PAIR_GOAL
            against = f"at most {duration(PAIR_GOAL)}"
            self.bench.add(Row(name, against, holds=met, note=spread_of(samples["block"].seconds), seconds=seconds))
            arms = ("gpu-allocator", "block", "tensor")
            samples = self.bench.compare([self.arm(arm, spec) for arm in arms])
            seconds = {arm: samples[arm].median for arm in arms}
            share = ratios(samples, "block", "gpu-allocator")
            self.bench.add(Row(name, "gpu-allocator", share, SHARE_GOAL, seconds=seconds))
            self.bench.add(Row(name, "tensor against gpu-allocator", ratios(samples, "tensor", "gpu-allocator")))

    def single_rows(self) -> None:
        """Single pairs, where a peer is slow; and readings of the clock alone, for what the machine does to such times."""
        pairs = 500 if self.quick else 20_000
        steady = {"is": "steady", "low": 4 * KIB, "high": MIB, "slots": 1000}
        cases = {
            "worst, 4 KiB–1 MiB, 1,000 slots": (steady, pairs // 10),
            "worst, at a block's boundary": ({"is": "boundary", "bytes": MIB}, pairs // 10),
            "worst, 2,000 holes": ({"is": "holes", "holes": 2000, "low": 256, "high": 64 * KIB}, pairs // 10),
            "worst, nothing but the clock": ({"is": "clock"}, pairs // 10),
        }
        for name, (case, pairs) in cases.items():
            if not self.bench.wanted(name):
                continue
            arms = ("none",) if case["is"] == "clock" else ("tensor", "gpu-allocator")
            question = {"fact": "single", "case": case, "pairs": pairs}
            told = {arm: [] for arm in arms}
            for _ in range(self.sessions):
                for arm in arms:
                    told[arm].append(self.vulkan.ask(arm, question))
            note = "; ".join(f"{arm} {singles(answers)}" for arm, answers in told.items())
            if case["is"] == "clock":
                self.bench.add(Row(name, "", note=note))
                continue
            share = Spread.of([ours["p50"] / peer["p50"] for ours, peer in zip(*told.values(), strict=True)])
            self.bench.add(Row(name, "gpu-allocator (p50)", share, note=note))
            worst = min(answer["worst"] for answer in told["tensor"]) * 1e-9
            what = f"at most {duration(WORST_GOAL)}"
            self.bench.add(Row(name, what, holds=worst <= WORST_GOAL, note=f"least of five: {duration(worst)}"))

    def many_row(self) -> None:
        """What the driver is asked for by 10,000 tensors."""
        name = "vkAllocateMemory for 10,000 tensors"
        if not self.bench.wanted(name):
            return
        notes, most = [], 0.0
        for arm in ("tensor", "gpu-allocator"):
            calls, told = self.vulkan.calls(arm, {"fact": "many", "tensors": 10_000})
            most = told["peak"] / BYTES_A_CALL
            notes.append(
                f"{arm} {len(calls)} calls for {sum(calls) / MIB:.0f} MiB: {told['made']:,} made, {told['peak'] / MIB:.0f} MiB at once"
            )
            if arm == "tensor":
                ours = len(calls)
                # Every piece that the pool tells of was seen by who counts, or the count would be worth nothing.
                seen = ours >= told["pieces"] > 0
        self.truth(Row(name, f"1 for each {BYTES_A_CALL // MIB} MiB", holds=seen and ours <= most, note="; ".join(notes)))

    def copy_rows(self) -> None:
        """Copies between host and device."""
        for view, apart in self.views.items():
            for way in ("up", "down", "trip"):
                for nbytes in (4 * KIB, MIB, 16 * MIB) if self.quick else SIZES:
                    self.copies(f"{size(nbytes)} {WAYS[way]}{view}", nbytes, way, apart)

    def copies(self, name: str, nbytes: int, way: str, apart: bool) -> None:
        if not self.bench.wanted(name):
            return
        spec = {"work": "copy", "bytes": nbytes, "way": way}
        peers = ("staging loop",) if way == "up" else ("staging loop", "staging loop, new buffer")
        arms = (*peers, *HOSTS, "memcpy")
        # Not on one processor: a software device works on another one, as a card would.
        samples = self.bench.compare([self.arm(arm, spec, apart) for arm in arms], pinned=False)
        seconds = {arm: samples[arm].median for arm in arms}
        speeds = ", ".join(f"{arm} {speed(nbytes, way, seconds[arm])}" for arm in arms)
        for host in HOSTS:
            for peer in (*peers, "memcpy"):
                goal = COPY_GOAL if peer == "staging loop" else None
                shown = {arm: seconds[arm] for arm in (host, peer)}
                note = speeds if goal and nbytes >= 4 * KIB else ""
                against = peer if len(HOSTS) == 1 else f"{host} against {peer}"
                self.bench.add(Row(name, against, ratios(samples, host, peer), goal, note=note, seconds=shown))

    def storm_rows(self) -> None:
        """Threads at once, under the validation layer."""
        threads, operations = (16, 60) if self.quick else (100, 1000)
        for view, apart in self.views.items():
            name = f"{threads} threads × {operations:,}{view}"
            if not self.bench.wanted(name):
                continue
            if not self.vulkan.validated({"fact": "mistake"}, apart)[0]:
                why = "the validation layer does not report a race that was planted; apt install vulkan-validationlayers"
                if os.environ.get("NEURO_REQUIRE_VULKAN"):
                    sys.exit(f"{name}: {why}")
                print(f"SKIPPED: {name}: {why}")
                continue
            seed = secrets.randbelow(1 << 32) if self.seed is None else self.seed
            question = {"fact": "storm", "threads": threads, "operations": operations, "seed": seed}
            messages, told = self.vulkan.validated(question, apart)
            holds = not (messages or told["wrong"] or told["live_bytes"] or told["live_blocks"])
            note = f"seed {seed}: {told['wrong']} mismatches, {len(messages)} messages, {told['live_blocks']} blocks and"
            note += f" {told['live_bytes']} B live at the end; {told['made']:,} blocks made, {told['peak'] / MIB:.0f} MiB at"
            note += f" once, {told['seconds']:.1f} s"
            note += "".join(f"\n    {words}" for words in (*told["words"], *messages[:3]))
            self.truth(Row(name, "nothing wrong", holds=holds, note=note))


WAYS = {"up": "up", "down": "down", "trip": "up and down"}


def spread_of(seconds: list[float]) -> str:
    spread = Spread.of(seconds)
    return f"middle half {duration(spread.low)}–{duration(spread.high)}"


def singles(answers: list[dict[str, float]]) -> str:
    """The median process's times, and the largest of all."""
    middle = sorted(answers, key=lambda answer: answer["p50"])[len(answers) // 2]
    text = f"p50 {duration(middle['p50'] * 1e-9)}, p99.9 {duration(middle['p999'] * 1e-9)}"
    text += f", largest {duration(max(answer['largest'] for answer in answers) * 1e-9)}"
    text += f", least of five {duration(min(answer['worst'] for answer in answers) * 1e-9)}"
    if middle["growth"]:
        text += f", growth once {duration(middle['growth'] * 1e-9)}"
    return text


def speed(nbytes: int, way: str, seconds: float) -> str:
    return f"{nbytes * (2 if way == 'trip' else 1) / seconds / 1e9:.1f} GB/s"


def span(low: int, high: int) -> str:
    return size(low) if low == high else f"{size(low)}–{size(high)}"


def size(nbytes: int) -> str:
    return f"{nbytes // MIB} MiB" if nbytes >= MIB else f"{nbytes // KIB} KiB" if nbytes >= KIB else f"{nbytes} B"


def versions() -> dict[str, str]:
    """Of the peers, as the lock file pins them."""
    packages = tomllib.loads((HERE / "Cargo.lock").read_text())["package"]
    found = {package["name"]: package["version"].partition("+")[0] for package in packages}
    return {"crates": ", ".join(f"{name} {found[name]}" for name in CRATES)}


def main() -> int:
    parser = options_of(__doc__.splitlines()[0])
    parser.add_argument("--device", type=int, default=0, metavar="N", help="vulkan:N (default %(default)s)")
    parser.add_argument("--seed", type=int, help="of the threads at once (default: a random one, which is printed)")
    parser.add_argument("--quick", action="store_true", help="little of each, for what is right: the times mean nothing")
    options = parser.parse_args()
    if options.quick:
        options.sessions, options.rounds = 1, 2
    worker, layer = BUILT / "device-worker", BUILT / "libbench_layer.so"
    for built in (worker, layer):
        if not built.exists():
            sys.exit(f"{built} is not there: `bash scripts/bench.sh device` builds it")
    with tempfile.TemporaryDirectory() as folder:
        vulkan = Vulkan(worker, layer, Path(folder), options.device)
        try:
            told = vulkan.ask("storm", {"fact": "device"})
        except RuntimeError as error:
            sys.exit(f"there is no device to measure: {error}")
        facts = describe([]) | versions()
        facts["device"] = f"{told['name']} ({told['kind']}), {told['driver']}, {told['api']}, {told['memory'] / 2**30:.1f} GiB"
        facts["its memory"] = "reached by the host" if told["shared"] else "its own"
        title = "neuro-memory on a Vulkan device, gpu-allocator, and a staging loop by hand"
        devices = Devices(Bench(options, facts, title), vulkan, options, told["shared"])
        for rows in (devices.replace_rows, devices.single_rows, devices.many_row, devices.copy_rows, devices.storm_rows):
            rows()
        status = devices.bench.finish()
    if options.quick:
        status = int(not all(row.met for row in devices.truths))
    return status


if __name__ == "__main__":
    sys.exit(main())
