"""Luo et al., "The rate-distortion-accuracy tradeoff: JPEG case study", 2020."""

from __future__ import annotations

from jpegrad_studies.baselines.common import Baseline

BASELINES = (
    Baseline(
        "luo",
        2020,
        "Luo et al., The rate-distortion-accuracy tradeoff: JPEG case study, DCC 2021 (arXiv 2008.00605)",
        None,
        differentiable=("image", "tables"),
        notes="a third-order polynomial spline for rounding; the tables are the variables",
        status="unknown: the spline's coefficients were not found",
    ),
)
