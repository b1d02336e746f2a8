"""What ``jpegrad jpeg`` and ``jpegrad size`` do, and what the other commands that code pictures share with them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from jpegrad.codec import Coefficients, decode, encode
from jpegrad.coefficients import NO_DENSITY
from jpegrad.commands import pictures, sources
from jpegrad.commands.sources import Job
from jpegrad.commands.terminal import WrongOption, done, errors, is_terminal, note, options, tell, timed
from jpegrad.files import SUFFIXES
from jpegrad.io import to_bytes
from jpegrad.pictures import Color, Picture, Transparent, icc_of, load
from jpegrad.rate import bits
from jpegrad.rate.size import coding_of, header_bytes
from jpegrad.sampling import ceil_div, check_subsampling, ratios
from jpegrad.tables import check_quality, scale
from jpegrad.tables import load as load_tables

MCUS = 32
"""Of a strip that is decoded at once, one above the other."""


@dataclass(frozen=True)
class Coding:
    """What the options of ``jpegrad jpeg`` and ``jpegrad size`` say."""

    quality: float | None = None
    subsampling: str | None = None
    tables: str | None = None
    like: Path | None = None
    target_bytes: int | None = None
    huffman: str | None = None
    progressive: bool = False
    background: Color | None = None
    metadata: bool = True
    compare: bool = True
    lenient: bool = False

    def __post_init__(self) -> None:
        with options():
            if self.quality is not None:
                check_quality(self.quality)
            if self.subsampling is not None:
                check_subsampling("--subsampling", self.subsampling)
        both = self._given("quality", "tables", "subsampling")
        if self.like is not None and both:
            raise WrongOption(f"--like: expected without {both}, which it decides")
        if self.target_bytes is None:
            return
        if self.target_bytes < 1:
            raise WrongOption(f"--target-bytes: expected at least 1, got {self.target_bytes}")
        if both := self._given("quality", "tables", "like"):
            raise WrongOption(f"--target-bytes: expected without {both}; it finds the quality")

    def _given(self, *names: str) -> str:
        """Which of some options were given."""
        return ", ".join(f"--{name}" for name in names if getattr(self, name) is not None)

    @property
    def how(self) -> dict[str, Any]:
        """What :func:`~jpegrad.to_bytes` and :func:`~jpegrad.bits` are told."""
        return {"huffman": self.huffman, "progressive": self.progressive}


def jpeg(job: Job, coding: Coding, as_json: bool) -> None:
    """Code one picture, write it, and say so."""
    as_jpeg = job.output == sources.STANDARD or job.output.suffix.lower() in SUFFIXES
    output = job.output_name
    source = read_picture(
        job.source,
        coding.metadata,
        upright=not as_jpeg,
        cmyk=True,
        lenient=coding.lenient,
        background=coding.background,
    )
    image = source.pixels
    quality = coding.quality
    if coding.target_bytes is not None:
        quality = best_quality(image, coding.target_bytes, coding.subsampling, coding.how, source)
        if not as_json:
            done(f"quality {quality} is the best whose file fits into {coding.target_bytes:,} bytes")
    with timed(f"{output}: coded"):
        coefficients = carrying(_encode(image, quality, coding), source)
        if as_jpeg:
            data = to_bytes(coefficients, **coding.how)
    if as_jpeg:
        if source.density != coefficients.density:
            note(f"{output}: a file of R, G and B has no place for the density")
        sources.write(job.output, data)
        count = len(data)
    else:
        if coefficients.channels == 4:
            source = without_profile(output, source)
        shown = decode(
            coefficients, space="RGB" if coefficients.channels == 4 else "native", dtype=torch.uint8
        )
        pictures.save(job.output, shown, source)
        count = _bytes(coefficients, coding.how)
    height, width = coefficients.size
    facts = {
        "file": output,
        "source": sources.name(job.source),
        "width": width,
        "height": height,
        "quality": _shown_quality(quality, coding),
        "bytes": count,
        "bits_per_pixel": 8 * count / (height * width),
        "changes": list(source.changes),
    }
    line = (
        f"{output}: {width}×{height}, {'' if as_jpeg else 'as .jpg '}{count:,} bytes "
        f"({facts['bits_per_pixel']:.3f} bits per pixel)"
    )
    if coding.compare:
        with timed(f"{output}: compared"):
            facts["psnr"], text = _psnr(image, coefficients)
        line += f", PSNR {text}"
    if as_json:
        tell(facts)
    else:
        done(line)


def size(path: Path, qualities: list[float | None], coding: Coding) -> dict[str, Any]:
    """The sizes of the files of one picture, as ``--json`` has them."""
    source = read_picture(
        path, coding.metadata, cmyk=True, lenient=coding.lenient, background=coding.background
    )
    image = source.pixels
    height, width = image.shape[-2:]
    rows = []
    for quality in qualities:
        coefficients = carrying(_encode(image, quality, coding), source)
        default, optimized, progressive = (
            _bytes(coefficients, {"huffman": huffman, "progressive": progressive})
            for huffman, progressive in ((None, False), ("optimized", False), ("optimized", True))
        )
        row = {
            "quality": _shown_quality(quality, coding),
            "bytes": default,
            "bytes_optimized": optimized,
            "bytes_progressive": progressive,
            "bits_per_pixel": 8 * default / (height * width),
        }
        if coding.compare:
            row["psnr"], _ = _psnr(image, coefficients)
        rows.append(row)
    name = sources.name(path)
    return {"file": name, "width": width, "height": height, "changes": list(source.changes), "sizes": rows}


def _shown_quality(quality: float | None, coding: Coding) -> float | None:
    return 75 if quality is None and coding.tables is None and coding.like is None else quality


def without_profile(output: str, source: Picture) -> Picture:
    """Without the profile of the inks, which says nothing of their RGB."""
    if icc_of(source.metadata) is None:
        return source
    note(f"{output}: the ICC profile of CMYK does not fit RGB and is left out")
    return source._replace(metadata=tuple(x for x in source.metadata if icc_of((x,)) is None))


def read_picture(
    path: Path,
    metadata: bool = True,
    *,
    upright: bool = False,
    cmyk: bool = False,
    lenient: bool = False,
    background: Color | None = None,
) -> Picture:
    """A picture, and a line for each thing of the file that is lost; without metadata it is upright."""
    standard = path == sources.STANDARD
    try:
        with timed(f"{sources.name(path)}: read"), pictures.advising():
            source = load(
                Path(sources.name(path)) if standard else path,
                data=sources.read(path) if standard else None,
                upright=upright or not metadata,
                cmyk=cmyk,
                lenient=lenient,
                background=background,
            )
    except Transparent as error:
        raise ValueError(f"{error}; --background lays a colour behind it") from None
    return kept(path, source, metadata)


def kept(path: Path, source: Picture, metadata: bool) -> Picture:
    """The picture with its metadata, or without; and a line for each thing of the file that is lost."""
    if not metadata:
        source = source._replace(metadata=(), density=NO_DENSITY)
    for change in source.changes:
        note(f"{sources.name(path)}: {change}")
    return source


def carrying(coefficients: Coefficients, source: Picture) -> Coefficients:
    """The coefficients with what a .jpg file of them carries of its source."""
    density = NO_DENSITY if coefficients.space == "RGB" else source.density
    return replace(coefficients, metadata=source.metadata, density=density)


def best_quality(
    image: Tensor,
    target: int,
    subsampling: str | None,
    how: dict[str, Any],
    source: Picture | None = None,
) -> int:
    """The highest integer quality whose file has at most ``target`` bytes, with what it carries of its source.

    ``how`` is what :func:`~jpegrad.to_bytes` and :func:`~jpegrad.bits` are told.

    Raises:
        ValueError: no quality fits.
    """

    def coded(quality: int) -> tuple[Coefficients, int]:
        coefficients = _encode(image, quality, Coding(subsampling=subsampling))
        if source is not None:
            coefficients = carrying(coefficients, source)
        return coefficients, _bytes(coefficients, how)

    with Progress(console=errors, transient=True, disable=not is_terminal()) as progress:
        progress.add_task("searching the quality", total=None)
        best, above = 0, 101
        while above - best > 1:
            middle = (best + above) // 2
            best, above = (middle, above) if coded(middle)[1] <= target else (best, middle)
        # A file may be smaller than one of lower quality; go on until none above can fit.
        for quality in range(above + 1, 101):
            coefficients, count = coded(quality)
            if count <= target:
                best = quality
            if _least_bytes(coefficients, how) > target:
                break
    if best == 0:
        raise ValueError(
            f"--target-bytes: expected at least {coded(1)[1]}, the bytes of the file at quality 1; got {target}"
        )
    return best


def _least_bytes(coefficients: Coefficients, how: dict[str, Any]) -> int:
    """What no file of higher quality undercuts.

    Table entries fall with the quality, so no level shrinks; and a nonzero AC level takes its amplitude and at least
    one bit of code.
    """
    least = 0
    for level in coefficients.levels:
        magnitudes = level.flatten(-2)[..., 1:].abs()
        least += int((magnitudes.frexp().exponent + (magnitudes > 0)).sum())
    _, script = coding_of(coefficients, **how)
    return int(header_bytes(coefficients, script=script)) + least // 8


def _encode(image: Tensor, quality: float | None, coding: Coding) -> Coefficients:
    how: dict[str, Any] = {
        "subsampling": coding.subsampling,
        "channels": "CMYK" if len(image) == 4 else None,
    }
    if coding.tables is not None:
        base = load_tables(coding.tables)
        how["tables"] = base if quality is None else scale(base, quality)
        quality = None
    elif coding.like is not None:
        how["like"] = pictures.read_jpeg(coding.like)
    elif quality is None:
        quality = 75
    with torch.no_grad():
        return encode(image, quality, **how)


def _bytes(coefficients: Coefficients, how: dict[str, Any]) -> int:
    return int(bits(coefficients, **how)) // 8


def _psnr(original: Tensor, coefficients: Coefficients) -> tuple[float | None, str]:
    """In dB, and in words; JSON has no number for that of equal pictures."""
    error = 0.0
    for top, strip in _decoded(coefficients):
        error += squared_error(strip, original[:, top : top + strip.shape[-2]])
    if error == 0:
        return None, "infinite"
    psnr = 10 * math.log10(255**2 * original.numel() / error)
    return psnr, f"{psnr:.2f} dB"


def squared_error(a: Tensor, b: Tensor) -> float:
    """The sum of the squared differences of uint8 pictures, to seven digits."""
    rows = np.subtract(a.numpy(), b.numpy(), dtype=np.float32)
    return float(np.einsum("...i,...i->...", rows, rows).sum(dtype=np.float64))


def _decoded(coefficients: Coefficients) -> Iterator[tuple[int, Tensor]]:
    """The decoded picture by strips, each with its first row: a large one whole takes as much memory as its levels.

    Upsampling looks at the row beyond, which is in the next MCU.
    """
    height, width = coefficients.size
    shapes = ratios(coefficients.channels, coefficients.subsampling)
    mcu = 8 * max(v for _, v in shapes)
    for top in range(0, height, MCUS * mcu):
        end = min(height, top + MCUS * mcu)
        first, last = max(0, top - mcu), min(height, end + mcu)
        levels = tuple(
            level[first // (8 * v) : ceil_div(last, 8 * v)]
            for level, (_, v) in zip(coefficients.levels, shapes, strict=True)
        )
        strip = decode(replace(coefficients, levels=levels, size=(last - first, width)), dtype=torch.uint8)
        yield top, strip[:, top - first : end - first]
