"""Tables for one image or for several that share them, and the levels of one image."""

import functools
import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor

from jpegrad import tables as quantization
from jpegrad.codec import Coefficients, decode
from jpegrad.data import learned_table_names
from jpegrad.entropy.script import Script
from jpegrad.home import at_home
from jpegrad.io import to_bytes
from jpegrad.rate import RateModel
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import Range, Subsampling, SurrogateName, check_choice
from jpegrad.surrogates import Surrogate
from jpegrad.tune import metrics
from jpegrad.tune.descent import Bound, Judged, TablesAlone, Unreachable, excess, is_better, just_meeting
from jpegrad.tune.folder import count_left_out, none_left, usable
from jpegrad.tune.joint import Descent, legal_multiplier
from jpegrad.tune.metrics import Metric
from jpegrad.tune.objective import ImageObjective, OperatingPoint, SharedObjective
from jpegrad.tune.samples import UNIT, check_one_image
from jpegrad.tune.targets import SCORES, BitsPerPixel, Bytes, LikeQuality, Loss, Score, Target, check_target

AnyMetric = str | Metric | Callable[[Tensor, Tensor], Tensor]

STEPS = 16
AHEAD = 0.05
"""Optimised levels save bits and cost distortion, so their tables are finer by that much, in the logarithm."""
NEARBY = 0.15
"""The multiplier is compared between scales this far apart in the logarithm, to either side."""

FLATTEST, STEEPEST = 1.0, 4.0
"""The multiplier goes with the scale of the tables to a power between these; with fine steps it would be 2."""
PILOT, ASTRAY, CORRECTION = 3, 0.05, 0.1
"""The first of so many parts of the steps shows how far from the target the multiplier leads. If that is more than this
shift of the tables' scale, the descent begins anew; later the multiplier follows, by at most such a shift at once."""
HEADERS = 1000
"""Bytes that a file's marker segments and Huffman tables may take."""


@dataclass(frozen=True)
class Tuned:
    """A file made for a target.

    Args:
        coefficients: levels and tables; ``jpegrad.write(path, coefficients, huffman="optimized")`` writes them, and
            ``jpegrad.decode`` shows them in float32, in the image's ``value_range``.
        loss: of the metric it was made for.
        size: of the file with optimised Huffman tables, in bytes.
        multiplier: Lagrange multiplier at which it was made, loss per bit.
        progressive: the scans of a progressive file; None is a baseline file.

    Example:
        >>> import jpegrad, torch
        >>> tuned = jpegrad.tune.compress(torch.rand(3, 32, 32), target=jpegrad.tune.LikeQuality(50), steps=1)
        >>> tuned.tables.shape, tuned.size == len(tuned.to_bytes())
        (torch.Size([2, 8, 8]), True)
    """

    coefficients: Coefficients
    loss: float
    size: int
    multiplier: float
    progressive: Script | None = None

    @property
    def tables(self) -> Tensor:
        """``[n, 8, 8]``, integers 1…255."""
        return self.coefficients.tables

    def to_bytes(self) -> bytes:
        """The .jpg file, with optimised Huffman tables."""
        return to_bytes(self.coefficients, huffman="optimized", progressive=self.progressive or False)


