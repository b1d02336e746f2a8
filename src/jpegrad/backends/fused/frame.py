"""A backend made of kernels: everything between the codec's calls and the kernels' operators."""

import math

import torch
from torch import Tensor

from jpegrad.backends.fused import adjoints, reasons
from jpegrad.backends.fused.autograd import Decode, Encode, Jpeg, operator
from jpegrad.backends.fused.operators import Kernels, register
from jpegrad.backends.fused.settings import known, settings_of
from jpegrad.compiling import constant
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
            found += reasons.soft_reasons(operation, spec, self._kernels.SOFT)
        return found + reasons.decoder_reasons(operation, spec) + reasons.common_reasons(image, spec)

    def jpeg(self, image: Tensor, tables: Tensor, spec: Spec) -> Tensor:
        """Encode and decode ``[..., C, H, W]``; ``tables`` as ``spec.resolve_tables`` gives them."""
        as_bytes = image.dtype is torch.uint8
        # The soft forward of bytes computes in grey levels, and rounds them.
        grey = as_bytes and spec.forward == "soft"
        settings = self._settings(spec, constant(image.shape[-3]), _GREY if grey else None)
        x, entries = adjoints.batch(image), _tables(tables, image.shape[:-3])
        if grey or not as_bytes:
            x = x.float()
        if as_bytes or not adjoints.needs_gradient(x, entries):
            x, entries = x.detach(), entries.detach()
            out = operator(self._name, "jpeg")(x, entries, settings, False, False)[0]
        elif spec.forward == "soft" or self._knows(spec):
            out = Jpeg.apply(x, entries, settings, self._name)  # type: ignore[no-untyped-call]
        else:
            both = Encode.apply(x, entries, settings, self._name, spec)  # type: ignore[no-untyped-call]
            levels = both[: len(both) // 2]
            out = Decode.apply(entries, settings, self._name, *image.shape[-2:], *levels)  # type: ignore[no-untyped-call]
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
        settings = self._settings(spec, count)
        x, entries = adjoints.batch(image), _tables(tables, lead)
        if image.dtype is not torch.uint8:
            x = x.float()
        if torch.is_grad_enabled():
            both = Encode.apply(x, entries, settings, self._name, spec)  # type: ignore[no-untyped-call]
        else:
            both = operator(self._name, "encode")(x.detach(), entries.detach(), settings, False)[0]
        planes = tuple(plane.reshape(*lead, *plane.shape[1:]) for plane in both)
        return planes[:count], planes[count:] or None

    def decode(
        self,
        levels: tuple[Tensor, ...],
        tables: Tensor,
        size: tuple[int, int],
        dtype: torch.dtype,
        spec: Spec,
    ) -> Tensor:
        """An image ``[..., C, H, W]`` of ``dtype`` from levels per component."""
        lead = levels[0].shape[:-4]
        # Types other than float32 and uint8 get grey levels from the kernel, and their own arithmetic here.
        plain = dtype in (torch.uint8, torch.float32)
        settings = self._settings(spec, len(levels), None if plain else _GREY)
        entries = _tables(tables, lead)
        flat = [level.float().reshape(math.prod(lead), *level.shape[-4:]).contiguous() for level in levels]
        if dtype is not torch.uint8 and adjoints.needs_gradient(entries, *flat):
            flat = [adjoints.bounded(level) for level in flat]
            out = Decode.apply(entries, settings, self._name, *size, *flat)  # type: ignore[no-untyped-call]
        else:
            kind = torch.uint8 if dtype is torch.uint8 else torch.float32
            flat = [level.detach() for level in flat]
            out = operator(self._name, "decode")(flat, entries.detach(), *size, kind, settings, False)[0]
        out = out.reshape(*lead, *out.shape[1:])
        if plain:
            return out
        low, high = spec.value_range
        return (low + out.double() / 255 * (high - low)).to(dtype)

    def _settings(self, spec: Spec, channels: int, value_range: tuple[float, float] | None = None) -> str:
        return settings_of(spec, channels, self._kernels, value_range)

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
