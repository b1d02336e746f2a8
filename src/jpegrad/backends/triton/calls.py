"""Launches that the codec and its halves share: the soft forward's kernels, gradients of either half."""

import math
from typing import NamedTuple

from torch import Tensor

from jpegrad.backends.fused.settings import Settings
from jpegrad.backends.triton.launch import grid, launch, real_rows, table_places, warps
from jpegrad.formulas import Component, pixel_variances

Tensors = tuple[Tensor, ...]


class Room(NamedTuple):
    """What the kernel of the soft forward fills, in its order; None is left out."""

    planes: Tensors | None = None
    spreads: Tensors | None = None
    seen: Tensor | None = None
    flags: Tensors | None = None
    clips: Tensors | None = None
    slopes: Tensors | None = None
    factors: Tensors | None = None
    levels: Tensors | None = None
    unrounded: Tensors | None = None


def soft_encoded(
    image: Tensor, tables: Tensor, s: Settings, room: Room, colors: Tensor | None = None
) -> None:
    """An image to its levels, or on to decoded planes; ``colors`` stand for the encoder's conversion."""
    g = grid(image.shape, s)
    mcus, scale = g.per_program(image.device), 255 / (s.high - s.low)
    launch(
        "soft.soft_kernel", g.batch * g.programs(image.device), image,
        image, image.stride(), soft_tables(tables, g.channels), colors, s.slope_parameter,
        noise_of(s, g.channels), *room, g.height, g.width, CHANNELS=g.channels, H=s.h, V=s.v,
        COLOR=real_rows(s.forward_real, 1 / scale, tuple(x - 128 for x in s.forward_offset)),
        RANGE=(s.low, scale), LEAK=s.clip_slope, RECORD=s.slope,
        ALIGNED=g.width % (8 * s.h) == 0, N=mcus, LONG=g.is_long(image), num_warps=warps(mcus),
    )  # fmt: skip


def soft_tables(tables: Tensor, channels: int) -> tuple[Tensor | int, ...]:
    """Tables of real numbers as the kernels take them."""
    steps, reciprocals = tables.float().contiguous(), (1 / tables).float().contiguous()
    return steps, reciprocals, *table_places(tables, channels)


def soft_imaged(
    planes: Tensors,
    out: Tensor,
    s: Settings,
    spreads: Tensors | None,
    flags: Tensors | None,
    clips: Tensors | None,
    image: Tensor | None = None,
    seen: Tensor | None = None,
    colors: Tensor | None = None,
) -> None:
    """Decoded planes to an image; ``colors`` stand for the decoder's conversion."""
    g, scale = grid(out.shape, s), 255 / (s.high - s.low)
    programs, rows, columns = g.tile()
    middle = [
        scale * sum(m * (128 - o) for m, o in zip(s.inverse_real[3 * i :], s.inverse_offset, strict=False))
        for i in range(g.channels)
    ]
    launch(
        "soft.soft_image_kernel", programs, out,
        planes, spreads, colors, out, flags and flags[0], clips and clips[3],
        image, (out if image is None else image).stride(), seen, g.height, g.width,
        CHANNELS=g.channels, H=s.h, V=s.v, FANCY=g.fancy, INVERSE=real_rows(s.inverse_real, scale, middle),
        RANGE=(s.low, 1 / scale), LEAK=s.clip_slope, ROWS=rows, COLUMNS=columns,
        LONG=g.is_long(out if image is None else image),
    )  # fmt: skip


def noise_of(s: Settings, channels: int) -> tuple[float, ...] | None:
    """A pixel's deviation as its clamp sees it, its variance, and that of each component's coefficients."""
    if not s.noise:
        return None
    to_clamp, pixel = pixel_variances(s.noise)
    scale = 255 / (s.high - s.low)
    variances = [pixel]
    if channels == 3:
        gains = [sum((m / scale) ** 2 for m in s.forward_real[3 * i : 3 * i + 3]) for i in range(3)]
        counts = (1, s.h * s.v, s.h * s.v)
        variances = [
            float(Component("", gain, n).noise_variance(s.noise))
            for gain, n in zip(gains, counts, strict=True)
        ]
    return (math.sqrt(to_clamp), pixel, *variances)


def encode_gradient(
    gradients: list[Tensor],
    flags: Tensor,
    clips: Tensor | None,
    s: Settings,
    out: Tensor,
    converted: bool = True,
) -> None:
    """Gradients of coefficients to those of the image; ``clips`` are slopes of smooth clamps of pixels.

    Unless ``converted`` they are those of Y, Cb and Cr at every pixel.
    """
    g = grid(out.shape, s)
    mcus = g.per_program(out.device)
    launch(
        "backward.encode_gradient_kernel", g.batch * g.programs(out.device), out,
        tuple(gradient.contiguous() for gradient in gradients), flags, clips, out, g.height, g.width,
        CHANNELS=g.channels, H=s.h, V=s.v, FORWARD=s.forward_real if converted else None, CLIP_SLOPE=s.clip_slope,
        ALIGNED=g.aligned, N=mcus, LONG=g.is_long(), num_warps=warps(mcus),
    )  # fmt: skip


def decode_gradient(
    gradient: Tensor,
    flags: Tensors,
    clips: Tensors | None,
    s: Settings,
    out: list[Tensor],
    colors: Tensor | None = None,
) -> None:
    """Gradient of an image to those of dequantized coefficients; ``clips`` as in the soft kernels.

    ``colors`` stand for the decoder's conversion.
    """
    g = grid(gradient.shape, s)
    mcus = g.per_program(gradient.device)
    launch(
        "backward.decode_gradient_kernel", g.batch * g.programs(gradient.device), gradient,
        gradient, gradient.stride(), colors, flags, clips, tuple(out), g.height, g.width,
        CHANNELS=g.channels, H=s.h, V=s.v, FANCY=g.fancy,
        INVERSE=s.inverse_real if colors is None else ((s.high - s.low) / 255,), CLIP_SLOPE=s.clip_slope,
        N=mcus, LONG=g.is_long(gradient), num_warps=warps(mcus),
    )  # fmt: skip
