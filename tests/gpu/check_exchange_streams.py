"""Order between our work and theirs, by streams alone: a slow kernel writes, the tensor is handed over, the other side reads at once."""

from typing import Any

from lines import check, main

# Of the two tensors that a program uses, the source holds ones, the other zeros: who reads zeros came too early.


def read(torch_tensor: Any) -> Any:
    """What is in a tensor of torch when all is done, whatever stream is current then."""
    import torch

    return lambda: (torch.cuda.synchronize(), torch_tensor.cpu().tolist())[1]


def to_torch(stream: Any, **options: Any) -> Any:
    """Our slow kernel, then torch on this stream."""
    import torch
    from slow import fresh, our_copy

    source, targets = fresh(1.0), [fresh(0.0) for _ in range(2)]

    def program(seconds: float) -> Any:
        target = targets[bool(seconds)]
        with torch.cuda.stream(stream):
            our_copy(source, target, seconds)
            given = target.__dlpack__(max_version=(1, 0), **options) if options else target
            return read(torch.from_dlpack(given).clone())

    return program


def from_torch(stream: Any, waive: bool = False) -> Any:
    """A slow write on this stream of torch, then us."""
    import torch
    from exchange import our_values
    from slow import COUNT, torch_wait

    import neuro_memory as nm

    with torch.cuda.stream(stream):
        tensors = [torch.zeros(COUNT, device="cuda") for _ in range(2)]
    torch.cuda.synchronize()

    def program(seconds: float) -> Any:
        tensor = tensors[bool(seconds)]
        with torch.cuda.stream(stream):
            torch_wait(seconds)
            tensor.fill_(1.0)
            mine = nm.from_dlpack(tensor.__dlpack__(stream=-1, max_version=(1, 0)) if waive else tensor)
        return lambda: our_values(mine).tolist()

    return program


@check("torch", "cuda")
def torch_waits_for_our_kernel() -> dict[str, str]:
    import torch
    from slow import can_fail, in_order

    said = [in_order(to_torch(torch.cuda.Stream())), in_order(to_torch(torch.cuda.default_stream()))]
    return {"detail": f"side stream {said[0]}; default stream {said[1]}; {can_fail(to_torch(torch.cuda.Stream(), stream=-1))}"}


@check("torch", "cuda")
def torchs_stream_by_its_address() -> dict[str, str]:
    import torch
    from slow import in_order

    side = torch.cuda.Stream()
    return {"detail": in_order(to_torch(side, stream=side.cuda_stream))}


@check("torch", "cuda")
def the_default_stream_by_1_and_by_none() -> dict[str, str]:
    import torch
    from slow import in_order

    default = torch.cuda.default_stream()
    return {"detail": "; ".join(in_order(to_torch(default, stream=stream)) for stream in (1, None))}


@check("torch", "cuda")
def we_wait_for_torchs_kernel() -> dict[str, str]:
    import torch
    from slow import can_fail, in_order

    said = [in_order(from_torch(torch.cuda.Stream())), in_order(from_torch(torch.cuda.default_stream()))]
    return {"detail": f"side stream {said[0]}; default stream {said[1]}; {can_fail(from_torch(torch.cuda.Stream(), waive=True))}"}


@check("torch", "cuda")
def what_either_does_while_torch_holds_ours() -> dict[str, str]:
    """The exchange was long ago; what torch submits since then, and what we do, are in order all the same, both ways."""
    import torch
    from exchange import our_values
    from slow import fresh, in_order, our_copy, torch_wait

    side = torch.cuda.Stream()
    source, ours = fresh(1.0), [fresh(0.0) for _ in range(4)]
    with torch.cuda.stream(side):
        theirs = [torch.from_dlpack(tensor) for tensor in ours]
    torch.cuda.synchronize()

    def they_write(seconds: float) -> Any:
        with torch.cuda.stream(side):
            torch_wait(seconds)
            theirs[bool(seconds)].fill_(1.0)
        copy = ours[bool(seconds)].to("cuda:0", copy=True)
        return lambda: our_values(copy).tolist()

    def we_write(seconds: float) -> Any:
        number = 2 + bool(seconds)
        our_copy(source, ours[number], seconds)
        with torch.cuda.stream(side):
            return read(theirs[number].clone())

    return {"detail": f"torch writes, we read: {in_order(they_write)}; we write, torch reads: {in_order(we_write)}"}


@check("torch", "cuda")
def through_both_and_many_streams() -> dict[str, str]:
    """Torch writes slowly on one stream, our kernel copies, torch reads on another: more streams than we have places for."""
    import torch
    from slow import COUNT, fresh, in_order, our_copy, torch_wait

    import neuro_memory as nm

    said = []
    for _ in range(9):
        first, last = torch.cuda.Stream(), torch.cuda.Stream()
        with torch.cuda.stream(first):
            tensors = [torch.zeros(COUNT, device="cuda") for _ in range(2)]
        targets = [fresh(0.0) for _ in range(2)]
        torch.cuda.synchronize()

        def program(seconds: float, first: Any = first, last: Any = last, tensors: Any = tensors, targets: Any = targets) -> Any:
            late = bool(seconds)
            with torch.cuda.stream(first):
                torch_wait(seconds)
                tensors[late].fill_(1.0)
                between = nm.from_dlpack(tensors[late])
            our_copy(between, targets[late], 0.0)
            with torch.cuda.stream(last):
                return read(torch.from_dlpack(targets[late]).clone())

        said.append(in_order(program))
    return {"detail": f"{len(said)} pairs; last {said[-1]}"}


