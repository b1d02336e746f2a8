"""Shin & Song, "JPEG-resistant adversarial images", 2017, and the codes that took its pipeline over."""

from __future__ import annotations

from torch import Tensor

from jpegrad_studies.baselines.common import (
    TRANSPOSED,
    Baseline,
    Pipeline,
    Rounding,
    factor,
    nearest_up,
    same,
    scaled,
)
from jpegrad_studies.baselines.rounding import cubic, cubic_at_zero

SHIN = "Shin & Song, JPEG-resistant adversarial images, NIPS workshop 2017"
PUBLISHED = "as the published code: transposed luma table, tables neither floored nor clipped"
CORRECTED = "with correct tables"


def stega_tables(quality: Tensor, base: Tensor) -> Tensor:
    return base * (factor(quality) / 100 + 1e-4)[:, None, None, None]


def published(rounding: Rounding) -> Pipeline:
    return Pipeline(round=rounding, tables=scaled, base=TRANSPOSED, up=nearest_up)


BASELINES = (
    Baseline("shin", 2017, SHIN, published(cubic), notes=f"soft cubic, {PUBLISHED}; q = 100 divides by zero"),
    Baseline("shin_zero", 2017, SHIN, published(cubic_at_zero), notes=f"cubic at zero only, {PUBLISHED}"),
    Baseline(
        "shin_tables",
        2017,
        SHIN,
        Pipeline(round=cubic, up=nearest_up),
        notes=f"soft cubic, {CORRECTED}",
        published=False,
    ),
    Baseline(
        "shin_zero_tables",
        2017,
        SHIN,
        Pipeline(round=cubic_at_zero, up=nearest_up),
        notes=f"cubic at zero only, {CORRECTED}",
        published=False,
    ),
    Baseline(
        "shin_upright",
        2017,
        SHIN,
        Pipeline(round=cubic, tables=scaled, up=nearest_up),
        notes="soft cubic, luma table as the paper states it, neither floored nor clipped",
    ),
    Baseline(
        "shin_444",
        2017,
        SHIN,
        Pipeline(round=cubic, tables=scaled, base=TRANSPOSED, down=same, up=same),
        subsampling="4:4:4",
        notes=f"soft cubic, {PUBLISHED}",
    ),
    Baseline(
        "diffjpeg",
        2018,
        "Lomnitz, DiffJPEG (github.com/mlomnitz/DiffJPEG); also BasicSR",
        published(cubic),
        notes="Shin & Song's formulas, image size fixed in the constructor",
    ),
    Baseline(
        "stegastamp",
        2020,
        "Tancik, Mildenhall & Ng, StegaStamp, CVPR 2020",
        Pipeline(round=cubic_at_zero, tables=stega_tables, base=TRANSPOSED, up=nearest_up),
        notes="cubic at zero only, table factor + 1e-4",
    ),
)
