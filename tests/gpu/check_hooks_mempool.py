"""Our pool under a part of PyTorch: `with nm.hooks.torch(pool)`, which is a torch.cuda.MemPool on it for one thread."""

import hashlib
from typing import Any

from lines import DEVICE, check, main

MIB = 1 << 20


def our_pool(limit: int = 1024 * MIB) -> Any:
    """A pool of the check's own."""
    import neuro_memory as nm

    return nm.MemoryPool(limit, device=DEVICE)


@check("torch", "cuda", limit=30)
def inside_the_scope_and_outside() -> dict[str, str]:
    import torch

    import neuro_memory as nm

    pool = our_pool()
    outside = torch.ones(MIB, device="cuda")
    assert pool.stats().live_blocks == 0
    with nm.hooks.torch(pool) as inside:
        assert inside.stats() == pool.stats()
        tensor = torch.full((MIB,), 3.0, device="cuda")
        live = pool.stats().live_bytes
        assert live >= 4 * MIB, "the tensor's segment is not in the pool"
        assert bool((tensor * 2 == 6).all())
    live = pool.stats().live_bytes
    after = torch.ones(MIB, device="cuda")
    assert pool.stats().live_bytes == live, "a tensor made outside lies in the pool"
    assert bool((tensor + outside + after == 5).all())
    return {"detail": f"{live >> 20} MiB in segments for tensors of {3 * 4} MiB"}


@check("torch", "cuda", limit=30)
def nothing_is_left_when_the_scope_is_gone() -> None:
    import gc

    import torch

    import neuro_memory as nm

    pool = our_pool()
    scope = nm.hooks.torch(pool)
    for size in (1, 1000, MIB, 5 * MIB):
        with scope:  # the same one, entered again
            tensor = torch.full((size,), 1.0, device="cuda")
        assert float(tensor.sum()) == size
    assert scope.mem_pool.id and pool.stats().live_blocks > 0
    del tensor, scope
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    assert pool.stats().live_blocks == 0, f"{pool.stats().live_bytes} bytes are left: {pool.stats().live_blocks} segments"


@check("torch", "cuda", limit=30)
def the_pools_limit_is_torchs_out_of_memory() -> dict[str, str]:
    import torch

    import neuro_memory as nm

    pool = our_pool(64 * MIB)
    with nm.hooks.torch(pool):
        kept = torch.empty(20 * MIB, dtype=torch.uint8, device="cuda")
        try:
            torch.empty(100 * MIB, dtype=torch.uint8, device="cuda")
        except torch.cuda.OutOfMemoryError as error:
            said = str(error)
        else:
            raise AssertionError("100 MiB from a pool of 64")
        del kept
        again = torch.full((20 * MIB,), 7, dtype=torch.uint8, device="cuda")
        assert int(again[-1]) == 7
    # Other memory of torch is not touched by that.
    assert torch.ones(100 * MIB, dtype=torch.uint8, device="cuda")[-1].item() == 1
    return {"detail": said.splitlines()[0][:300]}


@check("torch", "cuda", limit=30)
def one_thread_of_several() -> None:
    import threading

    import torch

    import neuro_memory as nm

    pools = [our_pool() for _ in range(3)]
    wrong: list[BaseException] = []
    meet = threading.Barrier(4)

    def work(number: int) -> None:
        try:
            if number < 3:
                with nm.hooks.torch(pools[number]):
                    meet.wait()
                    tensors = [torch.full((MIB // 2,), float(number), device="cuda") for _ in range(10)]
            else:
                meet.wait()
                tensors = [torch.full((MIB // 2,), float(number), device="cuda") for _ in range(10)]
            torch.cuda.synchronize()
            assert all(bool((tensor == number).all()) for tensor in tensors)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    for number, pool in enumerate(pools):
        assert pool.stats().peak_bytes >= 10 * 2 * MIB, f"pool {number}: {pool.stats().peak_bytes}"


@check("torch", "cuda", limit=60)
def a_training_step_in_the_scope_ends_with_the_same_bits() -> dict[str, str]:
    import models
    import torch

    import neuro_memory as nm

    models.deterministic()
    digests: dict[str, set[str]] = {}
    pool = our_pool()
    for kind in ("conv", "transformer"):
        for hooked in (False, True, False):
            if hooked:
                with nm.hooks.torch(pool):
                    run = models.begin(kind, "small", "cuda")
                    run.train(8)
            else:
                run = models.begin(kind, "small", "cuda")
                run.train(8)
            digests.setdefault(kind, set()).add(run.digest())
            del run
    torch.cuda.synchronize()
    assert all(len(found) == 1 for found in digests.values()), digests
    assert pool.stats().peak_bytes > 0
    return {"detail": hashlib.sha256(repr(digests).encode()).hexdigest()[:12]}


if __name__ == "__main__":
    main()
