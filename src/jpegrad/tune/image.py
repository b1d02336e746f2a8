"""Tables for one image or for several that share them, and the levels of one image."""

import functools
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jpegrad import tables as quantization
from jpegrad.codec import Coefficients
from jpegrad.data import learned_table_names
from jpegrad.io import to_bytes
from jpegrad.rate import RateModel
from jpegrad.spec import SUBSAMPLING, Range, Subsampling, SurrogateName, check_choice
from jpegrad.surrogates import Surrogate
from jpegrad.tune import metrics
from jpegrad.tune.descent import Method, TablesAlone, Unreachable, excess, is_better, just_meeting
from jpegrad.tune.folder import count_left_out, none_left, usable
from jpegrad.tune.joint import Descent
from jpegrad.tune.metrics import Metric
from jpegrad.tune.objective import ImageObjective, OperatingPoint, SharedObjective
from jpegrad.tune.samples import UNIT
from jpegrad.tune.targets import BitsPerPixel, Bytes, LikeQuality, Loss, Target, check_target

AnyMetric = str | Metric | Callable[[Tensor, Tensor], Tensor]

STEPS = 16
SAVING = 1.15
"""By how much optimised levels shrink a file, about; the descent begins that far above the target."""
NEARBY = 0.15
"""The multiplier is compared between scales this far apart in the logarithm, to either side."""

STEEPEST = 4.0
"""The multiplier goes with the scale of the tables to a power between the reciprocal of this and this."""
LARGEST = 1e30
"""Multipliers lie between the reciprocal of this and this, well within float32."""
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

    @property
    def tables(self) -> Tensor:
        """``[n, 8, 8]``, integers 1…255."""
        return self.coefficients.tables

    def to_bytes(self) -> bytes:
        """The .jpg file: baseline, optimised Huffman tables."""
        return to_bytes(self.coefficients, huffman="optimized")


