"""What ``jpegrad compare`` does."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jpegrad.coefficients import NO_DENSITY
from jpegrad.commands import coding, pictures, sources
from jpegrad.commands.terminal import timed
from jpegrad.pictures import Color, Picture
from jpegrad.tune.metrics import report

NAMES = {"psnr": "PSNR", "psnr_y": "PSNR Y", "ssim": "SSIM Y", "ms_ssim": "MS-SSIM"}


def compare(
    first: Path,
    second: Path,
    difference: Path | None,
    gain: float | None,
    background: Color | None,
    lenient: bool,
) -> dict[str, Any]:
    """What differs between two pictures; the picture of it is written.

    Raises:
        ValueError: they are not of one size, or a file is not a picture as ``load`` takes it.
        OSError: a file cannot be read or written.
    """
    a, b = (_shown(path, background, lenient) for path in (first, second))
    names = sources.name(first), sources.name(second)
    if a.shape[1:] != b.shape[1:]:
        sizes = [
            f"{name} of {image.shape[2]}×{image.shape[1]}" for name, image in zip(names, (a, b), strict=True)
        ]
        raise ValueError(f"expected pictures of one size, got {' and '.join(sizes)}")
    if len(a) != len(b):
        a, b = a.expand(3, -1, -1), b.expand(3, -1, -1)
    apart = (a.short() - b).abs()
    largest = int(apart.max())
    facts = {
        "first": names[0],
        "second": names[1],
        "width": a.shape[2],
        "height": a.shape[1],
        "channels": len(a),
        "samples": apart.numel(),
        "differing_samples": int(apart.count_nonzero()),
        "differing_pixels": int(apart.amax(0).count_nonzero()),
        "max_difference": largest,
        "mean_difference": apart.sum(dtype=torch.int64).item() / apart.numel(),
    }
    with timed("measured"):
        found = report(b, a)
    # JSON has no number for the PSNR of equal pictures.
    facts |= {name: None if math.isinf(found[name]) else found[name] for name in NAMES if name in found}
    if difference is not None:
        gain = 255 / max(1, largest) if gain is None else gain
        shades = (torch.arange(256, dtype=torch.float64) * gain).round().clamp(max=255).to(torch.uint8)
        bright = shades[apart.int()]
        pictures.save(difference, bright, Picture(bright, (), NO_DENSITY, ()))
        facts |= {"difference": str(difference), "gain": gain}
    return facts


def lines(facts: dict[str, Any]) -> list[str]:
    """The same in words."""
    size = f"{facts['width']}×{facts['height']}, {'gray' if facts['channels'] == 1 else 'RGB'}"
    found = [f"{facts['first']} and {facts['second']}: {size}"]
    if facts["max_difference"] == 0:
        found.append("equal in every sample")
    else:
        share = facts["differing_samples"] / facts["samples"]
        found.append(
            f"{facts['differing_samples']:,} of {facts['samples']:,} samples differ ({share:.2%}), "
            f"by {facts['max_difference']} at most and {facts['mean_difference']:.3f} on average"
        )
        for name, words in NAMES.items():
            if name in facts:
                decibels = name.startswith("psnr")
                number = "infinite" if facts[name] is None else f"{facts[name]:.{2 if decibels else 5}f}"
                found.append(f"{words} {number}{' dB' if decibels and facts[name] is not None else ''}")
        if "ms_ssim" not in facts:
            found.append("MS-SSIM needs 176 rows and columns")
    if "difference" in facts:
        found.append(f"{facts['difference']}: the difference, {facts['gain']:.3g} times brighter")
    return found


def _shown(path: Path, background: Color | None, lenient: bool) -> Tensor:
    """Gray or RGB, upright."""
    image = coding.read_picture(path, upright=True, cmyk=True, lenient=lenient, background=background).pixels
    return pictures.rgb_of_inks(image) if len(image) == 4 else image
