"""What ``jpegrad compare`` does."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jpegrad import page
from jpegrad.coefficients import NO_DENSITY
from jpegrad.commands import beside, coding, pictures, sources
from jpegrad.commands.beside import NAMES, Pair
from jpegrad.commands.terminal import timed
from jpegrad.files import SUFFIXES
from jpegrad.metrics import SSIMULACRA2, Butteraugli
from jpegrad.metrics.comparison import SMALLEST
from jpegrad.pictures import Color, Picture, icc_of
from jpegrad.tune.metrics import report


class Seen(NamedTuple):
    """A picture as it is seen: gray or RGB, upright; and the bytes of a .jpg file that browsers show alike."""

    name: str
    picture: Picture
    size: int | None = None
    file: bytes | None = None

    @property
    def address(self) -> str:
        """For an ``<img>``."""
        if self.file is not None:
            return page.data_url(self.file, "jpeg")
        return page.data_url(page.png(self.picture.pixels, icc_of(self.picture.metadata)))


def see(path: Path, background: Color | None = None, lenient: bool = False) -> Seen:
    """Read a picture of any kind.

    Raises:
        ValueError: it is none that ``load`` takes.
        OSError: it cannot be read.
    """
    picture = coding.read_picture(path, upright=True, cmyk=True, lenient=lenient, background=background)
    data = None if path == sources.STANDARD else path.read_bytes()
    inks = len(picture.pixels) == 4
    if inks:
        # Their profile says nothing of RGB.
        picture = picture._replace(pixels=pictures.rgb_of_inks(picture.pixels), metadata=())
    browsers = data is not None and path.suffix.lower() in SUFFIXES and not inks
    size = None if data is None else len(data)
    return Seen(sources.name(path), picture, size, data if browsers else None)


def measure(first: Seen, second: Seen) -> dict[str, Any]:
    """What differs between two pictures.

    Raises:
        ValueError: they are not of one size.
    """
    a, b = _alike(first, second)
    apart = (a.short() - b).abs()
    facts = {
        "first": first.name,
        "second": second.name,
        "width": a.shape[2],
        "height": a.shape[1],
        "channels": len(a),
        "samples": apart.numel(),
        "differing_samples": int(apart.count_nonzero()),
        "differing_pixels": int(apart.amax(0).count_nonzero()),
        "max_difference": int(apart.max()),
        "mean_difference": apart.sum(dtype=torch.int64).item() / apart.numel(),
    }
    with timed("measured"):
        found = report(b, a)
        if min(a.shape[1:]) >= SMALLEST:
            for judge in (SSIMULACRA2, Butteraugli):
                found |= {name: value.item() for name, value in judge(a).report(b).items()}
    # JSON has no number for the PSNR of equal pictures.
    return facts | {name: None if math.isinf(found[name]) else found[name] for name in NAMES if name in found}


def compare(
    first: Seen, second: Seen, difference: Path | None, gain: float | None, html: Path | None
) -> dict[str, Any]:
    """The same; the picture of what differs and the page are written.

    Raises:
        ValueError: they are not of one size.
        OSError: a file cannot be written.
    """
    facts = measure(first, second)
    if difference is not None:
        gain = 255 / max(1, facts["max_difference"]) if gain is None else gain
        shades = (torch.arange(256, dtype=torch.float64) * gain).round().clamp(max=255).to(torch.uint8)
        a, b = _alike(first, second)
        bright = shades[(a.short() - b).abs().int()]
        pictures.save(difference, bright, Picture(bright, (), NO_DENSITY, ()))
        facts |= {"difference": str(difference), "gain": gain}
    if html is not None:
        pair = Pair(first.size, second.size, facts)
        beside.write(html, f"{first.name} and {second.name}", [pair], iter([(first.address, second.address)]))
        facts |= {"page": str(html)}
    return facts


def _alike(first: Seen, second: Seen) -> tuple[Tensor, Tensor]:
    """The pixels of both; gray as RGB where the other has colour."""
    a, b = first.picture.pixels, second.picture.pixels
    if a.shape[1:] != b.shape[1:]:
        sizes = [f"{each.name} of {x.shape[2]}×{x.shape[1]}" for each, x in ((first, a), (second, b))]
        raise ValueError(f"expected pictures of one size, got {' and '.join(sizes)}")
    if len(a) != len(b):
        a, b = a.expand(3, -1, -1), b.expand(3, -1, -1)
    return a, b


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
                unit = " dB" if name.startswith("psnr") and facts[name] is not None else ""
                found.append(f"{words} {beside.number(name, facts[name])}{unit}")
        if "ms_ssim" not in facts:
            found.append("MS-SSIM needs 176 rows and columns")
    if "difference" in facts:
        found.append(f"{facts['difference']}: the difference, {facts['gain']:.3g} times brighter")
    if "page" in facts:
        found.append(f"{facts['page']}: the page")
    return found


def pair(first: Path, second: Path, background: Color | None = None) -> Pair:
    """Two files of one picture, and how much they differ.

    Raises:
        ValueError, OSError: as :func:`see` and :func:`measure`.
    """
    a, b = see(first, background), see(second)
    return Pair(a.size, b.size, measure(a, b))
