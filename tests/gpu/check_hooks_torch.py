"""Our pool under the whole of PyTorch: every tensor is a block of it, on every thread, in order on every stream.

The hook is for good, so this program has no check of torch without it.
"""

from functools import cache
from typing import Any

from lines import DEVICE, QUICK, check, main, python

MIB = 1 << 20
LIMIT = 2048 * MIB
# The same work in a process whose torch calls no function of ours for record_stream.
WITHOUT = """
import torch
from check_hooks_torch import hooked, side_stream
hooked()
torch._C._cuda_getAllocator().set_record_stream_fn(0)
print(side_stream())
"""
BEGIN = "import sys, torch\nimport neuro_memory as nm\nnm.hooks.torch.install(nm.MemoryPool(device='cuda:0'))\n"
LATE = """
import torch
torch.ones(1, device="cuda")
import neuro_memory as nm
try: nm.hooks.torch.install(nm.MemoryPool(device="cuda:0"))
except RuntimeError as error: print("refused:", error)
"""
ENDS = {
    "tensors alive": "x = torch.ones(1000, device='cuda') @ torch.ones(1000, device='cuda')",
    "work under way": "x = torch.ones(1000, device='cuda'); torch.cuda._sleep(100_000_000); x.add_(1)",
    "shut down before": "x = torch.ones(1000, device='cuda'); nm.shutdown(); del x",
    "in cycles": "x = [torch.ones(9, device='cuda')]; x.append(x); sys.kept = torch.ones(9, device='cuda')",
}


@cache
def hooked() -> Any:
    """The pool that torch has its memory from."""
    import neuro_memory as nm

    pool = nm.MemoryPool(LIMIT, device=DEVICE)
    assert not nm.hooks.torch.installed
    nm.hooks.torch.install(pool)
    assert nm.hooks.torch.installed
    return pool


@check("torch", "cuda", limit=30)
def tensors_lie_in_the_pool() -> dict[str, str]:
    import torch

    pool = hooked()
    start = pool.stats()
    tensor = torch.arange(100_000, dtype=torch.float32, device="cuda")
    stats = pool.stats()
    assert stats.live_blocks == start.live_blocks + 1, (start, stats)
    assert stats.requested_bytes - start.requested_bytes == 400_000, "statistics count what torch asks for"
    total = float(tensor.double().sum().cpu())
    assert total == 100_000 * 99_999 / 2, total
    assert torch.empty(0, device="cuda").data_ptr() == 0
    product = tensor[:10_000].view(100, 100) @ torch.eye(100, device="cuda")  # cuBLAS and its workspace
    assert torch.equal(product, tensor[:10_000].view(100, 100))
    assert pool.stats().total_allocations > start.total_allocations + 3
    return {"detail": f"allocator {torch.cuda.get_allocator_backend()}"}


@check("torch", "cuda")
def nothing_is_left_when_all_is_dropped() -> None:
    import gc

    import torch

    pool = hooked()
    torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")  # what libraries keep for good
    gc.collect()
    before = pool.stats()
    kept = [torch.empty(size, device="cuda") for size in (1, 1000, MIB, 17 * MIB)]
    kept.append(kept)  # type: ignore[arg-type]
    assert pool.stats().live_blocks == before.live_blocks + 4
    del kept
    gc.collect()
    assert pool.stats().live_blocks == before.live_blocks and pool.stats().requested_bytes == before.requested_bytes
    held = pool.stats().reserved_bytes
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    assert pool.stats().reserved_bytes <= held, "empty_cache trims the pool"