@torch.inference_mode(False)
@at_home
def compress(
    image: Tensor | None,
    *,
    metric: AnyMetric = "perceptual",
    target: Target | None = None,
    choose_levels: bool = True,
    subsampling: Subsampling | Literal["auto"] | None = None,
    start: Coefficients | None = None,
    base: Tensor | None = None,
    table_count: int = 2,
    progressive: bool = False,
    steps: int = STEPS,
    rate: str | RateModel | None = None,
    table_surrogate: SurrogateName | Surrogate | None = None,
    value_range: Range = UNIT,
    progress: Callable[[], None] | None = None,
) -> Tuned:
    """The smallest file, or the best of its size, that gradients find: quantization tables and levels for an image.

    Tables and levels descend on loss + multiplier · bits of the real file. Every step is tested, block by block, so
    that this cost never rises; more steps make a better file. What is optimised is the metric that was asked for;
    others may get worse.

    Args:
        image: ``[C, H, W]``, C = 3 or 1, uint8, or floating point in ``value_range``. Values outside are clipped, as
            saving the image would, and NaN is ``low``. None takes what ``start`` shows for the original.
        metric: ``"mse"``, ``"ms-ssim"``, ``"mix"``, ``"ssimulacra2"``, ``"butteraugli"``, ``"perceptual"`` (the last
            two together with squared errors; sides of at least 8), a record of :class:`~jpegrad.tune.Metric`, or a
            function (reconstruction, original), both ``[1, C, H, W]`` in [0, 1], → loss of one number with a gradient.
        target: :class:`LikeQuality` (default 75), :class:`Bytes`, :class:`BitsPerPixel`, :class:`Loss` or
            :class:`Score`.
        choose_levels: choose levels by rate and distortion too; else they are the rounded coefficients.
        subsampling: ``"4:4:4"``, ``"4:2:2"``, ``"4:2:0"``, ``"4:4:0"`` or ``"4:1:1"``; ``"auto"`` takes 4:2:0 or 4:4:4,
            whichever begins at the lower cost. None is that of ``start``, else 4:2:0.
        start: a file to begin with, from :func:`jpegrad.read` or of your own; its metadata stay, and count as bytes.
            None is the image's own rounding.
        base: tables to start from, at quality 50, ``[2, 8, 8]`` or ``[3, 8, 8]``, finite and above 0; None takes those
            shipped for the metric, or else the best of all that are shipped.
        table_count: 2, or 3 to give Cb and Cr tables of their own.
        progressive: make a progressive file. Its scans send whole levels, of luma in two bands of frequencies: it is
            1 to 4 % smaller than with libjpeg's scans.
        steps: of descent, the measure of effort.
        rate, table_surrogate: what the gradient of rounded coefficients is made of, as in :func:`jpegrad.bits` and
            :func:`jpegrad.encode`; for ``choose_levels=False`` only, which has such a gradient.
        value_range: (low, high) of a floating-point image.
        progress: called ``steps`` times, after each step.

    Returns:
        :class:`Tuned`. A target in bytes, bits per pixel, loss or score is met by the file itself.

    Raises:
        TypeError, ValueError: an argument is not as described, or no file meets the target.

    Source: our own; docs/tune.md has the derivation.

    Example:
        >>> import jpegrad, torch
        >>> image = torch.rand(3, 64, 64)
        >>> tuned = jpegrad.tune.compress(image, target=jpegrad.tune.Bytes(2500), steps=2)
        >>> len(tuned.to_bytes()) == tuned.size <= 2500
        True
    """
    given = {"rate": rate, "table_surrogate": table_surrogate}
    ignored = [name for name, value in given.items() if value is not None]
    if choose_levels and ignored:
        raise ValueError(
            f"{', '.join(ignored)}: expected with choose_levels=False only, as chosen levels have no such gradient"
        )
    search = _Search(metrics.get(metric), target, steps, base, choose_levels, progress, table_count)
    if not isinstance(progressive, bool):
        raise TypeError(f"progressive: expected True or False, got {progressive!r}")
    if start is not None:
        image, start, subsampling = _started(image, start, base, subsampling, choose_levels)
    elif image is None:
        raise TypeError("image: expected a torch.Tensor, or a file as start, got None")
    modes: tuple[str, ...] = ("4:2:0",) if subsampling is None else (subsampling,)
    if subsampling == "auto":
        check_one_image("image", image)
        modes = ("4:2:0", "4:4:4") if image.shape[-3] == 3 else ("4:2:0",)
    options = (rate, table_surrogate, value_range, image)
    objectives = [
        _objective(search.metric, cast(Subsampling, mode), *options, progressive=progressive)
        for mode in modes
    ]
    point, multiplier = (
        search.one(objectives, start) if choose_levels else search(SharedObjective(objectives))
    )
    found = point.coefficients[0]
    coefficients = replace(found, levels=tuple(x.float() for x in found.levels), dtype=torch.float32)
    return Tuned(coefficients, point.loss.item(), point.bytes, multiplier, objectives[0].progressive)


