"""Put other libraries' memory on our pools.

``hooks.numpy``: NumPy's arrays. Nothing is hooked, and NumPy is not imported, before it is called.
"""

from ._numpy import numpy

__all__ = ["numpy"]
