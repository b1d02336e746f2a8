"""Tables and levels of one image in turns: a trellis for the levels, Newton steps for the tables, for any metric.

The metric is seen as Σ w · (ĉ − t)² of the decoded coefficients ĉ, with weights w and targets t from its gradient g:

- **Targets.** Where chroma is subsampled, the image's own coefficients are not the best ones even before they are
  quantized: luma can make up for a part of what chroma loses, and neighbouring chroma blocks overlap in the decoder.
  A few steps of descent on the unquantized coefficients find better ones. From then on, each reconstruction moves the
  targets a little towards ĉ − g / 2w, where the metric would be least: what rounding did wrong in one component or
  block is made up for in another.
- **Weights.** From the image's coefficients to the quantized ones, an error of e changes the slope by Δg = 2we. So
  w = Σ eΔg / 2Σe², over the blocks for each frequency, and then over the frequencies for each block.
- **Tables.** With levels n held, the best step of an entry q is −Σ 2wn(ĉ − t) / Σ 2wn². As levels follow the tables,
  the cost is flatter than that parabola, and the step is taken several times as long.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jpegrad import tables as quantization
from jpegrad.rate import bits
from jpegrad.spec import table_index
from jpegrad.tune.descent import Iterate
from jpegrad.tune.levels import trellis
from jpegrad.tune.objective import ImageObjective, OperatingPoint

PREPARATION = 4
"""Steps of descent on the unquantized coefficients, of half a Newton step each."""
FOLLOW = 0.2
"""How far the targets go towards the minimum that the last gradient points to."""
STRIDE, LONGEST = 4.0, 0.3
"""Newton steps of the tables taken at once, and the longest in the logarithm."""
REACH = 8.0
"""A block's weight is at most this many times the mean, and at least its reciprocal."""
RANGE = 64.0
"""The same for a frequency's."""

Parts = tuple[Tensor, ...]


@dataclass(frozen=True)
class Model:
    """The metric near one reconstruction: Σ ``weights`` · (ĉ − ``targets``)², per component."""

    weights: Parts
    targets: Parts


