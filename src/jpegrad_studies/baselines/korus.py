"""Korus & Memon, "Content authentication for neural imaging pipelines", CVPR 2019 (DJPG)."""

from __future__ import annotations

from torch import Tensor

from jpegrad_studies.baselines.common import Baseline, Pipeline, Rounding, clip, factor, same, with_slope
from jpegrad_studies.baselines.rounding import sine, sine_ste

SOURCE = "Korus & Memon, Content authentication for neural imaging pipelines, CVPR 2019"


def floored_tables(quality: Tensor, base: Tensor) -> Tensor:
    """libjpeg's rule with 5000 / q not floored."""
    entry = (base * factor(quality)[:, None, None, None] + 50) / 100
    return clip(with_slope(entry, entry.floor(), 1.0), 1, 255)


def pipeline(rounding: Rounding) -> Pipeline:
    return Pipeline(round=rounding, tables=floored_tables, down=same, up=same, shift=127.0)


BASELINES = (
    Baseline(
        "korus_sin",
        2019,
        SOURCE,
        pipeline(sine),
        subsampling="4:4:4",
        notes="soft sine forward, level shift 127",
    ),
    Baseline(
        "korus_soft",
        2019,
        SOURCE,
        pipeline(sine_ste),
        subsampling="4:4:4",
        notes="hard forward, slope 1 - cos(2 pi x), level shift 127",
    ),
)
