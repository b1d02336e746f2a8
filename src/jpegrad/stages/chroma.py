"""Padding, chroma downsampling and upsampling (libjpeg-turbo ``jcprepct.c``, ``jcsample.c``, ``jdsample.c``).

Downsampling is the mean of each ``h × v`` box; upsampling is the triangle filter ("fancy upsampling", the default) of
components at half the width, half the height, or both. Replication serves where libjpeg has no triangle: all other
ratios, and components of half the width that are at most two samples wide.
"""

import torch
from torch import Tensor

from jpegrad.sampling import ceil_div


def _replicated(length: int, to: int, like: Tensor) -> Tensor:
    return torch.arange(to, device=like.device).clamp(max=length - 1)


def extend_right(plane: Tensor, width: int) -> Tensor:
    """Replicate the last column to ``width``."""
    return plane.index_select(-1, _replicated(plane.shape[-1], width, plane))


def extend_bottom(plane: Tensor, height: int) -> Tensor:
    """Replicate the last row to ``height``."""
    return plane.index_select(-2, _replicated(plane.shape[-2], height, plane))


def crop(plane: Tensor, height: int, width: int) -> Tensor:
    """The upper left corner. By index as well: a slice would tie an exported graph to sizes it was not a slice for."""
    return extend_bottom(extend_right(plane, width), height)


def _box_sums(plane: Tensor, h: int, v: int) -> Tensor:
    height, width = plane.shape[-2:]
    return plane.reshape(*plane.shape[:-2], height // v, v, width // h, h).sum((-3, -1))


def _pad(plane: Tensor, h: int, rows: int) -> Tensor:
    """To whole blocks on the right, but at the bottom to whole row groups: there libjpeg pads after downsampling."""
    height, width = plane.shape[-2:]
    plane = extend_right(plane, ceil_div(width, 8 * h) * 8 * h)
    return extend_bottom(plane, ceil_div(height, rows) * rows)


def _whole_blocks(plane: Tensor, height: int, v: int) -> Tensor:
    """Those of a component of an image of ``height``; the last row group may reach beyond them."""
    return extend_bottom(plane, ceil_div(height, 8 * v) * 8)


def downsample_real(plane: Tensor, h: int, v: int, rows: int | None = None) -> Tensor:
    """``[..., H, W]`` to whole blocks of the component, ``[..., 8·blocks_y, 8·blocks_x]``.

    ``rows`` of the image make a row group: a multiple of ``v``, or just these.
    """
    sums, n = _box_sums(_pad(plane, h, rows or v), h, v), h * v
    # The floor takes (n - 1)/2 away on average.
    return _whole_blocks((sums + (_bias(sums, h, v) - (n - 1) / 2)) / n, plane.shape[-2], v)


def downsample_exact(plane: Tensor, h: int, v: int, rows: int | None = None) -> Tensor:
    sums = _box_sums(_pad(plane, h, rows or v), h, v)
    return _whole_blocks(((sums + _bias(sums, h, v)) / (h * v)).floor(), plane.shape[-2], v)


def _bias(sums: Tensor, h: int, v: int) -> Tensor | int:
    """What libjpeg adds before the division, along a row: 0, 1, 0, 1 for pairs, 1, 2, 1, 2 for squares."""
    if h != 2 or v > 2:
        return h * v // 2
    return (torch.arange(sums.shape[-1], device=sums.device) % 2 + (v - 1)).to(sums.dtype)


def _before(x: Tensor, dim: int) -> Tensor:
    """The previous sample along ``dim``; at the border the sample itself."""
    return torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, x.shape[dim] - 1)], dim)


def _after(x: Tensor, dim: int) -> Tensor:
    return torch.cat([x.narrow(dim, 1, x.shape[dim] - 1), x.narrow(dim, x.shape[dim] - 1, 1)], dim)


def _interleave_columns(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack([first, second], -1).flatten(-2, -1)


def _interleave_rows(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack([first, second], -2).flatten(-3, -2)


def replicate(plane: Tensor, h: int, v: int) -> Tensor:
    """Every sample ``v`` times down and ``h`` times to the right."""
    return plane.repeat_interleave(v, -2).repeat_interleave(h, -1)


def _triangle_applies(plane: Tensor, h: int, v: int) -> bool:
    """Width decides where it is halved; half the height alone always has a triangle, thirds and quarters never."""
    return (h, v) == (1, 2) or (h == 2 and v <= 2 and plane.shape[-1] > 2)


def _triangle(plane: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Four times the triangle-filtered samples at both halves, unrounded: 3p + previous, 3p + next."""
    return 3 * plane + _before(plane, dim), 3 * plane + _after(plane, dim)


def upsample_real(plane: Tensor, h: int, v: int) -> Tensor:
    """A component of the decoder's size to ``[..., v·height, h·width]``."""
    if (h, v) == (1, 1):
        return plane
    if not _triangle_applies(plane, h, v):
        return replicate(plane, h, v)
    if v == 2:
        upper, lower = _triangle(plane, -2)
        plane = _interleave_rows(upper / 4, lower / 4)
    if h == 2:
        left, right = _triangle(plane, -1)
        plane = _interleave_columns(left / 4, right / 4)
    return plane


def upsample_exact(plane: Tensor, h: int, v: int) -> Tensor:
    if (h, v) == (1, 1):
        return plane
    if not _triangle_applies(plane, h, v):
        return replicate(plane, h, v)
    if v == 1:
        left, right = _triangle(plane, -1)
        return _interleave_columns(((left + 1) / 4).floor(), ((right + 2) / 4).floor())
    upper, lower = _triangle(plane, -2)
    if h == 1:
        return _interleave_rows(((upper + 1) / 4).floor(), ((lower + 2) / 4).floor())
    # 4:2:0 rounds once, after both directions.
    left, right = _triangle(_interleave_rows(upper, lower), -1)
    return _interleave_columns(((left + 8) / 16).floor(), ((right + 7) / 16).floor())
