"""The surrogates' functions, in float32, and their slopes.

Slopes are taken at a level and the residual to it: float32 resolves the two, but not their sum.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from jpegrad import formulas

_PERIODIC = {"cubic": formulas.cubic_slope, "sin": formulas.sin_slope, "fourier": formulas.fourier_slope}
_OTHER = {"distortion": formulas.distortion_slope, "dead_zone": formulas.dead_zone_slope}


def slope(name: str, parameter: float | Tensor, r: Tensor, level: Tensor, step: Tensor) -> Tensor | None:
    """The slope at ``level`` + r, |r| ≤ ½; None is 1. ``parameter`` as in ``Settings``."""
    if name == "identity":
        return None
    if name in _PERIODIC:
        return _PERIODIC[name](r)
    if name in _OTHER:
        return _OTHER[name](level + r)
    if name == "soft_round":
        return _soft_round(float(parameter), r)
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
    return _by_width(r, inverse, _thresholds, _waves)


def _by_width(
    r: Tensor,
    inverse: Tensor,
    narrow: Callable[[Tensor, Tensor, bool], Tensor],
    wide: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """One function of the residual where the thresholds' width is narrow, and another where it is wide.

    The narrow one also hears whether the thresholds at 1½ count: where ``inverse`` is above 6 they are below 1e-8.
    """
    # On other devices than the CPU they would be waited for.
    if inverse.device.type == "cpu":
        lowest, highest = torch.stack(torch.aminmax(inverse)).tolist()
        if lowest > _NARROW:
            return narrow(r, inverse, lowest < 6)
        if highest <= _NARROW:
            return wide(r, inverse)
    return torch.where(inverse > _NARROW, narrow(r, inverse, True), wide(r, inverse))


_NARROW = 1 / 0.3


def _thresholds(r: Tensor, inverse: Tensor, far: bool) -> Tensor:
    """Thresholds at distances ½ − a, ½ + a, 1½ − a, 1½ + a, as multiples of the first.

    Smaller numbers than are held here, and their products, would be denormal, which costs far more than they count.
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


def soft(name: str, parameter: float | Tensor, u: Tensor, step: Tensor) -> Tensor:
    """What the soft forward has in place of the rounding of u."""
    if name == "gaussian":
        level = u.round()
        return level.add_(_smoothed(u - level, step / parameter))
    function = getattr(formulas, name)
    if name in ("identity", "distortion", "dead_zone"):
        return torch.mul(function(u), 1)
    level = u.round()
    return level.add_(function(*([parameter] if name == "soft_round" else []), u - level))


def _smoothed(r: Tensor, inverse: Tensor) -> Tensor:
    """The smoothed staircase at a residual, less the level."""

    def wide(r: Tensor, inverse: Tensor) -> Tensor:
        q = torch.exp(-2 * math.pi**2 / inverse.square())
        return r - _sines(r, q, q**4 / 2, q**9 / 3).div_(math.pi)

    return _by_width(r, inverse.clamp(1.0, 1000.0), functools.partial(_over, _tail), wide)


def widening(r: Tensor, inverse: Tensor) -> Tensor:
    """The derivative of the smoothed staircase by the logarithm of its width."""

    def wide(r: Tensor, inverse: Tensor) -> Tensor:
        square = inverse.square()
        q = torch.exp(-2 * math.pi**2 / square)
        return _sines(r, q, 2 * q**4, 3 * q**9).mul_(4 * math.pi / square)

    inner = inverse.clamp(1.0, 1000.0)
    return _by_width(r, inner, functools.partial(_over, _moment), wide).mul_(inner == inverse)


def _over(function: Callable[[Tensor], Tensor], r: Tensor, inverse: Tensor, far: bool) -> Tensor:
    """A sum over the thresholds above, less that over those below, of their distances in widths; odd in r."""
    a = r.abs()
    out = function((0.5 - a).mul_(inverse)).sub_(function((0.5 + a).mul_(inverse)))
    if far:
        out.add_(function((1.5 - a).mul_(inverse))).sub_(function((1.5 + a).mul_(inverse)))
    return out.mul_(r.sign())


def _tail(z: Tensor) -> Tensor:
    return torch.erfc(z.clamp_(max=8.0).mul_(math.sqrt(0.5))).mul_(0.5)


def _moment(z: Tensor) -> Tensor:
    z.clamp_(max=8.0)
    return torch.exp(-0.5 * z * z).mul_(z).mul_(1 / math.sqrt(2 * math.pi))


def _sines(r: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """first · sin 2πr − second · sin 4πr + third · sin 6πr."""
    angle = r * (2 * math.pi)
    sine, cosine = angle.sin(), angle.cos()
    return sine * (first - 2 * second * cosine + third * (4 * cosine * cosine - 1))
