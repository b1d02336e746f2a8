"""The derivatives of a kernel backend's operators.

A backward pass is a kernel's, and has itself a derivative: the reference's, computed when it is asked for. All tensors
have the images' dimension first, so that ``vmap`` is a larger batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jpegrad.backends import reference
from jpegrad.backends.fused import adjoints
from jpegrad.backends.fused.operators import operator
from jpegrad.spec import Spec

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Call:
    """What of a call is no tensor.

    ``operation`` is ``"jpeg"``, ``"encode"`` or ``"decode"``, and ``spec`` has the value range of ``settings``. There
    is a backward pass if it may ``keep``, and it goes ``to_inputs`` and ``to_tables``. ``decode`` gives ``dtype``, and
    takes the noise of every block if it is ``noisy``. The kernels read images of 16-bit types if they know ``half``.
    """

    operation: str
    backend: str
    settings: str
    spec: Spec
    channels: int
    size: tuple[int, int]
    dtype: torch.dtype
    keep: bool
    to_inputs: bool
    to_tables: bool
    noisy: bool
    half: bool

    @property
    def inputs(self) -> int:
        """How many tensors it takes beside the tables."""
        return self.channels * (1 + self.noisy) if self.operation == "decode" else 1

    @property
    def results(self) -> int:
        """How many it gives, before what it keeps."""
        if self.operation != "encode":
            return 1
        return 2 * self.channels if self.keep else self.channels

    @property
    def kept(self) -> int:
        """Where in what the operator gives begins what it keeps: coefficients in steps are among the results."""
        return self.channels if self.operation == "encode" else self.results


def run(call: Call, tables: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """What an operator gives, and its derivatives.

    Args:
        call: which operator, and how.
        tables: ``[1 or B, n, 8, 8]``.
        inputs: the image; or the levels of every component, and then, without gradients, its noise.

    Returns:
        The image; or the levels and, if it keeps something, the coefficients in steps of every component.
    """
    found: tuple[Tensor, ...] = _apply(Forward, call.keep, call, tables, *inputs)
    return found[: call.results]


def _apply(function: Any, graph: bool, *arguments: Any) -> Any:
    """A function, with a graph for its derivative if there is to be one."""
    compiling = torch.compiler.is_compiling()
    if not compiling and torch._C._are_functorch_transforms_active():
        return function.apply(*arguments)
    if not graph:
        return function.forward(*arguments)
    if compiling:
        return function.apply(*arguments)
    # PyTorch's own apply first inspects a signature, which takes as long as a small picture.
    return super(torch.autograd.Function, function).apply(*arguments)


class Mapped(torch.autograd.Function):
    """A function of a call, its tables and other tensors."""

    @classmethod
    def vmap(cls, info: Any, in_dims: Any, call: Call, tables: Tensor, *tensors: Tensor | None) -> Any:
        size = info.batch_size

        def spread(x: Tensor, dim: int | None) -> Tensor:
            return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)

        given = [None if x is None else spread(x, dim) for x, dim in zip(tensors, in_dims[2:], strict=True)]
        images = next(x.shape[1] for x in given if x is not None)
        if in_dims[1] is not None or tables.shape[0] > 1:
            tables = spread(tables, in_dims[1])
            tables = tables.expand(size, images, *tables.shape[2:]).flatten(0, 1).contiguous()
        flat = (None if x is None else x.flatten(0, 1).contiguous() for x in given)
        found = cls.apply(call, tables, *flat)  # type: ignore[no-untyped-call]
        out = tuple(None if x is None else x.unflatten(0, (size, images)) for x in found)
        return out, tuple(None if x is None else 0 for x in found)


class Forward(Mapped):
    """``(call, tables, *inputs)`` to the results, and what is kept."""

    @staticmethod
    def forward(call: Call, tables: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        return OPERATIONS[call.operation].forward(call, tables, *inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, ...]) -> None:
        call, *tensors = inputs
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[call.results :])
        ctx.save_for_backward(*tensors, *output[call.kept :])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        call = ctx.call
        tables, *tensors = ctx.saved_tensors
        inputs, kept = tensors[: call.inputs], tensors[call.inputs :]
        graph = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        sums, *found = _apply(Backward, graph, call, tables, *inputs, *gradients[: call.results], *kept)
        return None, None if sums is None else adjoints.sum_to_tables(sums, tables), *found


class Backward(Mapped):
    """``(call, tables, *inputs, *gradients, *kept)`` to the gradients of tables ``[B, C, 8, 8]`` and inputs."""

    @staticmethod
    def forward(call: Call, tables: Tensor, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        return OPERATIONS[call.operation].backward(call, tables, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.call, tables, *tensors = inputs
        ctx.count = len(tensors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(tables, *tensors[: ctx.call.inputs + ctx.call.results])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        tables, *tensors = ctx.saved_tensors
        inputs, gradients = tensors[: ctx.call.inputs], tensors[ctx.call.inputs :]
        found = _second(ctx.call, tables, inputs, gradients, cotangents)
        return None, *found, *[None] * (ctx.count - len(tensors))


def operator_of(call: Call, suffix: str, *tensors: Tensor) -> Callable[..., Any]:
    """``torch.ops.jpegrad.BACKEND_OPERATION``, for these tensors."""
    return operator(f"{call.backend}_{call.operation}{suffix}", *tensors)


def read(call: Call, image: Tensor) -> Tensor:
    """An image as the operators take it; what is kept of it is the image itself."""
    return image if image.dtype is torch.uint8 or (call.half and image.dtype in HALF) else image.float()


def _jpeg(call: Call, tables: Tensor, image: Tensor) -> tuple[Tensor, ...]:
    out, kept = operator_of(call, "", image, tables)(
        read(call, image), tables, call.settings, call.keep, call.to_tables
    )
    return out, *kept


def _jpeg_backward(
    call: Call, tables: Tensor, image: Tensor, gradient: Tensor, *kept: Tensor
) -> tuple[Tensor | None, ...]:
    found, sums = operator_of(call, "_backward", gradient, tables, *kept)(
        gradient, tables, list(kept), call.settings, call.to_tables
    )
    return sums if call.to_tables else None, found.to(image.dtype)


def _encode(call: Call, tables: Tensor, image: Tensor) -> tuple[Tensor, ...]:
    saving = call.to_inputs or call.to_tables
    levels, unrounded, kept = operator_of(call, "", image, tables)(
        read(call, image), tables, call.settings, call.keep, saving, call.to_tables
    )
    return *levels, *unrounded, *kept


def _encode_backward(
    call: Call, tables: Tensor, image: Tensor, *tensors: Tensor
) -> tuple[Tensor | None, ...]:
    gradients, rest = tensors[: call.results], tensors[call.results :]
    unrounded, kept = rest[: call.channels], rest[call.channels :]
    wanted = call.to_inputs, call.to_tables
    if call.spec.forward == "soft":
        count = call.channels * (1 + call.to_tables)
        kept, numbers = kept[:-count], kept[-count:]
        slopes, factors = numbers[: call.channels], numbers[call.channels :]
        to_coefficients, sums = adjoints.soft_encode_adjoint(
            gradients, unrounded, slopes, factors, tables, wanted
        )
    else:
        to_coefficients, sums = adjoints.encode_adjoint(gradients, unrounded, tables, call.spec, wanted)
    if not call.to_inputs:
        return sums, None
    found = operator_of(call, "_backward", *kept, *to_coefficients)(
        to_coefficients, list(kept), call.settings
    )
    return sums, found.to(image.dtype)


def _decode(call: Call, tables: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    inputs = tuple(each.contiguous() for each in inputs)
    levels, noise = list(inputs[: call.channels]), list(inputs[call.channels :])
    out, kept = operator_of(call, "", *inputs, tables)(
        levels, noise, tables, *call.size, call.dtype, call.settings, call.keep
    )
    return out, *kept


def _decode_backward(call: Call, tables: Tensor, *tensors: Tensor) -> tuple[Tensor | None, ...]:
    levels, gradient, kept = tensors[: call.channels], tensors[call.inputs], tensors[call.inputs + 1 :]
    found = operator_of(call, "_backward", gradient, *kept)(gradient, list(kept), call.settings)
    sums, to_levels = adjoints.decode_adjoint(found, levels, tables, call.to_tables)
    return sums, *to_levels, *[None] * (call.inputs - call.channels)


def _plain_jpeg(call: Call, tables: Tensor, image: Tensor) -> tuple[Tensor, ...]:
    return (reference.jpeg(image.float(), tables, call.spec).to(read(call, image[:0]).dtype),)


def _plain_encode(call: Call, tables: Tensor, image: Tensor) -> tuple[Tensor, ...]:
    # Bytes are none of the value range.
    image = image if image.dtype is torch.uint8 else image.float()
    levels, unrounded = reference.encode(image, tables, call.spec)
    return *levels, *(unrounded or ())


def _plain_decode(call: Call, tables: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    levels, noise = inputs[: call.channels], inputs[call.channels :]
    return (reference.decode(levels, tables, call.size, call.dtype, call.spec, noise or None),)


class Operation(NamedTuple):
    """``forward`` and ``backward`` by kernels; ``plain`` is the forward by the reference, to be differentiated."""

    forward: Callable[..., tuple[Tensor, ...]]
    backward: Callable[..., tuple[Tensor | None, ...]]
    plain: Callable[..., tuple[Tensor, ...]]


OPERATIONS = {
    "jpeg": Operation(_jpeg, _jpeg_backward, _plain_jpeg),
    "encode": Operation(_encode, _encode_backward, _plain_encode),
    "decode": Operation(_decode, _decode_backward, _plain_decode),
}


def _second(
    call: Call,
    tables: Tensor,
    inputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    cotangents: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The derivative of the reference's backward pass: to ``tables``, ``inputs`` and ``gradients``."""
    plain = OPERATIONS[call.operation].plain
    moves = [x.is_floating_point() for x in inputs]
    moving, given = [x for x in inputs if x.is_floating_point()], [g for g in gradients if g is not None]

    def results_of(tables: Tensor, *moving: Tensor) -> tuple[Tensor, ...]:
        """Bytes have no derivative: they stay."""
        moved = iter(moving)
        return plain(call, tables, *(next(moved) if moves[i] else x for i, x in enumerate(inputs)))

    def first(tables: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        rest = iter(tensors[len(moving) :])
        each = adjoints.table_per_image(tables, call.channels, inputs[0].shape[0])
        results, pull = torch.func.vjp(results_of, each, *tensors[: len(moving)])[:2]
        found: tuple[Tensor, ...] = pull(
            _filled([g if g is None else next(rest) for g in gradients], results)
        )
        return found

    pulled, pull_again = torch.func.vjp(first, tables, *moving, *given)[:2]
    wanted = [g for g, taken in zip(cotangents, [True, *moves], strict=True) if taken]
    to_tables, *found = pull_again(_filled(wanted, pulled))
    to_moving, rest = iter(found[: len(moving)]), iter(found[len(moving) :])
    to_inputs = [next(to_moving) if move else None for move in moves]
    return [to_tables, *to_inputs, *(g if g is None else next(rest) for g in gradients)]


def _filled(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Zeros in place of None."""
    return tuple(torch.zeros_like(x) if g is None else g for g, x in zip(gradients, like, strict=True))
