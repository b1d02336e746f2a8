"""Slopes of the surrogates at a level and the residual to it: float32 resolves the two, but not their sum."""

import math

import torch
from torch import Tensor

from jpegrad import formulas, surrogates
from jpegrad.backends.fused.settings import families

RECORDS = (
    surrogates.identity,
    surrogates.cubic,
    surrogates.sin,
    surrogates.fourier,
    surrogates.soft_round(),
    surrogates.gaussian(),
    surrogates.table_gaussian(),
    surrogates.table_relative(),
    surrogates.distortion,
    surrogates.dead_zone,
)
"""Records whose slopes are known here, under these names."""
SLOPES = families((record.name, record.slope) for record in RECORDS)

_PERIODIC = {"cubic": formulas.cubic_slope, "sin": formulas.sin_slope, "fourier": formulas.fourier_slope}
_OTHER = {"distortion": formulas.distortion_slope, "dead_zone": formulas.dead_zone_slope}


def slope(name: str, parameter: float, r: Tensor, level: Tensor, step: Tensor) -> Tensor | None:
    """The slope at ``level`` + r, |r| ≤ ½; None is 1. ``parameter`` as in ``Settings``."""
    if name == "identity":
        return None
    if name in _PERIODIC:
        return _PERIODIC[name](r)
    if name in _OTHER:
        return _OTHER[name](level + r)
    if name == "soft_round":
        return _soft_round(parameter, r)
    if name == "gaussian":
        return _spikes(r, step / parameter)
    # These records round half to even, the quantiser half away from zero.
    nearest = (level + r).round_().abs_()
    inverse = (1 / parameter) / nearest.clamp_(min=0.5)
    return _spikes(r, inverse.mul_(step) if name == "table_gaussian" else inverse)


def _soft_round(a: float, r: Tensor) -> Tensor:
    """sech² of the distance to the middle between two levels; even, so that one exponential is enough."""
    e = r.abs().sub_(0.5).mul_(2 * a).exp_()
    return e.mul(2 * a / math.tanh(a / 2)).div_(e.add_(1).square_())


def _spikes(r: Tensor, inverse: Tensor) -> Tensor:
    """Density of a smoothed staircase's thresholds at a residual; ``inverse`` is 1 / (their width in steps).

    The sum over the thresholds where they are narrow, four of them; its Fourier series, three harmonics, where they are
    wide. Where both meet, at a width of 0.3, the first terms left out are 1e-9 and 3e-12.
    """
    inverse = inverse.clamp(1.0, 1000.0)
    # Few numbers, or work by the block; on other devices than the CPU they would be waited for.
    if inverse.device.type == "cpu" and inverse.numel() < r.numel():
        lowest, highest = torch.stack(torch.aminmax(inverse)).tolist()
        if lowest > _NARROW:
            return _thresholds(r, inverse, far=lowest < 6)
        if highest <= _NARROW:
            return _waves(r, inverse)
    return torch.where(inverse > _NARROW, _thresholds(r, inverse), _waves(r, inverse))


_NARROW = 1 / 0.3


def _thresholds(r: Tensor, inverse: Tensor, far: bool = True) -> Tensor:
    """Thresholds at distances ½ − a, ½ + a, 1½ − a, 1½ + a, as multiples of the first.

    The far two are below 1e-8 where ``inverse`` is above 6. Smaller numbers than are held here, and their products,
    would be denormal, which costs far more than they count.
    """
    a, square = r.abs(), inverse.square()
    near = (0.5 - a).square_().mul_(square * -0.5).clamp_(min=-60.0).exp_()
    rest = (a * -square).clamp_(min=-26.0).exp_()
    if far:
        third = a.sub_(1).mul_(square).clamp_(min=-40.0).exp_()
        third.mul_(rest * rest * rest + 1)
        rest.add_(third)
    return rest.add_(1).mul_(near).mul_(inverse * (1 / math.sqrt(2 * math.pi)))


def _waves(r: Tensor, inverse: Tensor) -> Tensor:
    q = torch.exp(-2 * math.pi**2 / inverse.square())
    c = (r * (2 * math.pi)).cos_()
    # 1 − 2q·cos + 2q⁴·cos of the double angle − 2q⁹·cos of the threefold one, as a polynomial.
    q4, q9 = q**4, q**9
    return c.mul(-8 * q9).add_(4 * q4).mul_(c).add_(6 * q9 - 2 * q).mul_(c).add_(1 - 2 * q4)
