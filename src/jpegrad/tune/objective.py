"""The objective: tables → loss and bits, of one image or of several that share the tables."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from jpegrad import tables as quantization
from jpegrad.codec import Coefficients, decode, encode
from jpegrad.entropy.script import spectral_selection
from jpegrad.inputs import bounds
from jpegrad.metrics.comparison import ROWS
from jpegrad.rate import RateModel, bits
from jpegrad.spec import Range, Subsampling, SurrogateName, check_channels, check_value_range
from jpegrad.surrogates import Surrogate
from jpegrad.tune.metrics import Metric
from jpegrad.tune.samples import UNIT, check_one_image, in_unit_range

NOISE = 0.05
"""Share of its bits up to which a file is all headers and DC levels: what they save is not detail."""
CHORDS = (1.25, 2.0, 4.0)
"""The multiplier is the slope between tables finer and coarser by the first factor that makes a difference."""


@dataclass(frozen=True)
class OperatingPoint:
    """Loss and bits of one file, or of several with the same tables.

    Args:
        coefficients: levels and tables of each file.
        loss: the mean over the images; a scalar that may carry a graph to the tables.
        bits: of all files with optimised Huffman tables, likewise.
    """

    coefficients: tuple[Coefficients, ...]
    loss: Tensor
    bits: Tensor

    @property
    def bytes(self) -> int:
        return int(self.bits) // 8

    def cost(self, multiplier: float) -> Tensor:
        """Loss + multiplier · bits, float64."""
        return self.loss.double() + multiplier * self.bits

    def detach(self) -> "OperatingPoint":
        return OperatingPoint(
            tuple(c.detach() for c in self.coefficients), self.loss.detach(), self.bits.detach()
        )


class ImageObjective:
    """The objective of one image.

    Args:
        image: ``[C, H, W]``, C = 3 or 1, uint8 or floating point in ``value_range``. It is coded as it is, so that
            the codec checks and clips it; NaN is ``low``.
        metric: the distortion, in [0, 1] whatever the image's range.
        subsampling: of the chroma.
        rate: model behind the slope of the size.
        table_surrogate: how the quantiser's rounding looks to the tables; None is the codec's default.
        value_range: (low, high) of a floating-point image.
        progressive: whether the file is a progressive one.
        argument: what messages call the image.

    Raises:
        TypeError, ValueError: ``image`` is not as described, or too small for the metric.
    """

    def __init__(
        self,
        image: Tensor,
        metric: Metric,
        subsampling: Subsampling = "4:2:0",
        *,
        rate: str | RateModel = "marginal",
        table_surrogate: SurrogateName | Surrogate | None = None,
        value_range: Range = UNIT,
        progressive: bool = False,
        argument: str = "image",
    ) -> None:
        value_range = check_value_range(value_range)
        check_one_image(argument, image)
        # No graph may hold a tensor made in inference mode, hence the clone.
        self.image = image.detach().clone()
        if self.image.is_floating_point():
            check_channels(value_range, self.image.shape[-3])
            low, _ = bounds(value_range, self.image, torch.float32)
            self.image = torch.where(self.image.isnan(), low, self.image.float())
        self.value_range = value_range
        # Those of the library take bytes as they are, without a copy.
        as_bytes = self.image.dtype is torch.uint8 and getattr(metric.against, "takes_bytes", False)
        self.distortion = metric.against(self.image[None] if as_bytes else self.original)
        self.subsampling = subsampling
        self.rate = rate
        self.table_surrogate = table_surrogate
        self.progressive = spectral_selection(self.image.shape[-3]) if progressive else None

    @property
    def original(self) -> Tensor:
        """What the metric compares with: ``[1, C, H, W]``, float32 in [0, 1]."""
        return in_unit_range(self.image, self.value_range).clamp(0.0, 1.0)[None]

    @property
    def pixels(self) -> int:
        return self.image.shape[-2] * self.image.shape[-1]

    def __call__(self, tables: Tensor) -> OperatingPoint:
        """With ordinary rounding; loss and bits carry graphs if ``tables`` does."""
        coefficients = self._encode(tables)
        return OperatingPoint((coefficients,), self.loss(coefficients), self.bits(coefficients))

    @torch.no_grad()
    def rounded(self, tables: Tensor) -> Coefficients:
        """The file with these tables and ordinary rounding."""
        return self._encode(tables.detach())

    def bits(self, coefficients: Coefficients) -> Tensor:
        """Of the file with optimised Huffman tables."""
        return bits(coefficients, huffman="optimized", rate=self.rate, progressive=self.progressive or False)

    def loss(self, coefficients: Coefficients) -> Tensor:
        """The distortion of what a viewer shows of these coefficients, with a graph to levels and tables."""
        shown = decode(coefficients, dtype=torch.float32, value_range=UNIT)
        loss = self.distortion(shown[None])
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            came = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"metric: expected a tensor of one number, got {came}")
        if not loss.isfinite().all():
            raise ValueError(f"metric: expected a finite loss, got {loss.item()}")
        if shown.requires_grad and not loss.requires_grad:
            raise ValueError("metric: expected a loss with a gradient to the reconstruction, got one without")
        return loss.reshape(())

    def slope(self, coefficients: Coefficients) -> tuple[float, tuple[Tensor, ...]]:
        """The loss, and its slope to the levels.

        Raises:
            ValueError: the slope is not finite.
        """
        leaves = tuple(x.detach().float().requires_grad_() for x in coefficients.levels)
        coefficients = replace(coefficients, levels=leaves)
        by_bytes = getattr(self.distortion, "slope", None)
        if not callable(by_bytes):
            loss = self.loss(coefficients)
            slopes = torch.autograd.grad(loss, leaves)
        else:
            end, later, image = _seen(decode(coefficients, dtype=torch.float32, value_range=UNIT))
            loss, gradient = by_bytes(image[None])
            later.append(gradient[0])
            del gradient, image
            slopes = torch.autograd.grad(end, leaves)
        if not all(g.isfinite().all() for g in slopes):
            raise ValueError("metric: expected a finite gradient of the loss, got one that is not")
        return loss.item(), slopes

    def coefficients(self) -> Coefficients:
        """The image's coefficients before quantization, as levels under tables of ones."""
        ones = torch.ones(2, 8, 8, device=self.image.device, requires_grad=True)
        coded = self._encode(ones)
        values = coded.levels if coded.unrounded is None else coded.unrounded
        return replace(coded, levels=tuple(x.detach() for x in values), tables=ones.detach())

    def _encode(self, tables: Tensor) -> Coefficients:
        return encode(
            self.image,
            tables=tables,
            subsampling=self.subsampling,
            table_surrogate=self.table_surrogate,
            value_range=self.value_range,
        )


