"""What the published differentiable JPEGs share: one real-valued round trip whose parts can be exchanged.

Images are [B, 3, H, W] in 0 ... 255 and qualities [B]. A rounding works on coefficient / step, a table
builder maps (quality [B], base tables [2, 8, 8] or [B, 2, 8, 8]) to [B, 2, 8, 8]. Sizes are padded
symmetrically to a multiple of 16, also where a published code accepts only multiples of 16.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Rounding = Callable[[Tensor], Tensor]
TableBuilder = Callable[[Tensor, Tensor], Tensor]

ANNEX_K = torch.tensor(
    [
        [
            [16, 11, 10, 16, 24, 40, 51, 61],
            [12, 12, 14, 19, 26, 58, 60, 55],
            [14, 13, 16, 24, 40, 57, 69, 56],
            [14, 17, 22, 29, 51, 87, 80, 62],
            [18, 22, 37, 56, 68, 109, 103, 77],
            [24, 35, 55, 64, 81, 104, 113, 92],
            [49, 64, 78, 87, 103, 121, 120, 101],
            [72, 92, 95, 98, 112, 100, 103, 99],
        ],
        [
            [17, 18, 24, 47, 99, 99, 99, 99],
            [18, 21, 26, 66, 99, 99, 99, 99],
            [24, 26, 56, 99, 99, 99, 99, 99],
            [47, 66, 99, 99, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99],
        ],
    ],
    dtype=torch.float64,
)
# The transposed luma table that Shin & Song's code and its descendants carry (the chroma table is symmetric).
TRANSPOSED = ANNEX_K.mT.contiguous()

JFIF = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=torch.float64
)
JFIF_INVERSE = torch.tensor(
    [[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]], dtype=torch.float64
)


@dataclass(frozen=True)
class Baseline:
    """One published approach: where it comes from, what it differentiates, and the round trip itself.

    Args:
        name: Key in tables and results.
        year: Of publication.
        source: Authors, title, venue.
        call: (image [B, 3, H, W] in 0 ... 255, quality [B]) -> image; None where the formula is not known.
        differentiable: What a gradient reaches, out of "image", "quality", "tables".
        subsampling: Of the real JPEG that the approach stands for.
        notes: What a reader of the tables must know.
        published: False where the pipeline or the tables around the published formula are ours.
        status: "complete", or "partial: ..." / "unknown: ..." with what is missing.
    """

    name: str
    year: int
    source: str
    call: Callable[..., Tensor] | None
    differentiable: tuple[str, ...] = ("image", "quality")
    subsampling: str = "4:2:0"
    notes: str = ""
    published: bool = True
    status: str = "complete"

    def __call__(self, image: Tensor, quality: Tensor | float, **extra: Tensor) -> Tensor:
        """The coded image; the extra `base` replaces the Annex K tables where the approach allows it."""
        if self.call is None:
            raise ValueError(f"{self.name} cannot run: {self.status}")
        return self.call(image, expand_quality(quality, image), **extra)


def expand_quality(quality: Tensor | float, image: Tensor) -> Tensor:
    """One quality per image, in the image's dtype."""
    quality = torch.as_tensor(quality, dtype=image.dtype, device=image.device)
    return quality.expand(image.shape[0]) if quality.ndim == 0 else quality


def with_slope(x: Tensor, value: Tensor, slope: Tensor | float) -> Tensor:
    """`value` in the forward, `slope` in the backward: the straight-through form of any surrogate."""
    slope = slope.detach() if isinstance(slope, Tensor) else slope
    return value.detach() + slope * (x - x.detach())


def clip(x: Tensor, low: float = -math.inf, high: float = math.inf, leak: float = 0.0) -> Tensor:
    """x within the bounds, slope 1 up to and at them; outside the slope `leak`, in the value too.

    Written out, because PyTorch's slope at the bounds of a clamp changed in 2.14: the published codes had 1 there.
    """
    bound = x.detach().clamp(low, high)
    return torch.where((x < low) | (x > high), bound + leak * (x - bound) if leak else bound, x)


def factor(quality: Tensor) -> Tensor:
    """5000 / q below 50, else 200 - 2q; a percentage."""
    return torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)


