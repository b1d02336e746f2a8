"""The CPU kernel: C++ over 16-bit lanes, fused per row of MCUs; equal to the reference with 0 differing samples.

Gradients are the reference's in float32, from the coefficients themselves (16-bit integers, 3 bytes per pixel in
4:2:0) and from one byte of clamp flags per pixel and per chroma sample. The slopes of the library's records are
evaluated in the kernel; a record of your own runs between its two halves.
"""

import functools
import json
import math
from typing import Any

import torch
from torch import Tensor

from jpegrad import surrogates
from jpegrad.backends import halves, limits, native_abi
from jpegrad.backends import native_ops as native_ops  # Registers the operators.
from jpegrad.spec import JFIF, SUBSAMPLING, Color, Spec, components, constant, conversion
from jpegrad.surrogates import Component, leaky_clamp

# In the order of the kernel's enum Slope.
RECORDS = (
    surrogates.identity,
    surrogates.cubic,
    surrogates.sin,
    surrogates.fourier,
    surrogates.soft_round(),
    surrogates.gaussian(),
    surrogates.distortion,
    surrogates.dead_zone,
)
"""Records whose formulas the kernel evaluates."""
SLOPES = limits.families(record.slope for record in RECORDS)
SOFTS = limits.families(record.soft for record in RECORDS)
_SOFT_ROUND, _GAUSSIAN = 4, 5
_STRAIGHT = (0, 0.0)
_GREY = (0.0, 255.0)


def unsupported(operation: str, image: Tensor, spec: Spec) -> list[str]:
    """Reasons why the kernel cannot run a call."""
    found = [reason] if (reason := _missing()) else []
    if image.device.type != "cpu":
        found.append(f"it runs on the CPU, the image is on {image.device}")
    if spec.forward == "soft":
        found += _soft_reasons(operation, spec)
    return found + limits.type_reasons(image) + limits.context_reasons(image, spec)


def _soft_reasons(operation: str, spec: Spec) -> list[str]:
    found = [] if operation == "jpeg" else [f'with forward="soft" it runs jpeg, not {operation}']
    soft = limits.known(spec.surrogate.soft, SOFTS)
    if soft is None:
        names = ", ".join(record.name for record in RECORDS)
        found.append(
            f'with forward="soft" it knows the soft functions of {names}, and this record has another'
        )
    elif soft[0] == _SOFT_ROUND and soft[1] < 0.01:
        found.append("float32 does not resolve a soft_round as gentle as this")
    return found


@limits.constant_result
def _missing() -> str:
    library = native_abi.load()
    return library if isinstance(library, str) else ""


def _settings(spec: Spec, channels: int, value_range: tuple[float, float] | None = None) -> str:
    if spec.forward == "soft":
        rounding = limits.known(spec.surrogate.soft, SOFTS)
    else:
        rounding = limits.known(spec.surrogate.slope, SLOPES)
    # What the kernel does not know runs between its two halves.
    key = rounding or _STRAIGHT, limits.known(spec.table_surrogate.slope, SLOPES) or _STRAIGHT
    color = None if spec.color is None else conversion(spec.color)
    value_range = value_range or spec.value_range
    return _resolve(channels, spec.subsampling, value_range, spec.clip_slope, _frozen(color), *key)


@limits.constant_result
def _resolve(*key: Any) -> str:
    return _computed(*key)


def _frozen(numbers: Any) -> Any:
    return tuple(map(_frozen, numbers)) if isinstance(numbers, (tuple, list)) else numbers


