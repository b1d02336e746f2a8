"""CUDA kernels in Triton: an image to its decoded 8-bit planes, and those to an image; equal to the reference.

Values are exact: 0 samples differ. Triton is imported by the first call that runs a kernel. With
``TRITON_INTERPRET=1`` in the environment the operators run on CPU tensors too, slowly, for tests.
"""

import functools
import importlib.util
import json
import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from jpegrad import surrogates
from jpegrad.backends import limits
from jpegrad.backends import triton_ops as ops
from jpegrad.spec import SUBSAMPLING, Color, Spec, blocks, components, conversion, ratios, table_index
from jpegrad.surrogates import Component, Surrogate

KNOWN = (
    "identity",
    "noise",
    "cubic",
    "reich2024",
    "reich2024_ste",
    "sin",
    "fourier",
    "soft_round",
    "gaussian",
    "table_gaussian",
    "distortion",
    "dead_zone",
)
"""Records whose slopes the kernels evaluate."""


def unsupported(operation: str, image: Tensor, spec: Spec) -> list[str]:
    """Reasons why the kernels cannot run a call."""
    found = [] if _installed() else ["triton is not installed"]
    if image.device.type != "cuda":
        found.append(f"it runs on CUDA devices, the image is on {image.device}")
    found += limits.type_reasons(image, spec)
    if torch.is_grad_enabled():
        if operation != "jpeg":
            found.append(f"it has no gradients through {operation}; under torch.no_grad() it runs")
        own = [r.name for r in (spec.surrogate, spec.table_surrogate) if not _is_own(r)]
        found += [f"it knows the slopes of the library's records, not of {name!r}" for name in own]
    return found + limits.context_reasons(image, spec)


@limits.constant_result
def _installed() -> bool:
    return _found()


@functools.cache
def _found() -> bool:
    return importlib.util.find_spec("triton") is not None


def _fixed(row: Any, bias: float) -> list[int]:
    """A row of a conversion in 16-bit fixed point: three factors, and the bias with its rounding."""
    return [*(round(x * limits.ONE) for x in row), math.floor(bias)]


def _is_own(record: Surrogate) -> bool:
    """Whether a record is the library's, so that the kernels know its slope."""
    return record.name in KNOWN and record.slope.__module__ == surrogates.__name__


def _settings(spec: Spec, channels: int) -> str:
    records = [(record.name, record.parameter or 0.0) for record in (spec.surrogate, spec.table_surrogate)]
    color = None if spec.color is None else _frozen(conversion(spec.color))
    return _resolve(channels, spec.subsampling, spec.value_range, spec.clip_slope, color, *records)


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
    slope: tuple[str, float],
    table_slope: tuple[str, float],
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
    fields = ops.Settings(
        h=h,
        v=v,
        forward=tuple(to_planes),
        inverse=tuple(to_image),
        forward_real=(scale,) if gray else tuple(x * scale for row in matrix for x in row),
        inverse_real=(1 / scale,) if gray else tuple(x / scale for row in inverse for x in row),
        low=low,
        high=high,
        clip_slope=clip_slope,
        slope=slope[0],
        slope_parameters=_parameters(slope, planes),
        table_slope=table_slope[0],
        table_parameters=_parameters(table_slope, planes),
    )
    return json.dumps(fields)


def _parameters(slope: tuple[str, float], planes: tuple[Component, ...]) -> tuple[float, ...]:
    name, parameter = slope
    if name != "gaussian":
        return (parameter,) * len(planes)
    return tuple(math.sqrt(plane.noise_variance(parameter)) for plane in planes)


def _batch(image: Tensor) -> Tensor:
    """``[..., C, H, W]`` as ``[B, C, H, W]``."""
    return image if image.ndim == 4 else image.reshape(math.prod(image.shape[:-3]), *image.shape[-3:])


