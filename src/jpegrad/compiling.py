"""For torch.compile: what is a constant there."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Number = TypeVar("Number", int, float)
Call = TypeVar("Call", bound=Callable[..., Any])


def constant(value: Number) -> Number:
    """A number that torch.compile may hold as a symbol, as the constant that it is (a change of it recompiles)."""
    if not torch.compiler.is_compiling():
        return value
    from torch.fx.experimental.symbolic_shapes import guard_scalar

    return cast(Number, guard_scalar(value))


def constant_result(function: Call) -> Call:
    """For torch.compile: a function of constants, to be called and not to be looked into."""
    # What torch.compiler.assume_constant_result does, but that imports the compiler to do it.
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant_result
def exports_onnx() -> bool:
    """Whether PyTorch's exporter to ONNX is at work, which is imported by it alone."""
    onnx = sys.modules.get("torch.onnx")
    return onnx is not None and bool(onnx.is_in_onnx_export())