def _started(
    image: Tensor | None,
    start: Coefficients,
    base: Tensor | None,
    subsampling: str | None,
    choose_levels: bool,
) -> tuple[Tensor, Coefficients, Subsampling]:
    """The original, the file to begin with, and its subsampling."""
    if not isinstance(start, Coefficients):
        raise TypeError(
            f"start: expected Coefficients, as jpegrad.read gives them, got {type(start).__name__}"
        )
    if start.batch_shape or start.space not in ("gray", "YCbCr"):
        raise ValueError(f"start: expected one file, gray or YCbCr, got {start}")
    if start.subsampling not in SUBSAMPLING:
        raise ValueError(
            f"start: expected a subsampling of {', '.join(SUBSAMPLING)}, got {start.subsampling}"
        )
    if subsampling not in (None, start.subsampling):
        raise ValueError(
            f"subsampling: expected that of start, {start.subsampling}, or None, got {subsampling!r}"
        )
    for name, wrong in (("base", base is not None), ("choose_levels=False", not choose_levels)):
        if wrong:
            raise ValueError(f"{name}: expected without start, which brings its own tables and levels")
    if image is None:
        image = decode(start, dtype=torch.uint8)
    check_one_image("image", image)
    expected = (start.channels, *start.size)
    if tuple(image.shape) != expected:
        raise ValueError(f"image: expected {list(expected)} as of start, got {list(image.shape)}")
    levels = tuple(x.detach().float() for x in start.levels)
    tables = start.tables.detach().float()
    return (
        image,
        replace(start, levels=levels, tables=tables, smoothing=None),
        cast(Subsampling, start.subsampling),
    )


@torch.inference_mode(False)
@at_home
def learn_image_tables(
    images: Tensor | Sequence[Tensor],
    *,
    metric: AnyMetric = "mse",
    target: Target | None = None,
    subsampling: Subsampling = "4:2:0",
    base: Tensor | None = None,
    steps: int = STEPS,
    rate: str | RateModel | None = None,
    table_surrogate: SurrogateName | Surrogate | None = None,
    value_range: Range = UNIT,
    progress: Callable[[], None] | None = None,
) -> Tensor:
    """Quantization tables for images at one target: for each of a batch its own, or one set for all of a list.

    Levels are rounded as any encoder does, so the tables are as good in other encoders. For tables that serve all
    qualities see :func:`learn_dataset_tables`.

    Args:
        images: a tensor ``[..., C, H, W]``, each image of which gets its own tables; or a list of ``[C, H, W]``, of
            any sizes, or a :class:`Folder`, that share one set: targets in bytes and bits per pixel then hold for all
            files together, a loss for their mean. Values as in :func:`compress`. Pictures of a folder that cannot be
            opened, or are too small for the metric, are left out with a warning.
        metric, target, subsampling, base, steps, rate, table_surrogate, value_range, progress: as in :func:`compress`
            with ``choose_levels=False``, but for the default metric.

    Returns:
        ``[..., 2, 8, 8]`` or ``[2, 8, 8]``, integers 1…255, for ``jpegrad.jpeg(images, tables=…)``.

    Raises:
        TypeError, ValueError: an argument is not as described, or no tables meet the target.

    Source: our own; docs/tune.md has the derivation.

    Example:
        >>> import jpegrad, torch
        >>> images = torch.rand(4, 3, 32, 32)
        >>> tables = jpegrad.tune.learn_image_tables(images, target=jpegrad.tune.LikeQuality(50), steps=1)
        >>> jpegrad.jpeg(images, tables=tables).shape
        torch.Size([4, 3, 32, 32])
    """
    if isinstance(images, Tensor):
        if images.ndim < 3:
            raise ValueError(f"images: expected [..., C, H, W], got {list(images.shape)}")
        if 0 in images.shape[-3:]:
            raise ValueError(f"images: expected [..., C, H, W] without a side of 0, got {list(images.shape)}")
        groups: list[Sequence[Tensor]] = [[image] for image in images.reshape(-1, *images.shape[-3:])]
        leading = images.shape[:-3]
    elif isinstance(images, Sequence) and not isinstance(images, str):
        groups, leading = [images], torch.Size()
    else:
        raise TypeError(
            f"images: expected a torch.Tensor, a list of them or a Folder, got {type(images).__name__}"
        )
    if not groups or not groups[0]:
        raise ValueError("images: expected at least one, got none")
    search = _Search(metrics.get(metric), target, steps, base, False, progress)
    options = (search.metric, subsampling, rate, table_surrogate, value_range)
    learned = []
    for group in groups:
        name = "images" if isinstance(images, Tensor) else "images[{}]"
        made = (
            usable(group, i, functools.partial(_objective, *options, argument=name.format(i)))
            for i in range(len(group))
        )
        objectives = [each for each in made if each is not None]
        if not objectives:
            raise none_left(group)
        count_left_out(group, len(group) - len(objectives))
        point, _ = search(SharedObjective(objectives))
        learned.append(point.coefficients[0].tables)
    return torch.stack(learned).view(*leading, *learned[0].shape)


