"""What the metrics have in common: one original, prepared once, and any number of pictures compared with it."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
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
ROWS = 64
"""Of a strip that is looked at at once."""
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
        copy: False takes the original itself, which nothing may change then.

    Raises:
        TypeError, ValueError: they are not as described.
    """

    @without_autocast
    def __init__(self, original: Tensor, *, value_range: Range = UNIT, copy: bool = True) -> None:
        check_picture("original", original)
        self.value_range = check_value_range(value_range)
        check_channels(self.value_range, original.shape[-3])
        self.shape = original.shape
        self._originals: list[Any] = []
        self._native: Any = None
        # No graph may hold a tensor made in inference mode, hence the clone.
        own = original.detach().clone() if copy else original.detach()
        self._kept = in_bytes(rgb(own, self.value_range, keep_bytes=True))

    def __call__(self, image: Tensor) -> Tensor:
        """As :meth:`loss`."""
        return self.loss(image)

    @without_autocast
    def loss(self, image: Tensor) -> Tensor:
        """What to minimise: a number for ``[C, H, W]``, ``[B]`` for a batch; 0 for the original itself."""
        return self._like_input(self._losses(self._rgb(image)))

    @abstractmethod
    def _losses(self, picture: Tensor) -> Tensor:
        """The losses ``[B]`` of sRGB in 0…1, ``[B, 3, H, W]``."""

    @without_autocast
    @torch.no_grad()
    def slope(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a picture of bytes, and its gradient; by kernels in less memory than a graph takes.

        Args:
            image: as of :meth:`loss`, uint8.

        Returns:
            The loss as :meth:`loss` gives it, and the gradient to the samples as numbers in 0…1, float32, shaped like
            the image.

        Raises:
            TypeError, ValueError: ``image`` is not as described.
        """
        return slope(self.shape, image, self.add_slope)

    def add_slope(self, picture: Tensor, gradient: Tensor, scale: Tensor) -> Tensor:
        """The losses ``[B]`` of bytes ``[B, 3, H, W]``; their gradients times ``scale`` ``[B]`` are added."""
        if self._native is not None:
            found: Tensor = self._native.losses(picture, gradient, scale)
            return found
        with torch.enable_grad():
            leaf = unit(picture).requires_grad_()
            losses = self._losses(leaf)
            (slopes,) = torch.autograd.grad(losses.sum(), leaf)
        gradient.add_(slopes * scale[:, None, None, None])
        return losses.detach()

    @abstractmethod
    def report(self, image: Tensor) -> dict[str, Tensor]:
        """The official figures by name, without gradients."""

    @without_autocast
    def squared_error(self, image: Tensor) -> Tensor:
        """The mean squared error of sRGB in 0…1."""
        image, original = _clamped(self._rgb(image)), _clamped(self._original())
        error = torch.nn.functional.mse_loss(image, original.to(image), reduction="none")
        return self._like_input(error.mean((-3, -2, -1)))

    @without_autocast
    def chroma_error(self, image: Tensor) -> Tensor:
        """The mean squared error of Cb and Cr, in the units of sRGB in 0…1, each averaged over areas of 8 × 8 pixels.

        The areas begin at every fourth row and column. What the eye sees of colours is coarse; colours of wrong
        blocks are, too.
        """
        image, original = _clamped(self._rgb(image)), _clamped(self._original())
        areas = _areas(_chroma_of_quarters(image - original.to(image)))
        return self._like_input(areas.square().mean((-3, -2, -1)))

    def add_squared_error_slope(self, picture: Tensor, gradient: Tensor, scale: Tensor) -> Tensor:
        """As :meth:`add_slope` of :meth:`squared_error`."""
        return add_squared_error_slope(self._kept, picture, gradient, scale)

    def add_chroma_error_slope(self, picture: Tensor, gradient: Tensor, scale: Tensor) -> Tensor:
        """As :meth:`add_slope` of :meth:`chroma_error`."""
        chroma = torch.cat([_chroma_of_quarters(error) for error in _errors(self._kept, picture)], 2)
        areas = _areas(chroma)
        losses = areas.square().mean((-3, -2, -1))
        # Each area is the mean of 8 × 8 pixels.
        areas *= (2 / 64 / areas[0].numel() * scale)[:, None, None, None]
        chroma.zero_()
        for rows in (chroma[..., 1:, :], chroma[..., :-1, :]):
            rows[..., 1:] += areas
            rows[..., :-1] += areas
        for slope, out in zip(chroma.split(ROWS // 4, 2), gradient.split(ROWS, 2), strict=False):
            height, width = (4 * side for side in slope.shape[-2:])
            inside = out[..., :height, :width].unflatten(-1, (-1, 4)).unflatten(-3, (-1, 4))
            inside += mixed(CHROMA.T, slope)[..., :, None, :, None]
        return losses

    def _original(self) -> Tensor:
        """sRGB in 0…1, ``[B, 3, H, W]``."""
        return rgb(self._kept, UNIT)

    def _rgb(self, image: Tensor) -> Tensor:
        check_alike(image, self.shape)
        return rgb(image, self.value_range)

    def _kernel(self, name: str, *arguments: Any) -> Any:
        """A backend's kernel for the original, if there is one."""
        found = kernel(name, self._kept) if suits_kernels(self._kept) else None
        return None if found is None else found(self._kept, *arguments)

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


def _errors(original: Tensor, picture: Tensor) -> Iterator[Tensor]:
    """Of pictures ``[B, C, H, W]`` in bytes or 0…1, strip by strip."""
    for image, kept in zip(picture.split(ROWS, 2), original.split(ROWS, 2), strict=True):
        yield unit(image) - unit(kept).clamp(0.0, 1.0)


def add_squared_error_slope(original: Tensor, picture: Tensor, gradient: Tensor, scale: Tensor) -> Tensor:
    """The mean squared errors ``[B]`` of ``[B, C, H, W]``; their gradients times ``scale`` ``[B]`` are added."""
    sums = torch.zeros(len(picture), dtype=torch.float64, device=picture.device)
    samples = picture[0].numel()
    for error, out in zip(_errors(original, picture), gradient.split(ROWS, 2), strict=True):
        sums += error.square().sum((1, 2, 3), dtype=torch.float64)
        out.add_(error * (2 / samples * scale)[:, None, None, None])
    return (sums / samples).to(scale)


def _chroma_of_quarters(error: Tensor) -> Tensor:
    """The chroma of the means of 4 × 4 pixels, ``[B, 2, H // 4, W // 4]``."""
    height, width = (side // 4 for side in error.shape[-2:])
    whole = error[..., : 4 * height, : 4 * width]
    return mixed(CHROMA, whole.unflatten(-1, (width, 4)).unflatten(-3, (height, 4)).mean((-3, -1)))


def _areas(quarters: Tensor) -> Tensor:
    """The means of 2 × 2 neighbours."""
    pairs = quarters[..., 1:, :] + quarters[..., :-1, :]
    return (pairs[..., 1:] + pairs[..., :-1]) / 4


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


def check_alike(image: Tensor, shape: torch.Size) -> None:
    """Raise unless it is a picture of the original's shape."""
    check_picture("image", image)
    if image.shape != shape:
        raise ValueError(f"image: expected {list(shape)}, as the original, got {list(image.shape)}")


def unit(picture: Tensor) -> Tensor:
    """Bytes as numbers in 0…1, others as they are."""
    return picture.float() / 255 if picture.dtype is torch.uint8 else picture


def rgb(picture: Tensor, value_range: Range, *, keep_bytes: bool = False) -> Tensor:
    """sRGB in 0…1, ``[B, 3, H, W]``; float64 stays, and bytes if they may, all else becomes float32."""
    picture = bare(picture)
    if picture.dtype is torch.uint8:
        picture = picture if keep_bytes else unit(picture)
    else:
        watch_range(picture, value_range)
        picture = picture if picture.dtype is torch.float64 else picture.float()
        if value_range != UNIT:
            low, high = bounds(value_range, picture, picture.dtype)
            picture = (picture - low) / (high - low)
    return picture.reshape(-1, *picture.shape[-3:]).expand(-1, 3, -1, -1)


def in_bytes(picture: Tensor) -> Tensor:
    """A picture ``[B, 3, H, W]`` in bytes, if all of its samples are 255ths; else as it is."""
    if picture.dtype is not torch.float32 or not is_plain(picture):
        return picture
    found = torch.empty(picture.shape, dtype=torch.uint8, device=picture.device)
    for strip, out in zip(picture.split(ROWS, 2), found.split(ROWS, 2), strict=True):
        out.copy_((strip * 255).round_().nan_to_num_().clamp_(0, 255))
        if not torch.equal(out.float() / 255, strip):
            return picture
    return found


def slope(
    shape: torch.Size, image: Tensor, add_slope: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Loss and gradient of a picture of bytes, shaped like the original, by a function that adds to a gradient."""
    check_alike(image, shape)
    if image.dtype is not torch.uint8:
        raise TypeError(f"image: expected uint8, got {image.dtype}")
    picture = rgb(image, UNIT, keep_bytes=True)
    gradient = torch.zeros(picture.shape, device=image.device)
    losses = add_slope(picture, gradient, torch.ones(len(picture), device=image.device))
    if shape[-3] == 1:
        gradient = gradient.sum(1, keepdim=True)
    return losses.reshape(shape[:-3]), gradient.view(shape)


def suits_kernels(picture: Tensor) -> bool:
    """Whether kernels may compute it: bytes, or float32 and finite; and neither traced nor transformed."""
    if not is_plain(picture):
        return False
    if picture.dtype is torch.uint8:
        return True
    return picture.dtype is torch.float32 and bool(picture.detach().sum().isfinite())


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
    """Each pixel of ``[B, M, H, W]`` times a matrix ``[N, M]``."""
    return (matrix.to(planes) @ planes.flatten(2)).unflatten(-1, planes.shape[-2:])


def positive_part(x: Tensor) -> Tensor:
    """max(x, 0), with slope 0 at 0."""
    return torch.where(x <= 0, 0.0, x)


def root(x: Tensor, exponent: float) -> Tensor:
    """x^exponent of numbers that are not negative; its slope at 0, which is infinite, is 0."""
    zero = x <= 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x) ** exponent)
