"""CUDA kernels in Triton: an image to its decoded 8-bit planes, and those to an image; equal to the reference.

Values are exact: 0 samples differ. Gradients are the reference's in float32; the slopes of the library's records are
evaluated in the kernel, a record of your own runs between its two halves. Triton is imported by the first call that
runs a kernel. With ``TRITON_INTERPRET=1`` in the environment the operators run on CPU tensors too, slowly, for tests.
"""

import functools
import importlib.util
import json
import math
from typing import Any

import torch
from torch import Tensor

from jpegrad import surrogates
from jpegrad.backends import halves, limits
from jpegrad.backends import triton_ops as triton_ops  # Registers the operators.
from jpegrad.backends.triton_launch import Settings
from jpegrad.spec import SUBSAMPLING, Color, Spec, components, constant, conversion
from jpegrad.surrogates import Component, leaky_clamp

RECORDS = (
    surrogates.identity,
    surrogates.cubic,
    surrogates.sin,
    surrogates.fourier,
    surrogates.soft_round(),
    surrogates.gaussian(),
    surrogates.table_gaussian(),
    surrogates.table_relative(),
    surrogates.distortion,
    surrogates.dead_zone,
)
"""Records whose slopes the kernels evaluate."""
SLOPES = limits.families(record.slope for record in RECORDS)
_STRAIGHT = (0, 0.0)
_GREY = (0.0, 255.0)


def unsupported(operation: str, image: Tensor, spec: Spec) -> list[str]:
    """Reasons why the kernels cannot run a call."""
    found = [] if _installed() else ["triton is not installed"]
    if image.device.type != "cuda":
        found.append(f"it runs on CUDA devices, the image is on {image.device}")
    if spec.forward != "exact":
        found.append(f'it computes forward="exact", not {spec.forward!r}')
    return found + limits.type_reasons(image) + limits.context_reasons(image, spec)


@limits.constant_result
def _installed() -> bool:
    return _found()


@functools.cache
def _found() -> bool:
    return importlib.util.find_spec("triton") is not None


def _fixed(row: Any, bias: float) -> list[int]:
    """A row of a conversion in 16-bit fixed point: three factors, and the bias with its rounding."""
    return [*(round(x * limits.ONE) for x in row), math.floor(bias)]


def _settings(spec: Spec, channels: int, value_range: tuple[float, float] | None = None) -> str:
    # What the kernels do not know runs between their two halves.
    slope = limits.known(spec.surrogate.slope, SLOPES) or _STRAIGHT
    table_slope = limits.known(spec.table_surrogate.slope, SLOPES) or _STRAIGHT
    color = None if spec.color is None else _frozen(conversion(spec.color))
    value_range = value_range or spec.value_range
    return _resolve(channels, spec.subsampling, value_range, spec.clip_slope, color, slope, table_slope)


def _frozen(numbers: Any) -> Any:
    return tuple(map(_frozen, numbers)) if isinstance(numbers, (tuple, list)) else numbers


@limits.constant_result
def _resolve(*key: Any) -> str:
    return _computed(*key)