@torch.inference_mode(False)
def compress(
    image: Tensor,
    *,
    metric: AnyMetric = "mse",
    target: Target | None = None,
    choose_levels: bool = True,
    subsampling: Subsampling = "4:2:0",
    base: Tensor | None = None,
    steps: int = STEPS,
    rate: str | RateModel | None = None,
    table_surrogate: SurrogateName | Surrogate | None = None,
    value_range: Range = UNIT,
    progress: Callable[[], None] | None = None,
) -> Tuned:
    """The smallest file, or the best of its size, that gradients find: quantization tables and levels for an image.

    The tables descend in the logarithm of their entries on loss + multiplier · bits, rounded to integers in every
    forward; the best iterate is kept. With ``choose_levels``, levels follow the tables by a trellis search over the
    actual Huffman code. What is optimised is the metric that was asked for; others may get worse.

    Args:
        image: ``[C, H, W]``, C = 3 or 1, uint8, or floating point in ``value_range``. Values outside are clipped, as
            saving the image would, and NaN is ``low``.
        metric: ``"mse"``, ``"ms-ssim"``, ``"mix"``, a record of :class:`~jpegrad.tune.Metric`, or a function
            (reconstruction, original), both ``[1, C, H, W]`` in [0, 1], → loss of one number with a gradient.
        target: :class:`LikeQuality` (default 75), :class:`Bytes`, :class:`BitsPerPixel` or :class:`Loss`.
        choose_levels: choose levels by rate and distortion too; else they are the rounded coefficients.
        subsampling: ``"4:4:4"``, ``"4:2:2"``, ``"4:2:0"``, ``"4:4:0"`` or ``"4:1:1"``.
        base: tables to start from, at quality 50, ``[2, 8, 8]``, finite and above 0; None takes those shipped for
            the metric, or for a function the best of all that are shipped.
        steps: of descent.
        rate, table_surrogate: what the gradient of rounded coefficients is made of, as in :func:`jpegrad.bits` and
            :func:`jpegrad.encode`; for ``choose_levels=False`` only, which has such a gradient.
        value_range: (low, high) of a floating-point image.
        progress: called after each step.

    Returns:
        :class:`Tuned`. A target in bytes, bits per pixel or loss is met by the file itself.

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
    search = _Search(metrics.get(metric), target, steps, base, choose_levels, progress)
    objective = _objective(search.metric, subsampling, rate, table_surrogate, value_range, image)
    point, multiplier = search(SharedObjective([objective]))
    coefficients = replace(point.coefficients[0], dtype=torch.float32)
    return Tuned(coefficients, point.loss.item(), point.bytes, multiplier)


@torch.inference_mode(False)
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
            with ``choose_levels=False``.

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

    def __call__(self, objective: SharedObjective) -> tuple[OperatingPoint, float]:
        """The files that meet the target, and the multiplier at which they were made."""
        target = LikeQuality() if self.target is None else self.target
        start = self._start(objective, target.quality if isinstance(target, LikeQuality) else 50)
        if not isinstance(target, LikeQuality):
            bounded = self._bounded(objective, target)
            try:
                return self._meeting(objective, bounded, start.log())
            except Unreachable as error:
                if target is bounded:
                    raise
                raise Unreachable(f"{error}; they are {target}") from None
        multiplier = objective.multiplier(quantization.annex_k(target.quality, device=objective.device))
        tables = quantization.scale(start, target.quality)
        if multiplier == 0:
            return objective(tables), multiplier
        method = self._method(objective, tables.log())
        return method.descend(tables.log(), multiplier, self.steps, self.progress).point, multiplier

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

    def _bounded(self, objective: SharedObjective, target: Bytes | BitsPerPixel | Loss) -> Bytes | Loss:
        """The target in bytes or loss; an error where it is so high that another unit must be meant."""
        if isinstance(target, Loss) and target.value > self.metric.highest:
            raise ValueError(
                f"target: expected a loss of at most {self.metric.highest:g}, the highest that {self.metric.name} has, "
                f"got {target.value:g}"
            )
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

    def _method(self, objective: SharedObjective, logarithm: Tensor) -> Method:
        if self.choose_levels:
            raise NotImplementedError
        return TablesAlone(objective)

    def _meeting(
        self, objective: SharedObjective, target: Bytes | Loss, logarithm: Tensor
    ) -> tuple[OperatingPoint, float]:
        """Descent at the multiplier that leads to the target, and from there to the target itself."""

        def scaled(x: float) -> Tensor:
            return quantization.legal((logarithm + x).exp())

        saving = SAVING if self.choose_levels else 1.0
        near = Bytes(max(1, int(target.count * saving))) if isinstance(target, Bytes) else target
        try:
            shift, plain = just_meeting(lambda x: objective(scaled(x)), near)
        except Unreachable:
            # Optimised levels may reach what the coarsest tables alone do not.
            shift = math.log(255.0) if isinstance(target, Bytes) else -math.log(255.0)
            with torch.no_grad():
                plain = objective(scaled(shift))
        logarithm = scaled(shift).log()
        finer, coarser = (objective.multiplier(scaled(x)) for x in (-NEARBY, NEARBY))
        finest = int(plain.coefficients[0].tables.max()) == 1 and isinstance(target, Bytes)
        multiplier = math.sqrt(finer * coarser) or max(finer, coarser)
        if multiplier == 0 or (finest and not self.choose_levels):
            # Nothing is left to trade.
            return just_meeting(lambda x: objective(scaled(x)), target)[1], 0.0
        exponent = math.log(coarser / finer) / (2 * NEARBY) if finer > 0 and coarser > 0 else STEEPEST
        exponent = min(max(exponent, 1 / STEEPEST), STEEPEST)

        def descent(multiplier: float) -> tuple[OperatingPoint, float]:
            method = self._method(objective, logarithm)
            return self._descent(method, target, logarithm, multiplier, exponent)

        try:
            point, found = descent(multiplier)
        except Unreachable:
            if excess(plain, target) > 0:
                raise
            try:
                # Near the finest tables the multiplier is uncertain, and a high one leads away from the target.
                point, found = descent(multiplier / 10)
            except Unreachable:
                return plain, multiplier
        if excess(plain, target) <= 0 and is_better(plain, point, target):
            return plain, multiplier
        return point, found

    def _descent(
        self, method: Method, target: Bytes | Loss, logarithm: Tensor, multiplier: float, exponent: float
    ) -> tuple[OperatingPoint, float]:
        """Half of the steps at about the right multiplier, the others at the one that the first half leads to."""

        def scaled(x: float) -> Tensor:
            return quantization.legal((logarithm + x).exp())

        def multiplied(x: float) -> float:
            return min(max(multiplier * math.exp(x), 1 / LARGEST), LARGEST)

        half = self.steps // 2
        logarithm = method.descend(logarithm, multiplier, half, self.progress).logarithm
        shift, _ = just_meeting(lambda x: method(scaled(x), multiplied(exponent * x)), target)
        logarithm = (logarithm + shift).clamp(0.0, math.log(255.0))
        multiplier = multiplied(exponent * shift)
        logarithm = method.descend(logarithm, multiplier, self.steps - half, self.progress).logarithm
        if not self.choose_levels:
            return just_meeting(lambda x: method(scaled(x), multiplier), target)[1], multiplier
        # The levels alone can follow finely.
        shift, point = just_meeting(lambda x: method(scaled(0.0), multiplied(x)), target)
        return point, multiplied(shift)


def _check_base(base: Tensor) -> None:
    quantization.check_real("base", base)
    if base.ndim != 3 or base.shape[0] not in (2, 3) or base.shape[1:] != (8, 8):
        raise ValueError(f"base: expected [2, 8, 8], got {list(base.shape)}")
    wrong = ~((base > 0) & base.isfinite())
    if wrong.any():
        raise ValueError(f"base: expected finite entries above 0, got {base[wrong][0].item():g}")
