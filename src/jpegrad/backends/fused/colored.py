"""Colour conversions that tensors give, for backends whose kernels read them: a call is its two halves.

A half takes its numbers as ``colors``, ``[B, 12]`` in float64: the matrix and the offset of every image. Their
gradients are the kernels', but for what the noise of the soft forward adds: that passes through the reference's noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from jpegrad.backends import reference
from jpegrad.backends.fused import adjoints
from jpegrad.backends.fused.autograd import OPERATIONS, Call, Operation, operator_of, read
from jpegrad.backends.fused.frame import Fused
from jpegrad.backends.fused.operators import Kernels, Operator, planes, register
from jpegrad.backends.fused.settings import Settings, parse
from jpegrad.home import constants
from jpegrad.inputs import marked
from jpegrad.spec import Color, Spec, components, conversion


class ColoredKernels(Protocol):
    """What there is to write: the fills of both halves, as those of :class:`Kernels`, with colours."""

    def encode_saved(self, image: Tensor, s: Settings) -> list[Tensor]:
        """Room for what ``encode`` keeps; of the soft forward the slopes and the tables' factors come last."""

    def encode(
        self,
        image: Tensor,
        tables: Tensor,
        colors: Tensor,
        s: Settings,
        levels: list[Tensor],
        unrounded: list[Tensor],
        kept: list[Tensor],
    ) -> None:
        """Levels; coefficients in steps and what is kept, where there is room."""

    def encode_backward(
        self,
        gradients: list[Tensor],
        image: Tensor,
        colors: Tensor,
        kept: list[Tensor],
        s: Settings,
        out: Tensor,
        sums: Tensor,
    ) -> None:
        """Gradients of coefficients to those of the image and, in ``sums``, of the colours."""

    def decode_saved(self, out: Tensor, s: Settings, noisy: bool) -> list[Tensor]:
        """Room for what ``decode`` keeps."""

    def decode(
        self,
        levels: list[Tensor],
        noise: list[Tensor],
        tables: Tensor,
        colors: Tensor,
        s: Settings,
        out: Tensor,
        kept: list[Tensor],
    ) -> None:
        """The image."""

    def decode_backward(
        self,
        gradient: Tensor,
        colors: Tensor,
        kept: list[Tensor],
        s: Settings,
        out: list[Tensor],
        sums: Tensor,
    ) -> None:
        """Gradient of the image to those of dequantized coefficients and, in ``sums``, of the colours."""


def of_tensors(color: Color | None) -> bool:
    """Whether tensors give a part of a conversion."""
    return color is not None and any(isinstance(part, Tensor) for part in color)


class Colored(Fused):
    """A backend of kernels that read colour conversions of tensors too."""

    def __init__(self, kernels: Kernels, colored: ColoredKernels) -> None:
        super().__init__(kernels)
        register(kernels, _operators(colored))

    def unsupported(self, operation: str, image: Tensor, spec: Spec) -> list[str]:
        """Reasons why the kernels cannot run a call."""
        plain = replace(spec, color=None) if of_tensors(spec.color) else spec
        return super().unsupported(operation, image, plain)

    def _run(
        self,
        operation: str,
        spec: Spec,
        size: Sequence[int],
        keep: bool,
        tables: Tensor,
        *inputs: Tensor,
        dtype: torch.dtype = torch.float32,
        noisy: bool = False,
        **other: Any,
    ) -> tuple[Tensor, ...]:
        if not of_tensors(spec.color):
            return super()._run(
                operation, spec, size, keep, tables, *inputs, dtype=dtype, noisy=noisy, **other
            )
        if operation == "decode":
            keep = keep or (dtype is not torch.uint8 and adjoints.needs_gradient(*_tensors(spec)))
            colors = _colors(spec, inputs[0])[1]
            return self._half("decode", spec, size, keep, tables, *inputs, colors, dtype=dtype, noisy=noisy)
        image = inputs[0]
        there, back = _colors(spec, image)
        noise = reference.block_noise(image, spec) or ()
        if operation == "encode":
            return self._half("encode", spec, size, keep, tables, image, there, *noise, noisy=bool(noise))
        as_bytes = image.dtype is torch.uint8
        keep = not as_bytes and adjoints.needs_gradient(image, tables, *_tensors(spec))
        both = self._half("encode", spec, size, keep, tables, image, there, *noise, noisy=bool(noise))
        # Whatever is made by numbers that are none is none.
        back = back + (0 * there.detach()).sum(-1, keepdim=True)
        levels, spreads = both[:3], (x.detach() for x in noise)
        given = torch.uint8 if as_bytes else torch.float32
        (out,) = self._half(
            "decode", spec, size, keep, tables, *levels, *spreads, back, dtype=given, noisy=bool(noise)
        )
        # Levels have no NaN.
        return (marked(out, image),)

    def _half(
        self,
        operation: str,
        spec: Spec,
        size: Sequence[int],
        keep: bool,
        tables: Tensor,
        *inputs: Tensor,
        dtype: torch.dtype = torch.float32,
        noisy: bool,
    ) -> tuple[Tensor, ...]:
        name, plain = f"colored_{operation}", replace(spec, color=None)
        return super()._run(
            name, plain, size, keep, tables, *inputs, dtype=dtype, noisy=noisy, kind=Half, channels=3
        )


