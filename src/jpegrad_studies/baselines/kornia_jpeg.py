"""kornia's JPEG codec, called as installed."""

from __future__ import annotations

from torch import Tensor

from jpegrad_studies.baselines.common import Baseline


def call(image: Tensor, quality: Tensor) -> Tensor:
    from kornia.enhance import jpeg_codec_differentiable

    return jpeg_codec_differentiable(image / 255, quality) * 255


BASELINES = (
    Baseline(
        "kornia",
        2024,
        "kornia.enhance.jpeg_codec_differentiable (the installed package)",
        call,
        differentiable=("image", "quality", "tables"),
        notes="Reich et al., soft only; the floor comes after the table clip",
    ),
)