def _tables(tables: Tensor, lead: torch.Size) -> Tensor:
    """``[B, n, 8, 8]``, or ``[1, n, 8, 8]`` if all images share them."""
    if math.prod(tables.shape[:-3]) != 1:
        tables = tables.expand(*lead, *tables.shape[-3:])
    return tables.reshape(-1, *tables.shape[-3:])


def _to_tables(sums: Tensor, tables: Tensor) -> Tensor:
    """Gradients per image and component ``[B, C, 8, 8]`` to the gradient of ``tables``."""
    count = tables.shape[-3]
    total: list[Tensor] = [torch.zeros_like(sums[:, 0]) for _ in range(count)]
    for i, each in enumerate(sums.unbind(1)):
        index = table_index(i, count)
        total[index] = total[index] + each
    stacked = torch.stack(total, 1)
    return stacked if tables.shape[0] == sums.shape[0] else stacked.sum(0, keepdim=True)


class _Jpeg(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, tables: Tensor, settings: str) -> Tensor:
        out, *kept = torch.ops.jpegrad.triton_jpeg_saving(image, tables, settings)
        ctx.settings = settings
        ctx.save_for_backward(tables, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        tables, *kept = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1]
        image, sums = torch.ops.jpegrad.triton_jpeg_backward(gradient, tables, *kept, ctx.settings, wanted)
        return image, _to_tables(sums, tables) if wanted else None, None


def jpeg(image: Tensor, tables: Tensor, spec: Spec) -> Tensor:
    """Encode and decode ``[..., C, H, W]``; ``tables`` as ``spec.resolve_tables`` gives them."""
    settings = _settings(spec, image.shape[-3])
    x, tables = _batch(image), _tables(tables, image.shape[:-3])
    needs_gradient = torch.is_grad_enabled() and (x.requires_grad or tables.requires_grad)
    # float16 and bfloat16 are computed in float32 and cast.
    x = x if image.dtype is torch.uint8 else x.float()
    if image.dtype is torch.uint8 or not needs_gradient:
        out = torch.ops.jpegrad.triton_jpeg(x.detach(), tables.detach(), settings)
    else:
        out = _Jpeg.apply(x, tables, settings)  # type: ignore[no-untyped-call]
    return out.reshape(image.shape).to(image.dtype)


def encode(image: Tensor, tables: Tensor, spec: Spec) -> tuple[tuple[Tensor, ...], None]:
    """Levels per component, without a graph."""
    channels, size = image.shape[-3], image.shape[-2:]
    x, tables = _batch(image).detach(), _tables(tables, image.shape[:-3]).detach()
    x = x if image.dtype is torch.uint8 else x.float()
    levels = torch.ops.jpegrad.triton_encode(x, tables, _settings(spec, channels))
    counts = [blocks((size[0], size[1]), ratio) for ratio in ratios(channels, spec.subsampling)]
    planes = levels.split([y * x for y, x in counts], 1)
    shapes = [(*image.shape[:-3], *count, 8, 8) for count in counts]
    return tuple(plane.reshape(shape) for plane, shape in zip(planes, shapes, strict=True)), None


def decode(
    levels: tuple[Tensor, ...], tables: Tensor, size: tuple[int, int], dtype: torch.dtype, spec: Spec
) -> Tensor:
    """An image ``[..., C, H, W]`` of ``dtype`` from levels per component, without a graph."""
    lead = levels[0].shape[:-4]
    flat = torch.cat([level.detach().float().reshape(math.prod(lead), -1, 8, 8) for level in levels], 1)
    tables = _tables(tables, lead).detach()
    settings = _settings(spec, len(levels))
    if dtype not in (torch.uint8, torch.float32):
        grey = torch.ops.jpegrad.triton_decode(flat, tables, *size, torch.uint8, settings)
        low, high = spec.value_range
        out = (low + grey.double() / 255 * (high - low)).to(dtype)
    else:
        out = torch.ops.jpegrad.triton_decode(flat, tables, *size, dtype, settings)
    return out.reshape(*lead, len(levels), *size)
