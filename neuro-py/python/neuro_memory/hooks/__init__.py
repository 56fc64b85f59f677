"""Put other libraries' memory on our pools.

``hooks.numpy``: NumPy's arrays. ``hooks.torch``, ``hooks.cupy``, ``hooks.rmm``, ``hooks.numba``, ``hooks.cuda_core``: memory of CUDA devices. Nothing is
hooked, and no framework is imported, before it is called.
"""

from .._neuro_memory import _refused_frees
from ._cuda_core import cuda_core
from ._cupy import cupy
from ._numba import numba
from ._numpy import numpy
from ._rmm import rmm
from ._torch import torch

__all__ = ["cuda_core", "cupy", "numba", "numpy", "refused_frees", "rmm", "torch"]


def refused_frees() -> int:
    """How often a framework freed, through a hook of a CUDA pool, what is no live block of it: nothing was changed then. 0 in a program without mistakes."""
    return _refused_frees()
