"""The halves of the soft forward: an image to mean levels, and these to an image."""

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import Settings
from jpegrad.backends.triton.calls import (
    Room,
    decode_gradient,
    encode_gradient,
    soft_encoded,
    soft_imaged,
    soft_tables,
)
from jpegrad.backends.triton.launch import grid, launch, warps


def encode_saved(image: Tensor, s: Settings, with_tables: bool) -> list[Tensor]:
    """Flags of the pixels, slopes of their clamps if noise smooths them; of every coefficient its slope and factor."""
    g = grid(image.shape, s)
    kept = [g.flags(image, s.clip_slope)]
    if s.noise:
        kept.append(g.clips(image)[0])
    for _ in range(1 + with_tables):
        kept += g.coefficients(image, torch.float32)
    return kept


def encode(
    image: Tensor,
    tables: Tensor,
    s: Settings,
    levels: list[Tensor],
    unrounded: list[Tensor],
    kept: list[Tensor],
    colors: Tensor | None = None,
) -> None:
    """``colors`` stand for the encoder's conversion."""
    rest = tuple(kept[1 + bool(s.noise) :])
    room = Room(
        flags=(kept[0],) if kept else None,
        clips=(kept[1],) if kept and s.noise else None,
        slopes=rest[: len(levels)] or None,
        factors=rest[len(levels) :] or None,
        levels=tuple(levels),
        unrounded=tuple(unrounded) or None,
    )
    soft_encoded(image, tables, s, room, colors)


def encode_backward(gradients: list[Tensor], kept: list[Tensor], s: Settings, out: Tensor) -> None:
    encode_gradient(gradients, kept[0], kept[1] if s.noise else None, s, out)


def decode_saved(out: Tensor, s: Settings, noisy: bool) -> list[Tensor]:
    """Flags of pixels and chroma; slopes of the clamps of Y, of chroma and of RGB if noise smooths them."""
    g = grid(out.shape, s)
    kept = [g.flags(out, s.clip_slope), g.planes(out, torch.uint8)[1]]
    return [*kept, *g.clips(out)[1:]] if noisy else kept


def clips_of(kept: list[Tensor]) -> tuple[Tensor, ...] | None:
    """As the kernels take them, who have those of the encoder's pixels first."""
    return (kept[2], *kept[2:]) if len(kept) > 2 else None


def decode(
    levels: list[Tensor],
    noise: list[Tensor],
    tables: Tensor,
    s: Settings,
    out: Tensor,
    kept: list[Tensor],
    planes: tuple[Tensor, ...] | None = None,
    colors: Tensor | None = None,
) -> None:
    """An image; in ``planes``, if given, those that it is made of. ``colors`` stand for the conversion."""
    g = grid(out.shape, s)
    mcus = g.per_program(out.device)
    planes = g.planes(out, torch.float32) if planes is None else planes
    spreads = g.spreads(out) if noise else None
    flagged, clips = tuple(kept[:2]) or None, clips_of(kept)
    launch(
        "soft.soft_decode_kernel", g.batch * g.programs(out.device), out,
        tuple(levels), tuple(noise) or None, soft_tables(tables, g.channels), planes, spreads, flagged, clips,
        g.height, g.width, CHANNELS=g.channels, H=s.h, V=s.v, LEAK=s.clip_slope, N=mcus,
        LONG=g.is_long(), num_warps=warps(mcus),
    )  # fmt: skip
    soft_imaged(planes, out, s, spreads, flagged, clips, colors=colors)


def decode_backward(gradient: Tensor, kept: list[Tensor], s: Settings, out: list[Tensor]) -> None:
    decode_gradient(gradient, tuple(kept[:2]), clips_of(kept), s, out)