def _seen(picture: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
    """The end of a picture's graph, a list for its gradient, which is found later, and the picture in bytes.

    Args:
        picture: ``[C, H, W]`` of 255ths, with a graph. It does not live as long as that.
    """
    image = torch.empty(picture.shape, dtype=torch.uint8, device=picture.device)
    for strip, out in zip(picture.detach().split(ROWS, 1), image.split(ROWS, 1), strict=True):
        out.copy_((strip * 255).round_())
    later: list[Tensor] = []
    return _End.apply(picture, later), later, image  # type: ignore[no-untyped-call]


class _End(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, picture: Tensor, later: list[Tensor]) -> Tensor:
        ctx.later = later
        return picture.new_zeros(())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        return ctx.later.pop(), None


@dataclass(frozen=True)
class SharedObjective:
    """The objective of images that share their tables: the losses averaged, the bits added."""

    images: Sequence[ImageObjective]

    @property
    def device(self) -> torch.device:
        return self.images[0].image.device

    def __call__(self, tables: Tensor) -> OperatingPoint:
        if len(self.images) == 1:
            return self.images[0](tables)
        points = [_with_slopes(image, tables) for image in self.images]
        return OperatingPoint(
            tuple(point.coefficients[0] for point in points),
            torch.stack([point.loss for point in points]).mean(),
            torch.stack([point.bits for point in points]).sum(),
        )

    @torch.no_grad()
    def multiplier(self, tables: Tensor) -> float:
        """The Lagrange multiplier along the scale s of the tables, −(d loss/ds) / (d bits/ds).

        It is 0 where there is nothing to trade: a picture without detail, or one that coarser tables leave as it is.

        Raises:
            ValueError: coarser tables give a smaller loss.
        """
        # Entries near 1 need larger factors to move at all.
        for chord in CHORDS:
            fine, coarse = (self(quantization.legal(tables * f)) for f in (1 / chord, chord))
            saved = float(fine.bits - coarse.bits)
            lost = float(coarse.loss.double() - fine.loss.double())
            if saved > 0 and lost > 0:
                return lost / saved
        if lost == 0 or saved <= NOISE * float(fine.bits):
            return 0.0
        raise ValueError(
            "metric: expected a loss that coarser tables make larger at the quality of the target; "
            f"there {saved:g} bits less change it by {lost:g}"
        )


def _with_slopes(image: ImageObjective, tables: Tensor) -> OperatingPoint:
    """As the objective itself, but with slopes in place of a graph: those of many images would fill the memory."""
    if not (torch.is_grad_enabled() and tables.requires_grad):
        return image(tables)
    leaf = tables.detach().requires_grad_()
    point = image(leaf)
    (to_loss,) = torch.autograd.grad(point.loss, leaf, retain_graph=True)
    (to_bits,) = torch.autograd.grad(point.bits, leaf)
    change = tables - tables.detach()
    loss = point.loss.detach() + (to_loss * change).sum()
    return OperatingPoint(point.detach().coefficients, loss, point.bits.detach() + (to_bits * change).sum())
