"""Both forwards: image to planes, planes to levels and back, planes to image.

In the exact one all numbers are libjpeg-turbo's integers, in int32; in float32 where every number is exact. The soft
one is the same in real numbers, in float32.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import Settings
from jpegrad.backends.plain.blocks import extended, rounded_up, shifted
from jpegrad.sampling import ceil_div

# Bits of a pixel's flags: the clamps of the image's channels from 1 on, of the decoded channels from DECODED on.
LUMA, DECODED = 8, 16


class Bits(NamedTuple):
    """Further bits: pixels with a NaN; channels with an infinity, for which a leaky clamp needs room."""

    undefined: int
    infinite: int


def bits(s: Settings) -> Bits:
    return Bits(1024, 128) if s.clip_slope else Bits(128, 0)


def grey_levels(image: Tensor, s: Settings, flags: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """8-bit samples as saving the image would round them; the pixels with a NaN, if there may be any."""
    if image.dtype is torch.uint8:
        return image.int(), None
    x, top, undefined = image, s.high, None
    if s.soft:
        x, top = (image - s.low).mul_(255 / (s.high - s.low)), 255.0
    elif s.low != 0 or s.high not in (1, 255):
        x, top = image.double().sub_(s.low).mul_(255 / (s.high - s.low)), 255.0
    if not is_inside(x, 0, top):
        undefined = image.isnan().any(1)
        if flags is not None:
            _note(image, x, top, undefined, flags, s)
        x = x.nan_to_num(0.0, top, 0.0)
        x = _leaky(x, s) if s.soft else x.clamp_(0, top)
    if s.soft:
        return x, undefined
    return (_rounded_unit(x) if top == 1 else x.round()).int(), undefined


def is_inside(x: Tensor, low: float, high: float) -> bool:
    """Whether surely all numbers are in low…high; on other devices than the CPU they would be waited for."""
    if x.device.type != "cpu":
        return False
    lowest, highest = torch.stack(torch.aminmax(x)).tolist()
    return bool(lowest >= low and highest <= high)


def _rounded_unit(x: Tensor) -> Tensor:
    """255·x to the nearest. The one tie in float32 is ½, which 128 is nearest to.

    The first floor is too large by one where its sum was rounded up to an integer. There floor − ½ − 255·x, which is
    exact near 0, is positive.
    """
    nearest = torch.add(torch.full((), 0.5, device=x.device), x, alpha=255).floor_()
    excess = torch.add(nearest, x, alpha=-256).sub_(0.5).add_(x)
    return nearest.sub_(excess.ceil_().clamp_(min=0))


def _note(image: Tensor, x: Tensor, top: float, undefined: Tensor, flags: Tensor, s: Settings) -> None:
    """The flags of an image's channels."""
    bit = bits(s)
    for i, channel in enumerate(x.unbind(1)):
        flags |= (channel < 0).logical_or_(channel > top).to(flags.dtype) << i
        if bit.infinite:
            flags |= image[:, i].isinf().to(flags.dtype) * (bit.infinite << i)
    flags.masked_fill_(undefined, bit.undefined)


def _leaky(x: Tensor, s: Settings) -> Tensor:
    inside = x.clamp(0, 255)
    return inside.add_(x - inside, alpha=s.clip_slope) if s.clip_slope else inside


def to_planes(grey: Tensor, s: Settings) -> list[Tensor]:
    """Samples around 0 of every component, ``[batch, 8 blocks_y, 8 blocks_x]``."""
    wide = _padded(grey, s)
    planes = [wide[:, 0] - 128] if grey.shape[1] == 1 else [_mixed(wide, s, i) for i in range(3)]
    return _whole([planes[0], *(_downsampled(plane, s.h, s.v) for plane in planes[1:])], grey, s)


