"""Copies between the host and the device, and on it, beside PyTorch's in the same run: in turn, as ratios of what was moved in a second."""

from collections.abc import Callable
from typing import Any

from lines import DEVICE, QUICK, check, main
from rounds import Spread, at_least, figure, in_turn, ratio, spread, timed

MIB = 1 << 20
ROUNDS = 5 if QUICK else 15
# What the goal is set for.
FAST_LINK = ("H100", "H200", "H800", "H20")
LINK_GOAL = 54.0


def rates(seconds: list[float], moved: int) -> Spread:
    """10^9 bytes in a second."""
    return spread([moved / took / 1e9 for took in seconds])


def compared(name: str, arms: dict[str, Callable[[], Any]], moved: int, goal: float) -> tuple[dict[str, Any], Spread]:
    """Ours beside theirs; how much faster, with a goal, and our rate."""
    times = in_turn({arm: timed(work) for arm, work in arms.items()}, ROUNDS, warm=2)
    mine, theirs = rates(times["ours"], moved), rates(times["theirs"], moved)
    beside = f"GB/s: ours {mine}, torch {theirs}; {moved // MIB} MiB, {ROUNDS} rounds"
    return at_least(f"{name}: ours ÷ torch", ratio(times["theirs"], times["ours"]), goal, beside), mine


def lengths() -> list[int]:
    """In elements of float32."""
    return [n * MIB // 4 for n in ([64] if QUICK else [64, 256])]


@check("torch", "cuda", limit=60)
def copies_of_pinned_memory() -> list[dict[str, Any]]:
    import torch

    import neuro_memory as nm

    lines = []
    for length in lengths():
        pool = nm.MemoryPool(2 << 30, gpu_support=True, decay=None)
        mine = pool.empty(length)
        assert DEVICE in pool.gpu_support, pool.gpu_support_reason
        mine.fill(1)
        theirs = torch.ones(length).pin_memory()
        device = nm.MemoryPool(device=DEVICE)
        there, also = mine.to(pool=device), torch.ones(length, device=DEVICE)

        def our_upload(mine: Any = mine, device: Any = device) -> None:
            mine.to(pool=device).synchronize()

        def their_upload(theirs: Any = theirs, also: Any = also) -> None:
            also.copy_(theirs, non_blocking=True)
            torch.cuda.synchronize()

        def our_download(there: Any = there, pool: Any = pool) -> None:
            there.to(pool=pool)

        def their_download(theirs: Any = theirs, also: Any = also) -> None:
            theirs.copy_(also, non_blocking=True)
            torch.cuda.synchronize()

        size = f"{length * 4 // MIB} MiB"
        for way, ours_does, theirs_does in (("to the device", our_upload, their_upload), ("to the host", our_download, their_download)):
            line, rate = compared(f"pinned, {size} {way}", {"ours": ours_does, "theirs": theirs_does}, length * 4, 0.98)
            lines += [line, link_line(f"pinned, {size} {way}", rate)]
    return lines


def link_line(name: str, rate: Spread) -> dict[str, Any]:
    """Our rate; with a goal where the device's link is the one that it is set for."""
    import torch

    device = torch.cuda.get_device_name(0)
    if any(kind in device for kind in FAST_LINK) and "PCIe Gen4" not in device:
        return at_least(name, rate, LINK_GOAL, device, "GB/s")
    return figure(name, rate, "GB/s", detail=f"{device}: the goal is for PCIe 5 ×16")


@check("torch", "cuda", limit=60)
def copies_of_pageable_memory() -> list[dict[str, Any]]:
    import torch

    import neuro_memory as nm

    lines = []
    for length in lengths():
        pool = nm.MemoryPool(2 << 30, decay=None)
        mine = pool.ones(length)
        theirs = torch.ones(length)
        device = nm.MemoryPool(device=DEVICE)
        there, also = mine.to(pool=device), torch.ones(length, device=DEVICE)

        def our_upload(mine: Any = mine, device: Any = device) -> None:
            mine.to(pool=device).synchronize()

        def their_upload(theirs: Any = theirs, also: Any = also) -> None:
            also.copy_(theirs)
            torch.cuda.synchronize()

        def our_download(there: Any = there, pool: Any = pool) -> None:
            there.to(pool=pool)

        def their_download(theirs: Any = theirs, also: Any = also) -> None:
            theirs.copy_(also)
            torch.cuda.synchronize()

        size = f"{length * 4 // MIB} MiB"
        for way, ours_does, theirs_does in (("to the device", our_upload, their_upload), ("to the host", our_download, their_download)):
            lines.append(compared(f"pageable, {size} {way}", {"ours": ours_does, "theirs": theirs_does}, length * 4, 2.0)[0])
    return lines


@check("torch", "cuda", limit=60)
def copies_on_the_device() -> list[dict[str, Any]]:
    """Several for each wait, which would count otherwise; each reads and writes its bytes."""
    import torch

    import neuro_memory as nm

    copies = 16
    lines = []
    for length in lengths():
        pool = nm.MemoryPool(device=DEVICE)
        mine = pool.ones(length)
        mine.synchronize()
        theirs, also = torch.ones(length, device=DEVICE), torch.empty(length, device=DEVICE)

        def ours_does(mine: Any = mine) -> None:
            for _ in range(copies):
                last = mine.to(DEVICE, copy=True)
            last.synchronize()

        def theirs_does(theirs: Any = theirs, also: Any = also) -> None:
            for _ in range(copies):
                also.copy_(theirs)
            torch.cuda.synchronize()

        name = f"on the device, {length * 4 // MIB} MiB"
        line, rate = compared(name, {"ours": ours_does, "theirs": theirs_does}, 2 * copies * length * 4, 0.98)
        lines += [line, figure(name, rate, "GB/s", detail="read and written")]
    return lines


if __name__ == "__main__":
    main()
