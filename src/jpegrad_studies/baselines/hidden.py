"""Zhu, Kaplan, Johnson & Fei-Fei, "HiDDeN: Hiding data with deep networks", ECCV 2018."""

from __future__ import annotations

import torch
from torch import Tensor

from jpegrad_studies.baselines.common import Baseline, Pipeline, same

SOURCE = "Zhu et al., HiDDeN: Hiding data with deep networks, ECCV 2018"

# Analogue YUV. The mask is linear, so the scale of U and V does not matter, only their directions.
YUV = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]], dtype=torch.float64
)


def zigzag_rank() -> Tensor:
    """[8, 8]: position of each frequency in the zigzag scan."""
    cells = [(row, column) for row in range(8) for column in range(8)]
    # Odd diagonals run downwards (row grows), even ones upwards.
    cells.sort(key=lambda cell: (sum(cell), cell[0] if sum(cell) % 2 else cell[1]))
    rank = torch.empty(8, 8, dtype=torch.long)
    for position, (row, column) in enumerate(cells):
        rank[row, column] = position
    return rank


def masks(quality: Tensor, base: Tensor) -> Tensor:
    """The first 25 zigzag coefficients of Y and the first 9 of U and V, whatever the quality."""
    keep = torch.stack([zigzag_rank() < 25, zigzag_rank() < 9]).to(base)
    return keep.expand(quality.shape[0], 2, 8, 8)


MASK = Pipeline(
    tables=masks,
    quantize=lambda coefficients, mask: coefficients * mask,
    forward_color=YUV,
    inverse_color=torch.linalg.inv(YUV),
    down=same,
    up=same,
)

BASELINES = (
    Baseline(
        "hidden_mask",
        2018,
        SOURCE,
        MASK,
        differentiable=("image",),
        subsampling="4:4:4",
        notes="JPEG-Mask: no quantisation, quality ignored, analogue YUV",
    ),
    Baseline(
        "hidden_drop",
        2018,
        SOURCE,
        None,
        differentiable=("image",),
        subsampling="4:4:4",
        notes="JPEG-Drop: coefficients dropped at random, more often where the step is larger",
        status="unknown: the drop probability as a function of the step was not found",
    ),
)
