"""The derivative of real files, sampled: what a surrogate's gradient should be."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from jpegrad.arguments import one_line
from jpegrad.codec import jpeg
from jpegrad.home import home
from jpegrad.spec import Subsampling, check_choice, check_image, check_value_range
from jpegrad.surrogates import check_positive
from jpegrad.tables import check_quality
from jpegrad.testing.assertions import pillow

BATCH = 250
"""Noisy images that are coded at a time, and their mirror images."""


@dataclass(frozen=True)
class Agreement:
    """A gradient beside a sampled one; the noise of the sampling is taken out, and what is left of it stated.

    Args:
        cosine: of the angle between them, corrected for the noise; 1 is the same direction. Noise can carry it beyond.
        size: the sampled gradient along the given one, per its length: 1 is the right size, 2 means half of it.
        bias: difference of the means over all numbers, in root mean squares of the sampled gradient.
        cosine_error, size_error, bias_error: their standard errors.
    """

    cosine: float
    size: float
    bias: float
    cosine_error: float
    size_error: float
    bias_error: float


@dataclass(frozen=True)
class SampledGradient:
    """Independent estimates of one gradient; their spread is the error bar.

    Args:
        parts: ``[M, ...]``, M ≥ 2 estimates of the same expectation.
    """

    parts: Tensor

    def __repr__(self) -> str:
        return one_line("SampledGradient", parts=self.parts)

    @property
    def mean(self) -> Tensor:
        """The estimate."""
        return self.parts.mean(0)

    @property
    def error(self) -> Tensor:
        """The standard error of every number of the mean."""
        return self.parts.std(0) / math.sqrt(len(self.parts))

    def along(self, direction: Tensor) -> tuple[float, float]:
        """The derivative along a direction of the gradient's shape, and its standard error."""
        each = (self.parts * direction.to(self.parts)).flatten(1).sum(1)
        return each.mean().item(), each.std().item() / math.sqrt(len(each))

    def energy(self) -> Tensor:
        """|gradient|² without the noise's: products of different parts only, whose noises are independent."""
        count, flat = len(self.parts), self.parts.flatten(1)
        return (flat.sum(0).square().sum() - flat.square().sum()) / (count * (count - 1))

    def agreement(self, gradient: Tensor) -> Agreement:
        """How right a gradient of the same shape is; the errors are the jackknife's, so that M ≥ 3 parts are needed.

        Raises:
            ValueError: the shapes differ, or there are too few parts.
        """
        count = len(self.parts)
        if gradient.shape != self.parts.shape[1:]:
            raise ValueError(
                f"gradient: expected shape {list(self.parts.shape[1:])}, got {list(gradient.shape)}"
            )
        if count < 3:
            raise ValueError(f"parts: expected at least 3, got {count}")
        given = gradient.detach().to(self.parts)
        left_out = torch.stack([_measures(given, self._without(i)) for i in range(count)])
        errors = ((count - 1) * left_out.var(0, correction=0)).sqrt()
        return Agreement(*_measures(given, self).tolist(), *errors.tolist())

    def _without(self, i: int) -> "SampledGradient":
        return SampledGradient(torch.cat((self.parts[:i], self.parts[i + 1 :])))


def _measures(given: Tensor, sampled: SampledGradient) -> Tensor:
    mean, energy = sampled.mean, sampled.energy().clamp(min=1e-30)
    along, own = (given * mean).sum(), given.square().sum().clamp(min=1e-30)
    bias = (given.mean() - mean.mean()) / (energy / given.numel()).sqrt()
    return torch.stack([along / (own * energy).sqrt(), along / own, bias])


