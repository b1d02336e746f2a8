"""Ahmadi et al., "ReDMark: Framework for residual diffusion watermarking based on deep networks", 2020."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from jpegrad_studies.baselines.common import Baseline, Pipeline, clip, factor, same, with_slope
from jpegrad_studies.baselines.rounding import noise


def floored_tables(quality: Tensor, base: Tensor) -> Tensor:
    """floor((s T + 50) / 100) with 0 replaced by 1 and no cap at 255."""
    entry = (base * factor(quality)[:, None, None, None] + 50) / 100
    return clip(with_slope(entry, entry.floor(), 1.0), low=1)


BASELINES = (
    Baseline(
        "redmark",
        2020,
        "Ahmadi et al., ReDMark, Expert Systems with Applications 2020",
        Pipeline(round=partial(noise, width=1.1), tables=floored_tables, down=same, up=same),
        differentiable=("image", "quality"),
        subsampling="4:4:4",
        notes="uniform noise in (-0.55, 0.55); q = 70 in the paper",
        status="partial: published for one channel; here each of Y, Cb, Cr at full resolution",
    ),
)
