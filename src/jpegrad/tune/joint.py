"""Tables and levels of one image by a descent that tests itself block by block, for any metric.

The cost is loss + multiplier · bits of the real file. Near the present file, with levels n, tables q and decoded
coefficients ĉ = nq, the loss is seen as Σ w (ĉ − t)², with curvatures w and targets t:

- **Curvature.** A probe moves all coefficients by half a step to a step, with random signs. The slope g of the loss
  changes by Δg = 2we; so w = Σ eΔg / 2Σe², over the blocks for each frequency, and then over the frequencies for each
  block. How much of Δg that explains is how far the model can be trusted. A block whose slopes ask for longer moves
  than that gets more curvature.
- **Targets.** They begin at the image's own coefficients. Each step takes them halfway to ĉ − g / 2w, where the loss
  would be least: what rounding did wrong in one component or block is made up for in another.
- **Trial.** A trellis finds the levels that are cheapest by the model under the actual Huffman code. Each block pays
  (κ − 1) w (ĉ′ − ĉ)² for moving away from the present file, too.
- **Acceptance.** With the trial's own slope g′, a block's change of the cost is ½ (g + g′)·δ + multiplier · Δbits:
  exact to the second order, and the block's own although the metric sees the whole picture. Only blocks that get
  cheaper keep the trial's levels. κ, a block's caution, falls where a trial was kept, and rises where one was refused.
- **Tables.** Where levels are the best for their tables, the slope of the cost to an entry is that of the loss alone: a
  Newton step in the entries' logarithm is Σ gnq / Σ 2w(nq)². As levels follow, it is taken several times as long, and
  longer still after each success. After a failure some steps go to the levels alone.

Of the present file, the trial and the mixture of both the cheapest stays, as measured. So the cost never rises.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jpegrad import tables as quantization
from jpegrad.codec import Coefficients
from jpegrad.rate.bands import banded_bits
from jpegrad.rate.blocks import block_bits
from jpegrad.spec import table_index
from jpegrad.tune.descent import CLOSE, Bound, excess, is_better, unreachable
from jpegrad.tune.levels import banded_trellis, trellis
from jpegrad.tune.objective import ImageObjective, OperatingPoint
from jpegrad.tune.targets import Bytes

REACH = 0.15
"""How far a block moves at most, about, in steps, by a model that explains nothing; a better one goes further."""
UNEXPLAINED = 0.05
"""Of the changes of the slope, at least this share is taken to be unexplained."""
PREPARATION = 4
"""Steps of descent on the unquantized coefficients, of half a Newton step each."""
FOLLOW = 0.5
"""How far the targets go towards the minimum that the last gradient points to."""
KEPT, REFUSED, FAILED, MOST = 0.7, 1.6, 2.5, 1e4
"""Factors of a block's caution after a trial that it kept, one that it refused, and one of which nothing was kept; the
most caution. The least is 1."""
PATIENCE = 3
"""Steps of the levels alone after one of the tables that failed."""
STRIDE, LONGER, LONGEST_STRIDE, SHORTER = 4.0, 1.4, 8.0, 0.5
"""Newton steps of the tables taken at once: at first, factor after a success, at most, factor after a failure."""
FARTHEST = 0.3
"""Longest step in the logarithm of the entries."""
BLOCKS, FREQUENCIES = 1000.0, 1000.0
"""A block's weight is at most this many times the mean, and at least its reciprocal; the same for a frequency's."""
NEXT, ROUNDS, TRIALS = 0.25, 8, 12
"""Doublings of the multiplier for the first step to a target, each of which goes twice as far; how many steps and how
many mixtures at the end there may be."""

ROWS = 16
"""Of blocks, that are looked at at once."""
LAST = 1e300
"""The price of blocks that go the other way: behind all others."""

Parts = tuple[Tensor, ...]


@dataclass(frozen=True)
class Weights:
    """Weights of squared errors: those of frequencies ``[8, 8]`` times those of blocks ``[blocks_y, blocks_x]``."""

    frequency: Tensor
    block: Tensor

    @property
    def each(self) -> Tensor:
        """Of every coefficient."""
        return self.frequency * self.block[..., None, None]

    def mean(self, other: "Weights") -> "Weights":
        """The geometric one."""
        return Weights((self.frequency * other.frequency).sqrt(), (self.block * other.block).sqrt())


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
        self.image = objective.coefficients().levels
        self.weights: tuple[Weights, ...] = ()
        self.reach = REACH
        self.caution = tuple(torch.ones(n.shape[:2]) for n in start.levels)
        self.logarithm = start.tables.log()
        self.stride, self.wait = STRIDE, 0
        self.random = torch.Generator().manual_seed(0)
        self.targets: Parts = ()

    def step(self, multiplier: float) -> None:
        """One step; the cost at this multiplier does not rise."""
        weights = self._model()
        if self.wait:
            self.wait -= 1
            self._change_levels(weights, multiplier)
        else:
            self._change_tables(weights, multiplier)

    def meet(self, target: Bound, multiplier: float) -> tuple[OperatingPoint, float]:
        """A file that just meets the target, and the multiplier there.

        Steps of the levels lead from the present file to one on the other side of the target. Between them, blocks go
        first that lose the least for a bit saved, or win the most for a bit spent.

        Raises:
            Unreachable: no levels with these tables meet it.
        """
        # Coarser files meet a target of bytes, finer ones a target of loss.
        towards = 1 if isinstance(target, Bytes) else -1
        tried = [self.file.point]
        stride = NEXT
        for _ in range(ROUNDS):
            before = self.file
            gap = excess(before.point, target)
            if -CLOSE * _unit(target) <= gap <= 0:
                break
            direction = -towards if gap <= 0 else towards
            multiplier *= 2.0 ** (direction * stride)
            stride *= 2
            # What loses at this multiplier is tried too, if only it leads there.
            ways = [
                f
                for f in self._change_levels(self._model(), multiplier)
                if (f.bits - before.bits) * direction < 0
            ]
            if not ways:
                self.file = before
                continue
            self.file = min(ways, key=lambda file: file.cost(multiplier))
            tried.append(self.file.point)
            if (excess(self.file.point, target) <= 0) != (gap <= 0):
                tried.append(self._between(before, self.file, target, direction))
                break
        meeting = [point for point in tried if excess(point, target) <= 0]
        if not meeting:
            raise unreachable(min(tried, key=lambda point: excess(point, target)), target)
        best = meeting[0]
        for point in meeting[1:]:
            best = point if is_better(point, best, target) else best
        return best, multiplier

    @torch.no_grad()
    def _between(self, start: File, end: File, target: Bound, direction: int) -> OperatingPoint:
        """The mixture of two files of the same tables that just meets a target between them."""
        changes = list(zip(*self._changes(start, end), strict=True))
        loss, size = (torch.cat([x.flatten() for x in parts]) for parts in zip(*changes, strict=True))
        # What a bit costs where bits are saved, and what it wins where they are spent.
        price = -loss / size
        price[size * direction >= 0] = LAST * direction
        same = (loss == 0) & (size == 0)
        price[same] = math.inf * direction
        total = int((~same).sum())
        order = price.argsort(descending=direction < 0)
        place = order.argsort()
        shape = [x.shape for x, _ in changes]
        before, after = start.coefficients, end.coefficients

        def file(count: int) -> OperatingPoint:
            taken = (place < count).split([s.numel() for s in shape])
            c = mixed(before, after, [x.view(s) for x, s in zip(taken, shape, strict=True)])
            return OperatingPoint((c,), self.objective.loss(c), self.objective.bits(c))

        sides = {0: excess(start.point, target), total: excess(end.point, target)}
        met, missed = sorted(sides, key=lambda count: sides[count])
        best = None
        for _ in range(TRIALS):
            if abs(met - missed) <= 1 or -CLOSE * _unit(target) <= sides[met]:
                break
            share = (sides[missed] + CLOSE * _unit(target) / 2) / (sides[missed] - sides[met])
            count = missed + round((met - missed) * min(max(share, 0.1), 0.9))
            count = min(max(count, min(met, missed) + 1), max(met, missed) - 1)
            point = file(count)
            sides[count] = excess(point, target)
            if sides[count] <= 0:
                met = count
                if best is None or is_better(point, best, target):
                    best = point
            else:
                missed = count
        if best is None:
            best = min((start, end), key=lambda f: excess(f.point, target)).point
        return best

    def _model(self) -> tuple[Weights, ...]:
        """Curvature and targets around the present file; returns the curvature that keeps blocks within reach."""
        file, entries = self.file, spread(self.file.coefficients)
        moved = tuple(self._shaken(n) for n in file.coefficients.levels)
        _, changes = self._slope(replace(file.coefficients, levels=moved))
        for step, n, q, d, g in zip(
            moved, file.coefficients.levels, entries, changes, file.slope, strict=True
        ):
            step.sub_(n).mul_(q)
            d.sub_(g)
        new = tuple(fit_weights(e, d) for e, d in zip(moved, changes, strict=True))
        whole = left = 0.0
        for e, q, w, d in zip(moved, entries, new, changes, strict=True):
            whole += float((d * q).square_().sum())
            left += float(e.mul_(w.each).mul_(-2).add_(d).mul_(q).square_().sum())
        self.reach = REACH / min(max(left / whole if whole else 1.0, UNEXPLAINED), 1.0)
        del moved, changes
        if self.weights:
            new = tuple(a.mean(b) for a, b in zip(self.weights, new, strict=True))
        self.weights = new
        found = []
        for g, w, q in zip(file.slope, new, entries, strict=True):
            steepness = (g * q).square_().mean((-2, -1)).sqrt()
            wanted = steepness / (2 * (w.frequency * q * q).mean() * w.block)
            found.append(replace(w, block=w.block * (wanted / self.reach).clamp(min=1.0)))
        if self.targets:
            self.targets = self._followed(tuple(found))
        else:
            if file.coefficients.subsampling != "4:4:4":
                self.image = self._prepared()
            self.targets = self.image
        return tuple(found)

    def _shaken(self, levels: Tensor) -> Tensor:
        """Moved by half a step to a step, with random signs."""
        size = torch.rand(levels.shape, generator=self.random).div_(2).add_(0.5)
        sign = torch.randint(0, 2, levels.shape, generator=self.random).mul_(2).sub_(1)
        return size.mul_(sign).to(levels.device).add_(levels)

    def _prepared(self) -> Parts:
        """Coefficients, not quantized, that decode to the original better than its own do.

        Where chroma is subsampled, luma can make up for a part of what it loses, and neighbouring blocks of chroma
        overlap in the decoder.
        """
        best, lowest = self.image, math.inf
        moved = best
        for _ in range(PREPARATION + 1):
            c = self.file.coefficients
            # In steps of 1 no copy is needed.
            loss, slope = self._slope(replace(c, levels=moved, tables=torch.ones_like(c.tables)))
            if not loss < lowest:
                break
            best, lowest = moved, loss
            moved = tuple(x - g / (4 * w.each) for x, g, w in zip(moved, slope, self.weights, strict=True))
        return best

    def _followed(self, weights: tuple[Weights, ...]) -> Parts:
        """The targets, a part of the way to the minimum of the loss; no further than a step from the image's own."""
        c = self.file.coefficients
        parts = zip(c.levels, spread(c), self.file.slope, weights, self.image, self.targets, strict=True)
        return tuple(
            own + (t + FOLLOW * (n * q - g / (2 * w.each) - t) - own).clamp(-q, q)
            for n, q, g, w, own, t in parts
        )

    def _trial(self, weights: tuple[Weights, ...], multiplier: float, tables: Tensor) -> Coefficients:
        """The levels that are cheapest by the model, under some tables."""
        c = self.file.coefficients
        targets, prices = [], []
        parts = zip(c.levels, spread(c), weights, self.caution, self.targets, strict=True)
        for i, (n, q, w, caution, t) in enumerate(parts):
            k = caution[..., None, None]
            targets.append((t + (k - 1) * n * q) / k / tables[table_index(i, len(tables))])
            prices.append(replace(w, block=caution * w.block / multiplier).each)
        unrounded = replace(c, levels=tuple(targets), tables=tables)
        if self.objective.progressive:
            return banded_trellis(unrounded, prices, c)
        return trellis(unrounded, 1.0, weights=prices, passes=1, like=c)

    def _change_levels(self, weights: tuple[Weights, ...], multiplier: float) -> list[File]:
        """A step of the levels; returns what was tried."""
        before = self.file
        trial = self._measured(self._trial(weights, multiplier, before.coefficients.tables))
        kept = self._kept(trial, multiplier)
        levels = zip(before.coefficients.levels, trial.coefficients.levels, strict=True)
        changed = [(n != m).flatten(-2).any(-1) for n, m in levels]
        tried = [trial]
        if any(bool((change & ~keep).any()) for keep, change in zip(kept, changed, strict=True)):
            tried.append(self._measured(mixed(before.coefficients, trial.coefficients, kept)))
        self.file = min([before, *tried], key=lambda file: file.cost(multiplier))
        better = self.file is not before
        self.caution = tuple(
            torch.where(change, k * (torch.where(keep, KEPT, REFUSED) if better else FAILED), k).clamp(
                1.0, MOST
            )
            for k, keep, change in zip(self.caution, kept, changed, strict=True)
        )
        return tried

    def _change_tables(self, weights: tuple[Weights, ...], multiplier: float) -> None:
        before = self.file
        c = before.coefficients
        first, second = torch.zeros_like(c.tables), torch.zeros_like(c.tables)
        for i, (n, q, g, w) in enumerate(zip(c.levels, spread(c), before.slope, weights, strict=True)):
            at = table_index(i, len(c.tables))
            first[at] += (g * n * q).sum((0, 1))
            second[at] += ((n * q).square_() * (2 * w.each)).sum((0, 1))
        newton = torch.where(second > 0, first / second, 0.0)
        moved = self.logarithm - (self.stride * newton).clamp(-FARTHEST, FARTHEST)
        moved = moved.clamp(0.0, math.log(255.0))
        tables = quantization.legal(moved.exp())
        trial = self._measured(self._trial(weights, multiplier, tables))
        if not trial.cost(multiplier) < before.cost(multiplier):
            kept = self._kept(trial, multiplier)
            trial = self._measured(mixed(replace(c, tables=tables), trial.coefficients, kept))
        if trial.cost(multiplier) < before.cost(multiplier):
            self.file, self.logarithm = trial, moved
            self.stride = min(self.stride * LONGER, LONGEST_STRIDE)
        else:
            self.stride *= SHORTER
            self.wait = PATIENCE

    def _kept(self, trial: File, multiplier: float) -> list[Tensor]:
        """Which blocks get cheaper by the levels of a trial."""
        return [
            loss + multiplier * size < 0 for loss, size in zip(*self._changes(self.file, trial), strict=True)
        ]

    def _changes(self, start: File, end: File) -> tuple[list[Tensor], list[Tensor]]:
        """Of loss and of bits in each block, from one file's levels to another's, under the other's tables."""
        before, after = start.coefficients, end.coefficients
        parts = zip(before.levels, after.levels, spread(after), start.slope, end.slope, strict=True)
        loss = [((a + b) / 2 * (m - n) * q).sum((-2, -1)).double() for n, m, q, a, b in parts]
        price = banded_bits if self.objective.progressive else block_bits
        spent = zip(price(before), price(after, like=before), strict=True)
        return loss, [new - old for old, new in spent]

    def _measured(self, coefficients: Coefficients) -> File:
        loss, slope = self._slope(coefficients)
        size = float(self.objective.bits(coefficients))
        levels = tuple(in_16_bits(n) for n in coefficients.levels)
        return File(replace(coefficients, levels=levels), loss, size, slope)

    def _slope(self, coefficients: Coefficients) -> tuple[float, Parts]:
        """The loss, and its slope to the decoded coefficients."""
        loss, slopes = self.objective.slope(coefficients)
        return loss, tuple(g.div_(q) for g, q in zip(slopes, spread(coefficients), strict=True))


