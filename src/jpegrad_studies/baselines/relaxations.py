"""Relaxations of rounding from learned compression, placed in a correct JPEG pipeline."""

from __future__ import annotations

from jpegrad_studies.baselines.common import Baseline, Pipeline
from jpegrad_studies.baselines.rounding import noise, soft_round

PLACED = "a rounding only; here with correct tables, box and triangle chroma filters"

BASELINES = (
    Baseline(
        "soft_round",
        2020,
        "Agustsson & Theis, Universally quantized neural compression, NeurIPS 2020",
        Pipeline(round=soft_round),
        notes=f"{PLACED}; sharpness 7",
        published=False,
    ),
    Baseline(
        "uniform_noise",
        2017,
        "Ballé, Laparra & Simoncelli, End-to-end optimized image compression, ICLR 2017",
        Pipeline(round=noise),
        notes=PLACED,
        published=False,
    ),
)
