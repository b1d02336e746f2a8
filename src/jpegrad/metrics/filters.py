"""Filters of the metrics: symmetric blurs with three kinds of borders, the energy along short lines, halving."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from jpegrad.inputs import is_eager

Border = Literal["zero", "mirror", "weighted"]
"""What a blur sees outside: nothing; the picture mirrored, edge samples twice; nothing, its taps scaled to sum to 1."""


def is_plain(tensor: Tensor) -> bool:
    """Whether nothing traces or transforms it; else its derivatives are PyTorch's own."""
    return is_eager(tensor) and torch.autograd.forward_ad._current_level < 0


class Blur:
    """A separable filter with the same symmetric taps along rows and columns.

    Args:
        taps: of the middle, then of each neighbour on both sides.
        border: what lies outside. The taps of ``"mirror"`` and ``"weighted"`` are scaled to sum to 1.
    """

    def __init__(self, taps: Sequence[float], border: Border) -> None:
        total = 1.0 if border == "zero" else taps[0] + 2 * sum(taps[1:])
        self.taps = tuple(tap / total for tap in taps)
        self.border = border

    def __call__(self, planes: Tensor) -> Tensor:
        """``[..., H, W]``, filtered."""
        convolve = _Convolve.apply if is_plain(planes) else _convolved
        filtered: Tensor = convolve(planes, self.taps, self.border == "mirror")
        if self.border == "weighted":
            down, across = (
                1 / _along(planes.new_ones(size), self.taps, -1, False) for size in planes.shape[-2:]
            )
            filtered = filtered * (down[:, None] * across)
        return filtered


class _Convolve(torch.autograd.Function):
    """Its matrix is symmetric, with either border, so that it is its own adjoint."""

    @staticmethod
    def forward(planes: Tensor, taps: tuple[float, ...], mirror: bool) -> Tensor:
        return _convolved(planes, taps, mirror)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.taps, ctx.mirror = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Convolve.apply(gradient, ctx.taps, ctx.mirror), None, None  # type: ignore[no-untyped-call]


def _convolved(planes: Tensor, taps: tuple[float, ...], mirror: bool) -> Tensor:
    for dim in (-1, -2):
        planes = _along(planes, taps, dim, mirror)
    return planes


def _along(planes: Tensor, taps: tuple[float, ...], dim: int, mirror: bool) -> Tensor:
    reach, size = len(taps) - 1, planes.shape[dim]
    if mirror:
        ends = [
            planes.narrow(dim, 0, reach).flip(dim),
            planes,
            planes.narrow(dim, size - reach, reach).flip(dim),
        ]
        padded = torch.cat(ends, dim)
    else:
        padded = F.pad(planes, (reach, reach) if dim == -1 else (0, 0, reach, reach))
    filtered = taps[0] * planes
    for distance, tap in enumerate(taps[1:], 1):
        filtered.add_(padded.narrow(dim, reach - distance, size), alpha=tap)
        filtered.add_(padded.narrow(dim, reach + distance, size), alpha=tap)
    return filtered


ROWS = 32
"""Of a strip that stays in the processor's cache while a window passes over it."""


def inner(planes: Tensor, window: tuple[float, ...]) -> Tensor:
    """``[B, C, H, W]`` filtered by a symmetric window along both sides, where it lies within: H − n + 1 rows."""
    if is_plain(planes):
        filtered: Tensor = _Inner.apply(planes, window)  # type: ignore[no-untyped-call]
        return filtered
    channels, taps = planes.shape[1], planes.new_tensor(window)
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        kernel = taps.view(shape)
        kernel = kernel.expand(channels, *kernel.shape[1:])
        planes = F.conv2d(planes, kernel, groups=channels)
    return planes


class _Inner(torch.autograd.Function):
    """Additions of shifted strips: several times as fast as a convolution of each channel by itself."""

    @staticmethod
    def forward(planes: Tensor, window: tuple[float, ...]) -> Tensor:
        height, width = (side - len(window) + 1 for side in planes.shape[-2:])
        out = planes.new_empty(*planes.shape[:-2], height, width)
        for top in range(0, height, ROWS):
            strip = planes[..., top : top + ROWS + len(window) - 1, :]
            for dim in (-2, -1):
                size = strip.shape[dim] - len(window) + 1
                total = window[0] * strip.narrow(dim, 0, size)
                for place, tap in enumerate(window[1:], 1):
                    total.add_(strip.narrow(dim, place, size), alpha=tap)
                strip = total
            out[..., top : top + ROWS, :] = strip
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.window = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        around = (len(ctx.window) - 1,) * 4
        return inner(F.pad(gradient, around), ctx.window), None


Line = tuple[float, tuple[tuple[int, int], ...]]
"""Weight, and places (row, column) on one side of the middle; the other side mirrors them."""


def line_energy(plane: Tensor, lines: tuple[Line, ...]) -> Tensor:
    """Σ weight · (sum along the line)² over all lines through each sample of ``[..., H, W]``; 0 lies outside."""
    energy: Tensor = (_LineEnergy.apply if is_plain(plane) else _line_energy)(plane, lines)
    return energy


def _line_energy(plane: Tensor, lines: tuple[Line, ...]) -> Tensor:
    energy = torch.zeros_like(plane)
    for weight, total in _totals(plane, lines):
        energy.add_(total.square(), alpha=weight)
    return energy


class _LineEnergy(torch.autograd.Function):
    @staticmethod
    def forward(plane: Tensor, lines: tuple[Line, ...]) -> Tensor:
        return _line_energy(plane, lines)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        plane, ctx.lines = inputs
        ctx.save_for_backward(plane)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (plane,) = ctx.saved_tensors
        height, width = plane.shape[-2:]
        reach = _reach(ctx.lines)
        padded = F.pad(torch.zeros_like(plane), (reach,) * 4)
        for (weight, total), (_, pairs) in zip(_totals(plane, ctx.lines), ctx.lines, strict=True):
            share = total.mul_(gradient).mul_(2 * weight)
            for y, x in ((0, 0), *pairs, *((-y, -x) for y, x in pairs)):
                _window(padded, reach, y, x, height, width).add_(share)
        return _window(padded, reach, 0, 0, height, width), None


def _totals(plane: Tensor, lines: tuple[Line, ...]) -> list[tuple[float, Tensor]]:
    """Weight and sums of each line."""
    height, width = plane.shape[-2:]
    reach = _reach(lines)
    padded = F.pad(plane, (reach,) * 4)
    found = []
    for weight, pairs in lines:
        total = plane.clone()
        for y, x in pairs:
            total.add_(_window(padded, reach, y, x, height, width))
            total.add_(_window(padded, reach, -y, -x, height, width))
        found.append((weight, total))
    return found


def _reach(lines: tuple[Line, ...]) -> int:
    return max(abs(step) for _, pairs in lines for pair in pairs for step in pair)


def _window(padded: Tensor, reach: int, y: int, x: int, height: int, width: int) -> Tensor:
    return padded[..., reach + y : reach + y + height, reach + x : reach + x + width]


def halved(planes: Tensor) -> Tensor:
    """Means of 2 × 2 samples; the last of an odd side counts twice."""
    height, width = planes.shape[-2:]
    if height % 2 or width % 2:
        planes = F.pad(planes, (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(planes, 2)
