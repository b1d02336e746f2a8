"""``albumentations.ImageCompression``: the JPEG of the picture, and not of one with red and blue exchanged."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from jpegrad.codec import jpeg

try:
    import albumentations
except ImportError as error:
    raise ImportError(
        "jpegrad.compat.albumentations needs albumentations: pip install albumentations"
    ) from error

Array = np.ndarray[Any, Any]


class ImageCompression(albumentations.ImageCompression):  # type: ignore[misc]
    """As ``albumentations.ImageCompression``: draws, targets, replay and containers are albumentations'.

    Theirs hands RGB to an encoder that takes it for BGR, so that luma has the weights of the wrong channels. Here three
    channels are coded as RGB, one as gray, and of other counts the first three as RGB and each further one as gray; of
    two, each as gray. WebP is theirs.

    Args:
        compression_type: ``"jpeg"`` or ``"webp"``.
        quality_range: (lowest, highest), 1…100, integers.
        p: probability of being coded.
        subsampling: as of :func:`jpegrad.jpeg`.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: albumentations 2.0, ``augmentations/pixel/transforms.py``.

    Example:
        >>> image = np.random.randint(0, 256, (32, 48, 3), dtype=np.uint8)
        >>> ImageCompression(quality_range=(50, 90), p=1.0)(image=image)["image"].shape
        (32, 48, 3)
    """

    class InitSchema(albumentations.ImageCompression.InitSchema):  # type: ignore[misc]
        subsampling: str

    def __init__(
        self,
        compression_type: Literal["jpeg", "webp"] = "jpeg",
        quality_range: tuple[int, int] = (99, 100),
        p: float = 0.5,
        subsampling: str = "4:2:0",
    ) -> None:
        super().__init__(compression_type=compression_type, quality_range=quality_range, p=p)
        self.subsampling = subsampling

    def apply(self, img: Array, quality: int, image_type: str, **params: Any) -> Array:
        """Code one picture ``[H, W, C]`` or ``[H, W]``, uint8 or float32 in 0…1."""
        if image_type != ".jpg":
            coded: Array = super().apply(img, quality, image_type, **params)
            return coded
        pixels = np.ascontiguousarray(img if img.ndim == 3 else img[..., None])
        out = self._planes(torch.from_numpy(pixels).movedim(-1, 0), quality)
        found: Array = np.ascontiguousarray(out.movedim(0, -1).numpy())
        return found.reshape(img.shape)

    def _planes(self, image: Tensor, quality: int) -> Tensor:
        colour = 3 if len(image) >= 3 else 0
        parts = []
        if colour:
            parts.append(jpeg(image[:colour], quality, subsampling=self.subsampling))
        if len(image) > colour:
            parts.append(jpeg(image[colour:], quality, channels="planes"))
        return torch.cat(parts)
