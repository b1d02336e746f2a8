"""Strümpler, Yang & Timofte, "Learning to improve image compression without changing the decoder", 2020."""

from __future__ import annotations

from torch import Tensor

from jpegrad_studies.baselines.common import Baseline, Pipeline, clip, factor, same
from jpegrad_studies.baselines.rounding import cubic_ste


def rounded_tables(quality: Tensor, base: Tensor) -> Tensor:
    """Scaled tables, rounded (slope 3r^2) instead of floored, within 1 ... 255."""
    return clip(cubic_ste(base * factor(quality)[:, None, None, None] / 100), 1, 255)


BASELINES = (
    Baseline(
        "struempler",
        2020,
        "Strümpler, Yang & Timofte, Learning to improve image compression without changing the standard"
        " decoder, ECCV workshops 2020",
        Pipeline(round=cubic_ste, down=same, up=same),
        differentiable=("image", "tables"),
        subsampling="4:4:4",
        notes="hard forward, slope 3r^2; tables learned in the paper, those of the quality here",
        published=False,
    ),
    Baseline(
        "talebi",
        2021,
        "Talebi et al., Better compression with deep pre-editing, IEEE TIP 2021",
        Pipeline(round=cubic_ste, tables=rounded_tables, down=same, up=same),
        subsampling="4:4:4",
        notes="as Strümpler et al., table entries rounded; q drawn from 8 ... 25 in the paper",
    ),
)