@check("cupy", "cuda")
def cupy_waits_for_our_kernel() -> dict[str, str]:
    import cupy
    from slow import fresh, in_order, our_copy

    source, targets = fresh(1.0), [fresh(0.0) for _ in range(4)]
    side = cupy.cuda.Stream(non_blocking=True)

    def program(seconds: float, take: Any, targets: list[Any]) -> Any:
        with side:
            our_copy(source, targets[bool(seconds)], seconds)
            copy = take(targets[bool(seconds)]).copy()
        return lambda: (side.synchronize(), cupy.asnumpy(copy).tolist())[1]

    by_dlpack = in_order(lambda seconds: program(seconds, cupy.from_dlpack, targets[:2]))
    # Its reader of the array interface waits on the host for the stream that is named there.
    by_interface = in_order(lambda seconds: program(seconds, cupy.asarray, targets[2:]), waits=True)
    return {"detail": f"DLPack {by_dlpack}; array interface {by_interface}"}


@check("cupy", "cuda")
def we_wait_for_cupys_kernel() -> dict[str, str]:
    import cupy
    from exchange import our_values
    from interface import take
    from slow import COUNT, cupy_copy, in_order

    import neuro_memory as nm

    side = cupy.cuda.Stream(non_blocking=True)
    with side:
        source, targets = cupy.ones(COUNT, "float32"), [cupy.zeros(COUNT, "float32") for _ in range(4)]
    side.synchronize()

    def program(seconds: float, how: Any, targets: list[Any]) -> Any:
        with side:
            cupy_copy(source, targets[bool(seconds)], seconds)
            mine = how(targets[bool(seconds)])
        return lambda: our_values(mine).tolist()

    by_dlpack = in_order(lambda seconds: program(seconds, nm.from_dlpack, targets[:2]))
    by_interface = in_order(lambda seconds: program(seconds, take, targets[2:]), waits=True)
    return {"detail": f"DLPack {by_dlpack}; array interface {by_interface}"}


@check("jax", "cuda", limit=40)
def jax_waits_for_our_kernel() -> dict[str, str]:
    import jax
    import numpy as np
    from slow import fresh, in_order, our_copy

    source, targets = fresh(1.0), [fresh(0.0) for _ in range(2)]
    add = jax.jit(lambda x: x + 0.0)

    def program(seconds: float) -> Any:
        target = targets[bool(seconds)]
        our_copy(source, target, seconds)
        result = add(jax.dlpack.from_dlpack(target))
        return lambda: np.asarray(result).tolist()

    # Whether its runtime waits on the host is its own affair.
    return {"detail": in_order(program, waits=True)}


@check("numba", "cuda")
def numba_waits_for_our_kernel() -> dict[str, str]:
    from numba import cuda
    from slow import fresh, in_order, our_copy

    source, targets = fresh(1.0), [fresh(0.0) for _ in range(2)]

    def program(seconds: float) -> Any:
        target = targets[bool(seconds)]
        our_copy(source, target, seconds)
        theirs = cuda.as_cuda_array(target)
        return lambda: theirs.copy_to_host().tolist()

    return {"detail": in_order(program, waits=True)}


@check("cuda.core", "cuda")
def cuda_core_waits_for_our_kernel() -> dict[str, str]:
    """A view of ours on a stream of cuda.core, on which the driver copies then."""
    import ctypes

    from exchange import our_values
    from interface import core, memory_view
    from slow import fresh, in_order, our_copy

    import neuro_memory as nm

    driver = ctypes.CDLL("libcuda.so.1")
    device = core().Device(0)
    device.set_current()
    theirs = device.create_stream()
    stream = nm.cuda.Stream("cuda:0", theirs)
    view_of = memory_view()
    source, middles, targets = fresh(1.0), [fresh(0.0) for _ in range(2)], [fresh(0.0) for _ in range(2)]

    def program(seconds: float) -> Any:
        middle, target = middles[bool(seconds)], targets[bool(seconds)]
        our_copy(source, middle, seconds)
        seen = view_of(middle, stream_ptr=stream.ptr)  # the stream is behind our kernel from here on
        stream.wait_for(target, write=True)
        to, size = ctypes.c_uint64(nm.cuda.pointer(target)), ctypes.c_size_t(target.nbytes)
        status = driver.cuMemcpyDtoDAsync_v2(to, ctypes.c_uint64(seen.ptr), size, ctypes.c_void_p(stream.ptr))
        assert status == 0, f"cuMemcpyDtoDAsync: {status}"
        stream.record(target, write=True)
        return lambda: our_values(target).tolist()

    return {"detail": in_order(program)}


if __name__ == "__main__":
    main()
