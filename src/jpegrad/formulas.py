"""The functions of the surrogates: stand-ins for the rounding, their slopes, a stand-in for the floors.

What stands in for the rounding takes ``u``, the coefficient in steps; ``step``, the table entry; and ``component``. A
function with parameters takes them first.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def pixel_variances(sigma: float) -> tuple[float, float]:
    """Variances of a pixel with noise of ``sigma``, rounded to 8 bits: as its clamp sees it, and where no clamp acts.

    The mean of a clamp behind a rounding is that of a clamp behind a noise smaller by 1/12 (Euler and Maclaurin).
    """
    return max(sigma**2 - 1 / 12, sigma**2 / 4), sigma**2 + 1 / 12


@dataclass(frozen=True)
class Component:
    """One plane of the image, as a surrogate sees it.

    Args:
        name: ``"Y"``, ``"Cb"`` or ``"Cr"``; ``"K"`` of a fourth.
        gain: variance of the plane per unit of pixel variance, Σ of the squared colour weights.
        averaged: samples that the downsampling averages into one.
        converted: whether the plane comes out of a rounded colour conversion (gray images do not).
        noise: variance of the coefficients of each block, broadcastable to them, where it is known better than by a
            formula: clamped pixels have less noise. None is the formula.
    """

    name: str
    gain: float | Tensor = 1.0
    averaged: int = 1
    converted: bool = True
    noise: Tensor | None = None

    def noise_variance(self, sigma: float) -> float | Tensor:
        """Variance of a coefficient when white noise of ``sigma`` grey levels is added to the pixels.

        The orthonormal DCT keeps variances, so all frequencies share it. The pixel, the converted sample and the
        averaged sample are each rounded: 1/12, 1/12, and (1 − 1/n²)/12 for the mean of n integers.
        """
        if self.noise is not None:
            return self.noise
        return self.averaged_variance(self.gain * pixel_variances(sigma)[1])

    def averaged_variance(self, converted: Any) -> Any:
        """Variance of a sample of the plane, from that of a converted pixel before its rounding."""
        n = self.averaged
        conversion = 1 / 12 if self.converted else 0.0
        return (converted + conversion) / n + (1 - 1 / n**2) / 12


Rounding = Callable[[Tensor, Tensor, Component], Tensor]
"""(u, step, component) → a tensor of the shape of ``u``."""
Elementwise = Callable[[Tensor], Tensor]
"""A tensor of any shape → one of the same shape."""


@dataclass(frozen=True)
class Formula:
    """A function with its parameters. Two are equal if both are; copies, hashes and pickles go by both.

    Kernels that evaluate a formula themselves know it by its ``family``, never by the name of a record.

    Args:
        function: called as ``function(*parameters, *arguments)``; to be pickled, it must be a module's own.
        parameters: its first arguments.

    Example:
        >>> import jpegrad
        >>> jpegrad.surrogates.gaussian(2.0).slope.parameters
        (2.0,)
    """

    function: Callable[..., Tensor]
    parameters: tuple[float, ...] = ()

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", repr(self.function))
        return f"{name}({', '.join(map(repr, self.parameters))})"

    def __call__(self, *arguments: Any) -> Tensor:
        return self.function(*self.parameters, *arguments)

    @property
    def family(self) -> tuple[Callable[..., Tensor], int]:
        """What the formula is, whatever its parameters are: the function and how many they are."""
        return self.function, len(self.parameters)


# PyTorch's own slopes at bounds and kinks change between versions: at the bounds of a clamp it was 1, and is 0
# since 2.14. So wherever a gradient passes, the slope is written out.


def leaky_clamp(
    x: Tensor,
    low: float = -math.inf,
    high: float = math.inf,
    slope: float = 0.0,
    nan: float | None = None,
) -> Tensor:
    """Clamp to ``[low, high]`` that keeps ``slope`` outside; inside and at the bounds the slope is 1.

    An infinity becomes the bound, with slope 0. So does NaN become ``nan``; without it NaN passes.
    """
    bound = x.detach().clamp(low, high)
    if nan is None:
        outside = (x < low) | (x > high)
    else:
        # NaN differs from everything.
        bound = bound.nan_to_num(nan)
        outside = x != bound
    if slope != 0:
        bound = bound + slope * finite(x - bound, 0.0, 0.0, 0.0)
    return torch.where(outside, bound, x)


def magnitude(x: Tensor) -> Tensor:
    """\\|x\\|, with slope sign(x): 0 at 0."""
    return x.detach().sign() * x


def finite(x: Tensor, nan: float, low: float, high: float) -> Tensor:
    """``nan`` in place of NaN, ``low`` and ``high`` in place of the infinities; slope 1 at numbers, 0 elsewhere."""
    return torch.where(x.isfinite(), x, x.detach().nan_to_num(nan, high, low))


def _residual(x: Tensor) -> Tensor:
    return x - x.detach().round()


def identity(u: Tensor, *_: object) -> Tensor:
    return u


def identity_slope(u: Tensor, *_: object) -> Tensor:
    return torch.ones_like(u)


def cubic(u: Tensor, *_: object) -> Tensor:
    nearest = u.detach().round()
    return nearest + (u - nearest) ** 3


def cubic_slope(u: Tensor, *_: object) -> Tensor:
    return 3 * _residual(u) ** 2


def cubic_floor(x: Tensor) -> Tensor:
    return cubic(x - 0.5)


def sin(u: Tensor, *_: object) -> Tensor:
    return u - torch.sin(2 * math.pi * u) / (2 * math.pi)


def sin_slope(u: Tensor, *_: object) -> Tensor:
    return 1 - torch.cos(2 * math.pi * u)


_HARMONICS = range(1, 10)


def fourier(u: Tensor, *_: object) -> Tensor:
    waves = sum((-1) ** (n + 1) / n * torch.sin(2 * math.pi * n * u) for n in _HARMONICS)
    return u - waves / math.pi


def fourier_slope(u: Tensor, *_: object) -> Tensor:
    return 1 - 2 * sum((-1) ** (n + 1) * torch.cos(2 * math.pi * n * u) for n in _HARMONICS)


def soft_round(a: float, u: Tensor, *_: object) -> Tensor:
    middle = u.detach().floor() + 0.5
    return middle + torch.tanh(a * (u - middle)) / (2 * math.tanh(a / 2))


def soft_round_slope(a: float, u: Tensor, *_: object) -> Tensor:
    middle = u.detach().floor() + 0.5
    return a * (1 - torch.tanh(a * (u - middle)) ** 2) / (2 * math.tanh(a / 2))


# Thresholds within six standard deviations matter; at s = 1 the staircase is straight to 5e-9, so no wider is needed.
_NEAR = range(-6, 6)
_NARROWEST, _WIDEST = 1e-3, 1.0


def _deviations(x: Tensor, s: Tensor) -> Tensor:
    # Beyond nine, the normal distribution is 0 or 1 in float64, and its density costs denormal numbers.
    # The slope there is below its resolution, whatever PyTorch makes of it.
    return (x / s).clamp(-9.0, 9.0)


def smoothed_round(u: Tensor, s: Tensor) -> Tensor:
    """E[round(u + s·noise)], noise standard normal: Σ Φ((u − m − ½)/s), a smooth staircase; s in steps."""
    s = leaky_clamp(s, _NARROWEST, _WIDEST)
    nearest = u.detach().round()
    r = u - nearest
    steps = sum(torch.special.ndtr(_deviations(r - m - 0.5, s)) for m in _NEAR)
    return nearest + (steps + _NEAR.start)


def smoothed_slope(u: Tensor, s: Tensor) -> Tensor:
    """Derivative of :func:`smoothed_round`: Σ φ((u − m − ½)/s)/s, mean 1 over a period."""
    s = s.clamp(_NARROWEST, _WIDEST)
    r = _residual(u)
    spikes = sum(torch.exp(-0.5 * _deviations(r - m - 0.5, s) ** 2) for m in _NEAR)
    return spikes / (s * math.sqrt(2 * math.pi))


def _noise_width(sigma: float, step: Tensor, component: Component) -> Tensor:
    return component.noise_variance(sigma) ** 0.5 / step


def gaussian(sigma: float, u: Tensor, step: Tensor, component: Component) -> Tensor:
    return smoothed_round(u, _noise_width(sigma, step, component))


def gaussian_slope(sigma: float, u: Tensor, step: Tensor, component: Component) -> Tensor:
    return smoothed_slope(u, _noise_width(sigma, step, component))


def noise(u: Tensor, *_: object) -> Tensor:
    return u + torch.rand_like(u) - 0.5


def _zero_level(u: Tensor) -> Tensor:
    return u.detach().abs() < 0.5


def distortion(u: Tensor, *_: object) -> Tensor:
    return torch.where(_zero_level(u), 4 / 3 * u**3, u - u.detach().sign() / 3)


def distortion_slope(u: Tensor, *_: object) -> Tensor:
    return torch.where(_zero_level(u), 4 * u**2, 1.0)


_CUT = 1 + 1 / math.sqrt(12)


def dead_zone(u: Tensor, *_: object) -> Tensor:
    return torch.where(u.detach().abs() > _CUT, u - u.detach().sign() * _CUT, 0.0)


def dead_zone_slope(u: Tensor, *_: object) -> Tensor:
    return (u.detach().abs() > _CUT).to(u.dtype)


def _share_of_level(share: float, u: Tensor) -> Tensor:
    return u.detach().round().abs().clamp(min=0.5) * share


def table_gaussian(delta: float, u: Tensor, step: Tensor, *_: object) -> Tensor:
    return smoothed_round(u, _share_of_level(delta, u) / step)


def table_gaussian_slope(delta: float, u: Tensor, step: Tensor, *_: object) -> Tensor:
    return smoothed_slope(u, _share_of_level(delta, u) / step)


def table_relative(rho: float, u: Tensor, *_: object) -> Tensor:
    return smoothed_round(u, _share_of_level(rho, u))


def table_relative_slope(rho: float, u: Tensor, *_: object) -> Tensor:
    return smoothed_slope(u, _share_of_level(rho, u))
