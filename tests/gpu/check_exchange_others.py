"""CuPy, JAX, Numba and cuda.core beside us, by DLPack and by `__cuda_array_interface__`."""

from typing import Any

from lines import DEVICE, check, main


@check("cupy", "cuda", limit=30)
def cupy_takes_ours_by_dlpack() -> dict[str, str]:
    from exchange import cupy_library, they_take_ours

    return they_take_ours(cupy_library())


@check("cupy", "cuda", limit=30)
def we_take_cupys_by_dlpack() -> dict[str, str]:
    from exchange import cupy_library, we_take_theirs

    return we_take_theirs(cupy_library())


@check("cupy", "cuda", limit=30)
def cupy_both_ways_by_the_array_interface() -> dict[str, str]:
    import cupy
    from exchange import cupy_library, they_take_ours, we_take_theirs
    from interface import take

    library = cupy_library()._replace(take=cupy.asarray)
    they_take_ours(library)
    return we_take_theirs(library, take)


@check("jax", "device", limit=40)
def jax_takes_ours() -> dict[str, str]:
    from exchange import jax_library, they_take_ours

    return they_take_ours(jax_library())


@check("jax", "device", limit=40)
def we_take_jaxs() -> dict[str, str]:
    from exchange import jax_library, we_take_theirs

    return we_take_theirs(jax_library())


@check("jax", "cuda", limit=40)
def jax_computes_on_ours_and_we_read_what_it_made() -> None:
    import jax
    import numpy as np
    from exchange import our_values, ours, sample

    import neuro_memory as nm

    values = sample("float32")
    double = jax.jit(lambda x: x * 2 + 1)
    for _ in range(10):
        result = double(jax.dlpack.from_dlpack(ours(values)))
        assert np.array_equal(our_values(nm.from_dlpack(result)), values * 2 + 1)


@check("numba", "cuda", limit=30)
def numba_both_ways_by_the_array_interface() -> dict[str, str]:
    from exchange import Library, elements, they_take_ours, we_take_theirs
    from interface import take
    from numba import cuda

    library = Library(
        "numba",
        ("bool", "uint8", "int32", "int64", "float16", "float32", "float64", "complex64"),
        # Numba copies strided arrays to the host only where they are compact.
        ("whole", "later rows"),
        lambda values, dtype: cuda.to_device(values),
        lambda array: array.copy_to_host(),
        lambda array: array.__cuda_array_interface__["data"][0],
        lambda array: elements(array.strides, array.dtype.itemsize),
        cuda.as_cuda_array,
    )
    they_take_ours(library)
    return we_take_theirs(library, take)


@check("torch", "cuda", limit=30)
def torch_both_ways_by_the_array_interface() -> dict[str, str]:
    import torch
    from exchange import DTYPES, they_take_ours, torch_library, we_take_theirs
    from interface import take

    # The interface names types as NumPy does: no bfloat16, and no unsigned ones for torch.
    dtypes = tuple(dtype for dtype in DTYPES if dtype not in ("bfloat16", "uint16", "uint32", "uint64"))
    # Without values there is no pointer, and torch makes a tensor of its own.
    library = torch_library()._replace(take=lambda x: torch.as_tensor(x, device=DEVICE), dtypes=dtypes)
    they_take_ours(library)
    return we_take_theirs(library, take)


@check("cuda.core", "cuda")
def cuda_core_views_ours() -> dict[str, str]:
    from exchange import VIEWS, elements, our_address, ours, sample
    from interface import memory_view

    view_of = memory_view()
    for name, view in VIEWS.items():
        mine = view(ours(sample("float32")))
        seen = view_of(mine, stream_ptr=-1)
        assert tuple(seen.shape) == mine.shape and seen.is_device_accessible and not seen.readonly, name
        if not mine.size:
            continue
        assert seen.ptr == our_address(mine), name
        # None means compact; so does every other way to say it.
        strides = tuple(seen.strides) if seen.strides is not None else None
        assert strides in (elements(mine.strides, mine.itemsize), None if mine.is_contiguous else ()), (name, strides, mine.strides)
    return {"detail": ", ".join(VIEWS)}


