"""SSIMULACRA2, Butteraugli and squared errors in one loss: each alone can be won by losing the others."""

import torch
from torch import Tensor

from jpegrad.codec import jpeg
from jpegrad.metrics.butteraugli import Butteraugli
from jpegrad.metrics.comparison import UNIT, slope, without_autocast
from jpegrad.metrics.ssimulacra2 import SSIMULACRA2
from jpegrad.spec import Range

LEAST = (1e-6, 1e-6, 1e-9, 1e-9)
"""A picture without any detail has no error at quality 80; then there is nothing to be relative to."""
SHARES = (0.36, 0.46, 0.13, 0.05)
"""Of SSIMULACRA2, Butteraugli, squared error, and that of the chroma of small areas. The last two keep PSNR, MS-SSIM
and colours from falling behind, of which both judges say little: docs/tune.md."""


class Perceptual:
    """Losses of SSIMULACRA2 (0.36), Butteraugli (0.46), squared error (0.13) and that of the chroma of areas of 8 × 8
    pixels (0.05), each relative to that of a file of quality 80.

    Args:
        original: ``[C, H, W]`` or ``[B, C, H, W]``, C = 3 or 1, sides of at least 8; sRGB, floating point in
            ``value_range`` or uint8. Gray stands for three equal channels. Its gradient is not taken.
        anchor: what the losses are relative to, a picture of the same shape; by default the original coded with
            quality 80 and 4:2:0.
        value_range: (low, high) of floating-point pictures. What lies outside counts as the bound, with slope 0.
        copy: False takes the original itself, which nothing may change then.

    Raises:
        TypeError, ValueError: ``original`` or ``anchor`` is not as described.

    Example:
        >>> import jpegrad, torch
        >>> original = torch.rand(3, 32, 32)
        >>> metric = Perceptual(original)
        >>> round(float(metric.loss(jpegrad.jpeg(original, quality=80))), 4)
        1.0
    """

    def __init__(
        self,
        original: Tensor,
        anchor: Tensor | None = None,
        *,
        value_range: Range = UNIT,
        copy: bool = True,
    ) -> None:
        self.ssimulacra2 = SSIMULACRA2(original, value_range=value_range, copy=copy)
        self.butteraugli = Butteraugli(original, value_range=value_range, copy=copy)
        with torch.no_grad():
            if anchor is None:
                anchor = jpeg(original.detach(), quality=80, value_range=value_range)
            self._factors = [
                share / loss.clamp(min=least)
                for share, loss, least in zip(SHARES, self._losses(anchor), LEAST, strict=True)
            ]

    def __call__(self, image: Tensor) -> Tensor:
        """As :meth:`loss`."""
        return self.loss(image)

    def loss(self, image: Tensor) -> Tensor:
        """1 for the anchor, or 0.95 where that has no error of chroma, as gray has none; 0 for the original itself."""
        parts = zip(self._factors, self._losses(image), strict=True)
        first, second, third, fourth = (factor * loss for factor, loss in parts)
        return first + second + third + fourth

    @without_autocast
    @torch.no_grad()
    def slope(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a picture of bytes, and its gradient: see :meth:`SSIMULACRA2.slope`."""
        return slope(self.ssimulacra2.shape, image, self._add_slope)

    def _add_slope(self, picture: Tensor, gradient: Tensor, scale: Tensor) -> Tensor:
        first, second = self.ssimulacra2, self.butteraugli
        errors = (first.add_squared_error_slope, first.add_chroma_error_slope)
        total = torch.zeros_like(scale)
        for factor, add in zip(self._factors, (first.add_slope, second.add_slope, *errors), strict=True):
            factor = factor.reshape(-1).to(scale)
            total += factor * add(picture, gradient, scale * factor)
        return total

    def _losses(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        judges = (self.ssimulacra2.loss(image), self.butteraugli.loss(image))
        return (*judges, self.ssimulacra2.squared_error(image), self.ssimulacra2.chroma_error(image))

    @torch.no_grad()
    def report(self, image: Tensor) -> dict[str, Tensor]:
        """The official figures of both by name."""
        return self.ssimulacra2.report(image) | self.butteraugli.report(image)
