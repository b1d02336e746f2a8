"""Gradient estimators for the quantiser's rounding, one record each.

A surrogate says how a rounding looks to the gradient. Its functions take

- ``u``: the coefficient in steps (coefficient / table entry), any shape ending in ``[8, 8]``;
- ``step``: the table entry, broadcastable to ``u``;
- ``component``: a :class:`Component`, what is known about the plane the coefficient belongs to.

``soft`` is the smooth function that ``forward="soft"`` evaluates in place of the rounding; ``slope`` is its derivative
with respect to ``u``, used behind the true rounding by ``forward="exact"``. Every record obeys the same laws (tests
iterate over :data:`ALL`), and a record of your own is as good as one of these.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Component:
    """One plane of the image, as a surrogate sees it.

    Args:
        name: ``"Y"``, ``"Cb"`` or ``"Cr"``.
        gain: variance of the plane per unit of pixel variance, Σ of the squared colour weights.
        averaged: samples that the downsampling averages into one (1, 2 or 4).
        converted: whether the plane comes out of a rounded colour conversion (gray images do not).
    """

    name: str
    gain: float | Tensor = 1.0
    averaged: int = 1
    converted: bool = True

    def noise_variance(self, sigma: float) -> float | Tensor:
        """Variance of a coefficient when white noise of ``sigma`` grey levels is added to the pixels.

        The orthonormal DCT keeps variances, so all frequencies share it. The pixel, the converted sample and the
        averaged sample are each rounded: 1/12, 1/12, and (1 − 1/n²)/12 for the mean of n integers.
        """
        pixel = sigma**2 + 1 / 12
        n = self.averaged
        conversion = 1 / 12 if self.converted else 0.0
        return (self.gain * pixel + conversion) / n + (1 - 1 / n**2) / 12


Rounding = Callable[[Tensor, Tensor, Component], Tensor]
"""(u, step, component) → a tensor of the shape of ``u``."""
Elementwise = Callable[[Tensor], Tensor]
"""A tensor of any shape → one of the same shape."""


def _floor_mean(x: Tensor) -> Tensor:
    return x - 0.5


@dataclass(frozen=True)
class Surrogate:
    """How a rounding looks to the gradient.

    Args:
        name: what ``surrogate=`` takes.
        soft: smooth stand-in for ``round(u)``, called as ``soft(u, step, component)``.
        slope: derivative of ``soft`` with respect to ``u``, same arguments.
        source: where it comes from.
        floor: smooth stand-in for the floors of the quality scaling, used by the soft forward.
        floor_slope: slope of those floors behind an exact forward; None is slope 1.
        clip_slope: slope outside the clamps that the record asks for; None leaves it to the caller.
        forward: the forward that the record is meant for, where the caller names none.
        parameter: the record's own number (σ, a), for backends that evaluate it themselves.

    Example:
        >>> import jpegrad, torch
        >>> half = jpegrad.surrogates.Surrogate(
        ...     "half", lambda u, step, component: u / 2, lambda u, step, component: torch.full_like(u, 0.5), "mine")
        >>> jpegrad.jpeg(torch.rand(3, 16, 16), quality=50, surrogate=half).shape
        torch.Size([3, 16, 16])
    """

    name: str
    soft: Rounding
    slope: Rounding
    source: str
    floor: Elementwise = _floor_mean
    floor_slope: Elementwise | None = None
    clip_slope: float | None = None
    forward: str | None = None
    parameter: float | None = None


def straight_through(value: Tensor, carrier: Tensor) -> Tensor:
    """``value`` with the gradient of ``carrier``: exactly ``value``, because ``carrier − carrier`` is exactly 0."""
    return value.detach() + (carrier - carrier.detach())


def check_positive(argument: str, value: float) -> None:
    """Raise unless ``value`` is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{argument}: expected a positive number, got {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{argument}: expected a positive number, got {value!r}")


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


def _elementwise(
    name: str,
    soft: Elementwise,
    slope: Elementwise,
    source: str,
    parameter: float | None = None,
) -> Surrogate:
    return Surrogate(
        name,
        lambda u, step, component: soft(u),
        lambda u, step, component: slope(u),
        source,
        floor=lambda x: soft(x - 0.5),
        parameter=parameter,
    )


def _residual(x: Tensor) -> Tensor:
    return x - x.detach().round()


def _cubic(x: Tensor) -> Tensor:
    nearest = x.detach().round()
    return nearest + (x - nearest) ** 3


def _cubic_slope(x: Tensor) -> Tensor:
    return 3 * _residual(x) ** 2


def _sin(x: Tensor) -> Tensor:
    return x - torch.sin(2 * math.pi * x) / (2 * math.pi)


def _sin_slope(x: Tensor) -> Tensor:
    return 1 - torch.cos(2 * math.pi * x)


_HARMONICS = range(1, 10)


def _fourier(x: Tensor) -> Tensor:
    waves = sum((-1) ** (n + 1) / n * torch.sin(2 * math.pi * n * x) for n in _HARMONICS)
    return x - waves / math.pi


def _fourier_slope(x: Tensor) -> Tensor:
    return 1 - 2 * sum((-1) ** (n + 1) * torch.cos(2 * math.pi * n * x) for n in _HARMONICS)


identity = _elementwise(
    "identity",
    lambda x: x,
    torch.ones_like,
    "straight-through estimator: Bengio, Léonard, Courville 2013",
)

cubic = _elementwise("cubic", _cubic, _cubic_slope, "Shin & Song 2017; Reich et al. WACV 2024")

sin = _elementwise("sin", _sin, _sin_slope, "Korus & Memon, CVPR 2019")

fourier = _elementwise(
    "fourier", _fourier, _fourier_slope, "Xing, Qian, Chen, InvISP, CVPR 2021 (9 harmonics)"
)


def soft_round(a: float = 7.0) -> Surrogate:
    """Soft rounding of sharpness ``a`` > 0: a → 0 is the identity, a → ∞ the rounding.

    Raises:
        TypeError, ValueError: ``a`` is not a positive number.
    """
    check_positive("a", a)

    def offset(x: Tensor) -> tuple[Tensor, Tensor]:
        middle = x.detach().floor() + 0.5
        return middle, torch.tanh(a * (x - middle))

    def soft(x: Tensor) -> Tensor:
        middle, bend = offset(x)
        return middle + bend / (2 * math.tanh(a / 2))

    def slope(x: Tensor) -> Tensor:
        _, bend = offset(x)
        return a * (1 - bend**2) / (2 * math.tanh(a / 2))

    return _elementwise("soft_round", soft, slope, "Agustsson & Theis, NeurIPS 2020", parameter=float(a))


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


def gaussian(sigma: float = 2.0) -> Surrogate:
    """Staircase smoothed by pixel noise of ``sigma`` > 0 grey levels, its width per frequency that of the noise there.

    Behind the exact forward it is the derivative of the real JPEG averaged over that noise; its soft function is
    E[round(u + noise)].

    Raises:
        TypeError, ValueError: ``sigma`` is not a positive number.
    """
    check_positive("sigma", sigma)

    def width(step: Tensor, component: Component) -> Tensor:
        return component.noise_variance(sigma) ** 0.5 / step

    return Surrogate(
        "gaussian",
        lambda u, step, component: smoothed_round(u, width(step, component)),
        lambda u, step, component: smoothed_slope(u, width(step, component)),
        "derivative of the noise-smoothed JPEG, closed form",
        floor=_sin_floor,
        parameter=float(sigma),
    )


def _sin_floor(x: Tensor) -> Tensor:
    return _sin(x - 0.5)


noise = Surrogate(
    "noise",
    lambda u, step, component: u + torch.rand_like(u) - 0.5,
    lambda u, step, component: torch.ones_like(u),
    "additive uniform noise: Ballé, Laparra, Simoncelli, ICLR 2017",
)


def _zero_level(u: Tensor) -> Tensor:
    return u.detach().abs() < 0.5


distortion = Surrogate(
    "distortion",
    lambda u, step, component: torch.where(_zero_level(u), 4 / 3 * u**3, u - u.detach().sign() / 3),
    lambda u, step, component: torch.where(_zero_level(u), 4 * u**2, 1.0),
    "for tables and quality: 4u² on the zero level, 1 elsewhere; matches d(distortion)/d(table) of real files",
)

_CUT = 1 + 1 / math.sqrt(12)

dead_zone = Surrogate(
    "dead_zone",
    lambda u, step, component: torch.where(u.detach().abs() > _CUT, u - u.detach().sign() * _CUT, 0.0),
    lambda u, step, component: (u.detach().abs() > _CUT).to(u.dtype),
    "for tables: 0 up to 1 + 1/√12, where the squared residual averages 1/12, and 1 beyond",
)


def table_gaussian(delta: float = 0.5) -> Surrogate:
    """Staircase seen through an uncertainty of ``delta`` > 0 in the table entry: width |level|·delta/step.

    For tables and quality, where the loss compares with something else than the coded image: matching another JPEG,
    a classifier. There the residual is no guide to the true change, and ``distortion`` fails.

    Raises:
        TypeError, ValueError: ``delta`` is not a positive number.
    """
    check_positive("delta", delta)

    def width(u: Tensor, step: Tensor) -> Tensor:
        return u.detach().round().abs().clamp(min=0.5) * delta / step

    return Surrogate(
        "table_gaussian",
        lambda u, step, component: smoothed_round(u, width(u, step)),
        lambda u, step, component: smoothed_slope(u, width(u, step)),
        "for tables: derivative of the staircase averaged over the table entry, closed form",
        floor=_sin_floor,
        parameter=float(delta),
    )


def table_relative(rho: float = 0.15) -> Surrogate:
    """Staircase seen through a relative uncertainty ``rho`` > 0 of the table entry: width ``rho``·|level|.

    For finding tables or a quality by descent, with ``forward="soft"``: a table entry known to 15 % moves a quotient by
    15 %. Start wide and end narrow, ``rho`` = 0.5 · 0.06^progress.

    Raises:
        TypeError, ValueError: ``rho`` is not a positive number.
    """
    check_positive("rho", rho)

    def width(u: Tensor) -> Tensor:
        return u.detach().round().abs().clamp(min=0.5) * rho

    return Surrogate(
        "table_relative",
        lambda u, step, component: smoothed_round(u, width(u)),
        lambda u, step, component: smoothed_slope(u, width(u)),
        "for tables: derivative of the staircase averaged over the logarithm of the table entry, closed form",
        floor=_sin_floor,
        parameter=float(rho),
    )


def narrowing(budget: float, progress: float) -> float:
    """Width ``sigma`` of ``"gaussian"`` for a search that may move each sample by ``budget``: 4 budgets to ¾, or to 2.

    Wide at first, so that the search can leave the levels it starts on; narrow at last, at most 2 grey levels, so that
    it ends on the file's own. Use it with ``forward="soft"``; a search of a single step takes progress 0.

    Args:
        budget: largest change of a sample in grey levels, > 0; where a root mean square is limited, twice that.
        progress: share of the search that is done, 0…1.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> import jpegrad
        >>> [jpegrad.surrogates.narrowing(2.0, step / 4) for step in range(5)]
        [8.0, 6.375, 4.75, 3.125, 1.5]
    """
    check_positive("budget", budget)
    if isinstance(progress, bool) or not isinstance(progress, (int, float)):
        raise TypeError(f"progress: expected a number from 0 to 1, got {progress!r}")
    if not 0 <= progress <= 1:
        raise ValueError(f"progress: expected a number from 0 to 1, got {progress!r}")
    return 4 * budget + progress * (min(0.75 * budget, 2.0) - 4 * budget)


reich2024 = replace(
    cubic,
    name="reich2024",
    floor_slope=lambda x: _cubic_slope(x - 0.5),
    clip_slope=1e-3,
    forward="soft",
    source="Reich, Debnath, Patel, Chakradhar, WACV 2024: soft variant",
)

reich2024_ste = replace(
    reich2024,
    name="reich2024_ste",
    forward="exact",
    source="Reich, Debnath, Patel, Chakradhar, WACV 2024: straight-through variant",
)


def get(name: str, *, sigma: float = 2.0, argument: str = "surrogate") -> Surrogate:
    """The record called ``name``; ``sigma`` is the width of ``"gaussian"`` in grey levels.

    Raises:
        ValueError: no record has that name.
    """
    if name == "gaussian":
        return gaussian(sigma)
    if name not in ALL:
        raise ValueError(f"{argument}: expected a Surrogate or one of {', '.join(ALL)}; got {name!r}")
    return ALL[name]


ALL: dict[str, Surrogate] = {
    record.name: record
    for record in (
        *(identity, cubic, sin, fourier, soft_round(), gaussian(), noise),
        *(distortion, dead_zone, table_gaussian(), table_relative()),
        *(reich2024, reich2024_ste),
    )
}
"""Every record by its name, which ``surrogate=`` and ``table_surrogate=`` take; ``source`` says where it comes from."""
