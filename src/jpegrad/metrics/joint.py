"""SSIMULACRA2 and Butteraugli in one loss: either alone can be won by losing the other."""

import torch
from torch import Tensor

from jpegrad.codec import jpeg
from jpegrad.metrics.comparison import Comparison
from jpegrad.metrics.psychovisual import Butteraugli
from jpegrad.metrics.structural import SSIMULACRA2

LEAST = 1e-6
"""A picture without any detail has no error at quality 80; then there is nothing to be relative to."""


class Perceptual(Comparison):
    """Half the loss of SSIMULACRA2 and half that of Butteraugli, each relative to that of a file of quality 80.

    Args:
        original: ``[C, H, W]`` or ``[B, C, H, W]``, C = 3 or 1, sides of at least 8; sRGB, floating point in 0…1 or
            uint8 in 0…255. Gray stands for three equal channels. Its gradient is not taken.
        anchor: what the losses are relative to, a picture of the same shape; by default the original coded with
            quality 80 and 4:2:0.

    Raises:
        TypeError, ValueError: ``original`` or ``anchor`` is not as described.

    Example:
        >>> import jpegrad, torch
        >>> original = torch.rand(3, 32, 32)
        >>> metric = Perceptual(original)
        >>> round(float(metric.loss(jpegrad.jpeg(original, quality=80))), 4)
        1.0
    """

    def __init__(self, original: Tensor, anchor: Tensor | None = None) -> None:
        super().__init__(original)
        self.ssimulacra2 = SSIMULACRA2(original)
        self.butteraugli = Butteraugli(original)
        with torch.no_grad():
            if anchor is None:
                anchor = jpeg(original.detach(), quality=80)
            self._shares = [
                0.5 / part.loss(anchor).clamp(min=LEAST) for part in (self.ssimulacra2, self.butteraugli)
            ]

    def loss(self, image: Tensor) -> Tensor:
        """1 for the anchor, 0 for the original itself."""
        of_structure, of_distance = self._shares
        return of_structure * self.ssimulacra2.loss(image) + of_distance * self.butteraugli.loss(image)

    def report(self, image: Tensor) -> dict[str, Tensor]:
        return self.ssimulacra2.report(image) | self.butteraugli.report(image)
