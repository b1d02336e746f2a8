"""What both kernels, native and triton, cannot do, and how their answers are kept from torch.compile's eyes."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

from jpegrad.spec import Color, Spec, constant, conversion
from jpegrad.surrogates import Formula, Rounding

ONE = 65536
"""1 in the fixed point of the colour conversions."""

Call = TypeVar("Call", bound=Callable[..., Any])


def constant_result(function: Call) -> Call:
    """For the compiler: a function of constants, to be called and not to be looked into."""
    # What torch.compiler.assume_constant_result does, but that imports the compiler to do it.
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


Families = dict[tuple[Callable[..., Tensor], int], int]
"""A kernel's own numbers of the formulas that it evaluates."""


def families(formulas: Iterable[Rounding]) -> Families:
    """Formulas by their families, counted from 0."""
    return {formula.family: i for i, formula in enumerate(formulas) if isinstance(formula, Formula)}


def known(function: Rounding, among: Families) -> tuple[int, float] | None:
    """A kernel's own number of a record's function, and the parameter; None if the kernel has no such formula."""
    if type(function) is not Formula or function.family not in among:
        return None
    return among[function.family], constant(float(function.parameters[0] if function.parameters else 0.0))


def type_reasons(image: Tensor) -> list[str]:
    """Reasons in the type of the image."""
    return ["it has gradients in float32, the image is float64"] if image.dtype is torch.float64 else []


def context_reasons(image: Tensor, spec: Spec) -> list[str]:
    """Reasons in the transforms of torch.func, in half precision, and in the colour conversion."""
    found = []
    if not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(image):
        found.append("it has no rules for the transforms of torch.func")
    if not torch.compiler.is_compiling() and torch.autograd.forward_ad._current_level >= 0:
        found.append("it has no rules for forward-mode differentiation")
    if image.dtype in (torch.float16, torch.bfloat16) and not _rounds_alike(spec.value_range, image.dtype):
        found.append(
            f"{image.dtype} in value_range {spec.value_range} cannot be computed in float32 and cast"
        )
    return found + _color_reasons(spec.color)


@functools.cache
def _compare_roundings(value_range: tuple[float, float], dtype: torch.dtype) -> bool:
    low, high = value_range
    values = low + torch.arange(256, dtype=torch.float64) / 255 * (high - low)
    return torch.equal(values.to(dtype), values.float().to(dtype))


@constant_result
def _rounds_alike(value_range: tuple[float, float], dtype: torch.dtype) -> bool:
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
