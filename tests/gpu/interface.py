"""`__cuda_array_interface__`, which CuPy, Numba, PyTorch and cuda.core speak beside DLPack; and where cuda.core is."""

import importlib
from typing import Any

import neuro_memory as nm


class Shown:
    """An array as the interface shows it, and no other way; keeps what it is made of."""

    def __init__(self, keeps: Any, **said: Any) -> None:
        self.keeps = keeps
        self.__cuda_array_interface__ = dict(said)


def take(array: Any) -> nm.Tensor:
    """Takes an array by the interface, also one that has DLPack, which would be asked first."""
    return nm.asarray(Shown(array, **array.__cuda_array_interface__))


def core() -> Any:
    """cuda.core, by the name that its version has."""
    found = importlib.import_module("cuda.core")
    return found if hasattr(found, "Device") else importlib.import_module("cuda.core.experimental")


def memory_view() -> Any:
    """Its StridedMemoryView."""
    return importlib.import_module(core().__name__ + ".utils").StridedMemoryView
