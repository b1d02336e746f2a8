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

from jpegrad.backends import triton_ops as ops
from jpegrad.spec import JFIF, SUBSAMPLING, Color, Spec

_ONE = 65536


def unsupported(operation: str, image: Tensor, spec: Spec) -> list[str]:
    """Reasons why the kernels cannot run a call."""
    found = [] if _installed() else ["triton is not installed"]
    if image.device.type != "cuda":
        found.append(f"it runs on CUDA devices, the image is on {image.device}")
    if image.dtype is torch.float64:
        found.append("it has gradients in float32, the image is float64")
    if spec.forward != "exact":
        found.append(f'it computes forward="exact", not {spec.forward!r}')
    return found + _color_reasons(spec.color)


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _numbers(color: Color | None) -> tuple[Any, Any, Any, Any]:
    """Encoder matrix and offset, decoder matrix and offset."""
    chosen = JFIF if color is None else color
    decoder = JFIF if chosen.inverse is None else chosen
    return chosen.matrix, chosen.offset, decoder.inverse, decoder.offset


def _color_reasons(color: Color | None) -> list[str]:
    if color is None:
        return []
    if any(isinstance(part, Tensor) for part in color):
        return ["it takes colour conversions of numbers, not of tensors"]
    matrix, offset, inverse, decoder_offset = _numbers(color)
    if any(x * _ONE % 1 for x in (*offset, *decoder_offset)):
        return ["its colour offsets are multiples of 2^-16"]
    sums = [255 * sum(map(abs, row)) + abs(o) + 1 for row, o in zip(matrix, offset, strict=True)]
    shifted = [255 + abs(o) for o in decoder_offset]
    sums += [sum(abs(x) * y for x, y in zip(row, shifted, strict=True)) + 1 for row in inverse]
    return [] if max(sums) < 2**15 else ["the colour conversion does not fit 32-bit integers"]


def _fixed(row: Any, bias: float) -> list[int]:
    """A row of a conversion in 16-bit fixed point: three factors, and the bias with its rounding."""
    return [*(round(x * _ONE) for x in row), math.floor(bias)]


@functools.lru_cache(256)
def _settings(channels: int, subsampling: str, value_range: tuple[float, float], color: Any) -> str:
    matrix, offset, inverse, decoder_offset = _numbers(color)
    rounding = (_ONE // 2, _ONE // 2 - 1, _ONE // 2 - 1)
    forward = [_fixed(row, round(o * _ONE) + r) for row, o, r in zip(matrix, offset, rounding, strict=True)]
    backward = []
    for row in inverse:
        shift = sum(round(x * _ONE) * o for x, o in zip(row, decoder_offset, strict=True))
        backward.append(_fixed(row, _ONE // 2 - shift))
    low, high = value_range
    scale = 255 / (high - low)
    h, v = SUBSAMPLING[subsampling] if channels == 3 else (1, 1)
    fields = ops.Settings(
        h=h, v=v, forward=tuple(sum(forward, [])), inverse=tuple(sum(backward, [])),
        forward_real=tuple(x * scale for row in matrix for x in row),
        inverse_real=tuple(x / scale for row in inverse for x in row),
        low=low, high=high, clip_slope=0.0,
        slope="identity", slope_parameters=(0.0, 0.0, 0.0), table_slope="identity", table_parameters=(0.0, 0.0, 0.0),
    )  # fmt: skip
    return json.dumps(fields)


def _batch(image: Tensor) -> Tensor:
    """``[..., C, H, W]`` as ``[B, C, H, W]``."""
    return image if image.ndim == 4 else image.reshape(math.prod(image.shape[:-3]), *image.shape[-3:])


def _tables(tables: Tensor, lead: torch.Size) -> Tensor:
    """``[B, n, 8, 8]``, or ``[1, n, 8, 8]`` if all images share them."""
    if math.prod(tables.shape[:-3]) != 1:
        tables = tables.expand(*lead, *tables.shape[-3:])
    return tables.reshape(-1, *tables.shape[-3:])


def jpeg(image: Tensor, tables: Tensor, spec: Spec) -> Tensor:
    """Encode and decode ``[..., C, H, W]``; ``tables`` as ``spec.resolve_tables`` gives them."""
    settings = _settings(image.shape[-3], spec.subsampling, spec.value_range, spec.color)
    x, tables = _batch(image), _tables(tables, image.shape[:-3])
    return torch.ops.jpegrad.triton_jpeg(x.detach(), tables.detach(), settings).reshape(image.shape)