@functools.lru_cache(256)
def _computed(
    channels: int,
    subsampling: str,
    value_range: tuple[float, float],
    clip_slope: float,
    color: Any,
    slope: tuple[int, float],
    table_slope: tuple[int, float],
) -> str:
    matrix, offset, inverse, decoder_offset = color or conversion(None)
    planes = components(channels, subsampling, Color(matrix, offset))
    rounding = (limits.ONE // 2, limits.ONE // 2 - 1, limits.ONE // 2 - 1)
    to_planes, to_image = [], []
    for row, o, half in zip(matrix, offset, rounding, strict=True):
        to_planes += _fixed(row, round(o * limits.ONE) + half)
    for row in inverse:
        shift = sum(round(x * limits.ONE) * o for x, o in zip(row, decoder_offset, strict=True))
        to_image += _fixed(row, limits.ONE // 2 - shift)
    low, high = value_range
    scale = 255 / (high - low)
    h, v = SUBSAMPLING[subsampling] if channels == 3 else (1, 1)
    gray = channels == 1
    fields = Settings(
        h=h,
        v=v,
        forward=tuple(to_planes),
        inverse=tuple(to_image),
        forward_real=(scale,) if gray else tuple(x * scale for row in matrix for x in row),
        inverse_real=(1 / scale,) if gray else tuple(x / scale for row in inverse for x in row),
        low=low,
        high=high,
        clip_slope=clip_slope,
        slope=RECORDS[slope[0]].name,
        slope_parameters=_parameters(slope, planes),
        table_slope=RECORDS[table_slope[0]].name,
        table_parameters=_parameters(table_slope, planes),
    )
    return json.dumps(fields)


def _parameters(slope: tuple[int, float], planes: tuple[Component, ...]) -> tuple[float, ...]:
    kind, parameter = slope
    if RECORDS[kind].name != "gaussian":
        return (parameter,) * len(planes)
    return tuple(math.sqrt(plane.noise_variance(parameter)) for plane in planes)


def _tables(tables: Tensor, lead: torch.Size) -> Tensor:
    """``[B, n, 8, 8]``, or ``[1, n, 8, 8]`` if all images share them."""
    if math.prod(tables.shape[:-3]) != 1:
        tables = tables.expand(*lead, *tables.shape[-3:])
    return tables.reshape(-1, *tables.shape[-3:])


class _Jpeg(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, tables: Tensor, settings: str, straight: bool) -> Tensor:
        ctx.settings, ctx.with_tables = settings, ctx.needs_input_grad[1]
        keep = ctx.with_tables or not straight
        out, flags, chroma_flags, kept = torch.ops.jpegrad.triton_jpeg_saving(image, tables, settings, keep)
        ctx.save_for_backward(tables, flags, chroma_flags, *kept)
        return out

    @staticmethod
    @halves.first_derivative
    def backward(ctx: Any, gradient: Tensor) -> Any:
        tables, flags, chroma_flags, *kept = ctx.saved_tensors
        image, sums = torch.ops.jpegrad.triton_jpeg_backward(
            gradient, tables, flags, chroma_flags, kept, ctx.settings, ctx.with_tables
        )
        return image, halves.sum_to_tables(sums.unbind(1), tables) if ctx.with_tables else None, None, None


class _Encode(torch.autograd.Function):
    """Levels, then coefficients in steps, of every component."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, tables: Tensor, settings: str, spec: Spec) -> tuple[Tensor, ...]:
        levels, ratios, flags = torch.ops.jpegrad.triton_encode(image, tables, settings, True)
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
            image = torch.ops.jpegrad.triton_encode_backward(to_coefficients, flags, ctx.settings)
        return image, to_tables, None, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tables: Tensor, settings: str, height: int, width: int, *levels: Tensor) -> Tensor:
        out, *flags = torch.ops.jpegrad.triton_decode(
            levels, tables, height, width, torch.float32, settings, True
        )
        ctx.settings = settings
        ctx.save_for_backward(tables, *flags, *levels)
        return out

    @staticmethod
    @halves.first_derivative
    def backward(ctx: Any, gradient: Tensor) -> Any:
        tables, flags, chroma_flags, *levels = ctx.saved_tensors
        found = torch.ops.jpegrad.triton_decode_backward(gradient, flags, chroma_flags, ctx.settings)
        to_tables, to_levels = halves.decode_adjoint(found, levels, tables, ctx.needs_input_grad[0])
        return to_tables, None, None, None, *to_levels


def jpeg(image: Tensor, tables: Tensor, spec: Spec) -> Tensor:
    """Encode and decode ``[..., C, H, W]``; ``tables`` as ``spec.resolve_tables`` gives them."""
    settings = _settings(spec, constant(image.shape[-3]))
    slopes = [limits.known(record.slope, SLOPES) for record in (spec.surrogate, spec.table_surrogate)]
    x, tables = halves.batch(image), _tables(tables, image.shape[:-3])
    if image.dtype is torch.uint8:
        out = torch.ops.jpegrad.triton_jpeg(x, tables.detach(), settings)
        return out.reshape(image.shape)
    # float16 and bfloat16 are computed in float32 and cast.
    x = x.float()
    if not halves.needs_gradient(x, tables):
        out = torch.ops.jpegrad.triton_jpeg(x.detach(), tables.detach(), settings)
    elif None not in slopes:
        out = _Jpeg.apply(x, tables, settings, slopes[0] == _STRAIGHT)  # type: ignore[no-untyped-call]
    else:
        both = _Encode.apply(x, tables, settings, spec)  # type: ignore[no-untyped-call]
        out = _Decode.apply(tables, settings, *image.shape[-2:], *both[: len(both) // 2])  # type: ignore[no-untyped-call]
    return out.reshape(image.shape).to(image.dtype)


def encode(image: Tensor, tables: Tensor, spec: Spec) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
    """Levels per component, and coefficient / table entry before rounding if gradients are on."""
    count, lead = constant(image.shape[-3]), image.shape[:-3]
    settings = _settings(spec, count)
    x = halves.batch(image if image.dtype is torch.uint8 else image.float())
    tables = _tables(tables, lead)
    if torch.is_grad_enabled():
        both = _Encode.apply(x, tables, settings, spec)  # type: ignore[no-untyped-call]
    else:
        both = torch.ops.jpegrad.triton_encode(x.detach(), tables.detach(), settings, False)[0]
    planes = tuple(plane.reshape(*lead, *plane.shape[1:]) for plane in both)
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
        kind = torch.uint8 if dtype is torch.uint8 else torch.float32
        out = torch.ops.jpegrad.triton_decode(flat, tables.detach(), *size, kind, settings, False)[0]
    out = out.reshape(*lead, *out.shape[1:])
    if plain:
        return out
    low, high = spec.value_range
    return (low + out.double() / 255 * (high - low)).to(dtype)
