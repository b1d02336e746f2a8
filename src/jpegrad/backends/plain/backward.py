"""The adjoint of the real-valued pipeline, in float32: gradients of an image to those of planes, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import Settings
from jpegrad.backends.plain.blocks import Part, rounded_up
from jpegrad.backends.plain.forward import DECODED, LUMA, bits, levels, triangle
from jpegrad.backends.plain.slopes import slope, soft, widening
from jpegrad.sampling import ceil_div


def _through_clamp(gradient: Tensor, flags: Tensor, flag: int, s: Settings) -> Tensor:
    """Times 1, or the clip slope where the clamp acted."""
    return torch.addcmul(
        gradient, gradient, (flags & flag).to(gradient.dtype), value=(s.clip_slope - 1) / flag
    )


def _mixed(planes: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    out = None
    for plane, factor in zip(planes, factors, strict=True):
        if factor:
            out = plane * factor if out is None else out.add_(plane, alpha=factor)
    return torch.zeros_like(planes[0]) if out is None else out


def from_image(gradient: Tensor, flags: Tensor, chroma_flags: Tensor, s: Settings) -> list[Tensor]:
    """Gradient of the decoded image to those of the decoded planes of whole blocks, before their clamps."""
    channels = gradient.shape[1]
    rgb = list(gradient.unbind(1))
    if channels == 3:
        rgb = [_through_clamp(g, flags, DECODED << i, s) for i, g in enumerate(rgb)]
    luma, *chroma = _to_samples(rgb, s)
    planes = [_through_clamp(luma, flags, LUMA, s)]
    planes += [_through_clamp(plane, chroma_flags[:, i], 1, s) for i, plane in enumerate(chroma)]
    return _whole(planes)


def from_smoothed(gradient: Tensor, rgb: Sequence[Tensor], s: Settings) -> list[Tensor]:
    """The same where noise smoothed the clamps, of RGB by these slopes; the planes' are behind their clamps."""
    channels = list(gradient.unbind(1))
    if rgb:
        channels = [g * slopes for g, slopes in zip(channels, rgb, strict=True)]
    return _whole(_to_samples(channels, s))


def _to_samples(rgb: Sequence[Tensor], s: Settings) -> list[Tensor]:
    """The adjoint of colour and of upsampling."""
    luma, *chroma = (
        _mixed(rgb, s.inverse_real[i::3] if len(rgb) == 3 else s.inverse_real) for i in range(len(rgb))
    )
    return [luma, *(_downsampled(plane, s) for plane in chroma)]


def _whole(planes: Sequence[Tensor]) -> list[Tensor]:
    """Of whole blocks."""
    return [_padded(plane, rounded_up(plane.shape[1], 8), rounded_up(plane.shape[2], 8)) for plane in planes]


def _padded(x: Tensor, height: int, width: int) -> Tensor:
    """Zeros below and to the right; contiguous."""
    lacking = (0, width - x.shape[-1], 0, height - x.shape[-2])
    return torch.nn.functional.pad(x, lacking) if any(lacking) else x


def _downsampled(plane: Tensor, s: Settings) -> Tensor:
    """The adjoint of upsampling chroma."""
    height, width = ceil_div(plane.shape[-2], s.v), ceil_div(plane.shape[-1], s.h)
    plane = _padded(plane, height * s.v, width * s.h)
    fancy = triangle(width, s)
    for dim, ratio in ((-2, s.v), (-1, s.h)):
        if ratio > 1:
            plane = _triangle(plane, dim) if fancy else plane.unflatten(dim, (-1, ratio)).sum(dim)
    return plane


def _triangle(plane: Tensor, dim: int) -> Tensor:
    first, second = plane.unflatten(dim, (-1, 2)).unbind(dim)
    count = first.shape[dim]
    out = (first + second).mul_(0.75)
    # The first half reaches to the previous sample, the second to the next one.
    for half, start, border in ((first, 1, 0), (second, 0, count - 1)):
        out.narrow(dim, 1 - start, count - 1).add_(half.narrow(dim, start, count - 1), alpha=0.25)
        out.narrow(dim, border, 1).add_(half.narrow(dim, border, 1), alpha=0.25)
    return out


