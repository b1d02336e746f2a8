"""What the metrics have in common: one original, prepared once, and any number of pictures compared with it."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from jpegrad.formulas import leaky_clamp
from jpegrad.inputs import bare, watch_range

SMALLEST = 8
"""Shortest side for which the metrics are defined."""
Result = TypeVar("Result")


class Comparison(ABC):
    """A metric with its original.

    Args:
        original: ``[C, H, W]`` or ``[B, C, H, W]``, C = 3 or 1, sides of at least 8; sRGB, floating point in 0…1 or
            uint8 in 0…255. Gray stands for three equal channels. Its gradient is not taken.

    Raises:
        TypeError, ValueError: ``original`` is not as described.
    """

    def __init__(self, original: Tensor) -> None:
        check_picture("original", original)
        self.shape = original.shape

    def __call__(self, image: Tensor) -> Tensor:
        """As :meth:`loss`."""
        return self.loss(image)

    @abstractmethod
    def loss(self, image: Tensor) -> Tensor:
        """What to minimise: a number for ``[C, H, W]``, ``[B]`` for a batch; 0 for the original itself."""

    @abstractmethod
    def report(self, image: Tensor) -> dict[str, Tensor]:
        """The official figures by name, without gradients."""

    def _check(self, image: Tensor) -> None:
        check_picture("image", image)
        if image.shape != self.shape:
            raise ValueError(f"image: expected {list(self.shape)}, as the original, got {list(image.shape)}")

    def _like_input(self, per_image: Tensor) -> Tensor:
        return per_image.reshape(self.shape[:-3])


def without_autocast(method: Callable[..., Result]) -> Callable[..., Result]:
    """Half precision would be noise: the metrics look at differences."""

    @functools.wraps(method)
    def run(self: Any, picture: Tensor, *arguments: Any) -> Result:
        device = picture.device.type if isinstance(picture, Tensor) else "cpu"
        with torch.autocast(device, enabled=False):
            return method(self, picture, *arguments)

    return run


def check_picture(argument: str, picture: Tensor) -> None:
    """Raise unless it is a picture as :class:`Comparison` takes them."""
    if not isinstance(picture, Tensor):
        raise TypeError(f"{argument}: expected a torch.Tensor, got {type(picture).__name__}")
    if picture.ndim not in (3, 4) or picture.shape[-3] not in (1, 3):
        raise ValueError(
            f"{argument}: expected [C, H, W] or [B, C, H, W], C = 3 or 1, got {list(picture.shape)}"
        )
    if min(picture.shape[-2:]) < SMALLEST:
        raise ValueError(f"{argument}: expected sides of at least {SMALLEST}, got {list(picture.shape)}")
    if picture.dtype is not torch.uint8 and not picture.is_floating_point():
        raise TypeError(f"{argument}: expected uint8 or floating point, got {picture.dtype}")


def linear_light(picture: Tensor) -> Tensor:
    """sRGB as linear light in 0…1, ``[B, 3, H, W]``; float64 stays, all else becomes float32.

    Source: IEC 61966-2-1.
    """
    picture = bare(picture)
    if picture.dtype is torch.uint8:
        picture = picture.float() / 255
    else:
        watch_range(picture, (0.0, 1.0))
        picture = picture if picture.dtype is torch.float64 else picture.float()
    picture = leaky_clamp(picture.reshape(-1, *picture.shape[-3:]), 0.0, 1.0)
    linear = torch.where(picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055) ** 2.4)
    return linear.expand(-1, 3, -1, -1)


def mixed(matrix: Tensor, planes: Tensor) -> Tensor:
    """Each pixel of ``[B, 3, H, W]`` times a matrix ``[3, 3]``."""
    return (matrix.to(planes) @ planes.flatten(2)).view(planes.shape)


def positive_part(x: Tensor) -> Tensor:
    """max(x, 0), with slope 0 at 0."""
    return torch.where(x > 0, x, 0.0)


def root(x: Tensor, exponent: float) -> Tensor:
    """x^exponent of numbers that are not negative; its slope at 0, which is infinite, is 0."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0) ** exponent, 0.0)
