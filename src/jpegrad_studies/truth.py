"""Derivatives of the real codec: of its noise-smoothed value to the image, of its error to quality and tables."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import jpegrad
from jpegrad_studies.baselines.fsa import PILLOW_SUBSAMPLING, pillow

# Decoded images [B, 3, H, W] in 0 ... 255 -> one loss each [B].
Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Estimate:
    """Independent estimates [M, ...] of one gradient; their spread is the error bar."""

    parts: Tensor

    @property
    def mean(self) -> Tensor:
        return self.parts.mean(0)

    def without(self, i: int) -> Estimate:
        return Estimate(torch.cat((self.parts[:i], self.parts[i + 1 :])))

    def energy(self) -> Tensor:
        """Unbiased |gradient|^2: products of different parts only, whose noises are independent."""
        count = len(self.parts)
        flat = self.parts.flatten(1)
        return (flat.sum(0).square().sum() - flat.square().sum()) / (count * (count - 1))


def smoothed_gradient(
    image: Tensor,
    quality: float,
    subsampling: str,
    sigma: float,
    losses: list[Loss],
    pairs: int,
    parts: int,
    seed: int,
) -> list[Estimate]:
    """d/dimage of E[loss(file(image + sigma n))] for each loss, from antithetic pairs of white noise.

    Args:
        image: [3, H, W] in 0 ... 255.
        pairs: In all, dealt out to `parts` independent estimates.
    """
    # A stream of its own: random weights drawn from the same seed would be the first noise, and look like signal.
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    size = pairs // parts
    q = torch.full((size,), float(quality))
    estimates: list[list[Tensor]] = [[] for _ in losses]
    for _ in range(parts):
        noise = torch.randn(size, *image.shape, generator=generator)
        above, below = (pillow(image + sign * sigma * noise, q, subsampling) for sign in (1, -1))
        for loss, collected in zip(losses, estimates, strict=True):
            with torch.no_grad():
                rise = (loss(above) - loss(below)) / (2 * sigma)
            collected.append((rise[:, None, None, None] * noise).mean(0).double())
    return [Estimate(torch.stack(collected)) for collected in estimates]


def agreement(gradient: Tensor, truth: Estimate) -> dict[str, float]:
    """Cosine corrected for sampling noise, size (truth per gradient, 1 is right) and bias, with standard errors."""

    def measure(estimate: Estimate) -> Tensor:
        a, g = gradient.double(), estimate.mean
        energy = estimate.energy().clamp(min=1e-30)
        along, own = (a * g).sum(), a.square().sum().clamp(min=1e-30)
        bias = (a.mean() - g.mean()) / (energy / a.numel()).sqrt()
        return torch.stack([along / (own * energy).sqrt(), along / own, bias])

    count = len(truth.parts)
    left_out = torch.stack([measure(truth.without(i)) for i in range(count)])
    errors = ((count - 1) * left_out.var(0, correction=0)).sqrt()
    names = ("cosine", "size", "bias")
    values = dict(zip(names, measure(truth).tolist(), strict=True))
    return values | {f"{name}_error": error for name, error in zip(names, errors.tolist(), strict=True)}


def file_with_tables(image: Tensor, tables: Tensor, subsampling: str = "4:2:0") -> Tensor:
    """[3, H, W] in 0 ... 255 through a file with these tables [2, 8, 8], rounded to integers 1 ... 255."""
    pixels = image.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    entries = [table.round().clamp(1, 255).int().flatten().tolist() for table in tables]
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(
            file, "JPEG", qtables=entries, subsampling=PILLOW_SUBSAMPLING[subsampling]
        )
        return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).to(image)


def squared_error(a: Tensor, b: Tensor) -> float:
    return float((a - b).double().square().mean())


def quality_slope(image: Tensor, quality: int, subsampling: str, reach: int = 2) -> float:
    """d(mean squared error)/dquality of real files: the least-squares slope over quality +- reach."""
    near = np.arange(max(quality - reach, 1), min(quality + reach, 100) + 1)
    batch = image.expand(len(near), *image.shape)
    coded = pillow(batch, torch.tensor(near).float(), subsampling)
    return float(np.polyfit(near, [squared_error(one, image) for one in coded], 1)[0])


def table_slopes(image: Tensor, tables: Tensor, subsampling: str, moves: tuple[int, ...] = (1, 2)) -> Tensor:
    """d(mean squared error)/dentry of real files for each entry [2, 8, 8]: mean of central differences."""
    slopes = torch.zeros_like(tables)
    for index in np.ndindex(*tables.shape):
        rises = []
        for move in moves:
            pair = []
            for sign in (1, -1):
                moved = tables.clone()
                moved[index] = (moved[index] + sign * move).clamp(1, 255)
                pair.append(
                    (float(moved[index]), squared_error(file_with_tables(image, moved, subsampling), image))
                )
            (high, above), (low, below) = pair
            rises.append((above - below) / (high - low))
        slopes[index] = float(np.mean(rises))
    return slopes


def file_cost(image: Tensor, quality: float, original: Tensor | None = None) -> tuple[float, float]:
    """Bits of the file of one image, and the squared error of its picture to the original, summed."""
    rounded = image.round().clamp(0, 255)
    with torch.no_grad():
        bits = jpegrad.bits(jpegrad.encode(rounded.to(torch.uint8), quality=quality))
        decoded = pillow(rounded[None], torch.tensor([float(quality)]))[0]
    error = (decoded - (image if original is None else original)).double().square().sum()
    return float(bits), float(error)


def trade_off(images: Sequence[Tensor], quality: float) -> float:
    """Squared error per bit that the quality scale itself asks for, between qualities a tenth lower and higher."""
    low, high = (
        np.sum([file_cost(image, round(quality * factor)) for image in images], 0) for factor in (0.9, 1.1)
    )
    return float((low[1] - high[1]) / (high[0] - low[0]))
