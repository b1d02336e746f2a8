"""The CPU kernel: C++ over 16-bit lanes, fused per row of MCUs; equal to the reference with 0 differing samples.

Gradients are the reference's in float32, from the coefficients themselves (16-bit integers, 3 bytes per pixel in
4:2:0) and from one byte of clamp flags per pixel and per chroma sample.
"""

from jpegrad.backends.fused.frame import Fused
from jpegrad.backends.native import kernels
from jpegrad.backends.native.levels import level_kernels as level_kernels

watches_range = True
device_type = "cpu"
_backend = Fused(kernels)
missing = kernels.missing
unsupported, jpeg, encode, decode = _backend.unsupported, _backend.jpeg, _backend.encode, _backend.decode
