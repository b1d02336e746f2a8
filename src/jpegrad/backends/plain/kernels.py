"""The six fills of :mod:`jpegrad.backends.fused.operators` in PyTorch's own operations."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import SLOPES as SLOPES
from jpegrad.backends.fused.settings import SOFT as SOFT
from jpegrad.backends.fused.settings import Settings
from jpegrad.backends.plain import backward, blocks, forward, noise
from jpegrad.backends.plain.slopes import soft
from jpegrad.inputs import watch_range
from jpegrad.sampling import ceil_div
from jpegrad.spec import Spec

NAME = "plain"
HALF: tuple[str, ...] = ()
soft_halves = None
# Every device.
KEYS = ("CompositeExplicitAutograd",)


def reasons(operation: str, image: Tensor, spec: Spec) -> list[str]:
    """Why these kernels cannot run a call, beyond what no kernel can: nothing."""
    return []


def missing() -> str:
    """Nothing: it is plain PyTorch."""
    return ""


def saved(image: Tensor, s: Settings, with_tables: bool) -> list[Tensor]:
    """Flags; unless the slope is 1 every coefficient, an integer in the exact forward.

    Clamps smoothed by noise have slopes in place of flags: of pixels and of the samples of blocks; behind the
    coefficients are the deviations of the noise in each block, and the slopes of red, green and blue. The blocks of an
    image lie one component behind the other.
    """
    batch, channels, height, width = image.shape
    count = blocks.parts(1, (height, width), channels, s)[-1].stop
    kept = list(flags(image.shape, s, image))
    if s.noise:
        kept = [image.new_empty(image.shape), image.new_empty((batch, 8, 8, count))]
    if with_tables or s.slope != "identity":
        kind = torch.float32 if s.soft else torch.int16
        kept.append(image.new_empty((batch, 8, 8, count), dtype=kind))
    if s.noise:
        kept.append(image.new_empty((batch, count)))
        kept += [image.new_empty((batch, height, width)) for _ in range(channels) if channels == 3]
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

    def keep(self, found: Tensor, saved: Tensor) -> None:
        """Numbers of blocks ``[..., N]`` to those of images ``[batch, ..., blocks of an image]``."""
        for part, into in zip(self.where, self._divided(saved), strict=True):
            into.copy_(part.of(found, self.count).movedim(-2, 0))

    def kept(self, saved: Tensor) -> Tensor:
        """These numbers again."""
        if self.count == 1:
            return saved[self.images.start]
        return torch.cat([each.movedim(0, -2).flatten(-2) for each in self._divided(saved)], -1)

    def _divided(self, saved: Tensor) -> tuple[Tensor, ...]:
        return saved[self.images].split([math.prod(part.grid) for part in self.where], -1)

    def shown(self, coefficients: Tensor, flags: Sequence[Tensor]) -> list[Tensor]:
        """Samples, before their clamp unless noise smoothed it, to planes of the image's size; the flags of clamps."""
        planes = []
        height, width = self.size
        for i, plane in enumerate(blocks.to_planes(coefficients, self.where, self.count)):
            h, v = self.where[i].ratio
            kept, bit = None, 1
            if flags:
                kept, bit = (flags[1][:, i - 1], 1) if i else (flags[0], forward.LUMA)
            plane = plane[:, : ceil_div(height, v), : ceil_div(width, h)]
            plane = plane if self.s.noise else forward.clamped(plane, self.s, kept, bit)
            planes.append(forward.upsampled(plane, self.size, self.s) if i else plane)
        return planes


def _groups(shape: Sequence[int], s: Settings) -> Iterator[_Group]:
    for images in blocks.groups(shape[0], (shape[2], shape[3])):
        yield _Group(images, shape, s)


def _sharp(s: Settings, flags: Tensor | None) -> Callable[[Tensor, int], Tensor]:
    """The clamp of a decoded channel."""
    return lambda channel, i: forward.clamped(channel, s, flags, forward.DECODED << i)


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
        if s.noise:
            outside |= _noisy(image, tables, s, group, out[group.images], saved)
            continue
        flags = _of(saved[:2], group, zero=True)
        found, undefined = _coefficients(image, s, group, flags[0] if flags else None)
        outside |= undefined is not None
        if len(saved) > 2:
            group.keep(found, saved[2])
        for i, (part, step) in enumerate(zip(group.where, group.tables(tables), strict=True)):
            c = part.of(found, step.shape[2])
            level = soft(s.slope, s.slope_parameter[i], c / step, step) if s.soft else forward.levels(c, step)
            c.copy_(level.mul_(step))
        samples = blocks.inverse_dct(found).add_(128) if s.soft else blocks.idct(found)
        planes = group.shown(samples, flags)
        clamp = _sharp(s, flags[0] if flags else None)
        forward.to_image(planes, s, out[group.images], undefined, clamp)
    if outside:
        watch_range(image, (s.low, s.high))


