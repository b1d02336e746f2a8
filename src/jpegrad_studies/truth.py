"""Derivatives of the real codec: of its noise-smoothed value to the image, of its error to quality and tables."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import jpegrad
from jpegrad.testing import SampledGradient, real_gradient
from jpegrad_studies.baselines.fsa import PILLOW_SUBSAMPLING, pillow

# Decoded images [B, 3, H, W] in 0 ... 255 -> one loss each [B].
Loss = Callable[[Tensor], Tensor]


def smoothed_gradient(
    image: Tensor,
    quality: int,
    subsampling: str,
    sigma: float,
    losses: list[Loss],
    pairs: int,
    parts: int,
    seed: int,
) -> list[SampledGradient]:
    """d/dimage of E[loss(file(image + sigma n))] for each loss, from files that Pillow wrote.

    Modes that Pillow does not write are coded by the exact forward, which equals libjpeg-turbo.

    Args:
        image: [3, H, W] in 0 ... 255.
    """
    found = real_gradient(
        image,
        quality,
        sigma,
        lambda decoded: torch.stack([loss(decoded) for loss in losses], 1),
        subsampling=subsampling,
        value_range=(0, 255),
        pairs=pairs,
        parts=parts,
        seed=seed,
        files=subsampling in PILLOW_SUBSAMPLING,
    )
    return [SampledGradient(found.parts[:, i]) for i in range(len(losses))]


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
