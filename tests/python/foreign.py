"""DLPack capsules built by hand with ctypes: a foreign producer that can lie."""

import ctypes
from collections.abc import Sequence
from typing import Any

NEW = ctypes.pythonapi.PyCapsule_New
NEW.restype, NEW.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
NAME = ctypes.pythonapi.PyCapsule_GetName
NAME.restype, NAME.argtypes = ctypes.c_char_p, [ctypes.py_object]


class DLTensor(ctypes.Structure):
    """As in dlpack.h."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    """The old form."""

    _fields_ = [("dl_tensor", DLTensor), ("manager_ctx", ctypes.c_void_p), ("deleter", DELETER)]


class ManagedVersioned(ctypes.Structure):
    """The versioned form."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", DELETER),
        ("flags", ctypes.c_uint64),
        ("dl_tensor", DLTensor),
    ]


class Producer:
    """Makes one capsule over 64 float32 of its own, and counts how often the consumer frees it."""

    def __init__(
        self,
        *,
        shape: Sequence[int] | None = (4, 4),
        strides: Sequence[int] | None = None,
        ndim: int | None = None,
        device: tuple[int, int] = (1, 0),
        dtype: tuple[int, int, int] = (2, 32, 1),
        byte_offset: int = 0,
        data: int | None = -1,
        versioned: bool = False,
        version: tuple[int, int] = (1, 0),
        flags: int = 0,
    ) -> None:
        self.freed = 0
        self.memory = (ctypes.c_float * 64)(*range(64))
        address = ctypes.addressof(self.memory) if data == -1 else data
        self.numbers = [(ctypes.c_int64 * len(x))(*x) if x is not None else None for x in (shape, strides)]
        tensor = DLTensor(
            data=address,
            device_type=device[0],
            device_id=device[1],
            ndim=len(shape or ()) if ndim is None else ndim,
            code=dtype[0],
            bits=dtype[1],
            lanes=dtype[2],
            shape=self.numbers[0],
            strides=self.numbers[1],
            byte_offset=byte_offset,
        )
        deleter = DELETER(self._free)
        self.managed: Managed | ManagedVersioned
        if versioned:
            self.managed = ManagedVersioned(version[0], version[1], None, deleter, flags, tensor)
            self.name = b"dltensor_versioned"
        else:
            self.managed = Managed(tensor, None, deleter)
            self.name = b"dltensor"

    def _free(self, _managed: int) -> None:
        self.freed += 1

    def capsule(self) -> Any:
        """A capsule without a destructor: what nobody takes, Python's garbage collector frees with this object."""
        return NEW(ctypes.addressof(self.managed), self.name, None)
