"""One image as the learner sees it: what tables cost, and in which direction they cost less."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jpegrad import tables as quantization
from jpegrad.codec import Coefficients, decode, encode
from jpegrad.rate import RateModel, bits
from jpegrad.surrogates import Surrogate
from jpegrad.tune.metrics import Metric

NOISE = 0.05
"""Share of its bits up to which a file is all headers and DC levels: what they save is not detail."""
CHORDS = (1.25, 2.0, 4.0)
"""The price of a bit is the slope between tables finer and coarser by the first factor that makes a difference."""


@dataclass(frozen=True)
class Outcome:
    """What some tables make of one image or several.

    Args:
        coefficients: levels and tables of each file.
        loss: distortion, the mean over the images; a scalar that may carry a graph to the tables.
        bits: of all files with optimised Huffman tables, likewise.
    """

    coefficients: tuple[Coefficients, ...]
    loss: Tensor
    bits: Tensor

    @property
    def bytes(self) -> int:
        return int(self.bits) // 8

    def cost(self, price: float) -> Tensor:
        """Distortion + price · bits, float64."""
        return self.loss.double() + price * self.bits

    def detach(self) -> "Outcome":
        return Outcome(tuple(c.detach() for c in self.coefficients), self.loss.detach(), self.bits.detach())


class Subject:
    """An image, the distortion to it, and how it is coded.

    Args:
        image: ``[C, H, W]``, C = 3 or 1, uint8 or floating point in [0, 1].
        metric: the distortion.
        subsampling: of the chroma.
        rate: model behind the slope of the size.
        table_surrogate: how the quantiser's rounding looks to the tables; None is the codec's default.

    Raises:
        TypeError, ValueError: ``image`` is not as described, or too small for the metric.
    """

    def __init__(
        self,
        image: Tensor,
        metric: Metric,
        subsampling: str = "4:2:0",
        *,
        rate: str | RateModel = "marginal",
        table_surrogate: str | Surrogate | None = None,
    ) -> None:
        self.image = as_image(image)
        self.distortion = metric.against(self.image[None])
        self.subsampling = subsampling
        self.rate = rate
        self.table_surrogate = table_surrogate

    @property
    def pixels(self) -> int:
        return self.image.shape[-2] * self.image.shape[-1]

    def code(self, tables: Tensor) -> Outcome:
        """Coded with ordinary rounding; loss and bits carry graphs if ``tables`` does."""
        coefficients = encode(
            self.image, tables=tables, subsampling=self.subsampling, table_surrogate=self.table_surrogate
        )
        size = bits(coefficients, huffman="optimized", rate=self.rate)
        return Outcome((coefficients,), self.loss(coefficients), size)

    def loss(self, coefficients: Coefficients) -> Tensor:
        """The distortion of what a viewer shows of these coefficients, with a graph to levels and tables."""
        loss = self.distortion(decode(coefficients)[None])
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            came = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"metric: expected a tensor of one number, got {came}")
        if not loss.isfinite().all():
            raise ValueError(f"metric: expected a finite loss, got {loss.item()}")
        return loss.reshape(())

    def coefficients(self) -> Coefficients:
        """The image's coefficients before quantization, as levels under tables of ones."""
        ones = torch.ones(2, 8, 8, device=self.image.device, requires_grad=True)
        coded = encode(self.image, tables=ones, subsampling=self.subsampling)
        values = coded.levels if coded.unrounded is None else coded.unrounded
        return replace(coded, levels=tuple(x.detach() for x in values), tables=ones.detach())


@dataclass(frozen=True)
class Rounded:
    """Codes images with ordinary rounding: the losses averaged, the bits added."""

    subjects: Sequence[Subject]

    def __call__(self, tables: Tensor) -> Outcome:
        if len(self.subjects) == 1:
            return self.subjects[0].code(tables)
        outcomes = [_with_slopes(subject, tables) for subject in self.subjects]
        return Outcome(
            tuple(outcome.coefficients[0] for outcome in outcomes),
            torch.stack([outcome.loss for outcome in outcomes]).mean(),
            torch.stack([outcome.bits for outcome in outcomes]).sum(),
        )

    @torch.no_grad()
    def price(self, tables: Tensor) -> float:
        """Distortion per bit along the scale of the tables, −(dD/ds) / (dR/ds); 0 where there is nothing to trade.

        That is a picture without detail, or one that coarser tables leave as it is.

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


def _with_slopes(subject: Subject, tables: Tensor) -> Outcome:
    """As :meth:`Subject.code`, but only the slopes are kept, not the graph: many images would fill the memory."""
    if not (torch.is_grad_enabled() and tables.requires_grad):
        return subject.code(tables)
    leaf = tables.detach().requires_grad_()
    outcome = subject.code(leaf)
    (to_loss,) = torch.autograd.grad(outcome.loss, leaf, retain_graph=True)
    (to_bits,) = torch.autograd.grad(outcome.bits, leaf)
    change = tables - tables.detach()
    loss = outcome.loss.detach() + (to_loss * change).sum()
    return Outcome(outcome.detach().coefficients, loss, outcome.bits.detach() + (to_bits * change).sum())


def as_image(image: Tensor) -> Tensor:
    """``[C, H, W]`` float32 in [0, 1]: clipped to it, NaN to 0, as by :func:`jpegrad.jpeg`; never an inference tensor.

    Raises:
        TypeError, ValueError: it is not an image.
    """
    if not isinstance(image, Tensor):
        raise TypeError(f"images: expected a torch.Tensor, got {type(image).__name__}")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise TypeError(f"images: expected uint8 or floating point, got {image.dtype}")
    if image.ndim != 3 or image.shape[0] not in (1, 3) or not image.numel():
        raise ValueError(f"images: expected [1 or 3, H, W], got {list(image.shape)}")
    image = image.detach()
    image = image.float() / 255 if image.dtype == torch.uint8 else image.to(torch.float32)
    return image.nan_to_num(nan=0.0).clamp(0.0, 1.0)
