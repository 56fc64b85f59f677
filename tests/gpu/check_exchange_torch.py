"""DLPack between PyTorch and us: types, views, versions, refusals."""

from typing import Any

from lines import DEVICE, ON_HOST, check, main


@check("torch", "device", limit=30)
def torch_takes_ours() -> dict[str, str]:
    from exchange import they_take_ours, torch_library

    return they_take_ours(torch_library())


@check("torch", "device", limit=30)
def we_take_torchs() -> dict[str, str]:
    from exchange import torch_library, we_take_theirs

    return we_take_theirs(torch_library())


@check("torch", "device")
def both_write_what_the_other_reads() -> None:
    import numpy as np
    import torch
    from exchange import our_values, ours, sample

    import neuro_memory as nm

    mine = ours(sample("float32"))
    other = torch.from_dlpack(mine)
    other.mul_(2)
    assert np.array_equal(our_values(nm.from_dlpack(other)), 2 * sample("float32"))
    theirs = torch.zeros(4, 6, device=DEVICE)
    copy = nm.from_dlpack(theirs)
    torch.from_dlpack(copy).add_(3)
    assert theirs.cpu().eq(3).all(), theirs


@check("torch", "device")
def a_capsule_of_each_version() -> None:
    import numpy as np
    import torch
    from exchange import our_values, ours, sample

    import neuro_memory as nm

    values = sample("float32")
    # `stream`: as who takes the capsule says it; the host has none.
    options: dict[str, Any] = {} if ON_HOST else {"stream": 1}
    for version, word in ((None, "dltensor"), ((0, 8), "dltensor"), ((1, 0), "dltensor_versioned"), ((1, 3), "dltensor_versioned")):
        capsule = ours(values).__dlpack__(max_version=version, **options)
        assert f'"{word}"' in repr(capsule), (version, repr(capsule))
        assert np.array_equal(torch.from_dlpack(capsule).cpu().numpy(), values), version
    for version in (None, (1, 0)):
        theirs = torch.from_numpy(values.copy()).to(DEVICE)
        assert np.array_equal(our_values(nm.from_dlpack(theirs.__dlpack__(max_version=version))), values), version
    if not ON_HOST:
        torch.cuda.synchronize()


@check("torch", "device")
def what_either_side_refuses() -> None:
    import torch
    from exchange import all_back, live_blocks, ours, refused, sample

    import neuro_memory as nm

    before = live_blocks()
    mine = ours(sample("float32"))
    kind, number = mine.__dlpack_device__()
    assert (kind, number) == ((1, 0) if ON_HOST else (2, 0)), (kind, number)
    refused(lambda: mine.__dlpack__(dl_device=(8, 0)))
    refused(lambda: nm.from_dlpack(torch.zeros(3, device=DEVICE, requires_grad=True)), "gradient")
    for flag in (torch.zeros(3, dtype=torch.complex64, device=DEVICE).conj(), torch.zeros(3, 3, device=DEVICE).to_sparse()):
        refused(lambda flag=flag: nm.from_dlpack(flag))
    used = mine.__dlpack__(max_version=(1, 0))
    torch.from_dlpack(used)
    refused(lambda: nm.from_dlpack(used), "used already")
    del mine, used
    all_back(before)


@check("torch", "cuda")
def streams_that_are_refused() -> dict[str, str]:
    from exchange import all_back, live_blocks, ours, refused, sample

    before = live_blocks()
    mine = ours(sample("float32"))
    # 0 is ambiguous; 2 means another stream on each thread; the rest are no streams.
    said = [refused(lambda stream=stream: mine.__dlpack__(stream=stream)) for stream in (0, -2, "1", 1.5)]
    for stream in (None, -1, 1):
        capsule = mine.__dlpack__(stream=stream, max_version=(1, 0))
        assert "dltensor_versioned" in repr(capsule)
        del capsule  # nobody took it: it gives back what it holds
    del mine
    all_back(before)
    return {"detail": "; ".join(said)[:400]}


@check("torch", "device")
def a_copy_is_made_where_it_is_asked_for() -> None:
    import numpy as np
    import torch
    from exchange import our_address, ours, sample

    import neuro_memory as nm

    values = sample("float32")
    mine = ours(values)
    copy = torch.from_dlpack(mine, copy=True)
    assert copy.data_ptr() != our_address(mine) and np.array_equal(copy.cpu().numpy(), values)
    assert torch.from_dlpack(mine, copy=False).data_ptr() == our_address(mine)
    theirs = torch.from_numpy(values.copy()).to(DEVICE)
    assert our_address(nm.from_dlpack(theirs, copy=True)) != theirs.data_ptr()
    assert our_address(nm.from_dlpack(theirs, copy=False)) == theirs.data_ptr()


@check("torch", "cuda")
def to_the_host_and_back_on_request() -> None:
    import numpy as np
    import torch
    from exchange import our_values, ours, sample

    import neuro_memory as nm

    values = sample("float32")
    host = nm.from_dlpack(torch.from_numpy(values.copy()).to(DEVICE), device="cpu")
    assert host.device == "cpu" and np.array_equal(host.numpy(), values)
    assert np.array_equal(np.from_dlpack(ours(values), device="cpu"), values)
    there = nm.from_dlpack(torch.from_numpy(values.copy()), device=DEVICE)
    assert there.device == DEVICE and np.array_equal(our_values(there), values)


if __name__ == "__main__":
    main()
