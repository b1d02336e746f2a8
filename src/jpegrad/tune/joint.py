"""Tables and levels of one image by a descent that tests itself block by block, for any metric.

The cost is loss + multiplier · bits of the real file. Near the present file, with levels n, tables q and decoded
coefficients ĉ = nq, the loss is seen as g·δ + Σ w δ² of a change δ, with its slope g and a curvature w:

- **Curvature.** A probe moves all coefficients by half a step to a step, with random signs. The slope changes by
  Δg = 2we; so w = Σ eΔg / 2Σe², over the blocks for each frequency, and then over the frequencies for each block.
- **Trial.** The model is least at the targets ĉ − g / 2κw, never more than half a step from ĉ. A trellis finds the
  levels that are cheapest by it under the actual Huffman code. A block whose slopes are steep beside its curvature gets
  more of that, so that none wants to move by more than about a quarter of a step.
- **Acceptance.** With the trial's own slope g′, a block's change of the cost is ½ (g + g′)·δ + multiplier · Δbits: exact
  to the second order, and the block's own although the metric sees the whole picture. Only blocks that get cheaper keep
  the trial's levels. κ is each block's own caution: it falls where a trial was kept, and rises where one was refused.
- **Tables.** Where levels are the best for their tables, the slope of the cost to an entry is that of the loss alone: a
  Newton step in the entries' logarithm is Σ gnq / Σ 2w(nq)². As levels follow, it is taken several times as long. Such
  a trial is kept or refused as a whole.

Of the present file, the trial and the mixture of both the cheapest stays, as measured. So the cost never rises.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jpegrad import tables as quantization
from jpegrad.codec import Coefficients
from jpegrad.rate import bits, block_bits
from jpegrad.spec import table_index
from jpegrad.tune.levels import trellis
from jpegrad.tune.objective import ImageObjective, OperatingPoint

QUARTER = 0.15
"""How far a block wants to move at most, about, in steps."""
KEPT, REFUSED = 0.7, 1.6
"""Factors of a block's caution after a trial that it kept, and after one that it refused."""
CAUTION = 1.0, 1e4
"""Least and largest."""
CLAMP = 1.0
MAXS = 8.0
GROW = 1.4
FOLLOW = 0.5
PASSES = 1
TABLES_EVERY = 4
"""Steps from one change of the tables to the next."""
PROBE_EVERY = 1
STRIDE, LONGEST = 4.0, 0.3
"""Newton steps of the tables taken at once, and the longest in the logarithm."""
REACH, RANGE = 1000.0, 1000.0
"""A block's weight is at most this many times the mean, and at least its reciprocal; the same for a frequency's."""

Parts = tuple[Tensor, ...]


@dataclass(frozen=True)
class File:
    """Levels and tables, and what was measured of them: loss, bits, and the slope of the loss to ĉ."""

    coefficients: Coefficients
    loss: float
    bits: float
    slope: Parts

    def cost(self, multiplier: float) -> float:
        return self.loss + multiplier * self.bits

    @property
    def point(self) -> OperatingPoint:
        loss, size = (torch.tensor(x, dtype=torch.float64) for x in (self.loss, self.bits))
        return OperatingPoint((self.coefficients,), loss, size)