def _noisy(
    image: Tensor, tables: Tensor, s: Settings, group: _Group, out: Tensor, saved: list[Tensor]
) -> bool:
    """A group's images where noise smooths the clamps; whether a pixel may be outside of its range."""
    pixels = saved[0][group.images] if saved else None
    rgb: Sequence[Tensor | None] = _of(saved[4:], group) if saved else [None] * 3
    grey, undefined, pixel_variances = noise.grey_levels(image[group.images].contiguous(), s, pixels)
    found = blocks.dct(blocks.to_blocks(forward.to_planes(grey, s), group.where, torch.float32))
    variances = None if pixel_variances is None else noise.block_variances(pixel_variances, s)
    deviations, decoded = (found.new_empty(group.where[-1].stop) for _ in range(2))
    if saved:
        group.keep(found, saved[2])
    for i, (part, step) in enumerate(zip(group.where, group.tables(tables), strict=True)):
        # Blocks of all images in one line where they share a table.
        images = step.shape[2]
        c, deviation = part.of(found, images), part.of(deviations, images)
        parameter: float | Tensor = s.slope_parameter[i]
        variance: float | Tensor = s.slope_parameter[i] ** 2
        if variances is None:
            deviation.fill_(s.slope_parameter[i])
        else:
            variance = part.of(variances, images)
            parameter = torch.sqrt(variance, out=deviation).clamp_(min=1e-6)
        level = soft(s.slope, parameter, c / step, step)
        part.of(decoded, images).copy_(noise.sample_variance(level, step, variance))
        c.copy_(level.mul_(step))
    samples = blocks.inverse_dct(found).add_(128)
    slopes = torch.empty_like(samples) if saved else None
    noise.clamp(samples, decoded, s, slopes)
    if slopes is not None:
        group.keep(slopes, saved[1])
        group.keep(deviations, saved[3])
    spreads = noise.mixed(decoded, group.where, s) if image.shape[1] == 3 else []

    def clamp(channel: Tensor, i: int) -> Tensor:
        channel = channel.contiguous()
        spread = functools.partial(noise.over_pixels, size=group.size)
        noise.clamp(channel, spreads[i], s, rgb[i], spread)
        return channel

    forward.to_image(group.shown(samples, ()), s, out, undefined, clamp)
    return undefined is not None


def jpeg_backward(
    gradient: Tensor, tables: Tensor, saved: list[Tensor], s: Settings, out: Tensor, sums: Tensor | None
) -> None:
    for group in _groups(out.shape, s):
        given, into = gradient[group.images], out[group.images]
        if s.noise:
            planes = backward.from_smoothed(given, _of(saved[4:], group), s)
        else:
            flags, chroma_flags = _of(saved[:2], group)
            planes = backward.from_image(given, flags, chroma_flags, s)
        # Of slope 1 the transforms cancel.
        if len(saved) > 2:
            found = blocks.to_blocks(planes, group.where, torch.float32)
            slopes, coefficients, deviations = _kept(saved, s, group)
            found = blocks.dct(found if slopes is None else found.mul_(slopes))
            each = None if sums is None else sums[group.images]
            steps = group.tables(tables)
            backward.quantised(found, coefficients, steps, group.where, s, each, group.count, deviations)
            planes = blocks.to_planes(blocks.inverse_dct(found), group.where, group.count)
        backward.to_pixels(planes, s, into)
        if s.noise:
            into.mul_(saved[0][group.images])
        else:
            backward.through_range(into, flags, s)


def _kept(saved: list[Tensor], s: Settings, group: _Group) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Of a group's blocks: slopes of the samples' clamps, coefficients, deviations of the noise."""
    if not s.noise:
        return None, group.kept(saved[2]), None
    slopes, coefficients, deviations = (group.kept(each) for each in saved[1:4])
    return slopes, coefficients, deviations


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
        backward.to_pixels(planes, s, out[group.images])
        backward.through_range(out[group.images], flags[group.images], s)


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
        forward.to_image(planes, s, out[group.images], None, _sharp(s, kept[0] if kept else None))


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
