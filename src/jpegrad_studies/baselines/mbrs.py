"""Jia, Fang & Zhang, "MBRS: Enhancing robustness of DNN-based watermarking", ACM MM 2021."""

from __future__ import annotations

import torch
from torch import Tensor

from jpegrad_studies.baselines.common import Baseline, Pipeline, factor, same
from jpegrad_studies.baselines.fsa import pillow

SOURCE = "Jia, Fang & Zhang, MBRS, ACM MM 2021"

COLOR = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], dtype=torch.float64
)
COLOR_INVERSE = torch.tensor(
    [[1.0, 0.0, 1.40198758], [1.0, -0.344113281, -0.714103821], [1.0, 1.77197812, 0.0]], dtype=torch.float64
)


def rounded_tables(quality: Tensor, base: Tensor) -> Tensor:
    return (base * factor(quality)[:, None, None, None] / 100).detach().round().clamp(min=1)


def masks(quality: Tensor, base: Tensor) -> Tensor:
    """The 5 x 5 lowest frequencies of Y and the 3 x 3 lowest of Cb and Cr."""
    keep = base.new_zeros(quality.shape[0], 2, 8, 8)
    keep[:, 0, :5, :5] = 1
    keep[:, 1, :3, :3] = 1
    return keep


def first_of_four(chroma: Tensor) -> Tensor:
    """Every 2 x 2 group takes its first pixel; the plane keeps its size, and its 8 x 8 blocks."""
    return chroma[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)


PARTS = {"forward_color": COLOR, "inverse_color": COLOR_INVERSE, "up": same, "shift": 0.0}
SIMULATED = Pipeline(tables=rounded_tables, down=first_of_four, **PARTS)
MASK = Pipeline(tables=masks, quantize=lambda c, mask: c * mask, down=same, **PARTS)


def draw(image: Tensor, quality: Tensor) -> Tensor:
    """Each call, a mini-batch, is coded for real (no gradient), masked, or left alone."""
    choice = int(torch.randint(3, ()))
    return (pillow, MASK, lambda same, _: same)[choice](image, quality)


BASELINES = (
    Baseline(
        "mbrs",
        2021,
        SOURCE,
        draw,
        differentiable=("image",),
        notes="draws real JPEG (no gradient), mask or identity for each mini-batch",
    ),
    Baseline(
        "mbrs_simulated",
        2021,
        SOURCE,
        SIMULATED,
        differentiable=(),
        notes="its JPEG simulation alone: hard rounding without a gradient, no level shift, chroma blocks at"
        " full resolution from one pixel of each 2 x 2",
    ),
    Baseline(
        "mbrs_mask",
        2021,
        SOURCE,
        MASK,
        differentiable=("image",),
        subsampling="4:4:4",
        notes="its mask alone: lowest 5 x 5 and 3 x 3 frequencies, quality ignored",
    ),
)
