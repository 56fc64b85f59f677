"""Memory of an exchange lives as long as either side has it, whoever lets go first, on whichever thread; and it is not used again while
the other side's work still uses it."""

import sys
from typing import Any

from lines import DEVICE, check, main, python

# Programs that end with exports alive: the interpreter's end, the frameworks' and ours come in an order of their own.
BEGIN = f"import sys, threading\nimport torch\nimport neuro_memory as nm\nDEVICE = {DEVICE!r}\n"
ALIVE = """
x = torch.from_dlpack(nm.ones(1000).to(DEVICE)), nm.from_dlpack(torch.ones(1000, device=DEVICE))
y = []; y += [y, torch.from_dlpack(nm.ones(9).to(DEVICE)), nm.from_dlpack(torch.ones(9, device=DEVICE))]
unused = nm.ones(1000).to(DEVICE).__dlpack__(), torch.ones(9, device=DEVICE).__dlpack__()
sys.kept = torch.from_dlpack(nm.MemoryPool(1 << 20, device=DEVICE).zeros(1000))
torch.kept = nm.from_dlpack(torch.ones(9, device=DEVICE))
"""
HELD = """
def hold():
    x = torch.from_dlpack(nm.ones(9).to(DEVICE)); y = nm.from_dlpack(torch.ones(9, device=DEVICE)); ready.set()
    threading.Event().wait()
ready = threading.Event(); threading.Thread(target=hold, daemon=True).start(); ready.wait()
"""
ENDS = {
    "alive": BEGIN + ALIVE,
    "imported the other way": "import neuro_memory as nm\nimport torch\n" + BEGIN + ALIVE,
    "shut down before": BEGIN + ALIVE + "nm.shutdown()",
    "held by a thread": BEGIN + HELD,
}


@check("torch", "device", limit=100)
def a_process_ends_with_exchanges_alive() -> dict[str, str]:
    from concurrent.futures import ThreadPoolExecutor

    def end(item: tuple[str, str]) -> None:
        name, program = item
        done = python("-W", "ignore", "-c", program)
        assert (done.returncode, done.stderr) == (0, ""), f"{name}: status {done.returncode}, and on stderr: {done.stderr[-1500:]}"

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(end, ENDS.items()))
    return {"detail": ", ".join(ENDS)}


@check("torch", "device")
def whoever_lets_go_first() -> None:
    import gc

    import numpy as np
    import torch
    from exchange import all_back, live_blocks, our_values, ours, sample

    import neuro_memory as nm

    values = sample("float32")
    gc.collect()
    before = live_blocks()
    mine = ours(values)
    theirs = torch.from_dlpack(mine)
    part = theirs[1:]
    del mine, theirs
    assert live_blocks() == before + 1 and np.array_equal(part.cpu().numpy(), values[1:])
    again = nm.from_dlpack(part)
    del part
    assert np.array_equal(our_values(again), values[1:])
    del again
    all_back(before)
    # The other way: the owner is dropped under the one that borrows, with others taking memory at once.
    theirs = torch.from_numpy(values).clone().to(DEVICE)
    mine = nm.from_dlpack(theirs)
    del theirs
    others = [torch.full((4, 6), -1.0, device=DEVICE) for _ in range(50)]
    assert np.array_equal(our_values(mine), values), "torch gave its memory to another tensor while we had it"
    del mine, others
    all_back(before)


@check("torch", "device")
def let_go_on_other_threads_and_by_the_collector() -> None:
    import gc
    import threading

    import torch
    from exchange import all_back, live_blocks, ours, sample

    import neuro_memory as nm

    gc.collect()
    before = live_blocks()
    wrong: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(30):
                bag: list[Any] = [ours(sample("float32", seed=number))]
                bag.append(torch.from_dlpack(bag[0]))
                bag.append(nm.from_dlpack(bag[1]))
                bag.append(nm.from_dlpack(torch.full((8,), float(turn), device=DEVICE)))
                assert float(bag[1].sum().cpu()) == sample("float32", seed=number).sum()
                bag.append(bag)  # only the collector ends it
                bags.append(bag)
        except BaseException as error:
            wrong.append(error)

    bags: list[Any] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    held = live_blocks() - before
    assert held >= 6 * 30, held

    def let_go() -> None:
        bags.clear()
        gc.collect()

    last = threading.Thread(target=let_go)
    last.start()
    last.join()
    all_back(before)