def to_variances(pixels: Tensor, s: Settings) -> list[Tensor]:
    """Means of the variances that pixels give to the samples of every component, in planes of whole blocks."""
    wide, scale = _padded(pixels, s), ((s.high - s.low) / 255) ** 2
    if pixels.shape[1] == 1:
        return _whole([wide[:, 0]], pixels, s)
    rows = (s.forward_real[3 * i : 3 * i + 3] for i in range(3))
    luma, *chroma = (_sum(wide.unbind(1), [scale * x * x for x in row], 0.0) for row in rows)
    return _whole([luma, *(_boxes(plane, s.h, s.v).mul_(1 / (s.h * s.v)) for plane in chroma)], pixels, s)


def _padded(x: Tensor, s: Settings) -> Tensor:
    """Columns to whole blocks, rows to whole boxes."""
    height, width = x.shape[-2:]
    return extended(extended(x, -1, rounded_up(width, 8 * s.h)), -2, rounded_up(height, s.v))


def _whole(planes: Sequence[Tensor], image: Tensor, s: Settings) -> list[Tensor]:
    """Planes of whole blocks."""
    height, width = image.shape[-2:]
    luma, chroma = planes[0][:, :height, : rounded_up(width, 8)], planes[1:]
    return [
        extended(plane, -2, rounded_up(length, 8)).contiguous()
        for plane, length in zip(
            (luma, *chroma), (height, *[ceil_div(height, s.v)] * len(chroma)), strict=True
        )
    ]


def _mixed(rgb: Tensor, s: Settings, row: int) -> Tensor:
    """A row of the colour conversion, less 128."""
    if s.soft:
        scale = (s.high - s.low) / 255
        real = [scale * x for x in s.forward_real[3 * row : 3 * row + 3]]
        return _sum(rgb.unbind(1), real, s.forward_offset[row] - 128)
    factors = s.forward_matrix[3 * row : 3 * row + 3]
    ends = [s.forward_bias[row] + 255 * sum(f for f in factors if f * sign > 0) for sign in (-1, 1)]
    if ends[0] >= 0 and ends[1] < 256 << 16:
        return _linear(rgb.unbind(1), factors, s.forward_bias[row] - (128 << 16))
    return _linear(rgb.unbind(1), factors, s.forward_bias[row]).clamp_(0, 255).sub_(128)


def _linear(planes: Sequence[Tensor], factors: Sequence[int], bias: int) -> Tensor:
    """(bias + Σ factor · plane) / 2^16, rounded down."""
    return shifted(_sum(planes, factors, bias), 16)


def _sum(planes: Sequence[Tensor], factors: Sequence[float], bias: float) -> Tensor:
    """bias + Σ factor · plane."""
    out = torch.full((), bias, dtype=planes[0].dtype, device=planes[0].device)
    for plane, factor in zip(planes, factors, strict=True):
        if factor:
            out = torch.add(out, plane, alpha=factor) if out.ndim == 0 else out.add_(plane, alpha=factor)
    return out if out.ndim else out.expand(planes[0].shape).clone()


def _boxes(plane: Tensor, h: int, v: int) -> Tensor:
    """Sums of boxes."""
    for dim, ratio in ((-2, v), (-1, h)):
        first, *others = plane.unflatten(dim, (-1, ratio)).unbind(dim)
        plane = first.clone() if others else first
        for other in others:
            plane += other
    return plane


def _downsampled(plane: Tensor, h: int, v: int) -> Tensor:
    if h * v == 1:
        return plane
    plane = _boxes(plane, h, v)
    # An alternating bias keeps the mean of pairs and of squares unbiased.
    bias: Tensor | int = h * v // 2
    if h == 2:
        bias = torch.arange(plane.shape[-1], dtype=torch.int32, device=plane.device) % 2 + (v - 1)
    if plane.is_floating_point():
        # What rounding down takes away on average.
        return plane.add_(bias - (h * v - 1) / 2).mul_(1 / (h * v))
    return shifted(plane.add_(bias), (h * v).bit_length() - 1)


def levels(coefficients: Tensor, table: Tensor) -> Tensor:
    """coefficient / (8 · table entry) to the nearest, half away from zero; integers in float32.

    A coefficient below 2^15 is further from a tie than 2^-19 of it, so that the factor moves ties alone.
    """
    return coefficients.mul(((1 + 2.0**-19) / 8 / table.double()).float()).round_()


