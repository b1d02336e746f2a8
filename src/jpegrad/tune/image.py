"""Tables for one image or for several that share them, and the levels of one image."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jpegrad import tables as quantization
from jpegrad.codec import Coefficients
from jpegrad.data import table_names
from jpegrad.io import to_bytes
from jpegrad.rate import RateModel
from jpegrad.spec import SUBSAMPLING, check_choice
from jpegrad.surrogates import Surrogate
from jpegrad.tune import metrics
from jpegrad.tune.descent import Adam, Unreachable, better, meet, miss
from jpegrad.tune.folder import count_left_out, none_left, usable
from jpegrad.tune.joint import Alternation
from jpegrad.tune.metrics import Metric
from jpegrad.tune.objective import Outcome, Rounded, Subject
from jpegrad.tune.targets import BitsPerPixel, Bytes, LikeQuality, Loss, Target, check_target

AnyMetric = str | Metric | Callable[[Tensor, Tensor], Tensor]

STEPS = 16
SAVING = 1.15
"""By how much optimised levels shrink a file, about; the descent begins that far above the target."""
NEARBY = 0.15
"""The price of a bit is compared between scales this far apart in the logarithm, to either side."""

STEEPEST = 4.0
"""The price of a bit goes with the scale of the tables to a power between the reciprocal of this and this."""
DEAREST = 1e30
"""Prices lie between the reciprocal of this and this, well within float32."""


@dataclass(frozen=True)
class Tuned:
    """A file made for a target.

    Args:
        coefficients: levels and tables; ``jpegrad.write(path, coefficients, huffman="optimized")`` writes them.
        loss: of the metric it was made for.
        size: of the file with optimised Huffman tables, in bytes.
        price: loss per bit at which it was made.
    """

    coefficients: Coefficients
    loss: float
    size: int
    price: float

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
    rdo: bool = True,
    subsampling: str = "4:2:0",
    base: Tensor | None = None,
    steps: int = STEPS,
    rate: str | RateModel = "marginal",
    table_surrogate: str | Surrogate | None = None,
    progress: Callable[[], None] | None = None,
) -> Tuned:
    """The smallest file, or the best of its size, that gradients find: quantization tables and levels for an image.

    The tables descend in the logarithm of their entries on loss + price · bits, rounded to integers in every forward;
    the best iterate is kept. With ``rdo``, levels follow the tables by a trellis search over the actual Huffman code.
    What is optimised is the metric that was asked for; others may get worse.

    Args:
        image: ``[C, H, W]``, C = 3 or 1, uint8 or floating point in [0, 1]. Values outside are clipped, as saving the
            image would, and NaN is 0.
        metric: ``"mse"``, ``"ms-ssim"``, ``"mix"``, a record of :class:`~jpegrad.tune.metrics.Metric`, or a function
            (reconstruction, original), both ``[1, C, H, W]`` in [0, 1], → loss of one number with a gradient.
        target: :class:`LikeQuality` (default 75), :class:`Bytes`, :class:`BitsPerPixel` or :class:`Loss`.
        rdo: choose levels by rate and distortion too; else they are the rounded coefficients.
        subsampling: ``"4:4:4"``, ``"4:2:2"``, ``"4:2:0"``, ``"4:4:0"`` or ``"4:1:1"``.
        base: tables to start from, at quality 50, ``[2, 8, 8]``, finite and above 0; None takes those shipped for
            the metric, or for a function the best of all that are shipped.
        steps: of descent.
        rate, table_surrogate: what the gradient of rounded coefficients is made of (``rdo=False``), as in
            :func:`jpegrad.bits` and :func:`jpegrad.encode`.
        progress: called after each step.

    Returns:
        :class:`Tuned`. A target in bytes, bits per pixel or loss is met by the file itself.

    Raises:
        TypeError, ValueError: an argument is not as described, or no file meets the target.

    Example:
        >>> import jpegrad, torch
        >>> image = torch.rand(3, 64, 64)
        >>> tuned = jpegrad.tune.compress(image, target=jpegrad.tune.Bytes(2500), steps=2)
        >>> len(tuned.to_bytes()) == tuned.size <= 2500
        True
    """
    chosen = metrics.get(metric)
    subject = _subject(image, chosen, subsampling, rate, table_surrogate)
    outcome, price = _learn([subject], chosen, rdo, base, target, steps, progress)
    return Tuned(outcome.coefficients[0], outcome.loss.item(), outcome.bytes, price)


@torch.inference_mode(False)
def learn_tables(
    images: Tensor | Sequence[Tensor],
    *,
    metric: AnyMetric = "mse",
    target: Target | None = None,
    subsampling: str = "4:2:0",
    base: Tensor | None = None,
    steps: int = STEPS,
    rate: str | RateModel = "marginal",
    table_surrogate: str | Surrogate | None = None,
    progress: Callable[[], None] | None = None,
) -> Tensor:
    """Quantization tables for images at one target: for each of a batch its own, or one set for all of a list.

    Levels are rounded as any encoder does, so the tables are as good in other encoders. For tables that serve all
    qualities see :func:`learn_base`.

    Args:
        images: a tensor ``[..., C, H, W]``, each image of which gets its own tables; or a list of ``[C, H, W]``, of
            any sizes, or a :class:`Folder`, that share one set: targets in bytes and bits per pixel then hold for all
            files together, a loss for their mean. Values as in :func:`compress`. Pictures of a folder that cannot be
            opened, or are too small for the metric, are left out with a warning.
        metric, target, subsampling, base, steps, rate, table_surrogate, progress: as in :func:`compress`.

    Returns:
        ``[..., 2, 8, 8]`` or ``[2, 8, 8]``, integers 1…255, for ``jpegrad.jpeg(images, tables=…)``.

    Raises:
        TypeError, ValueError: an argument is not as described, or no tables meet the target.

    Example:
        >>> import jpegrad, torch
        >>> images = torch.rand(4, 3, 32, 32)
        >>> tables = jpegrad.tune.learn_tables(images, target=jpegrad.tune.LikeQuality(50), steps=1)
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
    elif isinstance(images, Sequence):
        groups, leading = [images], torch.Size()
    else:
        raise TypeError(f"images: expected a torch.Tensor or a list of them, got {type(images).__name__}")
    if not groups or not groups[0]:
        raise ValueError("images: expected at least one, got none")
    chosen = metrics.get(metric)

    def subject(image: Tensor) -> Subject:
        return _subject(image, chosen, subsampling, rate, table_surrogate)

    learned = []
    for group in groups:
        made = (usable(group, i, subject) for i in range(len(group)))
        subjects = [each for each in made if each is not None]
        if not subjects:
            raise none_left(group)
        count_left_out(group, len(group) - len(subjects))
        outcome, _ = _learn(subjects, chosen, False, base, target, steps, progress)
        learned.append(outcome.coefficients[0].tables)
    return torch.stack(learned).view(*leading, *learned[0].shape)


