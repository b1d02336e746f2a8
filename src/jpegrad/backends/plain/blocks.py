"""Planes to blocks and back, and the transforms of blocks ``[8, 8, N]``: horizontal frequency, vertical one, block."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import Settings
from jpegrad.sampling import blocks, ceil_div
from jpegrad.spec import table_index

# libjpeg's accurate integer method: frequencies by samples, times 8192 (jfdctint.c, jidctint.c).
ISLOW = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)
"""The first half of each row; the second mirrors it, with the other sign in odd rows."""
ORTHONORMAL = tuple(
    tuple(math.sqrt((1 if k else 0.5) / 4) * math.cos((2 * n + 1) * k * math.pi / 16) for n in range(4))
    for k in range(8)
)
"""The same in real numbers."""
GROUP = 2**18
"""Pixels of small images that go through one operation together."""


class Part(NamedTuple):
    """The blocks of a component among those of a group of images."""

    component: int
    ratio: tuple[int, int]
    grid: tuple[int, int]
    start: int
    stop: int

    def of(self, coefficients: Tensor, batch: int) -> Tensor:
        """``[..., batch, blocks of an image]``."""
        return coefficients[..., self.start : self.stop].unflatten(-1, (batch, -1))

    def spread(self, coefficients: Tensor, batch: int) -> Tensor:
        """The blocks as they lie in the planes ``[batch, blocks_y, 8, blocks_x, 8]``."""
        return self.of(coefficients, batch).unflatten(-1, self.grid).permute(2, 3, 1, 4, 0)


def parts(batch: int, size: tuple[int, int], channels: int, s: Settings) -> list[Part]:
    """Where the blocks of every component lie."""
    found, start = [], 0
    for component in range(channels):
        ratio = (s.h, s.v) if component else (1, 1)
        grid = blocks(size, ratio)
        stop = start + batch * grid[0] * grid[1]
        found.append(Part(component, ratio, grid, start, stop))
        start = stop
    return found


def groups(batch: int, size: tuple[int, int]) -> Iterator[slice]:
    """The images of a batch, a few at a time."""
    step = max(1, GROUP // (size[0] * size[1]))
    for first in range(0, batch, step):
        yield slice(first, min(first + step, batch))


def to_blocks(planes: Sequence[Tensor], where: Sequence[Part], dtype: torch.dtype) -> Tensor:
    """Planes of whole blocks, ``[batch, rows, columns]`` per component."""
    out = planes[0].new_empty((8, 8, where[-1].stop), dtype=dtype)
    for plane, part in zip(planes, where, strict=True):
        part.spread(out, len(plane)).copy_(plane.unflatten(2, (-1, 8)).unflatten(1, (-1, 8)))
    return out


def to_planes(coefficients: Tensor, where: Sequence[Part], batch: int) -> list[Tensor]:
    """The planes of whole blocks again."""
    return [part.spread(coefficients, batch).flatten(3).flatten(1, 2) for part in where]


def table(tables: Tensor, part: Part, images: slice) -> Tensor:
    """A component's table ``[8, 8, images or 1, 1]``, in float32."""
    chosen = tables[images if len(tables) > 1 else slice(None), table_index(part.component, tables.shape[1])]
    return chosen.permute(2, 1, 0).unsqueeze(-1).float()


def extended(x: Tensor, dim: int, length: int) -> Tensor:
    """The last row or column again, up to a length."""
    lacking = length - x.shape[dim]
    if not lacking:
        return x
    shape = list(x.shape)
    shape[dim] = lacking
    return torch.cat([x, x.narrow(dim, -1, 1).expand(shape)], dim)


def rounded_up(length: int, step: int) -> int:
    return ceil_div(length, step) * step


def _sum(out: Tensor, bias: Tensor, *terms: tuple[Tensor, float]) -> Tensor:
    """bias + Σ factor · x."""
    (x, factor), *others = terms
    torch.add(bias, x, alpha=factor, out=out)
    for x, factor in others:
        out.add_(x, alpha=factor)
    return out


def shifted(x: Tensor, bits: int) -> Tensor:
    """x / 2^bits rounded down, in place."""
    return x.mul_(2.0**-bits).floor_() if x.is_floating_point() else x.__irshift__(bits)


def forward(x: Tensor, dim: int, m: Sequence[Sequence[float]], bias: float = 0) -> Tensor:
    """The eight-point transform along a dimension, times the scale of ``m``; ``bias`` is added to all frequencies."""
    out, half = torch.empty_like(x), torch.full((), bias, dtype=x.dtype, device=x.device)
    o, lines = out.unbind(dim), x.unbind(dim)
    sums = [lines[i] + lines[7 - i] for i in range(4)]
    differences = [lines[i] - lines[7 - i] for i in range(4)]
    for k in (1, 3, 5, 7):
        _sum(o[k], half, *zip(differences, m[k], strict=True))
    outer, inner = sums[0] - sums[3], sums[1] - sums[2]
    for k in (2, 6):
        _sum(o[k], half, (outer, m[k][0]), (inner, m[k][1]))
    outer, inner = sums[0].add_(sums[3]), sums[1].add_(sums[2])
    for k in (0, 4):
        _sum(o[k], half, (outer, m[k][0]), (inner, m[k][1]))
    return out


def inverse(x: Tensor, dim: int, m: Sequence[Sequence[float]], bias: float = 0) -> Tensor:
    """The inverse transform along a dimension, likewise."""
    out, half = torch.empty_like(x), torch.full((), bias, dtype=x.dtype, device=x.device)
    o, lines = out.unbind(dim), x.unbind(dim)
    zero, room = torch.zeros_like(half), torch.empty_like(lines[0])
    even = [_sum(torch.empty_like(room), half, (lines[0], m[0][i]), (lines[4], m[4][i])) for i in (0, 1)]
    for i in (0, 1):
        _sum(room, zero, (lines[2], m[2][i]), (lines[6], m[6][i]))
        even.append(even[i] - room)
        even[i].add_(room)
    for i, both in enumerate((even[0], even[1], even[3], even[2])):
        _sum(room, zero, *((lines[k], m[k][i]) for k in (1, 3, 5, 7)))
        torch.add(both, room, out=o[i])
        torch.sub(both, room, out=o[7 - i])
    return out


def fdct(x: Tensor) -> Tensor:
    """Samples around 0 to coefficients, multiples of 1/8 as integers."""
    rows = shifted(forward(x, 0, ISLOW, 1 << 10), 11)
    return shifted(forward(rows, 1, ISLOW, 1 << 14), 15)


def idct(x: Tensor) -> Tensor:
    """Dequantized coefficients to samples, before the clamp to 0…255."""
    columns = shifted(inverse(x, 1, ISLOW, 1 << 10), 11)
    return shifted(inverse(columns, 0, ISLOW, (128 << 18) + (1 << 17)), 18)


def dct(x: Tensor) -> Tensor:
    """Orthonormal, in real numbers; also the adjoint of its inverse."""
    return forward(forward(x, 0, ORTHONORMAL), 1, ORTHONORMAL)


def inverse_dct(x: Tensor) -> Tensor:
    return inverse(inverse(x, 1, ORTHONORMAL), 0, ORTHONORMAL)
