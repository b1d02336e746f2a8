"""The augmentation ``JPEG`` of videoseal and watermark-anything."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from jpegrad.codec import jpeg
from jpegrad.compat.common import draw
from jpegrad.spec import check_options
from jpegrad.tables import check_quality

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from jpegrad.spec import Options


class JPEG(nn.Module):
    """As ``videoseal.augmentation.valuemetric.JPEG``, with the slope of the codec in place of 1.

    Args:
        min_quality, max_quality: bounds of the integer that each call draws; None: every call brings its quality.
        passthrough: whether a gradient passes.
        options: every other argument of :func:`jpegrad.jpeg`. ``surrogate="identity"`` has slope 1 at the quantiser;
            ``value_range=jpegrad.inputs.normalized(mean, std)`` codes the normalised images of watermark-anything.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: videoseal and watermark-anything, ``augmentation/valuemetric.py``.

    Example:
        >>> import torch
        >>> image, mask = JPEG(40, 80)(torch.rand(2, 3, 64, 64), torch.ones(2, 1, 64, 64))
        >>> image.shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        min_quality: int | None = None,
        max_quality: int | None = None,
        passthrough: bool = True,
        **options: "Unpack[Options]",
    ) -> None:
        super().__init__()
        self.bounds = None
        if min_quality is not None and max_quality is not None:
            for bound in (min_quality, max_quality):
                check_quality(bound)
            if min_quality > max_quality:
                raise ValueError(
                    f"min_quality: expected at most max_quality {max_quality}, got {min_quality}"
                )
            self.bounds = min_quality, max_quality
        elif min_quality is not None or max_quality is not None:
            raise ValueError("min_quality, max_quality: expected both or none of them, got one")
        check_options("JPEG", options)
        self.passthrough = passthrough
        self.options = options

    def forward(self, image: Tensor, mask: Tensor, quality: float | None = None) -> tuple[Tensor, Tensor]:
        """Code images ``[..., 3, H, W]`` at one quality; ``mask`` comes back as it is."""
        if quality is None:
            if self.bounds is None:
                raise ValueError(
                    "quality: expected a number, in JPEG(min_quality, max_quality) or in this call"
                )
            quality = draw(*self.bounds)
        coded = jpeg(image, quality, **self.options)
        return coded if self.passthrough else coded.detach(), mask

    def __repr__(self) -> str:
        return "JPEG"