@check("torch", "cuda", limit=30)
def out_of_memory_is_an_error_that_says_so_and_passes() -> dict[str, str]:
    import torch

    pool = hooked()
    before = pool.stats().live_blocks
    filler = [torch.empty(256 * MIB, dtype=torch.uint8, device="cuda") for _ in range(4)]
    for size in (LIMIT, 100 * LIMIT):
        try:
            torch.empty(size, dtype=torch.uint8, device="cuda")
        except RuntimeError as error:
            said = str(error)
        else:
            raise AssertionError(f"the pool gave {size} bytes beyond its limit")
        assert "out of memory" in said and DEVICE in said, said
    del filler
    again = torch.full((LIMIT // 2,), 7, dtype=torch.uint8, device="cuda")
    assert int(again[-1]) == 7
    del again
    assert pool.stats().live_blocks == before
    return {"detail": said[:300]}


@check("torch", "cuda", limit=30)
def threads_and_the_backward_pass() -> None:
    """Autograd's own threads allocate, and free what others allocated; values are those of tensors that share nothing."""
    import threading

    import torch

    pool = hooked()
    wrong: list[Any] = []

    def work(number: int) -> None:
        try:
            random = torch.Generator().manual_seed(number)
            stream = torch.cuda.Stream() if number % 2 else torch.cuda.default_stream()
            with torch.cuda.stream(stream):
                kept: list[Any] = []
                for turn in range(60 if QUICK else 200):
                    size = int(torch.randint(1, 300_000, (1,), generator=random))
                    mark = float(number * 1000 + turn)
                    kept.append((mark, torch.full((size,), mark, device="cuda")))
                    if len(kept) > 8:
                        mark, tensor = kept.pop(int(torch.randint(len(kept), (1,), generator=random)))
                        assert bool((tensor == mark).all()), f"a tensor of {mark} has {tensor.unique()[:4]}"
                weight = torch.ones(300, 300, device="cuda", requires_grad=True)
                (weight @ weight).sum().backward()
                assert bool((weight.grad == 600).all())
        except BaseException as error:
            wrong.append(error)

    total = pool.stats().total_allocations
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:2]
    assert pool.stats().total_allocations - total > 6 * 60


def side_stream() -> int:
    """Of some tries, those in which a tensor that a side stream still read was overwritten: record_stream says that it is read."""
    import torch

    side, count = torch.cuda.Stream(), 1 << 20
    spoiled = 0
    for _ in range(8):
        given = torch.ones(count, device="cuda")
        seen = torch.zeros(count, device="cuda")
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            torch.cuda._sleep(60_000_000)
            seen.copy_(given)
        given.record_stream(side)
        del given
        # As long, on the stream that `given` was made on: without more, its memory is theirs, and they are written now.
        others = [torch.full((count,), 2.0, device="cuda") for _ in range(4)]
        torch.cuda.synchronize()
        spoiled += not bool((seen == 1).all())
        del others
    return spoiled


@check("torch", "cuda", limit=60)
def a_side_streams_work_is_waited_for() -> dict[str, str]:
    hooked()
    spoiled = side_stream()
    assert not spoiled, f"in {spoiled} of 8 tries a tensor was overwritten while a side stream read it"
    done = python("-c", WITHOUT, limit=40)
    assert done.returncode == 0, done.stderr[-2000:]
    without = int(done.stdout.split()[-1])
    shown = f"overwritten in {without} of 8 tries" if without else "not overwritten in 8 tries either, so that nothing is shown"
    return {"detail": f"with record_stream 0 of 8; the same without our function: {shown}"}


@check("torch", "cuda")
def what_such_an_allocator_has_not_is_refused() -> dict[str, str]:
    import torch

    import neuro_memory as nm

    hooked()
    said = []
    for call in (torch.cuda.memory_stats, torch.cuda.memory_snapshot, lambda: nm.hooks.torch.install(nm.MemoryPool(device=DEVICE))):
        try:
            call()
        except (RuntimeError, ValueError) as error:
            said.append(str(error).splitlines()[0][:120])
        else:
            raise AssertionError(f"{call} is not refused")
    torch.ones(3, device="cuda").add_(1)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            torch.ones(3, device="cuda")
    except RuntimeError as error:
        said.append(f"graph: {str(error).splitlines()[0][:120]}")
    else:
        raise AssertionError("a graph is captured on memory that is used again meanwhile")
    torch.cuda.synchronize()
    assert torch.ones(3, device="cuda").sum().item() == 3, "it goes on after that"
    return {"detail": "; ".join(said)}


@check("torch", "cuda", limit=90)
def how_a_hooked_process_begins_and_ends() -> dict[str, str]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as workers:
        late = workers.submit(python, "-W", "ignore", "-c", LATE)
        ends = {name: workers.submit(python, "-W", "ignore", "-c", BEGIN + program) for name, program in ENDS.items()}
    for name, done in ends.items():
        status, words = done.result().returncode, done.result().stderr
        assert (status, words) == (0, ""), f"{name}: status {status}, and on stderr: {words[-1500:]}"
    said = late.result().stdout
    assert late.result().returncode == 0 and "refused:" in said, (said, late.result().stderr[-1500:])
    return {"detail": f"{', '.join(ENDS)}; after torch began: {said.strip()[:300]}"}


if __name__ == "__main__":
    main()
