"""The noise layers ``Jpeg``, ``JpegSS``, ``JpegMask`` and ``JpegTest`` of MBRS: simulated and real are one here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from jpegrad.codec import jpeg
from jpegrad.spec import check_options
from jpegrad.tables import check_quality

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from jpegrad.spec import Options

# Pillow's numbers.
_MODES = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


class Jpeg(nn.Module):
    """As ``network.noise_layers.jpeg.Jpeg``: the file itself, with a gradient.

    Args:
        Q: quality, 1…100.
        subsample: 0, 1 or 2 for 4:4:4, 4:2:2, 4:2:0.
        options: every other argument of :func:`jpegrad.jpeg`; images lie in −1…1 unless ``value_range`` says otherwise.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: Jia, Fang, Zhang, "MBRS", ACM MM 2021, ``network/noise_layers/jpeg.py``.

    Example:
        >>> import torch
        >>> image = 2 * torch.rand(2, 3, 64, 64) - 1
        >>> Jpeg(50)((image, image)).shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(self, Q: float, subsample: int = 0, **options: "Unpack[Options]") -> None:
        super().__init__()
        check_quality(Q)
        if subsample not in _MODES:
            raise ValueError(f"subsample: expected 0, 1 or 2, got {subsample!r}")
        check_options(type(self).__name__, options)
        self.Q = Q
        self.options: Any = {"subsampling": _MODES[subsample], "value_range": (-1, 1), **options}

    def forward(self, image_and_cover: Sequence[Tensor]) -> Tensor:
        """Code the first of (image, cover), ``[..., 3, H, W]``."""
        return jpeg(image_and_cover[0], self.Q, **self.options)


class JpegSS(Jpeg):
    """As ``network.noise_layers.jpeg.JpegSS``, which rounds by a cubic at 0: the file itself, with a gradient.

    Args:
        Q, subsample, options: as of :class:`Jpeg`.

    Example:
        >>> import torch
        >>> image = 2 * torch.rand(2, 3, 64, 64) - 1
        >>> bool((JpegSS(50)((image, image)) == Jpeg(50)((image, image))).all())
        True
    """


class JpegMask(Jpeg):
    """As ``network.noise_layers.jpeg.JpegMask``, which keeps a fixed set of coefficients: the file itself.

    Args:
        Q, subsample, options: as of :class:`Jpeg`.

    Example:
        >>> import torch
        >>> image = 2 * torch.rand(2, 3, 64, 64) - 1
        >>> bool((JpegMask(50)((image, image)) == Jpeg(50)((image, image))).all())
        True
    """


class JpegTest(Jpeg):
    """As ``network.noise_layers.jpeg.JpegTest``: cut off to 8 bits, as that saves it.

    Args:
        Q: quality, 1…100.
        subsample: 0, 1 or 2 for 4:4:4, 4:2:2, 4:2:0.
        path: not needed: no file is written.
        options: every other argument of :func:`jpegrad.jpeg`.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> import torch
        >>> image = 2 * torch.rand(2, 3, 64, 64) - 1
        >>> JpegTest(50)((image, image)).shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self, Q: float, subsample: int = 2, path: str | None = None, **options: "Unpack[Options]"
    ) -> None:
        chosen: Any = {"rounding": "truncate", **options}
        super().__init__(Q, subsample, **chosen)