def real_gradient(
    image: Tensor,
    quality: int,
    sigma: float,
    loss: Callable[[Tensor], Tensor],
    *,
    subsampling: Subsampling = "4:2:0",
    value_range: tuple[float, float] = (0.0, 1.0),
    pairs: int = 2000,
    parts: int = 10,
    seed: int = 0,
    files: bool = False,
) -> SampledGradient:
    """Derivative of E[loss(file(image + noise))] to the image, sampled from real files: no surrogate is in it.

    The noise is white, of ``sigma`` grey levels, and comes in pairs of opposite signs. Noisy pixels are rounded and
    clamped to 8 bits as every file's are: an image within 3 ``sigma`` of black or white has less noise there than said.

    Args:
        image: ``[C, H, W]``, C = 3 or 1, floating point in ``value_range``.
        quality: 1…100.
        sigma: in grey levels, > 0; as in ``surrogate="gaussian"``, which estimates the same derivative.
        loss: decoded images ``[B, C, H, W]`` in ``value_range`` → one number each ``[B]``, or several ``[B, L]``, which
            then share the noise.
        subsampling, value_range: as in :func:`jpegrad.jpeg`.
        pairs: how many pairs of files, in all; the error falls with the root of it.
        parts: independent estimates among which they are divided, ≥ 2.
        seed: of the noise.
        files: write and read every file with Pillow, in place of the exact forward; the same numbers, much slower.

    Returns:
        :class:`SampledGradient` of ``[C, H, W]``, or ``[L, C, H, W]`` for several losses, in float64.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> import jpegrad
        >>> image = torch.linspace(0.3, 0.7, 256).sin().reshape(1, 16, 16)
        >>> target = torch.linspace(0, 1, 256).reshape(1, 16, 16)
        >>> def loss(x):
        ...     return (x - target).square().sum((-1, -2, -3))
        >>> real = real_gradient(image, 50, 2.0, loss, pairs=4000)
        >>> x = image.clone().requires_grad_()
        >>> loss(jpegrad.jpeg(x, 50, forward="soft", sigma=2.0)).backward()
        >>> real.agreement(x.grad).cosine > 0.95
        True
    """
    check_image(image)
    if image.ndim != 3 or not image.is_floating_point():
        raise ValueError(
            f"image: expected [C, H, W] in floating point, got {image.dtype} {list(image.shape)}"
        )
    check_quality(quality)
    check_positive("sigma", sigma)
    check_choice("subsampling", subsampling, get_args(Subsampling))
    low, high = check_value_range(value_range)
    if not 2 <= parts <= pairs:
        raise ValueError(f"parts: expected 2 to pairs ({pairs}), got {parts}")
    place = home(image.device)
    grey = (image.detach().to(place).double() - low) * (255 / (high - low))
    # A stream of its own: a loss with random weights of the same seed would otherwise correlate with the noise.
    generator = torch.Generator(place).manual_seed(seed + 1_000_003)

    def coded(noisy: Tensor) -> Tensor:
        pixels = noisy.round().clamp(0, 255).to(torch.uint8)
        if files:
            decoded = pillow(pixels, quality, subsampling=subsampling)
        else:
            decoded = jpeg(pixels, quality, subsampling=subsampling)
        with torch.no_grad():
            shown = (low + decoded.double() / 255 * (high - low)).to(image.dtype).to(image.device)
            numbers = loss(shown).to(place).double()
        if numbers.ndim not in (1, 2) or len(numbers) != len(noisy):
            raise ValueError(f"loss: expected [{len(noisy)}] or [{len(noisy)}, L], got {list(numbers.shape)}")
        return numbers

    def estimate(count: int) -> Tensor:
        total: Tensor | float = 0.0
        for size in (*[BATCH] * (count // BATCH), *[count % BATCH] * (count % BATCH > 0)):
            noise = torch.randn(size, *image.shape, generator=generator, dtype=torch.float64, device=place)
            rise = coded(grey + sigma * noise) - coded(grey - sigma * noise)
            total = total + torch.tensordot(rise, noise, ([0], [0]))
        return torch.as_tensor(total) / count

    found = torch.stack([estimate(pairs // parts) for _ in range(parts)])
    return SampledGradient(found / (2 * sigma) * (255 / (high - low)))