@check("cuda", limit=20)
def what_the_array_interface_says() -> None:
    from exchange import VIEWS, all_back, live_blocks, our_address, ours, sample

    import neuro_memory as nm

    before = live_blocks()
    for name, view in VIEWS.items():
        mine = view(ours(sample("float32")))
        interface = mine.__cuda_array_interface__
        assert interface["shape"] == mine.shape and interface["typestr"] == "<f4" and interface["version"] == 3, interface
        assert interface["data"] == (our_address(mine) if mine.size else 0, False), (name, interface)
        assert interface.get("strides") in (mine.strides, None if mine.is_contiguous else mine.strides), (name, interface)
        assert interface["stream"] == 1, interface
    assert not hasattr(nm.zeros(3), "__cuda_array_interface__"), "memory of the host has no such interface"
    assert not hasattr(ours(sample("bfloat16"), "bfloat16"), "__cuda_array_interface__"), "it has no bfloat16"
    del mine, interface
    all_back(before)


@check("cuda", limit=20)
def what_we_take_and_refuse_by_the_array_interface() -> None:
    from exchange import all_back, live_blocks, our_address, our_values, ours, refused, sample
    from interface import Shown, take

    before = live_blocks()
    owner = ours(sample("float32"))
    owner.synchronize()  # what is shown by hand is not ordered by anyone
    whole: dict[str, Any] = {"shape": (4, 6), "typestr": "<f4", "data": (our_address(owner), False), "version": 3}
    for more in ({}, {"version": 2}, {"stream": None}, {"stream": 1}, {"strides": None}, {"strides": (24, 4)}):
        mine = take(Shown(owner, **(whole | more)))
        assert our_address(mine) == our_address(owner) and our_values(mine).tolist() == sample("float32").tolist(), more
    assert take(Shown(owner, **(whole | {"data": (our_address(owner), True)}))).readonly
    assert take(Shown(owner, **(whole | {"shape": (0, 6), "data": (0, False)}))).shape == (0, 6)
    turned = take(Shown(owner, **(whole | {"shape": (6, 4), "strides": (4, 24)})))
    assert our_values(turned).tolist() == sample("float32").T.tolist()
    for typestr in (">f4", "<M8"):
        try:
            take(Shown(owner, **(whole | {"typestr": typestr})))
        except BufferError as error:
            assert typestr in str(error), error
        else:
            raise AssertionError(f"elements of {typestr} were taken")
    wrong: list[dict[str, Any]] = [
        {"stream": 0},
        {"mask": Shown(owner)},
        {"data": (0, False)},
        {"shape": (4, -6)},
        {"strides": (24,)},
        {"strides": (23, 4)},
        {"shape": (1 << 62, 1 << 62)},
    ]
    for more in wrong:
        try:
            refused(lambda more=more: take(Shown(owner, **(whole | more))))
        except AssertionError as error:
            raise AssertionError(f"{more}: {error}") from error
    del owner, mine, turned, wrong  # a mask there keeps its owner, too
    all_back(before)


@check("torch", "jax", "cuda", limit=40)
def what_may_only_be_read() -> dict[str, str]:
    """A read-only tensor goes out marked, or not at all."""
    import jax
    import torch
    from exchange import our_address, ours, refused, sample
    from interface import Shown, take

    owner = ours(sample("float32"))
    owner.synchronize()
    data = (our_address(owner), True)
    locked = take(Shown(owner, shape=(4, 6), typestr="<f4", data=data, version=3))
    assert locked.readonly and locked.__cuda_array_interface__["data"] == data
    refused(lambda: locked.__dlpack__(stream=1), "read-only")
    seen = torch.from_dlpack(locked)  # it knows no such flag, and does not mind
    assert seen.data_ptr() == data[0]
    try:
        jax.dlpack.from_dlpack(locked)
    except Exception as error:
        return {"detail": f"JAX: {type(error).__name__}: {str(error)[:150]}"}
    return {"detail": "JAX takes the versioned form"}


if __name__ == "__main__":
    main()
