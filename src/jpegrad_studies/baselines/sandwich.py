"""Guleryuz et al., "Sandwiched image compression: wrapping neural networks around a standard codec"."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jpegrad_studies.baselines.common import Baseline, Pipeline
from jpegrad_studies.baselines.rounding import identity_ste


def antialiased_down(chroma: Tensor) -> Tensor:
    """Triangle of radius two samples: (1, 3, 3, 1) / 8 per axis."""
    return F.interpolate(chroma, scale_factor=0.5, mode="bilinear", align_corners=False, antialias=True)


def lanczos_matrix(size: int, radius: int = 3) -> Tensor:
    """[2 size, size]: doubling by the Lanczos kernel, rows normalised where the border cuts the kernel."""
    centre = (torch.arange(2 * size, dtype=torch.float64) + 0.5) / 2 - 0.5
    distance = centre[:, None] - torch.arange(size, dtype=torch.float64)
    kernel = torch.sinc(distance) * torch.sinc(distance / radius) * (distance.abs() < radius)
    return kernel / kernel.sum(1, keepdim=True)


def lanczos_up(chroma: Tensor) -> Tensor:
    rows, columns = (lanczos_matrix(size).to(chroma) for size in chroma.shape[-2:])
    return rows @ chroma @ columns.mT


BASELINES = (
    Baseline(
        "sandwich",
        2021,
        "Guleryuz et al., Sandwiched image compression, ICIP 2021",
        Pipeline(round=identity_ste, down=antialiased_down, up=lanczos_up),
        notes="hard forward, slope 1; one learned step or 64 in the paper, the tables of the quality here",
        published=False,
    ),
)
