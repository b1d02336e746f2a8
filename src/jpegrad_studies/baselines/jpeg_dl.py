"""JPEG-DL, "JPEG inspired deep learning", ICLR 2025."""

from __future__ import annotations

from jpegrad_studies.baselines.common import Baseline, Pipeline, same
from jpegrad_studies.baselines.rounding import softmax_quantize

BASELINES = (
    Baseline(
        "jpeg_dl",
        2025,
        "JPEG inspired deep learning, ICLR 2025",
        Pipeline(quantize=softmax_quantize, down=same, up=same),
        differentiable=("image", "quality", "tables"),
        subsampling="4:4:4",
        notes="mean level under a softmax of squared distances; tables learned in the paper",
        published=False,
        status="partial: the published alpha was not found; here alpha = 20 / step^2",
    ),
)
