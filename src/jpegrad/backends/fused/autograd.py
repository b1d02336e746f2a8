"""The derivatives of a kernel backend's operators; first derivatives only.

Each function takes the backend's name, and calls its operators by it.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from jpegrad.backends.fused import adjoints
from jpegrad.spec import Spec


def operator(backend: str, name: str) -> Callable[..., Any]:
    """``torch.ops.jpegrad.BACKEND_NAME``."""
    return getattr(torch.ops.jpegrad, f"{backend}_{name}")


def first_derivative(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For a kernel's backward pass: who asks for a graph of it hears that there is none, and gets no wrong zeros."""
    once = once_differentiable(backward)

    @functools.wraps(backward)
    def checked(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError(
                'this backend has first derivatives; create_graph=True needs backend="reference"'
            )
        return once(ctx, *gradients)

    return checked


class Jpeg(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, tables: Tensor, settings: str, backend: str) -> Tensor:
        ctx.settings, ctx.backend, ctx.with_tables = settings, backend, ctx.needs_input_grad[1]
        out, saved = operator(backend, "jpeg")(image, tables, settings, True, ctx.with_tables)
        ctx.save_for_backward(tables, *saved)
        return out

    @staticmethod
    @first_derivative
    def backward(ctx: Any, gradient: Tensor) -> Any:
        tables, *saved = ctx.saved_tensors
        image, sums = operator(ctx.backend, "jpeg_backward")(
            gradient, tables, saved, ctx.settings, ctx.with_tables
        )
        to_tables = adjoints.sum_to_tables(sums.unbind(1), tables) if ctx.with_tables else None
        return image, to_tables, None, None


class Encode(torch.autograd.Function):
    """Levels, then coefficients in steps, of every component."""

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, tables: Tensor, settings: str, backend: str, spec: Spec
    ) -> tuple[Tensor, ...]:
        levels, unrounded, flags = operator(backend, "encode")(image, tables, settings, True)
        ctx.settings, ctx.backend, ctx.spec = settings, backend, spec
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(tables, flags, *unrounded)
        return (*levels, *unrounded)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        tables, flags, *unrounded = ctx.saved_tensors
        to_coefficients, to_tables = adjoints.encode_adjoint(
            gradients, unrounded, tables, ctx.spec, ctx.needs_input_grad[:2]
        )
        image = None
        if ctx.needs_input_grad[0]:
            image = operator(ctx.backend, "encode_backward")(to_coefficients, flags, ctx.settings)
        return image, to_tables, None, None, None


class Decode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tables: Tensor, settings: str, backend: str, height: int, width: int, *levels: Tensor
    ) -> Tensor:
        out, flags = operator(backend, "decode")(levels, tables, height, width, torch.float32, settings, True)
        ctx.settings, ctx.backend, ctx.levels = settings, backend, len(levels)
        ctx.save_for_backward(tables, *levels, *flags)
        return out

    @staticmethod
    @first_derivative
    def backward(ctx: Any, gradient: Tensor) -> Any:
        tables, *kept = ctx.saved_tensors
        levels, flags = kept[: ctx.levels], kept[ctx.levels :]
        found = operator(ctx.backend, "decode_backward")(gradient, flags, ctx.settings)
        to_tables, to_levels = adjoints.decode_adjoint(found, levels, tables, ctx.needs_input_grad[0])
        return to_tables, None, None, None, None, *to_levels
