"""What a DLPack round trip costs in Python: torch, us, torch, beside torch, CuPy, torch."""

import time
from collections.abc import Callable
from typing import Any

from lines import DEVICE, ON_HOST, QUICK, check, main, need
from rounds import at_most, figure, in_turn, ratio, spread

ROUNDS = 5 if QUICK else 15
TRIPS = 500 if QUICK else 2000


def many(work: Callable[[], Any]) -> Callable[[], float]:
    """An arm: seconds of one, of many; the device has nothing to do with it."""

    def arm() -> float:
        begin = time.perf_counter()
        for _ in range(TRIPS):
            work()
        return (time.perf_counter() - begin) / TRIPS

    return arm


@check("torch", "device", limit=60)
def a_round_trip_by_dlpack() -> list[dict[str, Any]]:
    import gc

    import torch

    import neuro_memory as nm

    # On the host, where CuPy has no arrays, NumPy stands beside us, to try the program.
    other: Any = need("numpy" if ON_HOST else "cupy")
    name = "NumPy" if ON_HOST else "CuPy"
    theirs, mine = torch.ones(1000, device=DEVICE), nm.ones(1000).to(DEVICE)
    its = other.from_dlpack(theirs)
    trips: dict[str, Callable[[], Any]] = {
        "ours": lambda: torch.from_dlpack(nm.from_dlpack(theirs)),
        "theirs": lambda: torch.from_dlpack(other.from_dlpack(theirs)),
        "in": lambda: nm.from_dlpack(theirs),
        "its in": lambda: other.from_dlpack(theirs),
        "out": lambda: torch.from_dlpack(mine),
        "its out": lambda: torch.from_dlpack(its),
    }
    gc.collect()
    gc.disable()
    try:
        times = in_turn({arm: many(trip) for arm, trip in trips.items()}, ROUNDS)
    finally:
        gc.enable()
    if not ON_HOST:
        torch.cuda.synchronize()
    nanoseconds = {arm: f"{spread(took).median * 1e9:.0f} ns" for arm, took in times.items()}
    beside = f"ours {nanoseconds['ours']}, {name} {nanoseconds['theirs']}; {ROUNDS} rounds of {TRIPS}"
    goal = at_most(f"DLPack torch, us, torch ÷ torch, {name}, torch", ratio(times["ours"], times["theirs"]), 1.0, beside)
    parts = (("torch to us", "in", "its in"), ("us to torch", "out", "its out"))
    return [
        goal,
        *(
            figure(f"DLPack {what} ÷ {name}'s", ratio(times[mine], times[its]), "×", detail=f"{nanoseconds[mine]}, {nanoseconds[its]}")
            for what, mine, its in parts
        ),
    ]


if __name__ == "__main__":
    main()
