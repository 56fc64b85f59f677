"""The tables of functions by which C++ code exchanges tensors without Python (`__dlpack_c_exchange_api__`): ours with PyTorch's."""

import ctypes
from typing import Any, NamedTuple

from lines import DEVICE, ON_HOST, Skip, check, main


class Table(ctypes.Structure):
    """DLPackExchangeAPI of DLPack 1.3."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("previous", ctypes.c_void_p),
        ("allocate", ctypes.c_void_p),
        ("from_object", ctypes.c_void_p),
        ("to_object", ctypes.c_void_p),
        ("look_at", ctypes.c_void_p),
        ("current_stream", ctypes.c_void_p),
    )


# They need the interpreter's lock, and keep it.
TO_STRUCT = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(ctypes.c_void_p))
TO_OBJECT = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p))
STREAM = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p))


class Functions(NamedTuple):
    """Those of a table that are used here."""

    version: tuple[int, int]
    to_struct: Any
    to_object: Any
    stream: Any


def functions(tensor: Any) -> Functions:
    """Of a tensor's type."""
    capsule = getattr(type(tensor), "__dlpack_c_exchange_api__", None)
    if capsule is None:
        raise Skip(f"{type(tensor).__module__} has no table of functions in this version")
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = Table.from_address(get(capsule, b"dlpack_exchange_api"))
    return Functions(
        (table.major, table.minor), TO_STRUCT(table.from_object), TO_OBJECT(table.to_object), STREAM(table.current_stream)
    )


def handed_over(tensor: Any, given: Functions, taken: Functions) -> Any:
    """The tensor as the other library's, through the two tables."""
    managed, found = ctypes.c_void_p(), ctypes.c_void_p()
    assert given.to_struct(tensor, ctypes.byref(managed)) == 0 and managed.value
    assert taken.to_object(managed, ctypes.byref(found)) == 0 and found.value
    other = ctypes.cast(found, ctypes.py_object).value
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(other))  # the reference that was given to us
    return other


@check("torch", "device")
def tables_of_functions_both_ways() -> dict[str, str]:
    import gc

    import numpy as np
    import torch
    from exchange import all_back, live_blocks, our_address, our_values, ours, sample

    import neuro_memory as nm

    values = sample("float32")
    gc.collect()
    before = live_blocks()
    mine, theirs = ours(values), torch.from_numpy(values.copy()).to(DEVICE)
    ours_, torchs = functions(mine), functions(theirs)
    # "No sync": whoever goes this way sees to the order himself.
    mine.synchronize()
    if not ON_HOST:
        torch.cuda.synchronize()
    for _ in range(100):
        other = handed_over(mine[1:], ours_, torchs)
        assert type(other) is torch.Tensor and other.data_ptr() == our_address(mine[1:])
        taken = handed_over(theirs, torchs, ours_)
        assert type(taken) is nm.Tensor and our_address(taken) == theirs.data_ptr()
    assert np.array_equal(other.cpu().numpy(), values[1:])
    del mine, theirs
    assert np.array_equal(other.cpu().numpy(), values[1:]) and np.array_equal(our_values(taken), values)
    del other, taken
    all_back(before)
    return {"detail": f"versions: ours {ours_.version}, torch's {torchs.version}"}


@check("torch", "cuda")
def streams_that_the_tables_name() -> dict[str, str]:
    import torch
    from exchange import ours, sample

    import neuro_memory as nm

    stream = ctypes.c_void_p()
    assert functions(ours(sample("float32"))).stream(2, 0, ctypes.byref(stream)) == 0
    assert stream.value is None or stream.value in nm.cuda.handles(DEVICE), stream.value
    named = stream.value
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        assert functions(torch.ones(1)).stream(2, 0, ctypes.byref(stream)) == 0
    assert stream.value == side.cuda_stream
    return {"detail": f"ours {named}"}


if __name__ == "__main__":
    main()
