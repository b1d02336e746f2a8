"""Butteraugli: differences in four bands of frequency, along lines, under a mask of what hides them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jpegrad.formulas import magnitude
from jpegrad.metrics.comparison import (
    SMALLEST,
    UNIT,
    Comparison,
    halvings,
    linear_light,
    mixed,
    positive_part,
    root,
    suits_kernels,
    without_autocast,
)
from jpegrad.metrics.filters import Blur, Line, halved, line_energy
from jpegrad.spec import Range

INTENSITY = 80.0
"""Luminance of white in cd/m²."""
ABSORBANCE = torch.tensor(
    [
        [0.29956550340058319, 0.63373087833825936, 0.077705617820981968],
        [0.22158691104574774, 0.69391388044116142, 0.0987313588422],
        [0.02, 0.02, 0.20480129041026129],
    ],
    dtype=torch.float64,
)
BIAS = torch.tensor([1.7557483643287353, 1.7557483643287353, 12.226454707163354], dtype=torch.float64)
TO_XYB = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
# Of X, Y, B: scales of the low band, in which B is what Y does not explain.
LOW = torch.tensor(
    [
        [33.832837186260, 0.0, 0.0],
        [0.0, 14.458268100570, 0.0],
        [0.0, -0.362267051518 * 49.87984651440, 49.87984651440],
    ],
    dtype=torch.float64,
)
# Of X, Y, B: weights of squared differences in each band.
LOW_WEIGHTS = (29.2353797994, 0.844626970982, 0.703646627719)
MEDIUM_WEIGHTS = (2150.0, 10.6195433239, 16.2176043152)
HIGH_WEIGHTS = (400.0, 1.50815703118)
MASK_WEIGHT = 10.0
SUBSCALE = 0.5
"""Share of the map at half resolution; the map itself is scaled by 1 − 0.3 times this."""


def _blur(sigma: float) -> Blur:
    reach = max(1, int(2.25 * sigma))
    taps = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(reach + 1)]
    # The official tool has another way for five taps, with other borders.
    return Blur(taps, "mirror" if reach == 2 else "weighted")


ADAPTATION, BELOW_LOW, BELOW_MEDIUM, BELOW_HIGH, MASKING = map(
    _blur, (1.2, 7.15593339443, 3.22489901262, 1.56416327805, 2.7)
)


def _both_ways(*lines: tuple[tuple[int, int], ...]) -> list[Line]:
    return [(1.0, tuple((y, sign * x) for y, x in line)) for line in lines for sign in (1, -1)]


_AXES: tuple[tuple[tuple[int, int], ...], ...] = (
    tuple((0, i) for i in range(1, 5)),
    tuple((i, 0) for i in range(1, 5)),
)
# Every line is its middle and these samples on both sides. Lines close to the axes count twice, as published.
DENSE: tuple[Line, ...] = (
    *((1.0, line) for line in _AXES),
    *_both_ways(((1, 1), (2, 2), (3, 3)), ((1, 1), (2, 1), (3, 2)), ((1, 1), (1, 2), (2, 3))),
    *(
        (2.0, line)
        for _, line in _both_ways(((1, 0), (2, 1), (3, 1), (4, 1)), ((0, 1), (1, 2), (1, 3), (1, 4)))
    ),
)
SPARSE: tuple[Line, ...] = (
    *((1.0, line[1::2]) for line in _AXES),
    *_both_ways(
        ((2, 2), (3, 3)),
        ((2, 1), (4, 1)),
        ((1, 2), (1, 4)),
        ((2, 1), (3, 2)),
        ((1, 2), (2, 3)),
        ((1, 2), (2, 4)),
        ((2, 1), (4, 2)),
    ),
)


@dataclass(frozen=True)
class _Edges:
    """How differences of one plane count along lines.

    Args:
        weight: of the differences.
        norm: contrast at which they begin to count less.
        lines: which.
        gain: what makes up for their number of samples.
    """

    weight: float
    norm: float
    lines: tuple[Line, ...] = SPARSE
    gain: float = 0.611612573796

    def __call__(self, original: Tensor, image: Tensor) -> Tensor:
        """The energy; more where a feature is lost (below 0.55 of the original's) or added (above 1.05)."""
        scale = self.gain * self.norm / 8.5
        size = original.abs()
        # The image's in the direction of the original's.
        sign = torch.where(original < 0, -1.0, 1.0)
        along = sign * image
        missing = positive_part(0.55 * size - along)
        excess = positive_part(along - 1.05 * size)
        difference = math.sqrt(0.5 * self.weight) * (size - along)
        difference = difference + math.sqrt(0.33 * self.weight) * (missing - excess)
        weighted = scale * sign * difference / (self.norm + 0.5 * (size + magnitude(image)))
        return line_energy(weighted, self.lines)


# Of X, Y.
FINEST_EDGES = (
    _Edges(173.5, 5.0, DENSE, 0.39905817637),
    _Edges(1.10039032555, 71.7800275169, DENSE, 0.39905817637),
)
HIGH_EDGES = (_Edges(6923.99476109, 8051.15833247), _Edges(18.7237414387, 4498534.45232))
MEDIUM_EDGES = (_Edges(8246.75321353, 1009002.70582), _Edges(37.0819870399, 130262059.556))


@dataclass(frozen=True)
class _Bands:
    """A picture in frequencies: low and medium ``[B, 3, H, W]``, high and finest ``[B, 2, H, W]``; its activity."""

    low: Tensor
    medium: Tensor
    high: Tensor
    finest: Tensor
    activity: Tensor


@dataclass(frozen=True)
class _Scale:
    """The original at one resolution, and the weights that its mask gives to differences."""

    bands: _Bands
    low_weight: Tensor
    weight: Tensor


class Butteraugli(Comparison):
    """Butteraugli distances to one original, at 80 cd/m².

    Args:
        original: ``[C, H, W]`` or ``[B, C, H, W]``, C = 3 or 1, sides of at least 8; sRGB, floating point in
            ``value_range`` or uint8. Gray stands for three equal channels. Its gradient is not taken.
        value_range: (low, high) of floating-point pictures. What lies outside counts as the bound, with slope 0.
        copy: False takes the original itself, which nothing may change then.

    Raises:
        TypeError, ValueError: they are not as described.

    Source: Alakuijala, Butteraugli, as in lib/extras/butteraugli.cc and metrics.cc of jpegli, 2025.

    Example:
        >>> metric = Butteraugli(torch.full((3, 16, 16), 0.5))
        >>> float(metric.score(torch.full((3, 16, 16), 0.5)))
        0.0
    """

    def __init__(self, original: Tensor, *, value_range: Range = UNIT, copy: bool = True) -> None:
        super().__init__(original, value_range=value_range, copy=copy)
        height, width = original.shape[-2:]
        self._sizes = [size for size in halvings((height, width), 2) if min(size) >= SMALLEST]
        self._native = self._kernel("distance", self._sizes)

    def loss(self, image: Tensor) -> Tensor:
        """The mean of the squared 3-, 6- and 12-norms of the map: of degree 2 in the error."""
        return super().loss(image)

    def _losses(self, picture: Tensor) -> Tensor:
        if self._native is not None and suits_kernels(picture):
            found: Tensor = self._native(picture)
            return found
        return _norms(self._maps(picture)).square().mean(0)

    @without_autocast
    def score(self, image: Tensor) -> Tensor:
        """What the official tools call the 3-norm, the mean of the map's 3-, 6- and 12-norms; 0 for the original."""
        return self._like_input(_norms(self._map(image)).mean(0))

    @without_autocast
    def maximum(self, image: Tensor) -> Tensor:
        """What the official tools call the distance: the largest number of the map. Below 1 nothing is seen."""
        return self._like_input(self._map(image).amax((-2, -1)))

    @without_autocast
    def map(self, image: Tensor) -> Tensor:
        """Where the differences are: ``[H, W]``, or ``[B, H, W]`` of a batch."""
        distances = self._map(image)
        return distances if len(self.shape) == 4 else distances[0]

    @without_autocast
    @torch.no_grad()
    def report(self, image: Tensor) -> dict[str, Tensor]:
        distances = self._map(image)
        return {
            "butteraugli": self._like_input(_norms(distances).mean(0)),
            "butteraugli_max": self._like_input(distances.amax((-2, -1))),
        }

    def _map(self, image: Tensor) -> Tensor:
        return self._maps(self._rgb(image))

    def _maps(self, picture: Tensor) -> Tensor:
        if self._native is not None and suits_kernels(picture):
            found: Tensor = self._native.map(picture)
            return found
        maps = [
            _distances(linear, scale)
            for linear, scale in zip(self._resolutions(picture), self._prepared(picture), strict=True)
        ]
        if len(maps) == 1:
            return maps[0]
        fine, coarse = maps
        height, width = fine.shape[-2:]
        repeated = coarse.repeat_interleave(2, -2)[:, :height].repeat_interleave(2, -1)[..., :width]
        return (1 - 0.3 * SUBSCALE) * fine + SUBSCALE * repeated

    def _prepare(self) -> list[_Scale]:
        return [_prepared(linear) for linear in self._resolutions(self._original())]

    def _resolutions(self, picture: Tensor) -> list[Tensor]:
        """Linear light, and at half the resolution where that is not too small."""
        linear = linear_light(picture)
        return [linear, halved(linear)][: len(self._sizes)]


def _norms(distances: Tensor) -> Tensor:
    """The 3-, 6- and 12-norms of maps ``[B, H, W]``: ``[3, B]``."""
    # Twelfth powers of float32 need numbers near 1.
    unit = distances.detach().amax((-2, -1))
    unit = torch.where(unit > 0, unit, 1.0)
    cube = (distances / unit[:, None, None]) ** 3
    sixth = cube.square()
    powers = ((cube, 1 / 3), (sixth, 1 / 6), (sixth.square(), 1 / 12))
    return torch.stack([unit * root(power.mean((-2, -1)), exponent) for power, exponent in powers])


def _prepared(linear: Tensor) -> _Scale:
    bands = _separated(linear)
    return _Scale(bands, *_mask_weights(bands.activity))


def _mask_weights(activity: Tensor) -> tuple[Tensor, Tensor]:
    """What differences of the low band count, and those of the others."""
    mask = _eroded(activity)
    low = _mask_weight(mask, 0.505054525019, 3.87449418804, 0.20025578522)
    return low, _mask_weight(mask, 2.5485944793, 0.451936922203, 0.829591754942)


def _mask_weight(mask: Tensor, multiplier: float, slope: float, offset: float) -> Tensor:
    scale = 1 / (17.83 * 0.79079917404)
    return (scale * (1 + multiplier / (slope * mask + offset))).square()


def _eroded(activity: Tensor) -> Tensor:
    """A mean of the three smallest of the nine samples that lie three apart: what lies near smooth areas is smooth."""
    height, width = activity.shape[-2:]
    outside = torch.nn.functional.pad(activity, (3, 3, 3, 3), value=math.inf)
    places = [
        outside[..., y : y + height, x : x + width] for y in (0, 3, 6) for x in (0, 3, 6) if (y, x) != (3, 3)
    ]
    # The middle stands for two others at twice its size.
    smallest = (
        torch.stack([activity, 2 * activity, 2 * activity, *places]).topk(3, 0, largest=False).values.sort(0)
    )
    return 0.45 * smallest.values[0] + 0.3 * smallest.values[1] + 0.25 * smallest.values[2]


def _opsin(linear: Tensor) -> Tensor:
    """XYB of cone responses, each adapted to its neighbourhood."""
    light = INTENSITY * linear
    bias = BIAS.to(light)[:, None, None]
    adapted = mixed(ABSORBANCE, ADAPTATION(light)) + bias
    sensitivity = (19.245013259874995 * torch.log(adapted + 9.9710635769299145) - 23.16046239805755) / adapted
    response = (mixed(ABSORBANCE, light) + bias) * sensitivity
    return mixed(TO_XYB, torch.where(response < bias, bias, response))


def _separated(linear: Tensor) -> _Bands:
    xyb = _opsin(linear)
    low = BELOW_LOW(xyb)
    rest = xyb - low
    medium = BELOW_MEDIUM(rest)
    high_x, high_y = (rest - medium)[:, :2].unbind(1)
    medium_x, medium_y, medium_b = medium.unbind(1)
    medium = torch.stack((_without_small(medium_x, 0.29), _with_large_small(medium_y, 0.1), medium_b), 1)
    # Changes of intensity hide those between red and green.
    share = 0.653020556257
    high_x = high_x * (share + (1 - share) * 46.0 / (high_y.square() + 46.0))
    blurred_x, blurred_y = BELOW_HIGH(torch.stack((high_x, high_y), 1)).unbind(1)
    finest_x = _without_small(high_x - blurred_x, 0.04)
    blurred_x = _without_small(blurred_x, 1.5)
    blurred_y = _compressed(blurred_y, 28.4691806922)
    finest_y = 2.69313763794 * _compressed(high_y - blurred_y, 5.19175294647)
    blurred_y = _with_large_small(2.155 * blurred_y, 0.132)
    activity = root((2.5 * (finest_x + blurred_x)).square() + (0.4 * (finest_y + blurred_y)).square(), 0.5)
    scale, offset = 6.19424080439, 12.61050594197
    activity = (scale * activity + scale * offset).sqrt() - math.sqrt(scale * offset)
    return _Bands(
        mixed(LOW, low),
        medium,
        torch.stack((blurred_x, blurred_y), 1),
        torch.stack((finest_x, finest_y), 1),
        MASKING(activity),
    )


def _without_small(x: Tensor, width: float) -> Tensor:
    return torch.where(x.abs() <= width, 0.0, x - x.detach().sign() * width)


def _with_large_small(x: Tensor, width: float) -> Tensor:
    """Twice what is small, and as much more of what is not."""
    return torch.where(x.abs() > width, x + x.detach().sign() * width, 2 * x)


def _compressed(x: Tensor, limit: float) -> Tensor:
    """What lies beyond the limit counts 0.72 as much."""
    return torch.where(
        x.abs() > limit, 0.724216145665 * x + x.detach().sign() * (1 - 0.724216145665) * limit, x
    )


def _distances(linear: Tensor, original: _Scale) -> Tensor:
    """The map ``[B, H, W]`` at one resolution."""
    first, second = original.bands, _separated(linear)
    low = _weighted_squares(first.low, second.low, LOW_WEIGHTS)
    rest = _weighted_squares(first.medium, second.medium, MEDIUM_WEIGHTS)
    rest = rest + MASK_WEIGHT * (first.activity - second.activity).square()
    for plane in range(2):
        for edges, one, other in (
            (FINEST_EDGES, first.finest, second.finest),
            (HIGH_EDGES, first.high, second.high),
            (MEDIUM_EDGES, first.medium, second.medium),
        ):
            rest = rest + edges[plane](one[:, plane], other[:, plane])
        rest = rest + 0.8 * HIGH_WEIGHTS[plane] * _asymmetric(first.high[:, plane], second.high[:, plane])
    return root(low * original.low_weight + rest * original.weight, 0.5)


def _weighted_squares(first: Tensor, second: Tensor, weights: tuple[float, ...]) -> Tensor:
    return ((first - second).square() * first.new_tensor(weights)[:, None, None]).sum(1)


def _asymmetric(original: Tensor, image: Tensor) -> Tensor:
    """Squared difference, and more where a feature is lost (below 0.4 of the original's) or grows."""
    size = original.abs()
    along = torch.where(original < 0, -image, image)
    more = positive_part(0.4 * size - along) + positive_part(along - size)
    return (original - image).square() + more.square()
