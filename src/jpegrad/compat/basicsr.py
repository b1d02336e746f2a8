"""``basicsr.utils.diffjpeg.DiffJPEG``, the JPEG of Real-ESRGAN's degradations."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from jpegrad.codec import jpeg
from jpegrad.compat.mlomnitz import soft_or_file

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from jpegrad.spec import Options


class DiffJPEG(nn.Module):
    """As ``basicsr.utils.diffjpeg.DiffJPEG``: a quality per call or per image, images in 0…1.

    Args:
        differentiable: the soft codec with the cubic slope; otherwise the values of a file, as Real-ESRGAN uses it.
        options: every other argument of :func:`jpegrad.jpeg`.

    Raises:
        TypeError, ValueError: an option is not as described.

    Source: BasicSR, ``utils/diffjpeg.py``, after Shin & Song, 2017.

    Example:
        >>> import torch
        >>> jpeger, quality = DiffJPEG(differentiable=False), torch.empty(4).uniform_(30, 95)
        >>> jpeger(torch.rand(4, 3, 200, 200), quality=quality).shape
        torch.Size([4, 3, 200, 200])
    """

    def __init__(self, differentiable: bool = True, **options: "Unpack[Options]") -> None:
        super().__init__()
        self.options = soft_or_file(differentiable, options)

    def forward(self, x: Tensor, quality: float | Tensor) -> Tensor:
        """Code images ``[B, 3, H, W]`` at a number or ``[B]``, which stays as it is."""
        return jpeg(x, quality, **self.options)
