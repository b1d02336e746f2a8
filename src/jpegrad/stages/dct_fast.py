"""The fast integer inverse DCT (libjpeg-turbo ``jidctfst.c``, as ``jidctfst-sse2.asm`` computes it).

The butterflies of Arai, Agui and Nakajima: five multiplications a pass, because the rest is in the quantization table.
Constants have 8 bits, products are rounded down, and everything is held in 16 bits. Where those overflow, in blocks of
the largest amplitudes, numbers wrap around; the C code of libjpeg and the vector code for ARM do so elsewhere.
"""

import math

import torch
from torch import Tensor

from jpegrad.home import constants
from jpegrad.stages import dct

_SCALES = [1.0] + [math.sqrt(2) * math.cos(k * math.pi / 16) for k in range(1, 8)]
TABLE_SCALES = tuple(tuple(round(a * b * 2**14) for b in _SCALES) for a in _SCALES)
"""What the butterflies leave to the table, times 2^14."""


def inverse_real(levels: Tensor, table: Tensor) -> Tensor:
    """Levels to samples around 128, before the clamp to 0…255: what every inverse DCT computes in real numbers."""
    return dct.inverse_real(levels * table)


def inverse_exact(levels: Tensor, table: Tensor) -> Tensor:
    """The same in libjpeg's integers; levels that are none are rounded."""
    scales = constants(TABLE_SCALES, table.dtype, table.device)
    multipliers = ((table * scales + 2**11) / 2**12).floor().int().short()
    block = levels.round().short() * multipliers
    return (_pass(_pass(block, -2), -1) >> 5).to(levels.dtype) + 128


def _times(x: Tensor, constant: int) -> Tensor:
    """x · constant / 256, rounded down; 16 bits have room for 4·x, or it wraps around."""
    return (((x << 2).int() * (constant << 6)) >> 16).short()


def _pass(x: Tensor, dim: int) -> Tensor:
    """The eight-point inverse along a dimension."""
    x0, x1, x2, x3, x4, x5, x6, x7 = x.unbind(dim)

    sum04, difference04 = x0 + x4, x0 - x4
    sum26 = x2 + x6
    difference26 = _times(x2 - x6, 362) - sum26
    even = (sum04 + sum26, difference04 + difference26, difference04 - difference26, sum04 - sum26)

    z13, z10, z11, z12 = x5 + x3, x5 - x3, x1 + x7, x1 - x7
    z5 = _times(z10 + z12, 473)
    odd7 = z11 + z13
    odd6 = _times(z10, -413) - z10 + z5 - odd7
    odd5 = _times(z11 - z13, 362) - odd6
    odd4 = _times(z12, 277) - z5 + odd5
    odd = (odd7, odd6, odd5, -odd4)

    first = [e + o for e, o in zip(even, odd, strict=True)]
    last = [e - o for e, o in zip(even, odd, strict=True)]
    return torch.stack([*first, *reversed(last)], dim)