class Descent:
    """Tables and levels of one image; ``file`` is the cheapest so far.

    Args:
        objective: of the image.
        start: levels and tables to begin with.
    """

    def __init__(self, objective: ImageObjective, start: Coefficients) -> None:
        self.objective = objective
        self.file = self._measured(start)
        self.random = torch.Generator().manual_seed(0)
        self.caution = tuple(torch.ones(n.shape[:2]) for n in start.levels)
        self.stride = STRIDE
        self.wait = 0
        self.center = objective.coefficients().levels
        self.targets = list(self.center)
        self.fresh = True
        self.done = 0
        self.weights: Parts = ()

    def step(self, multiplier: float) -> None:
        """One step; the cost at this multiplier does not rise."""
        if self.done % PROBE_EVERY == 0:
            self._probe()
        weights = self._stabilized()
        if self.wait == 0:
            self._change_tables(weights, multiplier)
        else:
            self._change_levels(weights, multiplier)
            self.wait -= 1
        self.done += 1

    def _probe(self) -> None:
        """The curvature around the present file, averaged with what it was before."""
        file = self.file
        entries = spread(file.coefficients)
        moved, errors = [], []
        for n, q in zip(file.coefficients.levels, entries, strict=True):
            share = torch.rand(n.shape, generator=self.random)
            signs = torch.randint(0, 2, n.shape, generator=self.random) * 2 - 1
            step = (signs * (0.5 + share / 2)).to(n.dtype)
            moved.append(n + step)
            errors.append(step * q)
        _, slope = self._slope(replace(file.coefficients, levels=tuple(moved)))
        new = tuple(fit_weights(e, g - g0) for e, g, g0 in zip(errors, slope, file.slope, strict=True))
        told = known = 0.0
        for e, q, w, g, g0 in zip(errors, entries, new, slope, file.slope, strict=True):
            known += float(((g - g0) * q).square().sum())
            told += float(((g - g0 - 2 * w * e) * q).square().sum())
        self.trust = QUARTER / max(min(told / known, 1.0), 0.05)
        self.weights = (
            tuple((a * b).sqrt() for a, b in zip(self.weights, new, strict=True)) if self.weights else new
        )

    def _stabilized(self) -> Parts:
        found = []
        for g, w, q in zip(self.file.slope, self.weights, spread(self.file.coefficients), strict=True):
            steepness = (g * q).square().mean((-2, -1), keepdim=True).sqrt()
            curvature = (w * q * q).mean((-2, -1), keepdim=True)
            found.append(w * (steepness / (2 * self.trust * curvature)).clamp(min=1.0))
        return tuple(found)

    def _trial(self, weights: Parts, multiplier: float, tables: Tensor) -> Coefficients:
        """The levels that are cheapest by the model, under some tables."""
        c = self.file.coefficients
        targets, prices = [], []
        parts = zip(c.levels, spread(c), self.file.slope, weights, self.caution, strict=True)
        for i, (n, q, g, w, k) in enumerate(parts):
            k = k[..., None, None]
            stiff = k * w
            t = self.targets[i]
            if not self.fresh:
                t = t + FOLLOW * (n * q - g / (2 * w) - t)
            t = self.center[i] + (t - self.center[i]).clamp(-CLAMP * q, CLAMP * q)
            self.targets[i] = t
            t = (t + (k - 1) * n * q) / k
            targets.append(t / tables[table_index(i, len(tables))])
            prices.append(stiff / multiplier)
        self.fresh = False
        return trellis(replace(c, levels=tuple(targets), tables=tables), 1.0, weights=prices, passes=PASSES, like=c)

    def _change_levels(self, weights: Parts, multiplier: float) -> None:
        before = self.file
        trial = self._measured(self._trial(weights, multiplier, before.coefficients.tables))
        kept = self.kept(trial, multiplier)
        changed = [
            (n != m).flatten(-2).any(-1)
            for n, m in zip(before.coefficients.levels, trial.coefficients.levels, strict=True)
        ]
        found = [trial]
        if not all(bool((keep | ~change).all()) for keep, change in zip(kept, changed, strict=True)):
            found.append(self._measured(mixed(before.coefficients, trial.coefficients, kept)))
        self.file = min([before, *found], key=lambda file: file.cost(multiplier))
        better = self.file is not before
        caution = []
        for k, keep, change in zip(self.caution, kept, changed, strict=True):
            factor = torch.where(keep & better, KEPT, REFUSED)
            caution.append(torch.where(change, k * factor, k).clamp(*CAUTION))
        self.caution = tuple(caution)

    def _change_tables(self, weights: Parts, multiplier: float) -> None:
        c = self.file.coefficients
        first, second = torch.zeros_like(c.tables), torch.zeros_like(c.tables)
        for i, (n, q, g, w) in enumerate(zip(c.levels, spread(c), self.file.slope, weights, strict=True)):
            at = table_index(i, len(c.tables))
            first[at] += (g * n * q).sum((0, 1))
            second[at] += (2 * w * (n * q).square()).sum((0, 1))
        newton = torch.where(second > 0, first / second, 0.0)
        moved = c.tables.log() - (self.stride * newton).clamp(-LONGEST, LONGEST)
        tables = quantization.legal(moved.clamp(0.0, math.log(255.0)).exp())
        before = self.file
        trial = self._measured(self._trial(weights, multiplier, tables))
        kept = self.kept(trial, multiplier)
        best = trial
        if not trial.cost(multiplier) < before.cost(multiplier):
            best = self._measured(mixed(replace(c, tables=tables), trial.coefficients, kept))
        if best.cost(multiplier) < before.cost(multiplier):
            self.file = best
            self.stride = min(self.stride * GROW, MAXS)
        else:
            self.stride /= 2
            self.wait = TABLES_EVERY - 1

    def kept(self, trial: File, multiplier: float) -> list[Tensor]:
        """Which blocks get cheaper by the levels of a trial with the same tables."""
        before, after = self.file.coefficients, trial.coefficients
        price = zip(block_bits(before), block_bits(after, like=before), strict=True)
        parts = zip(
            before.levels, after.levels, spread(after), self.file.slope, trial.slope, price, strict=True
        )
        return [
            ((a + b) / 2 * (m - n) * q).sum((-2, -1)) + multiplier * (new - old) < 0
            for n, m, q, a, b, (old, new) in parts
        ]

    def _measured(self, coefficients: Coefficients) -> File:
        loss, slope = self._slope(coefficients)
        return File(coefficients, loss, float(bits(coefficients, huffman="optimized")), slope)

    def _slope(self, coefficients: Coefficients) -> tuple[float, Parts]:
        """The loss, and its slope to the decoded coefficients."""
        leaves = tuple(x.detach().clone().requires_grad_() for x in coefficients.levels)
        loss = self.objective.loss(replace(coefficients, levels=leaves))
        slopes = torch.autograd.grad(loss, leaves)
        if not all(g.isfinite().all() for g in slopes):
            raise ValueError("metric: expected a finite gradient of the loss, got one that is not")
        return loss.item(), tuple(g / q for g, q in zip(slopes, spread(coefficients), strict=True))


def spread(coefficients: Coefficients) -> list[Tensor]:
    """The table of each component, ``[8, 8]``."""
    tables = coefficients.tables
    return [tables[table_index(i, len(tables))] for i in range(coefficients.channels)]


def mixed(before: Coefficients, after: Coefficients, kept: list[Tensor]) -> Coefficients:
    """The levels of ``after`` in the blocks that are kept, of ``before`` in the others."""
    levels = (
        torch.where(keep[..., None, None], m, n)
        for n, m, keep in zip(before.levels, after.levels, kept, strict=True)
    )
    return replace(before, levels=tuple(levels))


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
