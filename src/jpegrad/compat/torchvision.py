"""``torchvision.transforms.v2.JPEG`` and its functional, for every tensor and with gradients."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jpegrad import codec
from jpegrad.compat.common import draw
from jpegrad.spec import check_options

try:
    from torchvision import tv_tensors
    from torchvision.transforms import v2
except ImportError as error:
    raise ImportError("jpegrad.compat.torchvision needs torchvision: pip install torchvision") from error

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from jpegrad.spec import Options

# Pillow opens a JPEG file in one of these modes.
_CHANNELS = {"L": None, "RGB": None, "CMYK": "CMYK"}


def jpeg(image: Any, quality: int, **options: "Unpack[Options]") -> Any:
    """As ``torchvision.transforms.v2.functional.jpeg``.

    Args:
        image: a tensor, ``tv_tensors.Image`` or ``Video`` ``[..., 3 or 1, H, W]``, uint8 or floating point, on any
            device; or an image of Pillow of mode L, RGB or CMYK.
        quality: 1…100.
        options: every other argument of :func:`jpegrad.jpeg`.

    Returns:
        The coded image, of the type of ``image``.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: torchvision, ``transforms/v2/functional/_augment.py``.

    Example:
        >>> import torch
        >>> jpeg(torch.zeros(3, 8, 8, dtype=torch.uint8), quality=50).shape
        torch.Size([3, 8, 8])
    """
    if isinstance(image, Image.Image):
        return _picture(image, quality, options)
    if isinstance(image, tv_tensors.TVTensor) and not isinstance(image, (tv_tensors.Image, tv_tensors.Video)):
        raise TypeError(f"image: expected a tensor, Image, Video or PIL image, got {type(image).__name__}")
    return codec.jpeg(image, quality, **options)


class JPEG(v2.Transform):
    """As ``torchvision.transforms.v2.JPEG``: the same draw under the same seed, the same bytes, and gradients.

    A sample is any structure of dicts, lists and tuples. All its images, videos and PIL images get one quality; boxes,
    masks, key points and everything else pass unchanged. Types stay.

    Args:
        quality: 1…100, an integer or two (lowest, highest), of which every integer between is equally likely.
        options: every other argument of :func:`jpegrad.jpeg`, such as ``subsampling``.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: torchvision, ``transforms/v2/_augment.py``.

    Example:
        >>> import torch
        >>> from torchvision import tv_tensors
        >>> image, mask = tv_tensors.Image(torch.rand(3, 32, 32)), tv_tensors.Mask(torch.zeros(32, 32))
        >>> coded = JPEG(quality=(30, 95))({"image": image, "mask": mask})
        >>> type(coded["image"]).__name__, coded["mask"] is mask
        ('Image', True)
    """

    def __init__(self, quality: int | Sequence[int], **options: "Unpack[Options]") -> None:
        super().__init__()
        pair: Any = (quality, quality) if isinstance(quality, int) else quality
        # The words of torchvision's errors, for those who look for them.
        if isinstance(quality, bool) or not isinstance(pair, Sequence):
            raise TypeError(f"quality should be an integer or a sequence of two, got {quality!r}")
        if len(pair) != 2:
            raise ValueError(f"quality should be a sequence of length 2, got {quality!r}")
        if (
            any(isinstance(q, bool) or not isinstance(q, int) for q in pair)
            or not 1 <= pair[0] <= pair[1] <= 100
        ):
            raise ValueError(f"quality must be an integer from 1 to 100, got {quality!r}")
        check_options("JPEG", options)
        self.quality = pair
        self.options = options

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the quality of a sample."""
        return {"quality": draw(*self.quality)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Code one image of a sample."""
        if isinstance(inpt, tv_tensors.TVTensor) and not isinstance(
            inpt, (tv_tensors.Image, tv_tensors.Video)
        ):
            return inpt
        return jpeg(inpt, params["quality"], **self.options)


def _picture(image: Image.Image, quality: int, options: Any) -> Image.Image:
    if image.mode not in _CHANNELS:
        raise TypeError(
            f"image: expected a PIL image of mode {', '.join(_CHANNELS)}, got {image.mode}; "
            'image.convert("RGB") makes one'
        )
    pixels = np.array(image)
    planes = torch.from_numpy(pixels[..., None] if pixels.ndim == 2 else pixels).movedim(-1, 0)
    if image.mode == "CMYK":
        options = {"channels": "CMYK", **options}
    coded: Tensor = codec.jpeg(planes, quality, **options)
    return Image.frombytes(image.mode, image.size, coded.movedim(0, -1).contiguous().numpy().tobytes())
