"""Forward and inverse DCT (T.81 A.3.3).

The exact pair is libjpeg's accurate integer method ("islow", ``jfdctint.c``, ``jidctint.c``): the butterflies of
Loeffler, Ligtenberg and Moschytz with 13-bit constants, written as two integer matrix products with a rounding shift
after each. The last-digit asymmetries of the matrix are the butterflies' own.
"""

import math

import torch
from torch import Tensor

ISLOW = (
    (8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363),
    (10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703),
    (9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633),
    (8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437),
    (4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433),
    (2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260),
)

ORTHONORMAL = tuple(
    tuple(math.sqrt((1 if k else 0.5) / 4) * math.cos((2 * n + 1) * k * math.pi / 16) for n in range(8))
    for k in range(8)
)


def _matrix(rows: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def _rows(blocks: Tensor, matrix: Tensor) -> Tensor:
    return blocks @ matrix.mT


def _columns(blocks: Tensor, matrix: Tensor) -> Tensor:
    return (blocks.mT @ matrix.mT).mT


def _shift(x: Tensor, bits: int) -> Tensor:
    """Right shift with rounding: floor((x + half) / 2^bits)."""
    return ((x + 2 ** (bits - 1)) / 2**bits).floor()


def forward_real(samples: Tensor) -> Tensor:
    """Samples 0…255 ``[..., 8, 8]`` to orthonormal coefficients (level shift included)."""
    matrix = _matrix(ORTHONORMAL, samples)
    return _columns(_rows(samples - 128, matrix), matrix)


def forward_exact(samples: Tensor) -> Tensor:
    """The same in libjpeg's integers: multiples of 1/8."""
    matrix = _matrix(ISLOW, samples)
    return _shift(_columns(_shift(_rows(samples - 128, matrix), 11), matrix), 15) / 8


def inverse_real(coefficients: Tensor) -> Tensor:
    """Coefficients to samples around 128, before the clamp to 0…255."""
    matrix = _matrix(ORTHONORMAL, coefficients).mT
    return _rows(_columns(coefficients, matrix), matrix) + 128


def inverse_exact(coefficients: Tensor) -> Tensor:
    matrix = _matrix(ISLOW, coefficients).mT
    return _shift(_rows(_shift(_columns(coefficients, matrix), 11), matrix), 18) + 128
