"""The noise layer ``JpegCompression`` of HiDDeN in PyTorch."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from jpegrad.codec import jpeg
from jpegrad.spec import check_options
from jpegrad.tables import check_quality

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from jpegrad.spec import Options


class JpegCompression(nn.Module):
    """As ``noise_layers.jpeg_compression.JpegCompression``, but a JPEG: that one keeps a fixed set of coefficients.

    Args:
        device: not needed: images are coded where they lie.
        quality: 1…100.
        options: every other argument of :func:`jpegrad.jpeg`; images lie in −1…1 unless ``value_range`` says otherwise.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: Zhu, Kaplan, Johnson, Fei-Fei, "HiDDeN", ECCV 2018; github.com/ando-khachatryan/HiDDeN.

    Example:
        >>> import torch
        >>> image = 2 * torch.rand(2, 3, 64, 64) - 1
        >>> noised, cover = JpegCompression(quality=50)([image, image])
        >>> noised.shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(self, device: Any = None, *, quality: float = 50, **options: "Unpack[Options]") -> None:
        super().__init__()
        check_quality(quality)
        check_options("JpegCompression", options)
        self.quality = quality
        self.options: Any = {"value_range": (-1, 1), **options}

    def forward(self, noised_and_cover: list[Tensor]) -> list[Tensor]:
        """Code the first image of the list, ``[..., 3, H, W]``, in the list itself."""
        noised_and_cover[0] = jpeg(noised_and_cover[0], self.quality, **self.options)
        return noised_and_cover