@functools.lru_cache(256)
def _computed(
    channels: int,
    subsampling: str,
    value_range: tuple[float, float],
    clip_slope: float,
    color: tuple[Any, Any, Any, Any] | None,
    image_slope: tuple[int, float],
    table_slope: tuple[int, float],
) -> str:
    matrix, offset, inverse, decoder_offset = color or conversion(None)
    planes = components(channels, subsampling, Color(matrix, offset))
    rounding = (limits.ONE // 2, limits.ONE // 2 - 1, limits.ONE // 2 - 1)
    fixed_inverse = [[round(x * limits.ONE) for x in row] for row in inverse]
    jfif_inverse = [[round(x * limits.ONE) for x in row] for row in JFIF.inverse or ()]
    low, high = value_range
    scale = 255 / (high - low)
    if channels == 3:
        forward_real = [x * scale for row in matrix for x in row]
        inverse_real = [x / scale for row in inverse for x in row]
    else:
        forward_real, inverse_real = [scale] * 9, [1 / scale] * 9
    numbers: dict[str, list[float]] = {
        "sampling": list(SUBSAMPLING[subsampling] if channels == 3 else (1, 1)),
        "slope": [image_slope[0]],
        "table_slope": [table_slope[0]],
        "slope_parameter": _parameters(image_slope, planes),
        "table_parameter": _parameters(table_slope, planes),
        "jfif": [fixed_inverse == jfif_inverse and tuple(decoder_offset) == JFIF.offset],
        "forward_matrix": [round(x * limits.ONE) for row in matrix for x in row],
        "forward_bias": [round(o * limits.ONE) + half for o, half in zip(offset, rounding, strict=True)],
        "inverse_matrix": [x for row in fixed_inverse for x in row],
        "inverse_bias": [_floored_bias(row, decoder_offset) for row in fixed_inverse],
        "forward_real": forward_real,
        "inverse_real": inverse_real,
        "forward_offset": list(offset),
        "inverse_offset": list(decoder_offset),
        "low": [low],
        "high": [high],
        "clip_slope": [clip_slope],
    }
    return json.dumps(numbers)


def _floored_bias(row: list[int], offset: Any) -> int:
    return math.floor(limits.ONE // 2 - sum(m * o for m, o in zip(row, offset, strict=True)))


def _parameters(slope: tuple[int, float], planes: tuple[Component, ...]) -> list[float]:
    kind, parameter = slope
    gaussian = kind == _GAUSSIAN
    found = [math.sqrt(plane.noise_variance(parameter)) if gaussian else parameter for plane in planes]
    return found + [0.0] * (3 - len(planes))


def _tables(tables: Tensor, lead: torch.Size) -> Tensor:
    """Tables that all images share as ``[n, 8, 8]``, others as ``[B, n, 8, 8]``; contiguous float64."""
    tables = tables.to(torch.float64)
    if tables.ndim == 3:
        return tables.contiguous()
    if math.prod(tables.shape[:-3]) != 1:
        return (
            tables.expand(*lead, *tables.shape[-3:]).reshape(math.prod(lead), *tables.shape[-3:]).contiguous()
        )
    return tables.reshape(tables.shape[-3:]).contiguous()


class _Jpeg(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, tables: Tensor, settings: str, soft: bool, straight: bool) -> Tensor:
        ctx.settings, ctx.with_tables = settings, ctx.needs_input_grad[1]
        if soft:
            out, *kept = torch.ops.jpegrad.native_soft(image, tables, settings, True, ctx.with_tables)
        else:
            keep = ctx.with_tables or not straight
            out, *kept = torch.ops.jpegrad.native_jpeg_saving(image, tables, settings, keep)
        ctx.save_for_backward(tables, *kept)
        return out

    @staticmethod
    @halves.first_derivative
    def backward(ctx: Any, gradient: Tensor) -> Any:
        tables, *kept = ctx.saved_tensors
        image, sums = torch.ops.jpegrad.native_jpeg_backward(
            gradient, tables, *kept, ctx.settings, ctx.with_tables
        )
        to_tables = halves.sum_to_tables(sums.unbind(1), tables) if ctx.with_tables else None
        return image, to_tables, None, None, None


class _Encode(torch.autograd.Function):
    """Levels, then coefficients in steps, of every component."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, tables: Tensor, settings: str, spec: Spec) -> tuple[Tensor, ...]:
        levels, ratios, flags = torch.ops.jpegrad.native_encode(image, tables, settings, True)
        ctx.settings, ctx.spec = settings, spec
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(tables, flags, *ratios)
        return (*levels, *ratios)

    @staticmethod
    @halves.first_derivative
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        tables, flags, *ratios = ctx.saved_tensors
        to_coefficients, to_tables = halves.encode_adjoint(
            gradients, ratios, tables, ctx.spec, ctx.needs_input_grad[:2]
        )
        image = None
        if ctx.needs_input_grad[0]:
            image = torch.ops.jpegrad.native_encode_backward(to_coefficients, flags, ctx.settings)
        return image, to_tables, None, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tables: Tensor, settings: str, height: int, width: int, *levels: Tensor) -> Tensor:
        out, *flags = torch.ops.jpegrad.native_decode(levels, tables, height, width, False, settings, True)
        ctx.settings = settings
        ctx.save_for_backward(tables, *flags, *levels)
        return out

    @staticmethod
    @halves.first_derivative
    def backward(ctx: Any, gradient: Tensor) -> Any:
        tables, flags, chroma_flags, *levels = ctx.saved_tensors
        found = torch.ops.jpegrad.native_decode_backward(gradient, flags, chroma_flags, ctx.settings)
        to_tables, to_levels = halves.decode_adjoint(found, levels, tables, ctx.needs_input_grad[0])
        return to_tables, None, None, None, *to_levels


def jpeg(image: Tensor, tables: Tensor, spec: Spec) -> Tensor:
    """Encode and decode ``[..., C, H, W]``; ``tables`` as ``spec.resolve_tables`` gives them."""
    if spec.forward == "soft":
        return _soft(image, tables, spec)
    settings = _settings(spec, constant(image.shape[-3]))
    slopes = [limits.known(record.slope, SLOPES) for record in (spec.surrogate, spec.table_surrogate)]
    x = halves.batch(image)
    tables = _tables(tables, image.shape[:-3])
    if image.dtype is torch.uint8:
        out = torch.ops.jpegrad.native_jpeg(x, tables.detach(), settings)
        return out.reshape(image.shape)
    x = x.float()
    if not halves.needs_gradient(x, tables):
        out = torch.ops.jpegrad.native_jpeg(x.detach(), tables.detach(), settings)
    elif None not in slopes:
        out = _Jpeg.apply(x, tables, settings, False, slopes[0] == _STRAIGHT)  # type: ignore[no-untyped-call]
    else:
        both = _Encode.apply(x, tables, settings, spec)  # type: ignore[no-untyped-call]
        out = _Decode.apply(tables, settings, *image.shape[-2:], *both[: len(both) // 2])  # type: ignore[no-untyped-call]
    # Views cost a node of the graph each.
    out = out if image.ndim == 4 else out.reshape(image.shape)
    return out.to(image.dtype)


def _soft(image: Tensor, tables: Tensor, spec: Spec) -> Tensor:
    as_bytes = image.dtype is torch.uint8
    settings = _settings(spec, constant(image.shape[-3]), _GREY if as_bytes else None)
    x, tables = halves.batch(image).float(), _tables(tables, image.shape[:-3])
    if halves.needs_gradient(x, tables):
        out = _Jpeg.apply(x, tables, settings, True, False)  # type: ignore[no-untyped-call]
    else:
        out = torch.ops.jpegrad.native_soft(x.detach(), tables.detach(), settings, False, False)[0]
    return (out.round() if as_bytes else out).reshape(image.shape).to(image.dtype)


def encode(image: Tensor, tables: Tensor, spec: Spec) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
    """Levels per component, and coefficient / table entry before rounding if gradients are on."""
    lead = image.shape[:-3]
    settings = _settings(spec, constant(image.shape[-3]))
    x = halves.batch(image if image.dtype is torch.uint8 else image.float())
    tables = _tables(tables, lead)
    if torch.is_grad_enabled():
        both = _Encode.apply(x, tables, settings, spec)  # type: ignore[no-untyped-call]
    else:
        both = torch.ops.jpegrad.native_encode(x.detach(), tables.detach(), settings, False)[0]
    planes = tuple(plane.reshape(*lead, *plane.shape[1:]) for plane in both)
    count = image.shape[-3]
    return planes[:count], planes[count:] or None


def decode(
    levels: tuple[Tensor, ...], tables: Tensor, size: tuple[int, int], dtype: torch.dtype, spec: Spec
) -> Tensor:
    """An image ``[..., C, H, W]`` of ``dtype`` from levels per component."""
    lead = levels[0].shape[:-4]
    # Types other than float32 and uint8 get grey levels from the kernel, and their own arithmetic here.
    plain = dtype in (torch.uint8, torch.float32)
    settings = _settings(spec, len(levels), None if plain else _GREY)
    tables = _tables(tables, lead)
    flat = [level.float().reshape(math.prod(lead), *level.shape[-4:]).contiguous() for level in levels]
    if dtype is not torch.uint8 and halves.needs_gradient(tables, *flat):
        # The kernel clamps by itself, but has no gradient of it.
        flat = [leaky_clamp(level, -32768, 32767, nan=0.0) for level in flat]
        out = _Decode.apply(tables, settings, *size, *flat)  # type: ignore[no-untyped-call]
    else:
        flat = [level.detach() for level in flat]
        out = torch.ops.jpegrad.native_decode(
            flat, tables.detach(), *size, dtype is torch.uint8, settings, False
        )[0]
    out = out.reshape(*lead, *out.shape[1:])
    if plain:
        return out
    low, high = spec.value_range
    return (low + out.double() / 255 * (high - low)).to(dtype)
