"""What clamps do to noise: the soft forward of the Gaussian is the mean over noise of the pixels.

A clamp's mean over normal noise is smooth; its slope is the probability that the clamp does not act. Deviations are
constants to the gradient, as ``sigma`` itself is.
"""

import math

import torch
from torch import Tensor

from jpegrad.stages import dct
from jpegrad.surrogates import finite

QUIET = 0.04
"""Least variance of a decoded sample: below it the smoothed clamp is the clamp, but for a few hundredths of a level."""
_FAR = 9.0
"""Deviations beyond which the normal distribution is 0 or 1 in float64."""


def _density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)


def _excess(x: Tensor, deviation: Tensor) -> Tensor:
    """E[max(x + noise, 0)]."""
    z = (x / deviation).clamp(-_FAR, _FAR)
    return x * torch.special.ndtr(z) + deviation * _density(z)


def clamped(x: Tensor, variance: float | Tensor, slope: float) -> Tensor:
    """E[clamp(x + noise)] to 0…255, of normal noise; where it acts, ``slope`` of x goes on. NaN counts as 0."""
    spread = (
        variance if isinstance(variance, Tensor) else torch.full((), variance, dtype=x.dtype, device=x.device)
    )
    deviation = spread.to(x.dtype).detach().sqrt()
    # Farther outside nothing is left of the noise; large numbers would leave nothing of the difference either.
    reach = _FAR * deviation
    x = finite(x, 0.0, -math.inf, math.inf)
    near = x.minimum(255 + reach).maximum(-reach)
    mean = near - _excess(near - 255, deviation) + _excess(-near, deviation)
    return mean + slope * finite(x - mean, 0.0, 0.0, 0.0) if slope != 0 else mean


def clamped_variance(x: Tensor, variance: float) -> Tensor:
    """Variance of clamp(x + noise), without a gradient."""
    deviation = math.sqrt(variance)
    x = finite(x.detach(), 0.0, -1e30, 1e30)
    low, high = ((bound - x).div(deviation).clamp(-_FAR, _FAR) for bound in (0.0, 255.0))
    below, above = torch.special.ndtr(low), torch.special.ndtr(-high)
    at_low, at_high = _density(low), _density(high)
    mean = low * below + at_low - at_high + high * above
    square = low**2 * below + (1 - below - above) + low * at_low - high * at_high + high**2 * above
    return variance * (square - mean**2).clamp(min=0.0)


def sample_variance(levels: Tensor, table: Tensor, noise: Tensor, size: int = 8) -> Tensor:
    """Mean variance of the samples of each decoded block ``[..., by, bx, 1, 1]``, without a gradient.

    A mean level between two integers is mostly one of them or the other; noise of many steps passes the rounding.

    Args:
        levels: mean levels ``[..., by, bx, 8, 8]``.
        table: broadcasts to them.
        noise: variance of the coefficients of each block ``[..., by, bx, 1, 1]``.
        size: of the decoded blocks.
    """
    share, squared = levels.detach() - levels.detach().floor(), table.detach() ** 2
    variance = squared * share * (1 - share) + (noise.detach() - squared / 12).clamp(min=0.0)
    basis = dct.inverse_basis(size, levels).square().mean(-2)
    return (variance * basis[:, None] * basis).sum((-2, -1), keepdim=True)