def triangle(count: int, s: Settings) -> bool:
    """Whether chroma, of so many columns, is upsampled by the triangle filter."""
    return s.triangle and ((s.h, s.v) == (1, 2) or (s.h == 2 and s.v <= 2 and count > 2))


def neighbours(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The previous and the next sample; at the border the sample itself."""
    length = x.shape[dim]
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, length - 1, 1)
    return (
        torch.cat([first, x.narrow(dim, 0, length - 1)], dim),
        torch.cat([x.narrow(dim, 1, length - 1), last], dim),
    )


def upsampled(plane: Tensor, size: tuple[int, int], s: Settings) -> Tensor:
    """A component's samples at all pixels."""
    if s.h * s.v == 1:
        return plane
    height, width = size
    if not triangle(plane.shape[-1], s):
        return plane.repeat_interleave(s.v, -2)[:, :height].repeat_interleave(s.h, -1)[..., :width]
    # One rounding, after both directions: down and up by turns.
    biases, shift = ((8, 7), 4) if s.h * s.v == 4 else ((1, 2), 2)
    if s.v == 2:
        before, after = (x.add_(plane, alpha=3) for x in neighbours(plane, -2))
        if s.h == 1:
            before, after = (
                _rounded(x, bias, shift) for x, bias in zip((before, after), biases, strict=True)
            )
        plane = torch.stack((before, after), -2).flatten(-3, -2)
    if s.h == 2:
        before, after = (
            _rounded(x.add_(plane, alpha=3), bias, shift)
            for x, bias in zip(neighbours(plane, -1), biases, strict=True)
        )
        plane = torch.stack((before, after), -1).flatten(-2)
    return plane[:, :height, :width]


def _rounded(x: Tensor, bias: int, bits: int) -> Tensor:
    """(x + bias) / 2^bits rounded down; real numbers are not rounded."""
    return x.mul_(2.0**-bits) if x.is_floating_point() else shifted(x.add_(bias), bits)


def clamped(x: Tensor, s: Settings, flags: Tensor | None, flag: int) -> Tensor:
    """The samples in 0…255; the flag where they were not, if flags are kept."""
    if s.soft:
        if flags is not None:
            flags.add_((x < 0).logical_or_(x > 255).to(flags.dtype), alpha=flag)
        return _leaky(x, s)
    if flags is None:
        return x.clamp_(0, 255)
    inside = x.clamp(0, 255)
    flags.add_(x.sub_(inside).abs_().clamp_(max=1).to(flags.dtype), alpha=flag)
    return inside


def to_image(
    planes: list[Tensor],
    s: Settings,
    out: Tensor,
    undefined: Tensor | None,
    clamp: Callable[[Tensor, int], Tensor],
) -> None:
    """Decoded planes of the image's size to the image; pixels with a NaN are NaN. ``clamp`` is that of a channel."""
    for i in range(len(planes)):
        channel = clamp(_decoded(planes, s, i), i) if len(planes) == 3 else planes[i]
        _store(channel, s, out[:, i])
    if undefined is not None and out.is_floating_point():
        out.masked_fill_(undefined.unsqueeze(1), torch.nan)


def _decoded(ycc: Sequence[Tensor], s: Settings, row: int) -> Tensor:
    """A row of the decoder's colour conversion."""
    if not s.soft:
        return _linear(ycc, s.inverse_matrix[3 * row : 3 * row + 3], s.inverse_bias[row])
    real = [255 / (s.high - s.low) * x for x in s.inverse_real[3 * row : 3 * row + 3]]
    return _sum(ycc, real, -sum(x * offset for x, offset in zip(real, s.inverse_offset, strict=True)))


def _store(channel: Tensor, s: Settings, out: Tensor) -> None:
    if out.dtype is torch.uint8 or (s.low, s.high) == (0, 255):
        out.copy_(channel)
    elif (s.low, s.high) == (0, 1):
        # By a tensor: PyTorch multiplies by the reciprocal of a number.
        torch.div(channel.float(), torch.full((), 255.0, device=out.device), out=out)
    else:
        out.copy_(channel.double().div_(255).mul_(s.high - s.low).add_(s.low))
