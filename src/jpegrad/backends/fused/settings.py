"""What a call asks for, as numbers: what kernels are given beside their tensors.

The numbers pass PyTorch's dispatcher as one string, which it takes at once; lists it does not.
"""

import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor

from jpegrad import surrogates
from jpegrad.compiling import constant, constant_result
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import Color, Spec, components, conversion
from jpegrad.surrogates import Component, Formula, Rounding

ONE = 65536
"""1 in the fixed point of the colour conversions."""
Numbers = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Settings:
    """One call. Matrices are rows in succession; the real-valued ones include the value range.

    ``h`` and ``v`` are chroma's subsampling, 1 for gray; ``triangle`` says how it is upsampled. The fixed-point biases
    include the rounding. A surrogate is the name of its formula and, per component, the formula's parameter (of
    ``gaussian`` the noise in grey levels). ``noise`` is that of the pixels, in grey levels, over which the soft forward
    is the mean; 0 is none.
    """

    h: int
    v: int
    triangle: bool
    soft: bool
    forward_matrix: tuple[int, ...]
    forward_bias: tuple[int, ...]
    inverse_matrix: tuple[int, ...]
    inverse_bias: tuple[int, ...]
    forward_real: Numbers
    inverse_real: Numbers
    forward_offset: Numbers
    inverse_offset: Numbers
    low: float
    high: float
    clip_slope: float
    slope: str
    slope_parameter: Numbers
    table_slope: str
    table_parameter: Numbers
    noise: float


@functools.lru_cache(256)
def parse(settings: str) -> Settings:
    """The same record for the same string, so that it may key a cache by its identity."""
    fields: dict[str, Any] = {}
    for name, value in json.loads(settings).items():
        fields[name] = tuple(value) if isinstance(value, list) else value
    return Settings(**fields)


Families = Mapping[tuple[Callable[..., Tensor], int], str]
"""The formulas that kernels evaluate, and what they call them."""


class Formulas(Protocol):
    """What kernels evaluate themselves."""

    @property
    def SLOPES(self) -> Families:
        """Slopes, of either surrogate."""

    @property
    def SOFT(self) -> Families:
        """Smooth functions, in the soft forward; none if they have no soft forward."""


CLOSED = (
    surrogates.identity,
    surrogates.cubic,
    surrogates.sin,
    surrogates.fourier,
    surrogates.soft_round(),
    surrogates.gaussian(),
    surrogates.distortion,
    surrogates.dead_zone,
)
"""Records whose smooth function and slope kernels evaluate, in the order of the C++ kernel's enum Slope."""
CLOSED_SLOPES = (*CLOSED, surrogates.table_gaussian(), surrogates.table_relative())
"""Records whose slope alone some kernels evaluate as well."""


def families(named: Iterable[tuple[str, Rounding]]) -> Families:
    """The families of formulas, by their names in a kernel."""
    return {function.family: name for name, function in named if isinstance(function, Formula)}


SOFT = families((record.name, record.soft) for record in CLOSED)
SLOPES = families((record.name, record.slope) for record in CLOSED_SLOPES)


def known(function: Rounding, among: Families) -> tuple[str, float] | None:
    """A kernel's own name of a record's function, and the parameter; None if the kernel has no such formula."""
    if type(function) is not Formula or function.family not in among:
        return None
    return among[function.family], constant(float(function.parameters[0] if function.parameters else 0.0))


def settings_of(spec: Spec, channels: int, kernels: Formulas) -> str:
    """The settings of a call; a formula that the kernels do not know runs outside of them, and is the identity here."""
    color = None if spec.color is None else _frozen(conversion(spec.color))
    soft = spec.forward == "soft"
    rounding = (
        known(spec.surrogate.soft, kernels.SOFT) if soft else known(spec.surrogate.slope, kernels.SLOPES)
    )
    noise = 0.0
    if soft and spec.surrogate.sigma is not None:
        noise = constant(spec.surrogate.sigma)
    keys = rounding or _STRAIGHT, known(spec.table_surrogate.slope, kernels.SLOPES) or _STRAIGHT
    triangle = spec.decoder.upsampling == "triangle"
    return _resolve(
        channels, spec.subsampling, triangle, soft, spec.value_range, spec.clip_slope, color, *keys, noise
    )


_STRAIGHT = ("identity", 0.0)


def _frozen(numbers: Any) -> Any:
    return tuple(map(_frozen, numbers)) if isinstance(numbers, (tuple, list)) else numbers


@constant_result
def _resolve(*key: Any) -> str:
    return _computed(*key)


@functools.lru_cache(256)
def _computed(
    channels: int,
    subsampling: str,
    triangle: bool,
    soft: bool,
    value_range: tuple[float, float],
    clip_slope: float,
    color: tuple[Any, Any, Any, Any] | None,
    slope: tuple[str, float],
    table_slope: tuple[str, float],
    noise: float,
) -> str:
    matrix, offset, inverse, decoder_offset = color or conversion(None)
    planes = components(channels, subsampling, Color(matrix, offset))
    rounding = (ONE // 2, ONE // 2 - 1, ONE // 2 - 1)
    fixed_inverse = [[round(x * ONE) for x in row] for row in inverse]
    low, high = value_range
    scale = 255 / (high - low)
    h, v = SUBSAMPLING[subsampling] if channels == 3 else (1, 1)
    found = Settings(
        h=h,
        v=v,
        triangle=triangle,
        soft=soft,
        forward_matrix=tuple(round(x * ONE) for row in matrix for x in row),
        forward_bias=tuple(round(o * ONE) + half for o, half in zip(offset, rounding, strict=True)),
        inverse_matrix=tuple(x for row in fixed_inverse for x in row),
        inverse_bias=tuple(_floored_bias(row, decoder_offset) for row in fixed_inverse),
        forward_real=tuple(x * scale for row in matrix for x in row) if channels == 3 else (scale,),
        inverse_real=tuple(x / scale for row in inverse for x in row) if channels == 3 else (1 / scale,),
        forward_offset=tuple(offset),
        inverse_offset=tuple(decoder_offset),
        low=low,
        high=high,
        clip_slope=clip_slope,
        slope=slope[0],
        slope_parameter=_parameters(slope, planes),
        table_slope=table_slope[0],
        table_parameter=_parameters(table_slope, planes),
        noise=noise,
    )
    return json.dumps(asdict(found))


def _floored_bias(row: list[int], offset: Any) -> int:
    return math.floor(ONE // 2 - sum(m * o for m, o in zip(row, offset, strict=True)))


def _parameters(slope: tuple[str, float], planes: tuple[Component, ...]) -> Numbers:
    name, parameter = slope
    if name != "gaussian":
        return (parameter,) * len(planes)
    return tuple(math.sqrt(plane.noise_variance(parameter)) for plane in planes)