def scaled(quality: Tensor, base: Tensor) -> Tensor:
    """base * factor / 100, neither floored nor clipped: Shin & Song."""
    return base * (factor(quality) / 100)[:, None, None, None]


def libjpeg_tables(quality: Tensor, base: Tensor) -> Tensor:
    """The tables that a real encoder writes; slope 1 through the floors, 0 where clipped."""
    scale = factor(quality)
    scale = with_slope(scale, scale.floor(), 1.0)[:, None, None, None]
    entry = (base * scale + 50) / 100
    return clip(with_slope(entry, entry.floor(), 1.0), 1, 255)


def box_down(chroma: Tensor) -> Tensor:
    return F.avg_pool2d(chroma, 2)


def nearest_up(chroma: Tensor) -> Tensor:
    return F.interpolate(chroma, scale_factor=2.0, mode="nearest")


def bilinear_up(chroma: Tensor) -> Tensor:
    return F.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False)


def same(chroma: Tensor) -> Tensor:
    return chroma


def hard_clip(image: Tensor) -> Tensor:
    return clip(image, 0, 255)


def dct_matrix(like: Tensor) -> Tensor:
    """Orthonormal 8-point DCT-II, row = frequency."""
    k = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi / 8 * k[:, None] * (k[None, :] + 0.5)) / 2
    matrix[0] /= math.sqrt(2)
    return matrix.to(like)


def to_blocks(plane: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, H/8, W/8, 8, 8]."""
    return plane.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)


def from_blocks(blocks: Tensor) -> Tensor:
    return blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def pad_symmetric(image: Tensor, multiple: int = 16) -> Tensor:
    """Mirror the image at its right and lower border (the border sample is repeated)."""
    for dim in (2, 3):
        size = image.shape[dim]
        index = torch.arange(-(-size // multiple) * multiple, device=image.device) % (2 * size)
        image = image.index_select(dim, torch.where(index < size, index, 2 * size - 1 - index))
    return image


@dataclass(frozen=True)
class Pipeline:
    """JPEG in real arithmetic: colour, chroma down, DCT, quantise, and back.

    Args:
        round: Rounding surrogate on coefficient / step.
        tables: Table builder.
        base: Default base tables [2, 8, 8].
        down, up: Chroma resampling.
        clip: Last step.
        shift: Level shift of luma.
        forward_color, inverse_color: 3 x 3 matrices; chroma is centred on 0.
        quantize: (coefficients, step) -> dequantised coefficients, for approaches that are no rounding.
    """

    round: Rounding = torch.round
    tables: TableBuilder = libjpeg_tables
    base: Tensor = ANNEX_K
    down: Callable[[Tensor], Tensor] = box_down
    up: Callable[[Tensor], Tensor] = bilinear_up
    clip: Callable[[Tensor], Tensor] = hard_clip
    shift: float = 128.0
    forward_color: Tensor = JFIF
    inverse_color: Tensor = JFIF_INVERSE
    quantize: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, image: Tensor, quality: Tensor, base: Tensor | None = None) -> Tensor:
        base = self.base.to(image) if base is None else base
        tables = self.tables(quality, base)
        height, width = image.shape[-2:]
        ycc = torch.einsum("cd,bdhw->bchw", self.forward_color.to(image), pad_symmetric(image))
        luma = self.code(ycc[:, :1] - self.shift, tables[:, 0]) + self.shift
        chroma = self.up(self.code(self.down(ycc[:, 1:]), tables[:, 1]))
        rgb = torch.einsum("cd,bdhw->bchw", self.inverse_color.to(image), torch.cat((luma, chroma), 1))
        return self.clip(rgb[..., :height, :width])

    def code(self, plane: Tensor, table: Tensor) -> Tensor:
        """DCT, quantise, dequantise, inverse DCT of [B, C, H, W] with one [B, 8, 8] table per image."""
        dct = dct_matrix(plane)
        step = table[:, None, None, None]
        quantize = self.quantize or (lambda coefficients, step: self.round(coefficients / step) * step)
        decoded = quantize(dct @ to_blocks(plane) @ dct.mT, step)
        return from_blocks(dct.mT @ decoded @ dct)