def _objective(
    metric: Metric,
    subsampling: Subsampling,
    rate: str | RateModel | None,
    table_surrogate: SurrogateName | Surrogate | None,
    value_range: Range,
    image: Tensor,
    *,
    progressive: bool = False,
    argument: str = "image",
) -> ImageObjective:
    check_choice("subsampling", subsampling, tuple(SUBSAMPLING))
    return ImageObjective(
        image,
        metric,
        subsampling,
        rate="marginal" if rate is None else rate,
        table_surrogate=table_surrogate,
        value_range=value_range,
        progressive=progressive,
        argument=argument,
    )


@dataclass(frozen=True)
class _Search:
    """What is sought, and how: the arguments of a call, the same for all of its images."""

    metric: Metric
    target: Target | None
    steps: int
    base: Tensor | None
    choose_levels: bool
    progress: Callable[[], None] | None
    table_count: int = 2

    def __post_init__(self) -> None:
        if self.target is not None:
            check_target(self.target)
        if not isinstance(self.choose_levels, bool):
            raise TypeError(f"choose_levels: expected True or False, got {self.choose_levels!r}")
        if isinstance(self.steps, bool) or not isinstance(self.steps, numbers.Integral) or self.steps < 0:
            raise ValueError(f"steps: expected an integer, 0 or more, got {self.steps!r}")
        if self.progress is not None and not callable(self.progress):
            raise TypeError(f"progress: expected a function, got {self.progress!r}")
        if self.base is not None:
            _check_base(self.base)
        if isinstance(self.table_count, bool) or self.table_count not in (2, 3):
            raise ValueError(f"table_count: expected 2 or 3, got {self.table_count!r}")

    def __call__(self, objective: SharedObjective) -> tuple[OperatingPoint, float]:
        """Tables alone: the files that meet the target, and the multiplier at which they were made."""
        begin = self._begin(objective)
        method = TablesAlone(objective)
        if isinstance(begin.target, LikeQuality):
            if begin.multiplier == 0:
                return begin.plain, 0.0
            found = method.descend(begin.tables.log(), begin.multiplier, self.steps, self.progress)
            return found.point, begin.multiplier
        with self._told(begin.target):
            finest = int(begin.plain.coefficients[0].tables.max()) == 1 and isinstance(begin.target, Bytes)
            if begin.multiplier == 0 or finest:
                # Nothing is left to trade.
                return just_meeting(lambda x: objective(_scaled(begin.tables, x)), begin.target)[1], 0.0
            return self._nearby(begin, lambda multiplier: self._tables(objective, begin, multiplier))

    def one(
        self, objectives: Sequence[ImageObjective], start: Coefficients | None
    ) -> tuple[OperatingPoint, float]:
        """Tables and levels of one image, in the subsampling that begins at the least cost."""
        begun = [self._begin(SharedObjective([each]), start) for each in objectives]
        costs = [each.plain.cost(begun[0].multiplier).item() for each in begun]
        if not isinstance(begun[0].target, LikeQuality):
            # All of them meet the target, or are as near to it as they come.
            costs = [_badness(each.plain, each.target) for each in begun]
        chosen = costs.index(min(costs))
        objective, begin = objectives[chosen], begun[chosen]
        target = begin.target
        if isinstance(target, LikeQuality):
            if begin.multiplier == 0:
                return self._cheapest(begin, objective, start, 0.0).file.point, 0.0
            descent = self._cheapest(begin, objective, start, begin.multiplier)
            for _ in range(self.steps):
                descent.step(begin.multiplier)
                self._advance()
            return descent.file.point, begin.multiplier
        with self._told(target):
            if begin.multiplier == 0:
                shared = SharedObjective([objective])
                return just_meeting(lambda x: shared(_scaled(begin.tables, x)), target)[1], 0.0
            return self._nearby(begin, lambda multiplier: self._levels(objective, begin, start, multiplier))

    def _begin(self, objective: SharedObjective, start: Coefficients | None = None) -> "_Begin":
        """Where to begin: tables with ordinary rounding near the target, and the multiplier there."""
        target = LikeQuality() if self.target is None else self.target
        quality = target.quality if isinstance(target, LikeQuality) else 50
        tables = self._start(objective, quality) if start is None else quantization.legal(start.tables)
        if start is None and len(tables) < self.table_count:
            tables = torch.cat([tables, tables[-1:]])
        if isinstance(target, LikeQuality):
            multiplier = objective.multiplier(quantization.annex_k(quality, device=objective.device))
            if start is None:
                tables = quantization.legal(quantization.scale(tables, quality))
            with torch.no_grad():
                return _Begin(target, tables, objective(tables), multiplier, 1.0, 0.0)
        bounded = self._bounded(objective, target)
        try:
            shift, plain = just_meeting(lambda x: objective(_scaled(tables, x)), bounded)
        except Unreachable:
            # Optimised levels may reach what the coarsest tables alone do not.
            shift = math.log(255.0) if isinstance(bounded, Bytes) else -math.log(255.0)
            with torch.no_grad():
                plain = objective(_scaled(tables, shift))
        tables = _scaled(tables, shift - (AHEAD if self.choose_levels else 0.0))
        finer, coarser = (objective.multiplier(_scaled(tables, x)) for x in (-NEARBY, NEARBY))
        exponent = math.log(coarser / finer) / (2 * NEARBY) if finer > 0 and coarser > 0 else STEEPEST
        exponent = min(max(exponent, FLATTEST), STEEPEST)
        multiplier = math.sqrt(finer * coarser) or max(finer, coarser)
        with torch.no_grad():
            ends = [excess(objective(_scaled(tables, x)), bounded) for x in (-NEARBY, NEARBY)]
        # Where tables have no way to go, levels have: by about as much as the scale would.
        usual = -1.0 if isinstance(bounded, Bytes) else abs(bounded.value)
        slope = (ends[1] - ends[0]) / (2 * NEARBY)
        slope = slope if slope * usual > 0 else usual
        return _Begin(bounded, tables, plain.detach(), multiplier, exponent, slope)

    @contextmanager
    def _told(self, target: LikeQuality | Bound) -> Iterator[None]:
        """Errors name the target that was asked for."""
        try:
            yield
        except Unreachable as error:
            if self.target is target:
                raise
            raise Unreachable(f"{error}; they are {self.target}") from None

    def _nearby(
        self, begin: "_Begin", descent: Callable[[float], tuple[OperatingPoint, float]]
    ) -> tuple[OperatingPoint, float]:
        """What a descent finds for the target, or ordinary rounding where that is better."""
        assert not isinstance(begin.target, LikeQuality)
        meets = excess(begin.plain, begin.target) <= 0
        try:
            point, found = descent(begin.multiplier)
        except Unreachable:
            if not meets:
                raise
            try:
                # Near the finest tables the multiplier is uncertain, and a high one leads away from the target.
                point, found = descent(begin.multiplier / 10)
            except Unreachable:
                return begin.plain, begin.multiplier
        if meets and is_better(begin.plain, point, begin.target):
            return begin.plain, begin.multiplier
        return point, found

    def _cheapest(
        self, begin: "_Begin", objective: ImageObjective, start: Coefficients | None, multiplier: float
    ) -> Descent:
        """A descent from the file that was given, or from the image's own rounding where that costs less."""
        plain = objective.rounded(begin.tables)
        if start is None:
            return Descent(objective, plain)
        plain = replace(plain, metadata=start.metadata, density=start.density)
        both = [Descent(objective, each) for each in (start, plain)]
        return min(both, key=lambda descent: descent.file.cost(multiplier))

    def _levels(
        self, objective: ImageObjective, begin: "_Begin", start: Coefficients | None, multiplier: float
    ) -> tuple[OperatingPoint, float]:
        """A descent whose multiplier follows the target, and then the target itself."""
        assert not isinstance(begin.target, LikeQuality)
        target = begin.target
        descent = self._cheapest(begin, objective, start, multiplier)
        # Where there is room for more than the finest tables need, they stay.
        finest = isinstance(target, Bytes) and int(begin.plain.coefficients[0].tables.max()) == 1
        descent.wait = self.steps if finest else 0
        for done in range(self.steps):
            descent.step(multiplier)
            self._advance()
            shift = -excess(descent.file.point, target) / begin.slope
            if done + 1 == self.steps // PILOT and abs(shift) > ASTRAY and start is None:
                # Levels chosen for another multiplier do not all come back: only the tables stay.
                tables = _scaled(descent.logarithm.exp(), shift)
                multiplier *= math.exp(begin.exponent * shift)
                descent = Descent(objective, objective.rounded(tables))
                descent.wait = self.steps if finest else 0
            elif done + 1 > self.steps // PILOT and done + 1 < self.steps:
                multiplier *= math.exp(begin.exponent * min(max(shift, -CORRECTION), CORRECTION))
            multiplier = legal_multiplier(multiplier)
        return descent.meet(target, multiplier)

    def _advance(self) -> None:
        if self.progress is not None:
            self.progress()

    def _start(self, objective: SharedObjective, quality: float) -> Tensor:
        """The tables given, those shipped for the metric, or of all learned ones the best at a quality."""
        device, metric = objective.device, self.metric
        if self.base is not None:
            # A copy, because no graph may hold a tensor made in inference mode.
            return self.base.detach().to(device, torch.float32, copy=True)
        if metrics.ALL.get(metric.name) is metric and metric.name in learned_table_names():
            return quantization.load(metric.name).to(device)
        default = torch.tensor(quantization.ANNEX_K, dtype=torch.float32)
        candidates = [x.to(device) for x in (default, *map(quantization.load, learned_table_names()))]
        multiplier = objective.multiplier(quantization.annex_k(quality, device=device))
        with torch.no_grad():
            costs = [float(objective(quantization.scale(x, quality)).cost(multiplier)) for x in candidates]
        return candidates[costs.index(min(costs))]

    def _bounded(self, objective: SharedObjective, target: Bytes | BitsPerPixel | Loss | Score) -> Bound:
        """The target in bytes, loss or score; an error where it is so high that another unit must be meant."""
        if isinstance(target, Loss) and target.value > self.metric.highest:
            raise ValueError(
                f"target: expected a loss of at most {self.metric.highest:g}, the highest that {self.metric.name} has, "
                f"got {target.value:g}"
            )
        if isinstance(target, Score):
            return Judged(_judge(objective, target), SCORES[target.judge] * target.value)
        if not isinstance(target, BitsPerPixel):
            return target
        pixels = sum(image.pixels for image in objective.images)
        samples = sum(image.image.numel() for image in objective.images)
        count = target.bits * pixels / 8
        if count > samples + HEADERS * len(objective.images):
            raise ValueError(
                f"target: expected bits per pixel, no more than the samples themselves have ({8 * samples // pixels}) "
                f"and the headers of the file, got {target.bits:g}"
            )
        return Bytes(max(1, int(count)))

    def _tables(
        self, objective: SharedObjective, begin: "_Begin", multiplier: float
    ) -> tuple[OperatingPoint, float]:
        """Half of the steps at about the right multiplier, the others at the one that the first half leads to."""
        assert not isinstance(begin.target, LikeQuality)
        method, target = TablesAlone(objective), begin.target
        half = self.steps // 2
        tables = method.descend(begin.tables.log(), multiplier, half, self.progress).logarithm.exp()
        shift, _ = just_meeting(lambda x: objective(_scaled(tables, x)), target)
        multiplier = legal_multiplier(multiplier * math.exp(begin.exponent * shift))
        logarithm = (tables.log() + shift).clamp(0.0, math.log(255.0))
        tables = method.descend(logarithm, multiplier, self.steps - half, self.progress).logarithm.exp()
        return just_meeting(lambda x: objective(_scaled(tables, x)), target)[1], multiplier


