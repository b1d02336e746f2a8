"""Reich, Debnath, Patel & Chakradhar, "Differentiable JPEG: The devil is in the details", WACV 2024."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from jpegrad_studies.baselines.common import Baseline, Pipeline, Rounding, clip, factor, with_slope
from jpegrad_studies.baselines.rounding import cubic, cubic_ste

SOURCE = "Reich et al., Differentiable JPEG: The devil is in the details, WACV 2024"
LEAK = 1e-3

Clip = Callable[[Tensor, float, float], Tensor]


def soft_clip(x: Tensor, low: float, high: float) -> Tensor:
    """The identity inside, slope 10^-3 outside, in the value too."""
    return clip(x, low, high, LEAK)


def ste_clip(x: Tensor, low: float, high: float) -> Tensor:
    """Hard clip with slope 10^-3 outside."""
    return with_slope(x, x.clamp(low, high), torch.where((x < low) | (x > high), LEAK, 1.0))


def soft_floor(x: Tensor) -> Tensor:
    return cubic(x - 0.5)


def ste_floor(x: Tensor) -> Tensor:
    """Hard floor with the cubic's slope at x - 1/2."""
    return with_slope(x, x.floor(), 3 * (x - 0.5 - (x - 0.5).round()) ** 2)


def tables(quality: Tensor, base: Tensor, floor: Rounding, clip: Clip) -> Tensor:
    """clip(floor((floor(factor) base + 50) / 100), 1, 255)."""
    scale = floor(factor(quality))[:, None, None, None]
    return clip(floor((base * scale + 50) / 100), 1.0, 255.0)


def antialiased_down(chroma: Tensor) -> Tensor:
    """3 x 3 Gaussian (sigma 0.5, borders reflected), then the mean of each 2 x 2."""
    side = math.exp(-2.0)
    taps = chroma.new_tensor([side, 1.0, side]) / (1 + 2 * side)
    kernel = torch.outer(taps, taps).expand(chroma.shape[1], 1, 3, 3)
    blurred = F.conv2d(F.pad(chroma, (1, 1, 1, 1), mode="reflect"), kernel, groups=chroma.shape[1])
    return F.avg_pool2d(blurred, 2)


def pipeline(rounding: Rounding, floor: Rounding, clip: Clip) -> Pipeline:
    return Pipeline(
        round=rounding,
        tables=partial(tables, floor=floor, clip=clip),
        down=antialiased_down,
        clip=partial(clip, low=0.0, high=255.0),
    )


BASELINES = (
    Baseline(
        "reich_soft",
        2024,
        SOURCE,
        pipeline(cubic, soft_floor, soft_clip),
        differentiable=("image", "quality", "tables"),
        notes="soft round, floor and clip",
    ),
    Baseline(
        "reich_ste",
        2024,
        SOURCE,
        pipeline(cubic_ste, ste_floor, ste_clip),
        differentiable=("image", "quality", "tables"),
        notes="hard forward, slope 3r^2",
    ),
)
