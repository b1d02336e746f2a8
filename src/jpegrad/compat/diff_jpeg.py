"""The calls of the package ``diff_jpeg`` of Reich et al., "Differentiable JPEG: The Devil is in the Details"."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from jpegrad.compat.common import code
from jpegrad.spec import check_options

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from jpegrad.spec import Options


def diff_jpeg_coding(
    image_rgb: Tensor,
    jpeg_quality: Tensor,
    quantization_table_y: Tensor | None = None,
    quantization_table_c: Tensor | None = None,
    ste: bool = False,
    **options: "Unpack[Options]",
) -> Tensor:
    """As ``diff_jpeg.diff_jpeg_coding``.

    Args:
        image_rgb: ``[B, 3, H, W]``, floating point in 0…255; any leading dimensions.
        jpeg_quality: ``[1]`` or ``[B]``, 1…100; values outside are clamped.
        quantization_table_y: table of quality 50, ``[8, 8]`` or ``[B, 8, 8]``, of any type; None is Annex K's.
        quantization_table_c: the same for chroma.
        ste: the values of a file with the slopes of the paper's straight-through variant, instead of its soft variant.
        options: every other argument of :func:`jpegrad.jpeg`.

    Returns:
        The coded images, shape and dtype of ``image_rgb``.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: Reich, Debnath, Patel, Chakradhar, WACV 2024.

    Example:
        >>> import torch
        >>> image = 255 * torch.rand(2, 3, 32, 32)
        >>> diff_jpeg_coding(image, torch.tensor([10.0, 90.0]), ste=True).shape
        torch.Size([2, 3, 32, 32])
    """
    surrogate = "reich2024_ste" if ste else "reich2024"
    chosen: Any = {"surrogate": surrogate, "value_range": (0, 255), **options}
    return code(image_rgb, jpeg_quality, quantization_table_y, quantization_table_c, **chosen)


class DiffJPEGCoding(nn.Module):
    """As ``diff_jpeg.DiffJPEGCoding``.

    Args:
        ste: as in :func:`diff_jpeg_coding`.
        options: every other argument of :func:`jpegrad.jpeg`.

    Raises:
        TypeError, ValueError: an option is not as described.

    Example:
        >>> import torch
        >>> DiffJPEGCoding(ste=True)(255 * torch.rand(2, 3, 32, 32), torch.tensor([50.0])).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, ste: bool = False, **options: "Unpack[Options]") -> None:
        super().__init__()
        check_options("DiffJPEGCoding", options)
        self.ste = ste
        self.options = options

    def forward(
        self,
        image_rgb: Tensor,
        jpeg_quality: Tensor,
        quantization_table_y: Tensor | None = None,
        quantization_table_c: Tensor | None = None,
    ) -> Tensor:
        """Code images; arguments as in :func:`diff_jpeg_coding`."""
        tables = quantization_table_y, quantization_table_c
        return diff_jpeg_coding(image_rgb, jpeg_quality, *tables, self.ste, **self.options)
