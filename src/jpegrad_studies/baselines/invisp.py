"""Xing, Qian & Chen, "Invertible image signal processing", CVPR 2021."""

from __future__ import annotations

from jpegrad_studies.baselines.common import TRANSPOSED, Baseline, Pipeline, nearest_up, scaled
from jpegrad_studies.baselines.rounding import fourier

BASELINES = (
    Baseline(
        "invisp",
        2021,
        "Xing, Qian & Chen, Invertible image signal processing, CVPR 2021",
        Pipeline(round=fourier, tables=scaled, base=TRANSPOSED, up=nearest_up),
        notes="soft Fourier series of 9 terms in Shin & Song's pipeline; q = 90 in the paper",
    ),
)
