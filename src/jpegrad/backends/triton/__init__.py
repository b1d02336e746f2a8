"""CUDA kernels in Triton: an image to its decoded 8-bit planes, and those to an image; equal to the reference.

Values are exact: 0 samples differ. Gradients are the reference's in float32. Triton is imported by the first call that
runs a kernel. With ``TRITON_INTERPRET=1`` in the environment the operators run on CPU tensors too, slowly, for tests.
"""

from jpegrad.backends.fused.colored import Colored
from jpegrad.backends.triton import colored, kernels
from jpegrad.backends.triton.levels import level_kernels as level_kernels

watches_range = False
device_type = "cuda"
_backend = Colored(kernels, colored)
missing = kernels.missing
unsupported, jpeg, encode, decode = _backend.unsupported, _backend.jpeg, _backend.encode, _backend.decode
