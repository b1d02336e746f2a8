"""SSIMULACRA2: structure, edges gained and edges lost at six scales, in a colour space of the eye."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from jpegrad.formulas import magnitude
from jpegrad.metrics.comparison import (
    UNIT,
    Comparison,
    halvings,
    linear_light,
    mixed,
    positive_part,
    root,
    suits_kernels,
)
from jpegrad.metrics.filters import Blur, halved
from jpegrad.spec import Range

ABSORBANCE = torch.tensor(
    [
        [0.30, 0.622, 0.078],
        [0.23, 0.692, 0.078],
        [0.24342268924547819, 0.20476744424496821, 0.55180986650955360],
    ],
    dtype=torch.float64,
)
BIAS = 0.0037930732552754493
TO_XYB = torch.tensor([[7.0, -7.0, 0.0], [0.5, 0.5, 0.0], [-0.5, -0.5, 1.0]], dtype=torch.float64)
"""Scaled X, Y and B − Y of the cone responses."""
OFFSET = torch.tensor([0.42, 0.01 - BIAS ** (1 / 3), 0.55], dtype=torch.float64)
"""Keeps X, Y and B − Y positive. It counts at the borders, outside of which lies 0."""
C2 = 0.0009
SCALES = 6
# Of X, Y, B; of each scale; of means, then of 4-norms: structure, edges gained, edges lost.
# fmt: off
WEIGHTS = (
    0.0, 0.000737660670741, 0.0, 0.0, 0.000779348168287, 0.0,
    0.0, 0.000437115573011, 0.0, 1.10417264267, 0.000662848341293, 0.000152316327837,
    0.0, 0.00164064374566, 0.0, 1.84224555205, 11.4411726038, 0.0,
    0.000798910943602, 0.000176816438079, 0.0, 1.87875949795, 10.9490699061, 0.0,
    0.000728934699151, 0.967793708063, 0.0, 0.000140034242854, 0.998176697785, 0.000319497559344,
    0.000455099211379, 0.0, 0.0, 0.00136487661632, 0.0, 0.0,
    0.0, 0.0, 0.0, 7.46689032808, 0.0, 17.4458339841,
    0.000623560163404, 0.0, 0.0, 6.68367814618, 0.000377244079796, 1.02788993777,
    225.205153008, 0.0, 0.0, 19.2132381861, 0.00114015245866, 0.00123775563551,
    176.393175985, 0.0, 0.0, 24.4330099987, 0.285208026121, 0.000448543692383,
    0.0, 0.0, 0.0, 34.7790634448, 44.8356253289, 0.0,
    0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    0.0, 0.000868055657329, 0.0, 0.0, 0.0, 0.0,
    0.0, 0.000531319187436, 0.0, 0.000165338141614, 0.0, 0.0,
    0.0, 0.0, 0.0, 0.000417917180325, 0.00172908282347, 0.0,
    0.00208270058466, 0.0, 0.0, 8.826982765, 23.19243344, 0.0,
    95.1080498811, 0.98639780344, 0.983438279247, 0.00122864050483, 171.26672559, 0.980785887244,
    0.0, 0.0, 0.0, 0.000513006458899, 0.0, 0.000108540578584,
)
# fmt: on


def _gaussian_taps(sigma: float) -> tuple[float, ...]:
    """Taps of the truncated sum of three cosines that stands for a Gaussian.

    Source: Charalampidis, Recursive implementation of the Gaussian filter using truncated cosine functions, 2016:
        equations 33 to 57.
    """
    radius = round(3.2795 * sigma + 0.2546)
    omega = [k * math.pi / (2 * radius) for k in (1, 3, 5)]
    p = [sign / math.tan(w / 2) for sign, w in zip((1, -1, 1), omega, strict=True)]
    r = [sign * x * x / math.sin(w) for sign, x, w in zip((1, -1, 1), p, omega, strict=True)]
    rho = [math.exp(-((sigma * w) ** 2) / 2) / radius for w in omega]
    across = [p[1] * r[2] - r[1] * p[2], p[2] * r[0] - r[2] * p[0], p[0] * r[1] - r[0] * p[1]]
    conditions = torch.tensor([p, r, across], dtype=torch.float64)
    wanted = [1.0, radius**2 - sigma**2, sum(a * b for a, b in zip(across, rho, strict=True))]
    beta = torch.linalg.solve(conditions, torch.tensor(wanted, dtype=torch.float64)).tolist()
    return tuple(sum(b * math.cos(w * n) for b, w in zip(beta, omega, strict=True)) for n in range(radius))


BLUR = Blur(_gaussian_taps(1.5), "zero")


@dataclass(frozen=True)
class _Scale:
    """The original at one scale: XYB, less its mean, and what of the formulas is its own."""

    xyb: Tensor
    detail: Tensor
    mean: Tensor
    activity: Tensor
    edges: Tensor
    inverse_edges: Tensor


class SSIMULACRA2(Comparison):
    """SSIMULACRA2 to one original.

    The score is a falling function of one number, the weighted sum of 108 errors: :meth:`loss` is that sum.

    Args:
        original: ``[C, H, W]`` or ``[B, C, H, W]``, C = 3 or 1, sides of at least 8; sRGB, floating point in
            ``value_range`` or uint8. Gray stands for three equal channels. Its gradient is not taken.
        value_range: (low, high) of floating-point pictures. What lies outside counts as the bound, with slope 0.
        copy: False takes the original itself, which nothing may change then.

    Raises:
        TypeError, ValueError: they are not as described.

    Source: Sneyers, SSIMULACRA 2, 2022, version 2.1 of 2023: tools/ssimulacra2.cc of libjxl and jpegli.

    Example:
        >>> metric = SSIMULACRA2(torch.full((3, 16, 16), 0.5))
        >>> float(metric.score(torch.full((3, 16, 16), 0.5)))
        100.0
    """

    def __init__(self, original: Tensor, *, value_range: Range = UNIT, copy: bool = True) -> None:
        super().__init__(original, value_range=value_range, copy=copy)
        height, width = original.shape[-2:]
        sizes = halvings((height, width), SCALES)
        weights = torch.tensor(WEIGHTS[: 18 * len(sizes)], dtype=torch.float64)
        self._weights = weights.view(3, len(sizes), 2, 3)
        self._native = self._kernel("structure", sizes, self._weights, BLUR.taps)

    def loss(self, image: Tensor) -> Tensor:
        """The weighted sum S of errors; 0 for the original itself, about 2.5 at a score of 70."""
        return super().loss(image)

    def _losses(self, picture: Tensor) -> Tensor:
        if self._native is not None and suits_kernels(picture):
            found: Tensor = self._native(picture)
            return found
        originals, sums = self._prepared(picture), []
        for scale, linear in enumerate(self._pyramid(picture)):
            mean, norm = _errors(linear, originals[scale])
            sums.append((torch.stack((mean, norm), -2) * self._weights[:, scale].to(mean)).sum((-3, -2, -1)))
        return torch.stack(sums).sum(0)

    def _prepare(self) -> list[_Scale]:
        return [_prepared(linear) for linear in self._pyramid(self._original())]

    def _pyramid(self, picture: Tensor) -> list[Tensor]:
        """Linear light at each scale."""
        scales = [linear_light(picture)]
        while len(scales) < self._weights.shape[1]:
            scales.append(halved(scales[-1]))
        return scales

    def score(self, image: Tensor) -> Tensor:
        """100 for the original itself; 90 can hardly be told apart, 50 is medium quality; no lower bound."""
        return score(self.loss(image))

    @torch.no_grad()
    def report(self, image: Tensor) -> dict[str, Tensor]:
        return {"ssimulacra2": self.score(image)}


def score(loss: Tensor) -> Tensor:
    """The official scale of a weighted sum of errors."""
    x = 0.9562382616834844 * loss
    x = 2.326765642916932 * x - 0.020884521182843837 * x**2 + 6.248496625763138e-05 * x**3
    return 100 - 10 * root(x, 0.6276336467831387)


def _xyb(linear: Tensor) -> Tensor:
    absorbed = mixed(ABSORBANCE, linear) + BIAS
    return mixed(TO_XYB, absorbed ** (1 / 3)) + OFFSET.to(linear)[:, None, None]


def _prepared(linear: Tensor) -> _Scale:
    xyb = _xyb(linear)
    mean, square = BLUR(torch.cat((xyb, xyb.square()), 1)).split(3, 1)
    edges = (xyb - mean).abs()
    return _Scale(xyb, xyb - mean, mean, 2 * (square - mean.square()) + C2, edges, 1 / (1 + edges))


def _errors(linear: Tensor, original: _Scale) -> tuple[Tensor, Tensor]:
    """Means and 4-norms ``[B, 3, 3]`` of each plane's errors: structure, edges gained, edges lost.

    All is written in the difference to the original, which loses no accuracy where it is small:
    1 − SSIM = δ² + (1 − δ²)·v/(v₁ + v₂ + C2), with δ its mean, v its variance, v₁ and v₂ those of the two pictures.
    """
    difference = _xyb(linear) - original.xyb
    filtered = BLUR(torch.cat((difference, difference.square(), difference * original.xyb), 1))
    mean, square, product = filtered.split(3, 1)
    shift = mean.square()
    variance = square - shift
    ratio = variance / (original.activity + 2 * (product - original.mean * mean) + variance)
    structure = positive_part(shift + (1 - shift) * ratio)
    edges = magnitude(original.detail + difference - mean)
    change = (edges - original.edges) * original.inverse_edges
    errors = torch.stack((structure, positive_part(change), positive_part(-change)), 2)
    return errors.mean((-2, -1)), root(errors.square().square().mean((-2, -1)), 0.25)
