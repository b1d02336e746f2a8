"""Gradient estimators for the quantiser's rounding, one record each.

A surrogate says how a rounding looks to the gradient. Its functions take

- ``u``: the coefficient in steps (coefficient / table entry), any shape ending in ``[8, 8]``;
- ``step``: the table entry, broadcastable to ``u``;
- ``component``: a :class:`Component`, what is known about the plane the coefficient belongs to.

``soft`` is the smooth function that ``forward="soft"`` evaluates in place of the rounding; ``slope`` is its derivative
with respect to ``u``, used behind the true rounding by ``forward="exact"``. Every record obeys the same laws (tests
iterate over :data:`ALL`), and a record of your own is as good as one of these.

The functions of these records are :class:`Formula`, so that kernels know each by itself, in whatever record it stands.
"""

import inspect
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jpegrad import formulas, notice
from jpegrad.formulas import Component as Component
from jpegrad.formulas import Elementwise as Elementwise
from jpegrad.formulas import Formula as Formula
from jpegrad.formulas import Rounding as Rounding
from jpegrad.formulas import finite as finite
from jpegrad.formulas import leaky_clamp as leaky_clamp
from jpegrad.formulas import magnitude as magnitude


@dataclass(frozen=True)
class Surrogate:
    """How a rounding looks to the gradient.

    Args:
        name: what ``surrogate=`` takes.
        soft: smooth stand-in for ``round(u)``, called as ``soft(u, step, component)``.
        slope: derivative of ``soft`` with respect to ``u``, same arguments.
        source: where it comes from.
        floor: smooth stand-in for both floors of the quality scaling, in the soft forward's value, behind the exact one
            as their slope; None is the file's own tables in both, whose floors have slope 1.
        clip_slope: slope outside the clamps that the record asks for; None leaves it to the caller.
        forward: the forward that the record is meant for, where the caller names none.
        table: what tables and quality see where the caller names nothing; None is ``distortion``.

    Raises:
        TypeError: ``soft`` or ``slope`` is no function, or ``table`` no record.

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
    floor: Elementwise | None = None
    clip_slope: float | None = None
    forward: str | None = None
    table: "Surrogate | None" = None

    def __post_init__(self) -> None:
        for name in ("soft", "slope"):
            function = getattr(self, name)
            if not (callable(function) and _takes_three(function)):
                raise TypeError(f"{name}: expected a function (u, step, component), got {_shown(function)}")
        if self.table is not None and not isinstance(self.table, Surrogate):
            raise TypeError(f"table: expected a Surrogate or None, got {type(self.table).__name__}")

    @property
    def sigma(self) -> float | None:
        """Pixel noise in grey levels over which the soft function is a mean, ``gaussian``'s own; None of all others.

        The soft forward is then the mean over that noise, and smooths its clamps as well.
        """
        soft = self.soft
        return soft.parameters[0] if type(soft) is Formula and soft.function is formulas.gaussian else None


def _takes_three(function: Rounding) -> bool:
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError:
        return False
    except ValueError:  # a builtin does not say
        return True
    return True


def _shown(function: object) -> str:
    return f"one of {inspect.signature(function)}" if callable(function) else repr(function)


def evaluate(record: Surrogate, which: str, u: Tensor, step: Tensor, component: Component) -> Tensor:
    """``record.soft`` or ``record.slope``, held to the shape of ``u``.

    Raises:
        TypeError, ValueError: what came back is no tensor, or has another shape.
    """
    found: object = getattr(record, which)(u, step, component)
    if not isinstance(found, Tensor):
        raise TypeError(
            f"surrogate {record.name!r}: expected a tensor from {which}, got {type(found).__name__}"
        )
    if found.shape != u.shape:
        raise ValueError(
            f"surrogate {record.name!r}: expected {which} of the shape of u, {list(u.shape)}, got {list(found.shape)}"
        )
    return found


def straight_through(value: Tensor, carrier: Tensor) -> Tensor:
    """``value`` with the gradient of ``carrier``: exactly ``value``, because ``carrier − carrier`` is exactly 0."""
    return value.detach() + (carrier - carrier.detach())


def check_positive(argument: str, value: float) -> None:
    """Raise unless ``value`` is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{argument}: expected a positive number, got {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{argument}: expected a positive number, got {value!r}")


identity = Surrogate(
    "identity",
    Formula(formulas.identity),
    Formula(formulas.identity_slope),
    "straight-through estimator: Bengio, Léonard, Courville 2013",
)


cubic = Surrogate(
    "cubic",
    Formula(formulas.cubic),
    Formula(formulas.cubic_slope),
    "Shin & Song 2017; Reich et al. WACV 2024",
)


sin = Surrogate(
    "sin",
    Formula(formulas.sin),
    Formula(formulas.sin_slope),
    "Korus & Memon, CVPR 2019",
)

fourier = Surrogate(
    "fourier",
    Formula(formulas.fourier),
    Formula(formulas.fourier_slope),
    "Xing, Qian, Chen, InvISP, CVPR 2021 (9 harmonics)",
)


def soft_round(a: float = 7.0) -> Surrogate:
    """Soft rounding of sharpness ``a`` > 0: a → 0 is the identity, a → ∞ the rounding.

    Raises:
        TypeError, ValueError: ``a`` is not a positive number.
    """
    check_positive("a", a)
    own = (float(a),)
    return Surrogate(
        "soft_round",
        Formula(formulas.soft_round, own),
        Formula(formulas.soft_round_slope, own),
        "Agustsson & Theis, NeurIPS 2020",
    )


FINEST = 1 / math.sqrt(12)
"""Standard deviation of the rounding to 8 bits, in grey levels: what ``gaussian`` smooths is never finer."""


def gaussian(sigma: float = 2.0) -> Surrogate:
    """Staircase smoothed by pixel noise of ``sigma`` > 0 grey levels, its width per frequency that of the noise there.

    Behind the exact forward it is the derivative of the real JPEG averaged over that noise; its soft function is
    E[round(u + noise)]. The unit is that of 0…255 in every ``value_range``; a width below :data:`FINEST`, as of a noise
    in 0…1, gives a warning.

    Raises:
        TypeError, ValueError: ``sigma`` is not a positive number.
    """
    check_positive("sigma", sigma)
    if sigma < FINEST and not torch.compiler.is_compiling():
        notice.warn(
            f"sigma: {sigma:.3g} grey levels, of 0 to 255, smooth less than the rounding to 8 bits does by itself "
            f"({FINEST:.2f}); noise of {sigma:.3g} on an image in 0 to 1 is sigma={255 * sigma:.3g}"
        )
    own = (float(sigma),)
    return Surrogate(
        "gaussian",
        Formula(formulas.gaussian, own),
        Formula(formulas.gaussian_slope, own),
        "derivative of the noise-smoothed JPEG, closed form",
    )


noise = Surrogate(
    "noise",
    Formula(formulas.noise),
    identity.slope,
    "additive uniform noise: Ballé, Laparra, Simoncelli, ICLR 2017",
)


distortion = Surrogate(
    "distortion",
    Formula(formulas.distortion),
    Formula(formulas.distortion_slope),
    "for tables and quality: 4u² on the zero level, 1 elsewhere; matches d(distortion)/d(table) of real files",
)

dead_zone = Surrogate(
    "dead_zone",
    Formula(formulas.dead_zone),
    Formula(formulas.dead_zone_slope),
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
    own = (float(delta),)
    return Surrogate(
        "table_gaussian",
        Formula(formulas.table_gaussian, own),
        Formula(formulas.table_gaussian_slope, own),
        "for tables: derivative of the staircase averaged over the table entry, closed form",
    )


def table_relative(rho: float = 0.15) -> Surrogate:
    """Staircase seen through a relative uncertainty ``rho`` > 0 of the table entry: width ``rho``·|level|.

    For finding tables or a quality by descent, with ``forward="soft"``: a table entry known to 15 % moves a quotient by
    15 %. Start wide and end narrow, ``rho`` = 0.5 · 0.06^progress.

    Raises:
        TypeError, ValueError: ``rho`` is not a positive number.
    """
    check_positive("rho", rho)
    own = (float(rho),)
    return Surrogate(
        "table_relative",
        Formula(formulas.table_relative, own),
        Formula(formulas.table_relative_slope, own),
        "for tables: derivative of the staircase averaged over the logarithm of the table entry, closed form",
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
    floor=formulas.cubic_floor,
    clip_slope=1e-3,
    forward="soft",
    table=cubic,
    source="Reich, Debnath, Patel, Chakradhar, WACV 2024: soft variant",
)

reich2024_ste = replace(
    reich2024,
    name="reich2024_ste",
    forward="exact",
    source="Reich, Debnath, Patel, Chakradhar, WACV 2024: straight-through variant",
)


def get(name: str, *, argument: str = "surrogate") -> Surrogate:
    """The record called ``name``.

    Raises:
        ValueError: no record has that name.
    """
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
