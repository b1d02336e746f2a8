"""The specification: the whole pipeline in plain float64 PyTorch, where the codec's integers are exact.

Each stage gives libjpeg-turbo's value and carries the gradient of its real-valued counterpart. Fast backends exist to
be equal to this file. The soft forward, which has no integers to keep, computes in float32 unless the image is float64.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from jpegrad.formulas import pixel_variances
from jpegrad.home import constants
from jpegrad.inputs import marked, undefined
from jpegrad.sampling import ceil_div, ratios
from jpegrad.spec import Spec, components, conversion, table_index
from jpegrad.stages import blocks, chroma, color, dct, dct_fast, noise, quant
from jpegrad.surrogates import finite, leaky_clamp, straight_through

Blocks = tuple[Tensor, ...] | None
"""Variances of the noise in the blocks of each component."""

watches_range = False
device_type = None


def missing() -> str:
    """Nothing: it is plain PyTorch."""
    return ""


def unsupported(operation: str, image: Tensor, spec: Spec) -> list[str]:
    """Reasons why this backend cannot run a call: none, it runs everything."""
    return []


def jpeg(image: Tensor, tables: Tensor, spec: Spec) -> Tensor:
    """Encode and decode ``[..., C, H, W]``; ``tables`` as ``spec.resolve_tables`` gives them."""
    spread = block_noise(image, spec)
    levels, _ = _encode(image, tables, spec, spread)
    out = _decode(levels, tables, image.shape[-2:], image.dtype, spec, spread)
    return marked(out, image, spec.decoder.scale)


def encode(
    image: Tensor, tables: Tensor, spec: Spec, noise: Blocks = None
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
    """Levels per component, and coefficient / table entry before rounding if gradients are on.

    ``noise`` is what :func:`block_noise` gives, for callers who have it.
    """
    dtype = torch.float64 if image.dtype is torch.float64 else torch.float32
    levels, ratios_ = _encode(image, tables, spec, block_noise(image, spec) if noise is None else noise)
    unrounded = tuple(u.to(dtype) for u in ratios_) if torch.is_grad_enabled() else None
    return tuple(level.to(dtype) for level in levels), unrounded


def decode(
    levels: tuple[Tensor, ...],
    tables: Tensor,
    size: tuple[int, int],
    dtype: torch.dtype,
    spec: Spec,
    noise: Blocks = None,
) -> Tensor:
    """An image ``[..., C, H, W]`` of ``dtype`` from levels per component: 16 bits as in a file, NaN is 0."""
    working = _working(dtype, tables.device, spec)
    levels_ = [leaky_clamp(x.to(working), -32768, 32767, nan=0.0) for x in levels]
    return _decode(levels_, tables, size, dtype, spec, noise)


def _working(dtype: torch.dtype, device: torch.device, spec: Spec) -> torch.dtype:
    if spec.forward == "exact" or dtype is torch.float64:
        return torch.float64
    # Autocast would make float32 less, but leaves float64 alone.
    autocast = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.float64 if autocast else torch.float32


def _stage(
    spec: Spec, exact: Callable[..., Tensor], real: Callable[..., Tensor], x: Tensor, *args: Tensor | int
) -> Tensor:
    """One step: the exact value with the real map's gradient, or the real map itself in the soft forward."""
    if spec.forward == "soft":
        return real(x, *args)
    value = exact(x.detach(), *(arg.detach() if isinstance(arg, Tensor) else arg for arg in args))
    return straight_through(value, real(x, *args)) if torch.is_grad_enabled() else value


def _clamp(x: Tensor, spec: Spec, variance: float | Tensor | None = None) -> Tensor:
    """Clamp to 0…255; the mean of it where there is noise."""
    if variance is not None:
        return noise.clamped(x, variance, spec.clip_slope)
    if spec.forward == "soft" or spec.clip_slope == 0:
        return leaky_clamp(x, 0.0, 255.0, spec.clip_slope)
    return straight_through(x.clamp(0.0, 255.0), leaky_clamp(x, 0.0, 255.0, spec.clip_slope))