@dataclass(frozen=True)
class _Begin:
    """Where a descent begins.

    Args:
        target: in bytes or loss, or a quality.
        tables: legal.
        plain: the files of ordinary rounding with them.
        multiplier: 0 where nothing is to be traded.
        exponent: of the multiplier, as a power of the tables' scale.
        slope: of what the target bounds, to the logarithm of that scale.
    """

    target: LikeQuality | Bound
    tables: Tensor
    plain: OperatingPoint
    multiplier: float
    exponent: float
    slope: float


def _scaled(tables: Tensor, shift: float) -> Tensor:
    return quantization.legal((tables.log() + shift).exp())


def _judge(objective: SharedObjective, target: Score) -> Callable[[OperatingPoint], float]:
    """The mean score of files, lower for better ones."""
    comparisons = [metrics.JUDGES[target.judge](image.original) for image in objective.images]
    known: list[tuple[OperatingPoint, float]] = []

    @torch.no_grad()
    def judge(point: OperatingPoint) -> float:
        if not (known and known[0][0] is point):
            shown = (decode(c, dtype=torch.float32, value_range=UNIT)[None] for c in point.coefficients)
            scores = [float(each.score(x)) for each, x in zip(comparisons, shown, strict=True)]
            known[:] = [(point, SCORES[target.judge] * sum(scores) / len(scores))]
        return known[0][1]

    return judge


def _badness(point: OperatingPoint, target: LikeQuality | Bound) -> float:
    """What is to be small among files that are near a target."""
    return point.loss.item() if isinstance(target, Bytes) else float(point.bits)


def _check_base(base: Tensor) -> None:
    quantization.check_real("base", base)
    if base.ndim != 3 or base.shape[0] not in (2, 3) or base.shape[1:] != (8, 8):
        raise ValueError(f"base: expected [2, 8, 8] or [3, 8, 8], got {list(base.shape)}")
    wrong = ~((base > 0) & base.isfinite())
    if wrong.any():
        raise ValueError(f"base: expected finite entries above 0, got {base[wrong][0].item():g}")
