"""The six fills of :mod:`jpegrad.backends.fused.operators` in PyTorch's own operations."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import Settings
from jpegrad.backends.plain import backward, blocks, forward
from jpegrad.backends.plain.slopes import SLOPES as SLOPES
from jpegrad.backends.plain.slopes import SOFT as SOFT
from jpegrad.backends.plain.slopes import soft
from jpegrad.inputs import watch_range
from jpegrad.sampling import ceil_div
from jpegrad.spec import Spec

NAME = "plain"
# Every device.
KEYS = ("CompositeExplicitAutograd",)


def reasons(operation: str, image: Tensor, spec: Spec) -> list[str]:
    """Why these kernels cannot run a call, beyond what no kernel can."""
    found = []
    # What it keeps of a batch is not divided by image.
    if not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(image):
        found.append("it has no rules for the transforms of torch.func")
    if spec.forward == "soft" and spec.surrogate.sigma is not None:
        found.append('with forward="soft" its clamps are not smoothed by noise, which this record asks for')
    return found


def missing() -> str:
    """Nothing: it is plain PyTorch."""
    return ""


def saved(image: Tensor, s: Settings, with_tables: bool) -> list[Tensor]:
    """Flags; and every coefficient, an integer in the exact forward, unless the slope is 1."""
    kept = list(flags(image.shape, s, image))
    if with_tables or s.slope != "identity":
        batch, channels, height, width = image.shape
        where = blocks.parts(batch, (height, width), channels, s)
        kind = torch.float32 if s.soft else torch.int16
        kept.append(image.new_empty(64 * where[-1].stop, dtype=kind))
    return kept


def flags(shape: Sequence[int], s: Settings, like: Tensor) -> tuple[Tensor, Tensor]:
    """Which clamps acted: bits of :mod:`jpegrad.backends.plain.forward` per pixel, 0 or 1 per chroma sample."""
    batch, channels, height, width = shape
    pixels = like.new_empty((batch, height, width), dtype=torch.int16 if s.clip_slope else torch.uint8)
    chroma = (batch, channels - 1, ceil_div(height, s.v), ceil_div(width, s.h))
    return pixels, like.new_empty(chroma, dtype=torch.uint8)


class _Group:
    """A few images of a batch: what is theirs of the tensors of all."""

    def __init__(self, images: slice, shape: Sequence[int], s: Settings) -> None:
        _, channels, height, width = shape
        self.images, self.count = images, images.stop - images.start
        self.size, self.s = (height, width), s
        self.where = blocks.parts(self.count, self.size, channels, s)

    def tables(self, tables: Tensor) -> list[Tensor]:
        return [blocks.table(tables, part, self.images) for part in self.where]

    def coefficients(self, saved: Tensor) -> Tensor:
        each = 64 * self.where[-1].stop // self.count
        return saved[self.images.start * each : self.images.stop * each].view(8, 8, -1)

    def shown(self, coefficients: Tensor, flags: Sequence[Tensor]) -> list[Tensor]:
        """Samples before their clamp to planes of the image's size, and the flags of the clamps."""
        planes = []
        height, width = self.size
        for i, plane in enumerate(blocks.to_planes(coefficients, self.where, self.count)):
            h, v = self.where[i].ratio
            kept, bit = None, 1
            if flags:
                kept, bit = (flags[1][:, i - 1], 1) if i else (flags[0], forward.LUMA)
            plane = plane[:, : ceil_div(height, v), : ceil_div(width, h)]
            plane = forward.clamped(plane, self.s, kept, bit)
            planes.append(forward.upsampled(plane, self.size, self.s) if i else plane)
        return planes


def _groups(shape: Sequence[int], s: Settings) -> Iterator[_Group]:
    for images in blocks.groups(shape[0], (shape[2], shape[3])):
        yield _Group(images, shape, s)


def _of(tensors: Sequence[Tensor], group: _Group, zero: bool = False) -> list[Tensor]:
    found = [tensor[group.images] for tensor in tensors]
    if zero:
        for each in found:
            each.zero_()
    return found