class TablesAndLevels:
    """Tables and levels of one image in turns.

    Args:
        objective: of the image.
        tables: ``[n, 8, 8]``, near the ones to come: the errors that they make show the weights.
    """

    def __init__(self, objective: ImageObjective, tables: Tensor) -> None:
        self.objective = objective
        self.image = objective.coefficients()
        self.center = self.image.levels
        self.entries = quantization.legal(tables.detach())
        ones = torch.ones_like(self.entries)
        loss, self.slope = self._slope(self.center, ones)
        rounded = self._divided(self.center, self.entries, round_=True)
        _, slope = self._slope(rounded, self.entries)
        weights = self._weights(rounded, self.entries, slope)
        for _ in range(PREPARATION):
            moved = tuple(c - g / (4 * w) for c, g, w in zip(self.center, self.slope, weights, strict=True))
            less, slope = self._slope(moved, ones)
            if not less < loss:
                break
            loss, self.center, self.slope = less, moved, slope
        self.model = Model(weights, self.center)

    def __call__(self, tables: Tensor, multiplier: float) -> OperatingPoint:
        """Levels for these tables and this multiplier, by the model as it stands."""
        return self._point(tables, multiplier)[0]

    def descend(
        self, logarithm: Tensor, multiplier: float, steps: int, progress: Callable[[], None] | None = None
    ) -> Iterate:
        """Tables and levels in turns at one multiplier; the model is that of the best iterate afterwards."""
        point, slope = self._point(logarithm.exp(), multiplier, slope=True)
        best, model = Iterate(logarithm, point, float(point.cost(multiplier))), self.model
        for _ in range(steps):
            logarithm = self._advance(logarithm, point, slope)
            point, slope = self._point(logarithm.exp(), multiplier, slope=True)
            cost = float(point.cost(multiplier))
            if cost < best.cost:
                best, model = Iterate(logarithm, point, cost), self.model
            if progress is not None:
                progress()
        self.model = model
        return best

    def _advance(self, logarithm: Tensor, point: OperatingPoint, slope: Parts) -> Tensor:
        """The next tables; weights and targets follow."""
        coded = point.coefficients[0]
        new = self._weights(coded.levels, coded.tables, slope)
        weights = tuple(a.sqrt() * b.sqrt() for a, b in zip(self.model.weights, new, strict=True))
        first = torch.zeros_like(coded.tables)
        second = torch.zeros_like(coded.tables)
        targets = []
        for i, (n, t, w, g) in enumerate(zip(coded.levels, self.model.targets, weights, slope, strict=True)):
            at = table_index(i, len(coded.tables))
            error = n * coded.tables[at] - t
            first[at] += (w * n * error).sum((0, 1))
            second[at] += (w * n * n).sum((0, 1))
            # Beyond one step from the image's own coefficient no slope is to be believed.
            moved = t + FOLLOW * (error - g / (2 * w)) - self.center[i]
            targets.append(self.center[i] + moved.clamp(-coded.tables[at], coded.tables[at]))
        self.model = Model(weights, tuple(targets))
        newton = torch.where(second > 0, first / second / coded.tables, 0.0)
        return (logarithm - (STRIDE * newton).clamp(-LONGEST, LONGEST)).clamp(0.0, math.log(255.0))

    def _point(self, tables: Tensor, multiplier: float, slope: bool = False) -> tuple[OperatingPoint, Parts]:
        entries = quantization.legal(tables.detach())
        unrounded = replace(self.image, levels=self._divided(self.model.targets, entries), tables=entries)
        coded = trellis(unrounded, 1.0, weights=[w / multiplier for w in self.model.weights])
        size = bits(coded, huffman="optimized")
        if slope:
            loss, slopes = self._slope(coded.levels, entries)
            return OperatingPoint((coded,), torch.tensor(loss, dtype=torch.float64), size), slopes
        with torch.no_grad():
            return OperatingPoint((coded,), self.objective.loss(coded), size), ()

    def _slope(self, levels: Parts, tables: Tensor) -> tuple[float, Parts]:
        """The loss, and its slope to the decoded coefficients."""
        leaves = tuple(x.detach().clone().requires_grad_() for x in levels)
        loss = self.objective.loss(replace(self.image, levels=leaves, tables=tables))
        slopes = torch.autograd.grad(loss, leaves)
        if not all(g.isfinite().all() for g in slopes):
            raise ValueError("metric: expected a finite gradient of the loss, got one that is not")
        return loss.item(), self._divided(slopes, tables)

    def _weights(self, levels: Parts, tables: Tensor, slope: Parts) -> Parts:
        decoded = (n * tables[table_index(i, len(tables))] for i, n in enumerate(levels))
        errors = [c - center for c, center in zip(decoded, self.center, strict=True)]
        fitted = [
            fit_weights(error, g - g0) if error.any() else None
            for error, g, g0 in zip(errors, slope, self.slope, strict=True)
        ]
        # A component without error, such as the chroma of a gray picture, shows no weight: a large one lets it be.
        large = 1e6 * next((float(w.mean()) for w in fitted if w is not None), 1.0)
        return tuple(
            torch.full_like(error, large) if w is None else w for error, w in zip(errors, fitted, strict=True)
        )

    def _divided(self, values: Parts, tables: Tensor, round_: bool = False) -> Parts:
        parts = (x / tables[table_index(i, len(tables))] for i, x in enumerate(values))
        return tuple(x.round() if round_ else x for x in parts)


def fit_weights(error: Tensor, slope: Tensor) -> Tensor:
    """w of a loss Σ w e² from errors and slopes: weights of frequencies times weights of blocks, all positive.

    Args:
        error: of the coefficients, ``[blocks_y, blocks_x, 8, 8]``.
        slope: of the loss to the coefficients, same shape.

    Returns:
        same shape. Where there is little error, and so little to learn from, the weight is drawn to the mean.
    """
    product, square = (error * slope).double(), error.double().square()
    overall = product.sum().clamp(min=product.abs().sum() / 100) / (2 * square.sum()).clamp(min=1e-30)
    overall = overall.clamp(min=1e-30)
    little = 4 * square.mean()
    frequency = (product.sum((0, 1)) / 2 + overall * little) / (square.sum((0, 1)) + little).clamp(min=1e-30)
    frequency = frequency.clamp(overall / RANGE, overall * RANGE)
    expected = 2 * (frequency * square).sum((-2, -1))
    some = expected.mean() / 4
    block = ((product.sum((-2, -1)) + some) / (expected + some).clamp(min=1e-30)).clamp(1 / REACH, REACH)
    return (frequency * block[..., None, None]).to(error.dtype)
