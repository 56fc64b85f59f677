"""A process that trains with memory from one place, and does what it is told, a line of JSON each: see check_training.py.

    {"do": "train", "kind": "conv", "steps": 12}   a fresh training: {"digest", "losses", "reserved", "requested"}
    {"do": "time", "steps": 8}                     more of the same: {"seconds"}

"requested" is what tensors asked for at most at once, "reserved" what was held of the device for them at most; both in bytes.
"""

import argparse
import gc
import json
import sys
import time
from typing import Any

from lines import end_with_parent


class Theirs:
    """torch's caching allocator; whether its segments grow is said by the environment."""

    def __init__(self, torch: Any, on_host: bool) -> None:
        self.memory = None if on_host else torch.cuda.memory

    def fresh(self) -> None:
        if self.memory:
            self.memory.empty_cache()
            self.memory.reset_peak_memory_stats()

    def peaks(self) -> dict[str, int]:
        if not self.memory:
            return {"reserved": 0, "requested": 0}
        stats = self.memory.memory_stats()
        return {"reserved": stats["reserved_bytes.all.peak"], "requested": stats["requested_bytes.all.peak"]}


class Ours:
    """A pool under the whole process."""

    def __init__(self, device: str, expandable: bool) -> None:
        import neuro_memory as nm

        self.pool, self.expandable = nm.MemoryPool(device=device, expandable=expandable), expandable
        nm.hooks.torch.install(self.pool)

    def fresh(self) -> None:
        self.pool.trim()
        self.pool.reset_peak()

    def peaks(self) -> dict[str, int]:
        stats = self.pool.stats()
        # Of a pool that grows in place, addresses are reserved and cost nothing; what is mapped is the device's memory.
        held = stats.peak_committed_bytes if self.expandable else stats.peak_reserved_bytes
        return {"reserved": held, "requested": stats.peak_requested_bytes}


def main() -> None:
    """Until there are no more lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", choices=["theirs", "ours", "ours expandable"], required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--size", required=True)
    options = parser.parse_args()
    end_with_parent()
    import models
    import torch

    models.deterministic()
    on_host = options.device == "cpu"
    if on_host:
        torch.set_num_threads(1)  # more are waiting for each other where others use the processor
    memory = Theirs(torch, on_host) if options.memory == "theirs" else Ours(options.device, options.memory.endswith("expandable"))
    settled = (lambda: None) if on_host else torch.cuda.synchronize
    run = None
    print(json.dumps({"ready": options.memory}), flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        if told["do"] == "train":
            run = None
            gc.collect()
            settled()
            memory.fresh()
            run = models.begin(told["kind"], options.size, options.device)
            losses = run.train(told["steps"])
            answer = {"digest": run.digest(), "losses": losses} | memory.peaks()
        else:
            assert run, "train comes before time"
            settled()
            start = time.perf_counter()
            for _ in range(told["steps"]):
                run.step()
            settled()
            answer = {"seconds": time.perf_counter() - start}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
