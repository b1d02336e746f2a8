"""Every published differentiable JPEG as one small adapter, written from its formulas."""

from __future__ import annotations

from jpegrad_studies.baselines import (
    fsa,
    hidden,
    invisp,
    jpeg_dl,
    kornia_jpeg,
    korus,
    luo,
    mbrs,
    redmark,
    reich,
    relaxations,
    sandwich,
    shin,
    struempler,
)
from jpegrad_studies.baselines.common import Baseline as Baseline

MODULES = (
    shin,
    hidden,
    korus,
    redmark,
    luo,
    struempler,
    invisp,
    fsa,
    mbrs,
    relaxations,
    sandwich,
    reich,
    kornia_jpeg,
    jpeg_dl,
)

ALL: dict[str, Baseline] = {baseline.name: baseline for module in MODULES for baseline in module.BASELINES}
