"""Kernels in plain PyTorch, for where none are compiled: both forwards, in int32 and float32, and their gradients.

The exact one equals the reference with 0 differing samples. Blocks lie with their frequencies first,
``[8, 8, blocks]``, so that each line of a butterfly is one operation on all blocks of an image.
"""

from jpegrad.backends.fused.frame import Fused
from jpegrad.backends.plain import kernels

watches_range = True
device_type = None
_backend = Fused(kernels)
missing, level_kernels = kernels.missing, kernels.level_kernels
unsupported, jpeg, encode, decode = _backend.unsupported, _backend.jpeg, _backend.encode, _backend.decode