def _color(spec: Spec, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The colour conversion as tensors: encoder's matrix and offset, decoder's matrix and offset."""
    matrix, offset, inverse, decoder_offset = (
        part.to(like.device, like.dtype) if isinstance(part, Tensor) else _numbers(part, like)
        for part in conversion(spec.color)
    )
    return matrix, offset, inverse, decoder_offset


def _numbers(part: Any, like: Tensor) -> Tensor:
    return constants(tuple(tuple(x) if hasattr(x, "__iter__") else x for x in part), like.dtype, like.device)


def _sigma(spec: Spec) -> float | None:
    """The pixel noise over which a call is the mean."""
    return spec.surrogate.sigma if spec.forward == "soft" else None


def _grey(image: Tensor, spec: Spec) -> Tensor:
    """Grey levels before their clamp."""
    x = image.to(_working(image.dtype, image.device, spec))
    if image.dtype is torch.uint8:
        return x
    low, high = spec.value_range
    return (x - low) * (255 / (high - low))


def _samples(image: Tensor, spec: Spec) -> Tensor:
    """Grey levels 0…255: 8-bit integers in the exact forward, as saving the image would round them."""
    x, sigma = _grey(image, spec), _sigma(spec)
    if sigma is not None:
        x = noise.clamped(x, pixel_variances(sigma)[0], spec.clip_slope)
    else:
        x = _clamp(finite(x, 0.0, 0.0, 255.0), spec)
    x = x if spec.forward == "soft" else straight_through(x.round(), x)
    if image.dtype is torch.uint8 or not torch.is_grad_enabled():
        return x
    return x * _defined(image.to(x.dtype))


def _defined(image: Tensor) -> Tensor:
    """1 everywhere, with a gradient that is NaN at pixels with a NaN and 0 elsewhere: an infinite slope, times 0."""
    wrong = undefined(image)
    zero = torch.nan_to_num(image) * 0
    return torch.where(wrong, zero, 1).sqrt() + wrong


def block_noise(image: Tensor, spec: Spec) -> Blocks:
    """Variance of the noise in the coefficients of each block ``[..., by, bx, 1, 1]``, in the soft forward.

    Clamped pixels have less of it. Of the colour conversion it keeps the graph.
    """
    sigma = _sigma(spec)
    if sigma is None:
        return None
    channels = image.shape[-3]
    planes = noise.clamped_variance(_grey(image, spec), pixel_variances(sigma)[1])
    if channels > 1:
        matrix = _color(spec, planes)[0]
        mixed = color.to_ycbcr_real(planes[..., :3, :, :], matrix**2, torch.zeros_like(matrix[:, 0]))
        planes = torch.cat([mixed, planes[..., 3:, :, :]], -3)
    shapes = ratios(channels, spec.subsampling)
    rows = max(v for _, v in shapes)
    found = []
    for i, ((h, v), role) in enumerate(
        zip(shapes, components(channels, spec.subsampling, spec.color), strict=True)
    ):
        mean = chroma.downsample_mean(planes[..., i, :, :], h, v, rows)
        found.append(blocks.split(role.averaged_variance(mean)).mean((-2, -1), keepdim=True))
    return tuple(found)


def _encode(image: Tensor, tables: Tensor, spec: Spec, spread: Blocks) -> tuple[list[Tensor], list[Tensor]]:
    channels = image.shape[-3]
    planes = _samples(image, spec)
    if channels > 1:
        matrix, offset, _, _ = _color(spec, planes)
        planes, inks = planes[..., :3, :, :], 255 - planes[..., 3:, :, :]
        planes = _stage(spec, color.to_ycbcr_exact, color.to_ycbcr_real, planes, matrix, offset)
        planes = torch.cat([planes, inks], -3) if channels == 4 else planes
    levels, unrounded = [], []
    roles = components(channels, spec.subsampling, spec.color)
    shapes = ratios(channels, spec.subsampling)
    rows = max(v for _, v in shapes)
    for i, ((h, v), role) in enumerate(zip(shapes, roles, strict=True)):
        plane = _stage(
            spec, chroma.downsample_exact, chroma.downsample_real, planes[..., i, :, :], h, v, rows
        )
        coefficients = _stage(spec, dct.forward_exact, dct.forward_real, blocks.split(plane))
        table = _table(tables, i, coefficients)
        if spec.forward == "soft":
            role = role if spread is None else replace(role, noise=spread[i])
            level = quant.quantize_soft(coefficients, table, role, spec.surrogate)
        elif torch.is_grad_enabled():
            level = quant.quantize(coefficients, table, role, spec.surrogate, spec.table_surrogate)
        else:
            level = quant.quantize_exact(coefficients, table)
        levels.append(level)
        unrounded.append(coefficients / table)
    return levels, unrounded


def _table(tables: Tensor, component: int, like: Tensor) -> Tensor:
    """A component's table, aligned with ``[..., blocks_y, blocks_x, 8, 8]``."""
    return tables[..., table_index(component, tables.shape[-3]), :, :][..., None, None, :, :].to(like.dtype)


def _decode(
    levels: list[Tensor],
    tables: Tensor,
    size: tuple[int, int] | torch.Size,
    dtype: torch.dtype,
    spec: Spec,
    spread: Blocks = None,
) -> Tensor:
    decoder = spec.decoder
    if not decoder.clip:
        spec, spread = replace(spec, forward="soft"), None
    height, width = (ceil_div(length, decoder.scale) for length in size)
    planes, variances = [], []
    for i, (level, ratio) in enumerate(zip(levels, ratios(len(levels), spec.subsampling), strict=True)):
        side = decoder.side(ratio)
        h, v = (r * decoder.block // side for r in ratio)
        table = _table(tables, i, level)
        variance = None if spread is None else noise.sample_variance(level, table, spread[i], side)
        samples = _clip(_inverse(level, table, side, spec), spec, variance)
        bounds = decoder.component((size[0], size[1]), ratio)
        plane = chroma.crop(blocks.merge(samples), *bounds)
        if decoder.triangle:
            plane = _stage(spec, chroma.upsample_exact, chroma.upsample_real, plane, h, v)
        else:
            plane = chroma.replicate(plane, h, v)
        planes.append(chroma.crop(plane, height, width))
        if variance is not None:
            whole = chroma.crop(blocks.merge(variance.expand_as(samples)), *bounds)
            variances.append(chroma.crop(chroma.replicate(whole, h, v), height, width))
    image = torch.stack(planes, -3)
    if len(levels) > 1:
        _, _, inverse, offset = _color(spec, image)
        image, inks = image[..., :3, :, :], 255 - image[..., 3:, :, :]
        mixed = None
        if variances:
            mixed = color.to_rgb_real(torch.stack(variances[:3], -3), inverse**2, torch.zeros_like(offset))
        image = _stage(spec, color.to_rgb_exact, color.to_rgb_real, image, inverse, offset)
        image = (
            torch.cat([_clip(image, spec, mixed), inks], -3)
            if len(levels) == 4
            else _clip(image, spec, mixed)
        )
    if len(levels) == 4 and spec.space == "RGB":
        image = _stage(spec, color.cmyk_to_rgb_exact, color.cmyk_to_rgb_real, image)
    if dtype is torch.uint8:
        return (image if spec.forward == "exact" else image.round()).to(torch.uint8)
    low, high = spec.value_range
    return (low + image / 255 * (high - low)).to(dtype)


def _inverse(level: Tensor, table: Tensor, side: int, spec: Spec) -> Tensor:
    """Samples of blocks, before their clamp."""
    if spec.decoder.dct == "fast" and side == 8:
        return _stage(spec, dct_fast.inverse_exact, dct_fast.inverse_real, level, table)
    coefficients = quant.dequantize(level, table)
    return _stage(spec, dct.inverse_exact, dct.inverse_real, coefficients, side)


def _clip(samples: Tensor, spec: Spec, variance: Tensor | None = None) -> Tensor:
    if not spec.decoder.clip:
        return samples
    return _clamp(samples, spec, None if variance is None else variance.clamp(min=noise.QUIET))


def level_kernels(tensor: Tensor) -> dict[str, Callable[..., Tensor]]:
    """No functions on levels: their callers are the specification."""
    return {}