def _unit(target: Bound) -> float:
    """What the gap to a target is relative to."""
    return 1.0 if isinstance(target, Bytes) else abs(target.value)


def spread(coefficients: Coefficients) -> list[Tensor]:
    """The table of each component, ``[8, 8]``."""
    tables = coefficients.tables
    return [tables[table_index(i, len(tables))] for i in range(coefficients.channels)]


def in_16_bits(levels: Tensor) -> Tensor:
    """Those of files, which are integers; others as they are."""
    found = levels.to(torch.int16)
    return found if torch.equal(found.to(levels.dtype), levels) else levels


def mixed(before: Coefficients, after: Coefficients, kept: list[Tensor]) -> Coefficients:
    """The levels of ``after`` in the blocks that are kept, of ``before`` in the others."""
    levels = (
        torch.where(keep[..., None, None], m, n)
        for n, m, keep in zip(before.levels, after.levels, kept, strict=True)
    )
    return replace(before, levels=tuple(levels))


def fit_weights(error: Tensor, slope: Tensor) -> Weights:
    """w of a loss Σ w e² from errors and slopes, all positive.

    Args:
        error: of the coefficients, ``[blocks_y, blocks_x, 8, 8]``.
        slope: of the loss to the coefficients, same shape.

    Returns:
        float32. Where there is little error, and so little to learn from, the weight is drawn to the mean.
    """
    # Sums of products and of squares over the blocks of a row, and of products in each block.
    sums = torch.zeros(2, 8, 8, dtype=torch.float64, device=error.device)
    size = torch.zeros((), dtype=torch.float64, device=error.device)
    blocks = torch.empty(error.shape[:2], dtype=torch.float64, device=error.device)
    for e, g, block in zip(error.split(ROWS), slope.split(ROWS), blocks.split(ROWS), strict=True):
        product = (e * g).double()
        sums[0] += product.sum((0, 1))
        sums[1] += e.double().square_().sum((0, 1))
        size += product.abs().sum()
        torch.sum(product, (-2, -1), out=block)
    products, squares = sums
    overall = products.sum().clamp(min=size / 100) / (2 * squares.sum()).clamp(min=1e-30)
    overall = overall.clamp(min=1e-30)
    little = 4 * squares.sum() / error.numel()
    frequency = (products / 2 + overall * little) / (squares + little).clamp(min=1e-30)
    frequency = frequency.clamp(overall / FREQUENCIES, overall * FREQUENCIES)
    expected = torch.cat([2 * (frequency * e.double().square_()).sum((-2, -1)) for e in error.split(ROWS)])
    some = expected.mean() / 4
    block = ((blocks + some) / (expected + some).clamp(min=1e-30)).clamp(1 / BLOCKS, BLOCKS)
    return Weights(frequency.to(error.dtype), block.to(error.dtype))
