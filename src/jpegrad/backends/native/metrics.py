"""The native kernel of the metrics: what an original is prepared to, pictures compared with it, and the gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from jpegrad.backends.native import abi
from jpegrad.sampling import ceil_div

ROW = 8
"""Rows of prepared planes are padded to a multiple of this."""


def _padded(size: tuple[int, int]) -> int:
    height, width = size
    return height * ceil_div(width, ROW) * ROW


class Structure:
    """SSIMULACRA2's weighted sums ``[B]`` of pictures ``[B, 3, H, W]``, float32 and finite, sRGB in 0…1.

    Args:
        original: such pictures.
        sizes: of its scales, (height, width) each.
        weights: ``[3, scales, 2, 3]``, float64.
        taps: of the filter, the middle and four neighbours.
    """

    def __init__(
        self, original: Tensor, sizes: list[tuple[int, int]], weights: Tensor, taps: tuple[float, ...]
    ) -> None:
        self.prepared = original.new_empty(original.shape[0], 9 * sum(map(_padded, sizes)))
        self.weights = weights.contiguous()
        self.taps = taps
        self._run("prepare_structure", original.contiguous())

    def __call__(self, image: Tensor) -> Tensor:
        found: Tensor = _Sums.apply(image, self)  # type: ignore[no-untyped-call]
        return found

    def compare(self, image: Tensor, gradient: Tensor | None) -> Tensor:
        """The sums; their gradients into ``gradient``, if that is given."""
        values = image.new_empty(image.shape[0])
        pointer = None if gradient is None else gradient.data_ptr()
        self._run("compare_structure", image, values=values.data_ptr(), out_gradient=pointer)
        return values

    def _run(self, name: str, image: Tensor, **fields: Any) -> None:
        fields |= {
            "prepared": self.prepared.data_ptr(),
            "weights": self.weights.data_ptr(),
            "taps": self.taps,
        }
        abi.compare(name, image, **fields)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, structure: Structure) -> Tensor:
        image = image.contiguous()
        gradient = torch.empty_like(image) if ctx.needs_input_grad[0] else None
        values = structure.compare(image, gradient)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * gradient[:, None, None, None], None


class Distance:
    """Butteraugli's maps ``[B, H, W]`` of pictures ``[B, 3, H, W]``, float32 and finite, sRGB in 0…1.

    Args:
        original: such pictures.
        sizes: of its resolutions, (height, width) each.
        weigh: the activity ``[B, H, W]`` at one of them → weights of the low band and of the others.
    """

    def __init__(
        self,
        original: Tensor,
        sizes: list[tuple[int, int]],
        weigh: Callable[[Tensor], tuple[Tensor, Tensor]],
    ) -> None:
        self.samples = sum(map(_padded, sizes))
        self.prepared = original.new_zeros(original.shape[0], 13 * self.samples)
        abi.compare("prepare_distance", original.contiguous(), prepared=self.prepared.data_ptr())
        parts = self.prepared.split([13 * _padded(size) for size in sizes], 1)
        for part, (height, width) in zip(parts, sizes, strict=True):
            planes = part.unflatten(1, (13, height, -1))[..., :width]
            planes[:, 11], planes[:, 12] = weigh(planes[:, 10])

    def __call__(self, image: Tensor) -> Tensor:
        found: Tensor = _Map.apply(image, self)  # type: ignore[no-untyped-call]
        return found

    def run(self, name: str, image: Tensor, **tensors: Tensor) -> None:
        fields = {field: each.data_ptr() for field, each in tensors.items()}
        abi.compare(name, image, prepared=self.prepared.data_ptr(), **fields)


class _Map(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, distance: Distance) -> Tensor:
        image = image.contiguous()
        found = image.new_empty(image.shape[0], *image.shape[2:])
        saved = {}
        if ctx.needs_input_grad[0]:
            saved["saved"] = image.new_empty(image.shape[0], 16 * distance.samples)
            ctx.save_for_backward(image, saved["saved"])
            ctx.distance = distance
        distance.run("compare_distance", image, map=found, **saved)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        image, saved = ctx.saved_tensors
        out, gradient = torch.empty_like(image), gradient.contiguous()
        tensors = {"saved": saved, "gradient": gradient, "out_gradient": out}
        ctx.distance.run("differentiate_distance", image, **tensors)
        return out, None