def _tensors(spec: Spec) -> list[Tensor]:
    return [part for part in spec.color or () if isinstance(part, Tensor)]


def _colors(spec: Spec, like: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of the encoder's and of the decoder's conversion for a batch on the device of ``like``."""
    parts = []
    for part in conversion(spec.color):
        if not isinstance(part, Tensor):
            rows = tuple(tuple(row) if hasattr(row, "__iter__") else row for row in part)
            part = constants(rows, torch.float64, like.device)
        parts.append(part.to(like.device, torch.float64).reshape(-1))
    matrix, offset, inverse, decoder_offset = parts
    pairs = ((matrix, offset), (inverse, decoder_offset))
    there, back = (torch.cat(pair).expand(like.shape[0], 12) for pair in pairs)
    return there, back


@dataclass(frozen=True)
class Half(Call):
    """``colored_encode`` of an image, its colours and noise; ``colored_decode`` of levels, their noise and colours."""

    @property
    def inputs(self) -> int:
        """How many tensors it takes beside the tables."""
        return 2 + 3 * self.noisy if self.operation == "colored_encode" else 4 + 3 * self.noisy

    @property
    def results(self) -> int:
        """How many it gives, before what it keeps."""
        return 1 if self.operation == "colored_decode" else 6 if self.keep else 3

    @property
    def kept(self) -> int:
        """Where what it keeps begins; coefficients in steps are among the results."""
        return 1 if self.operation == "colored_decode" else 3


def _encode(call: Call, tables: Tensor, image: Tensor, colors: Tensor, *_noise: Tensor) -> tuple[Tensor, ...]:
    levels, unrounded, kept = operator_of(call, "", image, tables, colors)(
        read(call, image), tables, colors.contiguous(), call.settings, call.keep
    )
    return *levels, *unrounded, *kept


def _encode_backward(
    call: Call, tables: Tensor, image: Tensor, colors: Tensor, *tensors: Tensor
) -> tuple[Tensor | None, ...]:
    noise, tensors = tensors[: call.inputs - 2], tensors[call.inputs - 2 :]
    gradients, unrounded, kept = tensors[:6], tensors[6:9], list(tensors[9:])
    wanted = call.to_inputs, call.to_tables
    to_noise: list[Tensor | None] = [None for _ in noise]
    if call.spec.forward == "soft":
        kept, slopes, factors = kept[:-6], kept[-6:-3], kept[-3:]
        to_coefficients, sums = adjoints.soft_encode_adjoint(
            gradients, unrounded, slopes, factors, tables, wanted
        )
        for i, (variance, level) in enumerate(zip(noise, gradients, strict=False)):
            if level is not None:
                # How levels grow with the logarithm of the noise's deviation.
                widening = -factors[i] - slopes[i] * unrounded[i]
                to_noise[i] = (level * widening).sum((-2, -1), keepdim=True) / (2 * variance)
    else:
        gains = colors[:, :9].unflatten(1, (3, 3)).square().sum(2).float()
        roles = components(3, call.spec.subsampling)
        seen = [
            replace(role, gain=gain[:, None, None, None, None])
            for role, gain in zip(roles, gains.unbind(1), strict=True)
        ]
        to_coefficients, sums = adjoints.encode_adjoint(gradients, unrounded, tables, call.spec, wanted, seen)
    if not call.to_inputs:
        return sums, None, None, *to_noise
    found, to_colors = operator_of(call, "_backward", image, colors, *kept, *to_coefficients)(
        to_coefficients, read(call, image), colors.contiguous(), kept, call.settings
    )
    return sums, None if image.dtype is torch.uint8 else found.to(image.dtype), to_colors, *to_noise


def _decode(call: Call, tables: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    inputs = tuple(each.contiguous() for each in inputs)
    out, kept = operator_of(call, "", *inputs, tables)(
        list(inputs[:3]),
        list(inputs[3:-1]),
        tables,
        inputs[-1],
        *call.size,
        call.dtype,
        call.settings,
        call.keep,
    )
    return out, *kept


def _decode_backward(call: Call, tables: Tensor, *tensors: Tensor) -> tuple[Tensor | None, ...]:
    inputs, gradient, kept = tensors[: call.inputs], tensors[call.inputs], tensors[call.inputs + 1 :]
    found, to_colors = operator_of(call, "_backward", gradient, *inputs, *kept)(
        gradient, inputs[-1].contiguous(), list(kept), call.settings
    )
    sums, to_levels = adjoints.decode_adjoint(found, inputs[:3], tables, call.to_tables)
    return sums, *to_levels, *[None] * (call.inputs - 4), to_colors


def _plain_encode(
    call: Call, tables: Tensor, image: Tensor, colors: Tensor, *noise: Tensor
) -> tuple[Tensor, ...]:
    def one(tables: Tensor, image: Tensor, colors: Tensor, *noise: Tensor) -> tuple[Tensor, ...]:
        spec = replace(call.spec, color=Color(colors[:9].reshape(3, 3), colors[9:]))
        levels, unrounded = reference.encode(image, tables, spec, noise or None)
        return *levels, *(unrounded or ())

    image = image if image.dtype is torch.uint8 else image.float()
    found: tuple[Tensor, ...] = torch.vmap(one, randomness="different")(tables, image, colors, *noise)
    return found


def _plain_decode(call: Call, tables: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    def one(tables: Tensor, *inputs: Tensor) -> Tensor:
        *rest, colors = inputs
        spec = replace(call.spec, color=Color(_UNUSED, colors[9:], colors[:9].reshape(3, 3)))
        levels, noise = tuple(rest[:3]), tuple(rest[3:])
        return reference.decode(levels, tables, call.size, call.dtype, spec, noise or None)

    return (torch.vmap(one)(tables, *inputs),)


_UNUSED = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
OPERATIONS["colored_encode"] = Operation(_encode, _encode_backward, _plain_encode)
OPERATIONS["colored_decode"] = Operation(_decode, _decode_backward, _plain_decode)


def _operators(k: ColoredKernels) -> tuple[Operator, ...]:
    """Those of a backend. An image's colours are a row of ``[B, 12]``."""

    def encode_room(
        _: Kernels, image: Tensor, tables: Tensor, colors: Tensor, settings: str, keep: bool
    ) -> Any:
        s = parse(settings)
        unrounded, kept = (planes(image.shape, s, image), k.encode_saved(image, s)) if keep else ([], [])
        return planes(image.shape, s, image), unrounded, kept

    def encode(
        _: Kernels, image: Tensor, tables: Tensor, colors: Tensor, settings: str, keep: bool, room: Any
    ) -> None:
        k.encode(image, tables, colors, parse(settings), *room)

    def encode_backward_room(
        _: Kernels, gradients: list[Tensor], image: Tensor, colors: Tensor, kept: list[Tensor], settings: str
    ) -> Any:
        return image.new_empty(image.shape, dtype=torch.float32), torch.empty_like(colors)

    def encode_backward(
        _: Kernels,
        gradients: list[Tensor],
        image: Tensor,
        colors: Tensor,
        kept: list[Tensor],
        settings: str,
        room: Any,
    ) -> None:
        k.encode_backward(gradients, image, colors, kept, parse(settings), *room)

    def decode_room(
        _: Kernels,
        levels: list[Tensor],
        noise: list[Tensor],
        tables: Tensor,
        colors: Tensor,
        height: int,
        width: int,
        dtype: torch.dtype,
        settings: str,
        keep: bool,
    ) -> Any:
        out = levels[0].new_empty((levels[0].shape[0], 3, height, width), dtype=dtype)
        return out, k.decode_saved(out, parse(settings), bool(noise)) if keep else []

    def decode(
        _: Kernels,
        levels: list[Tensor],
        noise: list[Tensor],
        tables: Tensor,
        colors: Tensor,
        height: int,
        width: int,
        dtype: torch.dtype,
        settings: str,
        keep: bool,
        room: Any,
    ) -> None:
        k.decode(levels, noise, tables, colors, parse(settings), *room)

    def decode_backward_room(
        _: Kernels, gradient: Tensor, colors: Tensor, kept: list[Tensor], settings: str
    ) -> Any:
        return planes(gradient.shape, parse(settings), gradient), torch.empty_like(colors)

    def decode_backward(
        _: Kernels, gradient: Tensor, colors: Tensor, kept: list[Tensor], settings: str, room: Any
    ) -> None:
        k.decode_backward(gradient, colors, kept, parse(settings), *room)

    return (
        Operator(
            "colored_encode",
            "(Tensor image, Tensor tables, Tensor colors, str settings, bool keep)"
            " -> (Tensor[], Tensor[], Tensor[])",
            encode_room,
            encode,
        ),
        Operator(
            "colored_encode_backward",
            "(Tensor[] gradients, Tensor image, Tensor colors, Tensor[] kept, str settings)"
            " -> (Tensor, Tensor)",
            encode_backward_room,
            encode_backward,
        ),
        Operator(
            "colored_decode",
            "(Tensor[] levels, Tensor[] noise, Tensor tables, Tensor colors, SymInt height, SymInt width,"
            " ScalarType dtype, str settings, bool keep) -> (Tensor, Tensor[])",
            decode_room,
            decode,
        ),
        Operator(
            "colored_decode_backward",
            "(Tensor gradient, Tensor colors, Tensor[] kept, str settings) -> (Tensor[], Tensor)",
            decode_backward_room,
            decode_backward,
        ),
    )
