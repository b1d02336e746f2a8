"""One image of a caller: checked, and its samples in [0, 1]."""

import torch
from torch import Tensor

from jpegrad.inputs import bounds
from jpegrad.spec import Range, check_channels, check_image

UNIT = (0.0, 1.0)


def check_one_image(argument: str, image: Tensor) -> None:
    """Raise unless it is ``[C, H, W]``, C = 3 or 1, uint8 or floating point.

    Raises:
        TypeError, ValueError: it is not.
    """
    if isinstance(image, Tensor) and image.ndim != 3:
        several = " (learn_image_tables takes batches)" if image.ndim > 3 else ""
        raise ValueError(f"{argument}: expected one image, [1 or 3, H, W], got {list(image.shape)}{several}")
    try:
        check_image(image)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("image", argument, 1)) from None


def in_unit_range(image: Tensor, value_range: Range) -> Tensor:
    """Float32 in [0, 1]: uint8 from 0…255, floating point from ``value_range``, not clipped."""
    value_range = (0.0, 255.0) if image.dtype is torch.uint8 else value_range
    check_channels(value_range, image.shape[-3])
    low, high = bounds(value_range, image, torch.float32)
    image = image.float()
    return image if value_range == UNIT else (image - low) / (high - low)
