"""Forward and inverse DCT (T.81 A.3.3).

The exact pair is libjpeg's accurate integer method ("islow", ``jfdctint.c``, ``jidctint.c``): the butterflies of
Loeffler, Ligtenberg and Moschytz with 13-bit constants, written as two integer matrix products with a rounding shift
after each. The last-digit asymmetries of the matrix are the butterflies' own.

The inverse has the reduced sizes of ``jidctred.c`` too: a sample is the mean of a square of those of the whole block.
"""

import math

from torch import Tensor

from jpegrad.home import constants

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

REDUCED = {
    8: ISLOW,
    4: (
        (16384, 16384, 16384, 16384),
        (20995, 8697, -8697, -20995),
        (15137, -15137, -15137, 15137),
        (7373, -17799, 17799, -7373),
        (0, 0, 0, 0),
        (-4926, 11893, -11893, 4926),
        (-6270, 6270, 6270, -6270),
        (-4176, -1730, 1730, 4176),
    ),
    2: (
        (32768, 32768),
        (29692, -29692),
        (0, 0),
        (-10426, 10426),
        (0, 0),
        (6967, -6967),
        (0, 0),
        (-5906, 5906),
    ),
    1: ((65536,), *((0,),) * 7),
}
"""Per size of the result, frequencies by samples; times 8192 · 8 / size."""

ORTHONORMAL = tuple(
    tuple(math.sqrt((1 if k else 0.5) / 4) * math.cos((2 * n + 1) * k * math.pi / 16) for n in range(8))
    for k in range(8)
)


def _matrix(rows: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    return constants(rows, like.dtype, like.device)


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


def inverse_real(coefficients: Tensor, size: int = 8) -> Tensor:
    """Coefficients to ``[..., size, size]`` samples around 128, before the clamp to 0…255; 8, 4, 2 or 1."""
    matrix = inverse_basis(size, coefficients)
    return _rows(_columns(coefficients, matrix), matrix) + 128


def inverse_basis(size: int, like: Tensor) -> Tensor:
    """Samples by frequencies, ``[size, 8]``: the matrix of each direction of :func:`inverse_real`."""
    means = _matrix(ORTHONORMAL, like).unflatten(-1, (size, -1)).mean(-1)
    # Frequencies that cancel out have 0, not float64's rest.
    return (means * (_matrix(REDUCED[size], like) != 0)).mT


def inverse_exact(coefficients: Tensor, size: int = 8) -> Tensor:
    matrix = _matrix(REDUCED[size], coefficients).mT
    more = (8 // size).bit_length() - 1
    samples = _shift(_rows(_shift(_columns(coefficients, matrix), 11 + more), matrix), 18 + more)
    if size == 1:
        # The one size without vector code: what no picture reaches wraps around, and is not clamped.
        samples = (samples + 512) % 1024 - 512
    return samples + 128