def _subject(
    image: Tensor,
    metric: Metric,
    subsampling: str,
    rate: str | RateModel,
    table_surrogate: str | Surrogate | None,
) -> Subject:
    check_choice("subsampling", subsampling, tuple(SUBSAMPLING))
    return Subject(image, metric, subsampling, rate=rate, table_surrogate=table_surrogate)


def _base(base: Tensor | None, metric: Metric, rounded: Rounded, quality: float) -> Tensor:
    """Where to start: the tables given, those shipped for the metric, or of all shipped ones the best at a quality."""
    device = rounded.subjects[0].image.device
    if base is not None:
        quantization.check_real("base", base)
        if base.ndim != 3 or base.shape[0] not in (2, 3) or base.shape[1:] != (8, 8):
            raise ValueError(f"base: expected [2, 8, 8], got {list(base.shape)}")
        wrong = ~((base > 0) & base.isfinite())
        if wrong.any():
            raise ValueError(f"base: expected finite entries above 0, got {base[wrong][0].item():g}")
        # A copy, because no graph may hold a tensor made in inference mode.
        return base.detach().to(device, torch.float32, copy=True)
    if metrics.ALL.get(metric.name) is metric and metric.name in table_names():
        return quantization.load(metric.name).to(device)
    default = torch.tensor(quantization.ANNEX_K, dtype=torch.float32)
    candidates = [x.to(device) for x in (default, *map(quantization.load, table_names()))]
    price = rounded.price(quantization.annex_k(quality, device=device))
    with torch.no_grad():
        costs = [float(rounded(quantization.scale(x, quality)).cost(price)) for x in candidates]
    return candidates[costs.index(min(costs))]


