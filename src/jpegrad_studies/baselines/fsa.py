"""Zhang et al., "Towards robust data hiding against (JPEG) compression: a pseudo-differentiable approach"."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor

from jpegrad_studies.baselines.common import Baseline, with_slope

PILLOW_SUBSAMPLING = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def pillow(image: Tensor, quality: Tensor, subsampling: str = "4:2:0") -> Tensor:
    """[B, 3, H, W] in 0 ... 255, rounded to 8 bits, saved by Pillow at its own integer quality, read back."""
    from PIL import Image

    pixels = image.detach().round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    decoded = []
    for one, q in zip(pixels, quality.tolist(), strict=True):
        with io.BytesIO() as file:
            Image.fromarray(one).save(
                file, "JPEG", quality=int(q), subsampling=PILLOW_SUBSAMPLING[subsampling]
            )
            decoded.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).to(image)


def call(image: Tensor, quality: Tensor) -> Tensor:
    return with_slope(image, pillow(image, quality), 1.0)


BASELINES = (
    Baseline(
        "fsa",
        2021,
        "Zhang et al., Towards robust data hiding against (JPEG) compression, ACM MM 2021",
        call,
        differentiable=("image",),
        notes="calls the real codec, identity backward; also VideoSeal and Watermark-Anything",
    ),
)