def quantised(
    gradient: Tensor,
    coefficients: Tensor,
    tables: Sequence[Tensor],
    where: Sequence[Part],
    s: Settings,
    sums: Tensor | None,
    batch: int,
    deviations: Tensor | None = None,
) -> None:
    """Gradient of the dequantized coefficients to that of the coefficients, in place; its sums for the tables.

    ``deviations`` are those of the noise in each block, ``[N]``, where there is noise.
    """
    for i, (part, step) in enumerate(zip(where, tables, strict=True)):
        # Blocks of all images in one line where they share a table.
        images = batch if sums is not None or step.shape[2] > 1 else 1
        g, c = part.of(gradient, images), part.of(coefficients, images)
        level, r = _split(c, step)
        parameter = s.slope_parameter[i] if deviations is None else part.of(deviations, images)
        if sums is not None:
            entry = _soft_entry(parameter, level, r, step, s) if s.soft else _entry(i, level, r, step, s)
            sums[:, i] = entry.mul_(g).sum(-1, dtype=torch.float64).permute(2, 1, 0)
        found = slope(s.slope, parameter, r, level, step)
        if found is not None:
            g.mul_(found)


def _split(c: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """The level of a coefficient, and the rest in steps."""
    if c.is_floating_point():
        u = c / step
        level = u.round()
        return level, u.sub_(level)
    c, eight = c.float(), 8 * step
    level = levels(c, step)
    return level, c.addcmul_(level, eight, value=-1).div_(eight)


def _entry(i: int, level: Tensor, r: Tensor, step: Tensor, s: Settings) -> Tensor:
    """d(step · level) / d step of the exact forward, by the slope for tables."""
    found, u = slope(s.table_slope, s.table_parameter[i], r, level, step), level + r
    through = u if found is None else found.mul_(u)
    return torch.sub(level, through, out=through)


def _soft_entry(parameter: float | Tensor, level: Tensor, r: Tensor, step: Tensor, s: Settings) -> Tensor:
    """The same of the soft forward, whose function may depend on the step too."""
    u = level + r
    found = soft(s.slope, parameter, u, step)
    own = slope(s.slope, parameter, r, level, step)
    found.sub_(u if own is None else own.mul_(u))
    return found.sub_(widening(r, step / parameter)) if s.slope == "gaussian" else found


def to_pixels(planes: Sequence[Tensor], s: Settings, out: Tensor) -> None:
    """Gradients of the encoder's planes of whole blocks to those of the pixels behind their clamp."""
    height, width = out.shape[-2:]
    luma = _folded(_folded(planes[0], -2, height), -1, width)
    chroma = [_boxes(plane, height, width, s) for plane in planes[1:]]
    for i in range(out.shape[1]):
        channel = out[:, i]
        torch.mul(luma, s.forward_real[i], out=channel)
        if chroma:
            _add_boxes(channel, _mixed(chroma, s.forward_real[3 + i :: 3]), s.v)


def _folded(x: Tensor, dim: int, length: int) -> Tensor:
    """Gradients of what was replicated to its source, the last row or column of a length."""
    if x.shape[dim] == length:
        return x
    kept = x.narrow(dim, 0, length)
    kept.narrow(dim, length - 1, 1).add_(x.narrow(dim, length, x.shape[dim] - length).sum(dim, keepdim=True))
    return kept


def _boxes(plane: Tensor, height: int, width: int, s: Settings) -> Tensor:
    """A share for each pixel of a row of boxes."""
    plane = _folded(plane, -2, ceil_div(height, s.v))
    if s.h > 1:
        plane = torch.stack([plane] * s.h, -1).flatten(-2)
    return _folded(plane, -1, width).mul(1 / (s.h * s.v))


def _add_boxes(channel: Tensor, shares: Tensor, v: int) -> None:
    """To all rows of the boxes; what lies below the image belongs to its last row."""
    for j in range(v):
        rows = channel[:, j::v]
        rows.add_(shares[:, : rows.shape[1]])
        if rows.shape[1] < shares.shape[1]:
            channel[:, -1].add_(shares[:, -1])


def through_range(out: Tensor, flags: Tensor, s: Settings) -> None:
    """Through the clamp of the image: none of infinite numbers, NaN of pixels with NaN."""
    bit = bits(s)
    used = flags & (7 | bit.undefined | 7 * bit.infinite)
    if used.device.type == "cpu" and not bool(used.any()):
        return
    for i, channel in enumerate(out.unbind(1)):
        channel.copy_(_through_clamp(channel, flags, 1 << i, s))
        if bit.infinite:
            channel.masked_fill_((flags & (bit.infinite << i)).bool(), 0.0)
        channel.masked_fill_((flags & bit.undefined).bool(), torch.nan)