def _learn(
    subjects: list[Subject],
    metric: Metric,
    rdo: bool,
    base: Tensor | None,
    target: Target | None,
    steps: int,
    progress: Callable[[], None] | None,
) -> tuple[Outcome, float]:
    """The outcome that meets the target, and the price at which it was made."""
    target = LikeQuality() if target is None else target
    check_target(target)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps: expected an integer, 0 or more, got {steps!r}")
    device = subjects[0].image.device
    rounded = Rounded(subjects)
    start = _base(base, metric, rounded, target.quality if isinstance(target, LikeQuality) else 50)

    def method(logarithm: Tensor) -> Adam | Alternation:
        return Alternation(subjects[0], logarithm.exp()) if rdo else Adam(rounded)

    if isinstance(target, LikeQuality):
        price = rounded.price(quantization.annex_k(target.quality, device=device))
        tables = quantization.scale(start, target.quality)
        if price == 0:
            return rounded(tables), price
        return method(tables.log()).descend(tables.log(), price, steps, progress).outcome, price
    if isinstance(target, BitsPerPixel):
        target = Bytes(max(1, int(target.bits * sum(subject.pixels for subject in subjects) / 8)))
    return _meeting(rounded, method, start.log(), target, rdo, steps, progress)


def _meeting(
    rounded: Rounded,
    method: Callable[[Tensor], Adam | Alternation],
    logarithm: Tensor,
    target: Bytes | Loss,
    rdo: bool,
    steps: int,
    progress: Callable[[], None] | None,
) -> tuple[Outcome, float]:
    """Descent at the price that leads to the target, and from there to the target itself."""

    def scaled(x: float) -> Tensor:
        return quantization.legal((logarithm + x).exp())

    saving = SAVING if rdo else 1.0
    near = Bytes(max(1, int(target.count * saving))) if isinstance(target, Bytes) else target
    try:
        shift, plain = meet(lambda x: rounded(scaled(x)), near)
    except Unreachable:
        # Optimised levels may reach what the coarsest tables alone do not.
        shift = math.log(255.0) if isinstance(target, Bytes) else -math.log(255.0)
        with torch.no_grad():
            plain = rounded(scaled(shift))
    logarithm = scaled(shift).log()
    finer, coarser = (rounded.price(scaled(x)) for x in (-NEARBY, NEARBY))
    finest = int(plain.coefficients[0].tables.max()) == 1 and isinstance(target, Bytes)
    price = math.sqrt(finer * coarser) or max(finer, coarser)
    if price == 0 or (finest and not rdo):
        # Nothing is left to trade.
        return meet(lambda x: rounded(scaled(x)), target)[1], 0.0
    exponent = math.log(coarser / finer) / (2 * NEARBY) if finer > 0 and coarser > 0 else STEEPEST
    exponent = min(max(exponent, 1 / STEEPEST), STEEPEST)

    def descent(price: float) -> tuple[Outcome, float]:
        return _descent(method(logarithm), logarithm, price, exponent, target, steps, progress)

    try:
        outcome, found = descent(price)
    except Unreachable:
        if miss(plain, target) > 0:
            raise
        try:
            # Near the finest tables the price is uncertain, and a high one leads away from the target.
            outcome, found = descent(price / 10)
        except Unreachable:
            return plain, price
    if miss(plain, target) <= 0 and better(plain, outcome, target):
        return plain, price
    return outcome, found


def _descent(
    learner: Adam | Alternation,
    logarithm: Tensor,
    price: float,
    exponent: float,
    target: Bytes | Loss,
    steps: int,
    progress: Callable[[], None] | None,
) -> tuple[Outcome, float]:
    """Half of the steps at about the right price, the others at the price that the first half leads to."""

    def scaled(x: float) -> Tensor:
        return quantization.legal((logarithm + x).exp())

    def priced(x: float) -> float:
        return min(max(price * math.exp(x), 1 / DEAREST), DEAREST)

    logarithm = learner.descend(logarithm, price, steps // 2, progress).logarithm
    shift, _ = meet(lambda x: learner(scaled(x), priced(exponent * x)), target)
    logarithm = (logarithm + shift).clamp(0.0, math.log(255.0))
    price = priced(exponent * shift)
    logarithm = learner.descend(logarithm, price, steps - steps // 2, progress).logarithm
    if isinstance(learner, Adam):
        return meet(lambda x: learner(scaled(x), price), target)[1], price
    # The levels alone can follow finely.
    shift, outcome = meet(lambda x: learner(scaled(0.0), priced(x)), target)
    return outcome, priced(shift)