def _coefficients(
    image: Tensor, s: Settings, group: _Group, flags: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Of a group's images ``[8, 8, N]``, 8 times the orthonormal as integers, or real; the pixels with a NaN."""
    grey, undefined = forward.grey_levels(image[group.images].contiguous(), s, flags)
    planes = forward.to_planes(grey, s)
    if s.soft:
        return blocks.dct(blocks.to_blocks(planes, group.where, torch.float32)), undefined
    return blocks.fdct(blocks.to_blocks(planes, group.where, torch.int32)), undefined


def jpeg(image: Tensor, tables: Tensor, s: Settings, out: Tensor, saved: list[Tensor]) -> None:
    outside = False
    for group in _groups(image.shape, s):
        flags = _of(saved[:2], group, zero=True)
        found, undefined = _coefficients(image, s, group, flags[0] if flags else None)
        outside |= undefined is not None
        if len(saved) > 2:
            group.coefficients(saved[2]).copy_(found)
        for i, (part, step) in enumerate(zip(group.where, group.tables(tables), strict=True)):
            c = part.of(found, step.shape[2])
            level = soft(s.slope, s.slope_parameter[i], c / step, step) if s.soft else forward.levels(c, step)
            c.copy_(level.mul_(step))
        samples = blocks.inverse_dct(found).add_(128) if s.soft else blocks.idct(found)
        planes = group.shown(samples, flags)
        forward.to_image(planes, s, out[group.images], flags[0] if flags else None, undefined)
    if outside:
        watch_range(image, (s.low, s.high))


def jpeg_backward(
    gradient: Tensor, tables: Tensor, saved: list[Tensor], s: Settings, out: Tensor, sums: Tensor | None
) -> None:
    for group in _groups(out.shape, s):
        flags, chroma_flags = _of(saved[:2], group)
        planes = backward.from_image(gradient[group.images], flags, chroma_flags, s)
        # Of slope 1 the transforms cancel.
        if len(saved) > 2:
            found = blocks.dct(blocks.to_blocks(planes, group.where, torch.float32))
            each = None if sums is None else sums[group.images]
            coefficients = group.coefficients(saved[2])
            backward.quantised(found, coefficients, group.tables(tables), group.where, s, each, group.count)
            planes = blocks.to_planes(blocks.inverse_dct(found), group.where, group.count)
        backward.to_image(planes, flags, s, out[group.images])


def encode(
    image: Tensor,
    tables: Tensor,
    s: Settings,
    levels: list[Tensor],
    unrounded: list[Tensor],
    flags: Tensor | None,
) -> None:
    outside = False
    for group in _groups(image.shape, s):
        pixels = None if flags is None else _of([flags], group, zero=True)[0]
        found, undefined = _coefficients(image, s, group, pixels)
        outside |= undefined is not None
        for i, (part, step) in enumerate(zip(group.where, group.tables(tables), strict=True)):
            c = part.of(found, group.count)
            room = [each[i][group.images] for each in (levels, unrounded) if each]
            for into, values in zip(room, (forward.levels(c, step), c / (8 * step)), strict=False):
                into.copy_(values.unflatten(-1, part.grid).permute(2, 3, 4, 1, 0))
    if outside:
        watch_range(image, (s.low, s.high))


def encode_backward(gradients: list[Tensor], flags: Tensor, s: Settings, out: Tensor) -> None:
    for group in _groups(out.shape, s):
        found = _gathered(gradients, group, torch.float32)
        planes = blocks.to_planes(blocks.inverse_dct(found), group.where, group.count)
        backward.to_image(planes, flags[group.images], s, out[group.images])


def _gathered(planes: Sequence[Tensor], group: _Group, dtype: torch.dtype) -> Tensor:
    """``[batch, blocks_y, blocks_x, 8, 8]`` of every component as ``[8, 8, N]``."""
    return torch.cat(
        [plane[group.images].to(dtype).permute(4, 3, 0, 1, 2).flatten(2) for plane in planes], -1
    )


def decode(levels: list[Tensor], tables: Tensor, s: Settings, out: Tensor, flags: list[Tensor]) -> None:
    for group in _groups(out.shape, s):
        # Levels from anywhere, whose products go beyond 32 bits.
        found = _gathered(levels, group, torch.float64).nan_to_num_(0.0).clamp_(-32768, 32767)
        for part, step in zip(group.where, group.tables(tables), strict=True):
            part.of(found, step.shape[2]).mul_(step)
        samples = blocks.idct(found).clamp_(-1, 256).int()
        kept = _of(flags, group, zero=True)
        planes = group.shown(samples, kept)
        forward.to_image(planes, s, out[group.images], kept[0] if kept else None, None)


def decode_backward(gradient: Tensor, flags: list[Tensor], s: Settings, out: list[Tensor]) -> None:
    for group in _groups(gradient.shape, s):
        pixels, chroma = _of(flags, group)
        planes = backward.from_image(gradient[group.images], pixels, chroma, s)
        found = blocks.dct(blocks.to_blocks(planes, group.where, torch.float32))
        for part, into in zip(group.where, out, strict=True):
            values = part.of(found, group.count).unflatten(-1, part.grid)
            into[group.images].copy_(values.permute(2, 3, 4, 1, 0))


def level_kernels(tensor: Tensor) -> dict[str, Callable[..., Any]]:
    """No functions on levels: their callers can do without."""
    return {}
