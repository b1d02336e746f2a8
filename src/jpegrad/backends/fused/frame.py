"""A backend made of kernels: everything between the codec's calls and the kernels' operators."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from jpegrad.backends.fused import adjoints, reasons
from jpegrad.backends.fused.autograd import HALF, Call, run
from jpegrad.backends.fused.operators import Kernels, register
from jpegrad.backends.fused.settings import known, settings_of
from jpegrad.compiling import constant
from jpegrad.inputs import marked
from jpegrad.spec import Spec

_GREY = (0.0, 255.0)


class Fused:
    """The backend of ``kernels``, by the contract of :mod:`jpegrad.backends`.

    Images are computed in float32; gradients are the reference's in float32. The slopes of formulas that the kernels
    know are evaluated there; with others the two halves of the kernel run, and the surrogate between them.
    """

    def __init__(self, kernels: Kernels) -> None:
        register(kernels)
        self._kernels = kernels
        self._name = kernels.NAME

    def unsupported(self, operation: str, image: Tensor, spec: Spec) -> list[str]:
        """Reasons why the kernels cannot run a call."""
        found = self._kernels.reasons(operation, image, spec)
        if spec.forward == "soft":
            halves = self._kernels.soft_halves is not None
            found += reasons.soft_reasons(operation, spec, self._kernels.SOFT, halves)
        return found + reasons.decoder_reasons(operation, spec) + reasons.common_reasons(image, spec)

    def jpeg(self, image: Tensor, tables: Tensor, spec: Spec) -> Tensor:
        """Encode and decode ``[..., C, H, W]``; ``tables`` as ``spec.resolve_tables`` gives them."""
        as_bytes = image.dtype is torch.uint8
        # The soft forward of bytes computes in grey levels, and rounds them.
        grey = as_bytes and spec.forward == "soft"
        x, entries = adjoints.batch(image), _tables(tables, image.shape[:-3])
        if as_bytes:
            x, entries = x.detach(), entries.detach()
        if grey:
            spec, x = replace(spec, value_range=_GREY), x.float()
        size, keep = x.shape[-2:], adjoints.needs_gradient(x, entries)
        if keep and not (spec.forward == "soft" or self._knows(spec)):
            both = self._run("encode", spec, size, keep, entries, x)
            levels = both[: len(both) // 2]
            (out,) = self._run("decode", spec, size, keep, entries, *levels)
            # Levels have no NaN.
            out = marked(out, x)
        else:
            (out,) = self._run("jpeg", spec, size, keep, entries, x)
        if grey:
            out = out.round()
        # Views cost a node of the graph each.
        out = out if image.ndim == 4 else out.reshape(image.shape)
        return out.to(image.dtype)

    def encode(
        self, image: Tensor, tables: Tensor, spec: Spec
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
        """Levels per component, and coefficient / table entry before rounding if gradients are on."""
        count, lead = constant(image.shape[-3]), image.shape[:-3]
        x, entries = adjoints.batch(image), _tables(tables, lead)
        if image.dtype is torch.uint8 and spec.forward == "soft":
            spec, x = replace(spec, value_range=_GREY), x.float()
        both = self._run("encode", spec, x.shape[-2:], torch.is_grad_enabled(), entries, x)
        planes = tuple(plane.reshape(*lead, *plane.shape[1:]) for plane in both)
        return planes[:count], planes[count:] or None

    def decode(
        self,
        levels: tuple[Tensor, ...],
        tables: Tensor,
        size: tuple[int, int],
        dtype: torch.dtype,
        spec: Spec,
        noise: tuple[Tensor, ...] | None = None,
    ) -> Tensor:
        """An image ``[..., C, H, W]`` of ``dtype`` from levels per component."""
        lead = levels[0].shape[:-4]
        # The soft forward of bytes computes in grey levels, and rounds them.
        grey = dtype is torch.uint8 and spec.forward == "soft"
        # Types other than float32 and uint8 get grey levels from the kernel, and their own arithmetic here.
        alike = (
            dtype in HALF and "decode" in self._kernels.HALF and reasons.rounds_alike(spec.value_range, dtype)
        )
        plain = dtype is torch.float32 or alike or (dtype is torch.uint8 and not grey)
        inner = spec if plain else replace(spec, value_range=_GREY)
        entries = _tables(tables, lead)
        flat = [level.float().reshape(math.prod(lead), *level.shape[-4:]).contiguous() for level in levels]
        keep = dtype is not torch.uint8 and adjoints.needs_gradient(entries, *flat)
        if keep:
            flat = [adjoints.bounded(level) for level in flat]
        spreads = [x.detach().float().expand(*lead, *x.shape[-4:]) for x in noise or ()]
        flat += [x.reshape(math.prod(lead), *x.shape[-4:]).contiguous() for x in spreads]
        (out,) = self._run(
            "decode",
            inner,
            size,
            keep,
            entries,
            *flat,
            dtype=dtype if plain else torch.float32,
            noisy=bool(spreads),
        )
        out = out.reshape(*lead, *out.shape[1:])
        if plain:
            return out
        if grey:
            return out.round().to(dtype)
        low, high = spec.value_range
        return (low + out.double() / 255 * (high - low)).to(dtype)

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
        kind: type[Call] = Call,
        channels: int | None = None,
    ) -> tuple[Tensor, ...]:
        if channels is None:
            channels = len(inputs) // (1 + noisy) if operation == "decode" else constant(inputs[0].shape[1])
        call = kind(
            operation=operation,
            backend=self._name,
            settings=settings_of(spec, channels, self._kernels),
            spec=spec,
            channels=channels,
            size=(size[0], size[1]),
            dtype=dtype,
            keep=keep,
            to_inputs=adjoints.needs_gradient(*inputs),
            to_tables=adjoints.needs_gradient(tables),
            noisy=noisy,
            half=operation in self._kernels.HALF,
        )
        if keep:
            return run(call, tables, *inputs)
        # A view takes its time.
        return run(call, *(x.detach() if x.requires_grad else x for x in (tables, *inputs)))

    def _knows(self, spec: Spec) -> bool:
        slopes = (spec.surrogate.slope, spec.table_surrogate.slope)
        return all(known(slope, self._kernels.SLOPES) for slope in slopes)


def _tables(tables: Tensor, lead: torch.Size) -> Tensor:
    """``[B, n, 8, 8]``, or ``[1, n, 8, 8]`` if all images share them; contiguous float64."""
    tables = tables.to(torch.float64)
    if tables.ndim == 3:
        return tables.unsqueeze(0).contiguous()
    if math.prod(tables.shape[:-3]) != 1:
        tables = tables.expand(*lead, *tables.shape[-3:])
    return tables.reshape(-1, *tables.shape[-3:]).contiguous()
