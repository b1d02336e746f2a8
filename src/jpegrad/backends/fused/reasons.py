"""What no kernel can run."""

import functools

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import ONE, Families, known
from jpegrad.compiling import constant_result, exports_onnx
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import Color, Spec, conversion


def common_reasons(image: Tensor, spec: Spec) -> list[str]:
    """Reasons in the image's type, in forward mode, in sampling, tables and colour conversion."""
    found = ["it has gradients in float32, the image is float64"] if image.dtype is torch.float64 else []
    if torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
        found.append("compiled, it has no rules for the transforms of torch.func")
    if torch.compiler.is_compiling() and exports_onnx():
        found.append("its operators are none of ONNX")
    if not torch.compiler.is_compiling() and torch.autograd.forward_ad._current_level >= 0:
        found.append("it has no rules for forward-mode differentiation")
    if image.dtype in (torch.float16, torch.bfloat16) and not rounds_alike(spec.value_range, image.dtype):
        found.append(
            f"{image.dtype} in value_range {spec.value_range} cannot be computed in float32 and cast"
        )
    if spec.largest_entry > 255:
        found.append("its quantiser divides by table entries up to 255, like has larger ones")
    if spec.subsampling not in SUBSAMPLING:
        found.append(f"it samples by {', '.join(SUBSAMPLING)}, not {spec.subsampling}")
    return found + _color_reasons(spec.color)


def decoder_reasons(operation: str, spec: Spec) -> list[str]:
    """Reasons in the decoder, of which the kernels know both ways of upsampling."""
    if operation == "encode" or spec.decoder.whole:
        return []
    return ['it decodes with dct="accurate", scale=1 and clip=True, and this decoder has others']


def soft_reasons(operation: str, spec: Spec, families: Families, halves: bool) -> list[str]:
    """Reasons in the soft forward, of which the kernels know some formulas; ``halves`` if they encode and decode."""
    if not families:
        return [f'it computes forward="exact", not {spec.forward!r}']
    found = [] if operation == "jpeg" or halves else [f'with forward="soft" it runs jpeg, not {operation}']
    soft = known(spec.surrogate.soft, families)
    if soft is None:
        names = ", ".join(families.values())
        found.append(
            f'with forward="soft" it knows the soft functions of {names}, and this record has another'
        )
    elif soft[0] == "soft_round" and soft[1] < 0.01:
        found.append("float32 does not resolve a soft_round as gentle as this")
    return found


@functools.cache
def _compare_roundings(value_range: tuple[float, float], dtype: torch.dtype) -> bool:
    low, high = value_range
    values = low + torch.arange(256, dtype=torch.float64) / 255 * (high - low)
    return torch.equal(values.to(dtype), values.float().to(dtype))


@constant_result
def rounds_alike(value_range: tuple[float, float], dtype: torch.dtype) -> bool:
    """Whether every grey level comes out the same through float32 as straight from float64."""
    return _compare_roundings(value_range, dtype)


def _color_reasons(color: Color | None) -> list[str]:
    if color is None:
        return []
    if any(isinstance(part, Tensor) for part in color):
        return ["it takes colour conversions of numbers, not of tensors"]
    matrix, offset, inverse, decoder_offset = conversion(color)
    if any(x * ONE % 1 for x in (*offset, *decoder_offset)):
        return ["its colour offsets are multiples of 2^-16"]
    sums = [255 * sum(map(abs, row)) + abs(o) + 1 for row, o in zip(matrix, offset, strict=True)]
    shifted = [255 + abs(o) for o in decoder_offset]
    sums += [sum(abs(x) * y for x, y in zip(row, shifted, strict=True)) + 1 for row in inverse]
    return [] if max(sums) < 2**15 else ["the colour conversion does not fit 32-bit integers"]