@check("torch", "cuda")
def our_memory_waits_for_their_work() -> dict[str, str]:
    """Torch reads and writes ours late, and lets go. What the pool does with the block next is behind that."""
    import torch
    from exchange import our_address, our_values
    from slow import COUNT, in_order, torch_wait

    import neuro_memory as nm

    side = torch.cuda.Stream()
    # One block fits: what comes next has the same memory.
    pool = nm.MemoryPool(COUNT * 4, device=DEVICE)
    new = nm.full(COUNT, 2.0)
    kept = [torch.zeros(COUNT, device="cuda") for _ in range(2)]
    torch.cuda.synchronize()
    addresses = []

    def program(seconds: float) -> Any:
        mine = nm.full(COUNT, 1.0).to(pool=pool)
        mine.synchronize()
        addresses.append(our_address(mine))
        with torch.cuda.stream(side):
            theirs = torch.from_dlpack(mine)
            torch_wait(seconds)
            kept[bool(seconds)].copy_(theirs)
            theirs.fill_(-1.0)
        del mine, theirs
        following = new.to(pool=pool)
        addresses.append(our_address(following))

        def check_both() -> list[float]:
            assert our_values(following).tolist() == [2.0] * COUNT, "torch's late write fell on the tensor that has the memory now"
            side.synchronize()
            return kept[bool(seconds)].cpu().tolist()

        return check_both

    said = in_order(program, waits=True)
    assert len(set(addresses)) == 1, f"not the same memory, so nothing is shown: {addresses}"
    return {"detail": said}


@check("torch", "cuda")
def their_memory_waits_for_our_work() -> dict[str, str]:
    """Our kernel reads torch's tensor late, and we let go. What torch does with the block next is behind that."""
    import torch
    from exchange import our_values
    from slow import COUNT, fresh, in_order, our_copy

    import neuro_memory as nm

    targets = [fresh(0.0) for _ in range(2)]
    addresses = []

    def program(seconds: float) -> Any:
        theirs = torch.ones(COUNT, device="cuda")
        addresses.append(theirs.data_ptr())
        torch.cuda.synchronize()
        mine = nm.from_dlpack(theirs)
        our_copy(mine, targets[bool(seconds)], seconds)
        del mine, theirs
        following = [torch.full((COUNT,), 2.0, device="cuda") for _ in range(3)]
        addresses.extend(other.data_ptr() for other in following)
        return lambda: (following, our_values(targets[bool(seconds)]).tolist())[1]

    said = in_order(program, waits=True)
    reused = "the same memory was handed out at once" if addresses[4] in addresses[5:] else "torch did not hand it out while we used it"
    return {"detail": f"{said}; {reused}"}


@check("torch", "device")
def no_handle_is_left_in_either_count() -> None:
    """References of Python objects: an exchange keeps no more of them than the memory needs."""
    import torch
    from exchange import ours, sample

    import neuro_memory as nm

    mine = ours(sample("float32"))
    theirs = torch.zeros(8, device=DEVICE)
    counts = mine.refcount, sys.getrefcount(mine), sys.getrefcount(theirs)
    for _ in range(100):
        torch.from_dlpack(mine)
        nm.from_dlpack(theirs)
        mine.__dlpack__()
    assert (mine.refcount, sys.getrefcount(mine), sys.getrefcount(theirs)) == counts


if __name__ == "__main__":
    main()
