"""What the metrics have in common: one original, prepared once, and any number of pictures compared with it."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from jpegrad.backends import kernel
from jpegrad.formulas import leaky_clamp
from jpegrad.inputs import bare, bounds, watch_range
from jpegrad.metrics.filters import is_plain
from jpegrad.sampling import ceil_div
from jpegrad.spec import JFIF, Range, check_channels, check_value_range

UNIT = (0.0, 1.0)
SMALLEST = 8
"""Shortest side for which the metrics are defined."""
CHROMA = torch.tensor(JFIF.matrix[1:], dtype=torch.float64)
"""Cb and Cr of red, green and blue."""
Result = TypeVar("Result")


def without_autocast(method: Callable[..., Result]) -> Callable[..., Result]:
    """Half precision would be noise: the metrics look at differences."""

    @functools.wraps(method)
    def run(self: Any, picture: Tensor, **options: Any) -> Result:
        device = picture.device.type if isinstance(picture, Tensor) else "cpu"
        with torch.autocast(device, enabled=False):
            return method(self, picture, **options)

    return run


class Comparison(ABC):
    """A metric with its original.

    Args:
        original: ``[C, H, W]`` or ``[B, C, H, W]``, C = 3 or 1, sides of at least 8; sRGB, floating point in
            ``value_range`` or uint8. Gray stands for three equal channels. Its gradient is not taken.
        value_range: (low, high) of floating-point pictures. What lies outside counts as the bound, with slope 0.

    Raises:
        TypeError, ValueError: they are not as described.
    """

    @without_autocast
    def __init__(self, original: Tensor, *, value_range: Range = UNIT) -> None:
        check_picture("original", original)
        self.value_range = check_value_range(value_range)
        check_channels(self.value_range, original.shape[-3])
        self.shape = original.shape
        self._originals: list[Any] = []
        # No graph may hold a tensor made in inference mode, hence the clone.
        self._original = rgb(original.detach().clone(), self.value_range)

    def __call__(self, image: Tensor) -> Tensor:
        """As :meth:`loss`."""
        return self.loss(image)

    @abstractmethod
    def loss(self, image: Tensor) -> Tensor:
        """What to minimise: a number for ``[C, H, W]``, ``[B]`` for a batch; 0 for the original itself."""

    @abstractmethod
    def report(self, image: Tensor) -> dict[str, Tensor]:
        """The official figures by name, without gradients."""

    @without_autocast
    def squared_error(self, image: Tensor) -> Tensor:
        """The mean squared error of sRGB in 0…1."""
        image, original = _clamped(self._rgb(image)), _clamped(self._original)
        error = torch.nn.functional.mse_loss(image, original.to(image), reduction="none")
        return self._like_input(error.mean((-3, -2, -1)))

    @without_autocast
    def chroma_error(self, image: Tensor) -> Tensor:
        """The mean squared error of Cb and Cr, in the units of sRGB in 0…1, each averaged over areas of 8 × 8 pixels.

        The areas begin at every fourth row and column. What the eye sees of colours is coarse; colours of wrong
        blocks are, too.
        """
        image = _clamped(self._rgb(image))
        error = image - _clamped(self._original).to(image)
        height, width = (side // 4 for side in error.shape[-2:])
        small = error[..., : 4 * height, : 4 * width].unflatten(-1, (width, 4)).unflatten(-3, (height, 4))
        small = mixed(CHROMA, small.mean((-3, -1)))
        down = small[..., 1:, :] + small[..., :-1, :]
        areas = (down[..., 1:] + down[..., :-1]) / 4
        return self._like_input(areas.square().mean((-3, -2, -1)))

    def _rgb(self, image: Tensor) -> Tensor:
        check_picture("image", image)
        if image.shape != self.shape:
            raise ValueError(f"image: expected {list(self.shape)}, as the original, got {list(image.shape)}")
        return rgb(image, self.value_range)

    def _kernel(self, name: str, *arguments: Any) -> Callable[[Tensor], Tensor] | None:
        """A backend's function of pictures, prepared for the original, if there is one."""
        found = kernel(name, self._original) if suits_kernels(self._original) else None
        return None if found is None else found(self._original, *arguments)

    def _prepared(self, picture: Tensor) -> list[Any]:
        """The original as plain PyTorch needs it, made when it is first needed."""
        if self._originals:
            return self._originals
        with torch.no_grad():
            found = self._prepare()
        # What a transform computes lives no longer than it.
        if torch.compiler.is_compiling() or is_plain(picture):
            self._originals = found
        return found

    @abstractmethod
    def _prepare(self) -> list[Any]:
        """The original at every scale."""

    def _like_input(self, per_image: Tensor) -> Tensor:
        return per_image.reshape(self.shape[:-3])


def _clamped(picture: Tensor) -> Tensor:
    """In 0…1; one that is there already needs no copy."""
    if is_plain(picture):
        low, high = picture.detach().aminmax()
        if low >= 0 and high <= 1:
            return picture
    return leaky_clamp(picture, 0.0, 1.0)


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


def rgb(picture: Tensor, value_range: Range) -> Tensor:
    """sRGB in 0…1, ``[B, 3, H, W]``; float64 stays, all else becomes float32."""
    picture = bare(picture)
    if picture.dtype is torch.uint8:
        picture = picture.float() / 255
    else:
        watch_range(picture, value_range)
        picture = picture if picture.dtype is torch.float64 else picture.float()
        if value_range != UNIT:
            low, high = bounds(value_range, picture, picture.dtype)
            picture = (picture - low) / (high - low)
    return picture.reshape(-1, *picture.shape[-3:]).expand(-1, 3, -1, -1)


def suits_kernels(picture: Tensor) -> bool:
    """Whether kernels may compute it: float32, finite, and neither traced nor transformed."""
    return picture.dtype is torch.float32 and is_plain(picture) and bool(picture.detach().sum().isfinite())


def linear_light(picture: Tensor) -> Tensor:
    """sRGB as linear light in 0…1; what lies outside is clamped, as a viewer would.

    Source: IEC 61966-2-1.
    """
    picture = leaky_clamp(picture, 0.0, 1.0)
    return torch.where(picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055) ** 2.4)


def halvings(size: tuple[int, int], most: int) -> list[tuple[int, int]]:
    """(height, width) of up to ``most`` scales; one that is smaller than 8 is the last."""
    sizes = [size]
    while len(sizes) < most and min(sizes[-1]) >= SMALLEST:
        height, width = sizes[-1]
        sizes.append((ceil_div(height, 2), ceil_div(width, 2)))
    return sizes


def mixed(matrix: Tensor, planes: Tensor) -> Tensor:
    """Each pixel of ``[B, 3, H, W]`` times a matrix ``[N, 3]``."""
    return (matrix.to(planes) @ planes.flatten(2)).unflatten(-1, planes.shape[-2:])


def positive_part(x: Tensor) -> Tensor:
    """max(x, 0), with slope 0 at 0."""
    return torch.where(x <= 0, 0.0, x)


def root(x: Tensor, exponent: float) -> Tensor:
    """x^exponent of numbers that are not negative; its slope at 0, which is infinite, is 0."""
    zero = x <= 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x) ** exponent)
