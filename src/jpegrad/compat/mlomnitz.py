"""``DiffJPEG`` of github.com/mlomnitz/DiffJPEG, the differentiable JPEG of Shin & Song in PyTorch."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from jpegrad.codec import jpeg
from jpegrad.spec import check_options
from jpegrad.tables import check_quality

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from jpegrad.spec import Options


class DiffJPEG(nn.Module):
    """As ``DiffJPEG.DiffJPEG``: one quality, images in 0…1.

    Args:
        height, width: not needed: images of any size are coded.
        differentiable: the soft codec with the cubic slope; otherwise the values of a file.
        quality: 1…100.
        options: every other argument of :func:`jpegrad.jpeg`.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: Shin & Song, "JPEG-resistant adversarial images", 2017.

    Example:
        >>> import torch
        >>> DiffJPEG(height=224, width=224, differentiable=True, quality=80)(torch.rand(2, 3, 224, 224)).shape
        torch.Size([2, 3, 224, 224])
    """

    def __init__(
        self,
        height: int | None = None,
        width: int | None = None,
        differentiable: bool = True,
        quality: float = 80,
        **options: "Unpack[Options]",
    ) -> None:
        super().__init__()
        check_quality(quality)
        self.quality = quality
        self.options = soft_or_file(differentiable, options)

    def forward(self, x: Tensor) -> Tensor:
        """Code images ``[..., 3, H, W]``."""
        return jpeg(x, self.quality, **self.options)


def soft_or_file(differentiable: bool, options: "Options") -> "Options":
    """The options of the soft codec with the cubic slope, or of files; those given win."""
    check_options("DiffJPEG", options)
    return {"surrogate": "cubic", "forward": "soft" if differentiable else "exact", **options}
