"""The native kernel of the metrics: pictures compared with an original, and the gradients."""

from typing import Any

import torch
from torch import Tensor

from jpegrad.backends.native import abi
from jpegrad.sampling import ceil_div

ROW = 8
"""Rows of prepared planes are padded to a multiple of this."""
KEPT = 1 << 19
"""Of pictures of at most so many pixels, what the kernels make of the original stays; else they make it each time."""


def _padded(size: tuple[int, int]) -> int:
    height, width = size
    return height * ceil_div(width, ROW) * ROW


class _Kernel:
    """A metric of pictures ``[B, 3, H, W]``, contiguous: float32 and finite, sRGB in 0…1, or uint8.

    Args:
        name: what the library calls it.
        original: such pictures.
        sizes: of its scales, (height, width) each.
        planes: that an original is prepared to, at each.
        fields: of the call.
    """

    def __init__(
        self, name: str, original: Tensor, sizes: list[tuple[int, int]], planes: int, **fields: Any
    ) -> None:
        self.name = name
        self.original = original.contiguous()
        self.fields = fields | {
            "original": self.original.data_ptr(),
            "original_bytes": original.dtype is torch.uint8,
        }
        batch, _, height, width = original.shape
        if height * width <= KEPT:
            samples = planes * sum(map(_padded, sizes))
            self.prepared = torch.empty(batch, samples, device=original.device)
            self.fields["prepared"] = self.prepared.data_ptr()
            abi.compare(f"prepare_{name}", self.original, **self.fields)

    def __call__(self, image: Tensor) -> Tensor:
        """The losses ``[B]``, with a graph."""
        found: Tensor = _Loss.apply(image, self)  # type: ignore[no-untyped-call]
        return found

    def losses(self, image: Tensor, gradient: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
        """The losses; ``scale`` ``[B]`` times their gradients are added to ``gradient``."""
        values = torch.empty(len(image), device=image.device)
        fields = {"values": values.data_ptr()}
        if gradient is not None:
            scale = torch.ones_like(values) if scale is None else scale.to(values).contiguous()
            fields |= {"out_gradient": gradient.data_ptr(), "scale": scale.data_ptr()}
        self.run(image.contiguous(), **fields)
        return values

    def run(self, image: Tensor, **fields: Any) -> None:
        abi.compare(f"compare_{self.name}", image, bytes=image.dtype is torch.uint8, **self.fields, **fields)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, kernel: _Kernel) -> Tensor:
        gradient = None
        if ctx.needs_input_grad[0]:
            gradient = torch.zeros(image.shape, device=image.device)
            ctx.save_for_backward(gradient)
        return kernel.losses(image, gradient)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * gradient[:, None, None, None], None


class Structure(_Kernel):
    """SSIMULACRA2's weighted sums.

    Args:
        original: as :class:`_Kernel` takes them.
        sizes: of its scales, (height, width) each.
        weights: ``[3, scales, 2, 3]``, float64.
        taps: of the filter, the middle and four neighbours.
    """

    def __init__(
        self, original: Tensor, sizes: list[tuple[int, int]], weights: Tensor, taps: tuple[float, ...]
    ) -> None:
        self.weights = weights.contiguous()
        super().__init__("structure", original, sizes, 9, weights=self.weights.data_ptr(), taps=taps)


class Distance(_Kernel):
    """Butteraugli's losses, and its maps.

    Args:
        original: as :class:`_Kernel` takes them.
        sizes: of its resolutions, (height, width) each.
    """

    def __init__(self, original: Tensor, sizes: list[tuple[int, int]]) -> None:
        super().__init__("distance", original, sizes, 13)

    def map(self, image: Tensor) -> Tensor:
        """``[B, H, W]``, with a graph."""
        found: Tensor = _Map.apply(image, self)  # type: ignore[no-untyped-call]
        return found

    def run(self, image: Tensor, **fields: Any) -> None:
        if "map" not in fields and "gradient" not in fields:
            space = torch.empty(len(image), *image.shape[2:], device=image.device)
            fields["map"] = space.data_ptr()
        super().run(image, **fields)


class _Map(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, distance: Distance) -> Tensor:
        image = image.contiguous()
        found = torch.empty(len(image), *image.shape[2:], device=image.device)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(image)
            ctx.distance = distance
        distance.run(image, map=found.data_ptr())
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (image,) = ctx.saved_tensors
        gradient = gradient.contiguous()
        out, scale = torch.zeros_like(image), torch.ones(len(image), device=image.device)
        pointers = {"gradient": gradient, "scale": scale, "out_gradient": out}
        ctx.distance.run(image, **{name: each.data_ptr() for name, each in pointers.items()})
        return out, None


def similarity(image: Tensor, original: Tensor) -> Tensor:
    """SSIM of pictures ``[B, C, H, W]``, float32, and its contrast · structure part: ``[B, C, 2]``, without a graph."""
    planes = image.flatten(0, 1)[:, None].contiguous()
    others = original.flatten(0, 1).contiguous()
    values = torch.empty(len(planes), 2, device=image.device)
    abi.compare("compare_similarity", planes, original=others.data_ptr(), values=values.data_ptr())
    return values.view(*image.shape[:2], 2)
