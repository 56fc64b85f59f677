"""`__cuda_array_interface__`, which CuPy, Numba, PyTorch and cuda.core speak beside DLPack."""

from collections.abc import Callable
from typing import Any

import neuro_memory as nm

take: Callable[[Any], nm.Tensor] = nm.asarray


class Shown:
    """Another library's array, as the interface shows one; keeps what it is made of."""

    def __init__(self, keeps: Any, **said: Any) -> None:
        self.keeps = keeps
        self.__cuda_array_interface__ = dict(said)
