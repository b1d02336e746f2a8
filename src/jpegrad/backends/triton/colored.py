"""The fills of colour conversions that tensors give: both halves of either forward, and the gradients of their numbers.

Colours are ``[B, 12]``, contiguous float64: a matrix and an offset for each image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import Settings
from jpegrad.backends.triton import halves, kernels
from jpegrad.backends.triton.calls import Tensors, decode_gradient, encode_gradient, noise_of
from jpegrad.backends.triton.launch import Grid, grid, launch


def encode_saved(image: Tensor, s: Settings) -> list[Tensor]:
    """Room for what ``encode`` keeps: of the soft forward always with what tables are multiplied by."""
    return halves.encode_saved(image, s, True) if s.soft else [kernels.flags(image.shape, s, image)[0]]


def encode(
    image: Tensor,
    tables: Tensor,
    colors: Tensor,
    s: Settings,
    levels: list[Tensor],
    unrounded: list[Tensor],
    kept: list[Tensor],
) -> None:
    """Levels; coefficients in steps and what is kept, where there is room."""
    if s.soft:
        return halves.encode(image, tables, s, levels, unrounded, kept, colors)
    flags = (kept[0],) if kept else None
    kernels.encoded(
        image,
        tables,
        s,
        flags=flags,
        levels=tuple(levels),
        unrounded=tuple(unrounded) or None,
        colors=colors,
    )


def encode_backward(
    gradients: list[Tensor],
    image: Tensor,
    colors: Tensor,
    kept: list[Tensor],
    s: Settings,
    out: Tensor,
    sums: Tensor,
) -> None:
    """Gradients of coefficients to the gradient of the image and, in ``sums``, of the colours."""
    g, scale = grid(image.shape, s), 255 / (s.high - s.low)
    flags, clips = kept[0], kept[1] if s.noise else None
    planes = torch.empty_like(out)
    encode_gradient(gradients, flags, None, s, planes, converted=False)
    programs, rows, columns = g.tile()
    parts = _parts(g, programs, out)
    launch(
        "conversion.encoder_kernel", programs, image,
        planes, image, image.stride(), colors, noise_of(s, g.channels), flags, clips, out, parts, g.height, g.width,
        SOFT=s.soft, RANGE=(s.low, scale) if s.soft else kernels.encoder_range(image, s), FORWARD=(scale,),
        CLIP_SLOPE=s.clip_slope, ROWS=rows, COLUMNS=columns, LONG=g.is_long(image),
    )  # fmt: skip
    torch.sum(parts, 1, dtype=torch.float64, out=sums)


def decode_saved(out: Tensor, s: Settings, noisy: bool) -> list[Tensor]:
    """Room for what ``decode`` keeps: decoded planes, and then what a conversion of numbers keeps."""
    planes = grid(out.shape, s).planes(out, torch.float32 if s.soft else torch.uint8)
    flags = halves.decode_saved(out, s, noisy) if s.soft else kernels.flags(out.shape, s, out)
    return [*planes, *flags]


def decode(
    levels: list[Tensor],
    noise: list[Tensor],
    tables: Tensor,
    colors: Tensor,
    s: Settings,
    out: Tensor,
    kept: list[Tensor],
) -> None:
    """The image."""
    planes = (kept[0], kept[1]) if kept else None
    if s.soft:
        return halves.decode(levels, noise, tables, s, out, kept[2:], planes, colors)
    kernels.decode(levels, tables, s, out, kept[2:], planes, colors)


def decode_backward(
    gradient: Tensor, colors: Tensor, kept: list[Tensor], s: Settings, out: list[Tensor], sums: Tensor
) -> None:
    """Gradient of the image to those of dequantized coefficients and, in ``sums``, of the colours."""
    flags: Tensors = (kept[2], kept[3])
    clips = halves.clips_of(kept[2:]) if s.soft else None
    decode_gradient(gradient, flags, clips, s, out, colors)
    g = grid(gradient.shape, s)
    programs, rows, columns = g.tile()
    parts = _parts(g, programs, gradient)
    launch(
        "conversion.decoder_kernel", programs, gradient,
        gradient, gradient.stride(), flags[0], clips, (kept[0], kept[1]), colors, parts, g.height, g.width,
        SOFT=s.soft, H=s.h, V=s.v, FANCY=g.fancy, INVERSE=((s.high - s.low) / 255,), CLIP_SLOPE=s.clip_slope,
        ROWS=rows, COLUMNS=columns, LONG=g.is_long(gradient),
    )  # fmt: skip
    torch.sum(parts, 1, dtype=torch.float64, out=sums)


def _parts(g: Grid, programs: Sequence[int], like: Tensor) -> Tensor:
    """A sum per program, added in a fixed order: the result is the same in every run."""
    return like.new_empty((g.batch, programs[0] // g.batch * programs[1], 12), dtype=torch.float32)
