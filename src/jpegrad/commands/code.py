"""``jpegrad jpeg`` and ``jpegrad size``."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from jpegrad.codec import Coefficients, decode, encode
from jpegrad.coefficients import NO_DENSITY
from jpegrad.commands import pictures
from jpegrad.commands.terminal import WrongOption, console, note, options, say
from jpegrad.data import table_names
from jpegrad.io import SUFFIXES, write
from jpegrad.pictures import Picture, icc_of, load
from jpegrad.rate import bits
from jpegrad.rate.size import coding_of, header_bytes
from jpegrad.sampling import SUBSAMPLING, ceil_div, check_subsampling, ratios
from jpegrad.tables import check_quality, scale
from jpegrad.tables import load as load_tables

Source = Annotated[Path, typer.Argument(help="An 8-bit RGB, gray or CMYK picture.", show_default=False)]
Quality = Annotated[
    float | None, typer.Option("--quality", "-q", help="1 to 100; 75 if nothing else decides.")
]
Subsampling = Annotated[
    str | None,
    typer.Option(
        help=f"{', '.join(SUBSAMPLING)}, or factors as 3x1,1x1,1x1; if nothing else decides, 4:2:0, of CMYK 4:4:4."
    ),
]
Tables = Annotated[
    str | None,
    typer.Option(
        help=f"JSON file of quantization tables, or {', '.join(table_names())}, which ship; used as they are, "
        "or with --quality scaled to it as libjpeg scales its own."
    ),
]
Like = Annotated[
    Path | None, typer.Option(help="A .jpg whose tables, subsampling and colour conversion to use.")
]
Optimize = Annotated[bool, typer.Option(help="Huffman tables made for the picture.")]
Progressive = Annotated[
    bool, typer.Option("--progressive", help="A progressive file, with libjpeg's standard scans.")
]
Metadata = Annotated[
    bool,
    typer.Option(
        help="Carry Exif, ICC profile, XMP, comment and density of the picture; or nothing, and turn it upright."
    ),
]
Lenient = Annotated[
    bool,
    typer.Option("--lenient", help="Take a damaged .jpg file as viewers show it, and say what was wrong."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Write over any file, even the input or one of another kind.")
]

MCUS = 8
"""Of a strip that is decoded at once, one above the other."""


def jpeg(
    picture: Source,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A real .jpg file, or the decoded picture as .png, .bmp, ..."),
    ],
    quality: Quality = None,
    subsampling: Subsampling = None,
    tables: Tables = None,
    like: Like = None,
    target_bytes: Annotated[
        int | None, typer.Option(help="Take the best quality whose file is no larger.")
    ] = None,
    optimize: Optimize = False,
    progressive: Progressive = False,
    metadata: Metadata = True,
    lenient: Lenient = False,
    force: Force = False,
) -> None:
    """Code a picture as libjpeg-turbo does, and write the .jpg or what a viewer shows of it."""
    as_jpeg = output.suffix.lower() in SUFFIXES
    tables_file = None if tables is None else Path(tables)
    pictures.check_picture(output, [picture, like, tables_file], force)
    _check_options(quality, subsampling, tables, like)
    if target_bytes is not None:
        if target_bytes < 1:
            raise WrongOption(f"--target-bytes: expected at least 1, got {target_bytes}")
        decided = {"--quality": quality, "--tables": tables, "--like": like}
        both = [option for option, value in decided.items() if value is not None]
        if both:
            raise WrongOption(f"--target-bytes: expected without {', '.join(both)}; it finds the quality")
    how = _how(optimize, progressive)
    source = read_picture(picture, metadata, upright=not as_jpeg, cmyk=True, lenient=lenient)
    image = source.pixels
    if target_bytes is not None:
        quality = best_quality(image, target_bytes, subsampling, how, source)
        say(f"quality {quality} is the best whose file fits into {target_bytes:,} bytes")
    coefficients = carrying(_encode(image, quality, subsampling, tables, like), source)
    if as_jpeg:
        if source.density != coefficients.density:
            note(f"{output}: a file of R, G and B has no place for the density")
        write(output, coefficients, **how)
        count = output.stat().st_size
    else:
        if coefficients.channels == 4:
            shown = decode(coefficients, space="RGB")
            pictures.save(output, shown, without_profile(output, source))
        else:
            pictures.save(output, decode(coefficients), source)
        count = _bytes(coefficients, how)
    height, width = coefficients.size
    say(
        f"{output}: {width}×{height}, {'' if as_jpeg else 'as .jpg '}{count:,} bytes "
        f"({8 * count / (height * width):.3f} bits per pixel), PSNR {_psnr(image, coefficients)}"
    )


def size(
    picture: Source,
    quality: Annotated[
        list[float] | None, typer.Option("--quality", "-q", help="1 to 100; may be repeated.")
    ] = None,
    subsampling: Subsampling = None,
    tables: Tables = None,
    like: Like = None,
    metadata: Metadata = True,
    lenient: Lenient = False,
) -> None:
    """The exact size of the .jpg, without writing it: with standard and optimised Huffman tables, and progressive."""
    qualities: list[float | None] = [*quality] if quality else [None]
    for q in qualities:
        _check_options(q, subsampling, tables, like)
    source = read_picture(picture, metadata, cmyk=True, lenient=lenient)
    image = source.pixels
    table = Table(
        "quality", "bytes", "bytes, optimised Huffman", "bytes, progressive", "bits per pixel", "PSNR"
    )
    pixels = image.shape[-2] * image.shape[-1]
    for q in qualities:
        coefficients = carrying(_encode(image, q, subsampling, tables, like), source)
        ways = _how(False, False), _how(True, False), _how(True, True)
        counts = [_bytes(coefficients, how) for how in ways]
        label = f"{q:g}" if q is not None else "–" if tables or like else "75"
        psnr = _psnr(image, coefficients)
        table.add_row(label, *(f"{count:,}" for count in counts), f"{8 * counts[0] / pixels:.3f}", psnr)
    console.print(table)


def without_profile(output: Path, source: Picture) -> Picture:
    """Without the profile of the inks, which says nothing of their RGB."""
    if icc_of(source.metadata) is None:
        return source
    note(f"{output}: the ICC profile of CMYK does not fit RGB and is left out")
    return source._replace(metadata=tuple(x for x in source.metadata if icc_of((x,)) is None))


def read_picture(
    path: Path, metadata: bool = True, *, upright: bool = False, cmyk: bool = False, lenient: bool = False
) -> Picture:
    """A picture, and a line for each thing of the file that is lost; without metadata it is upright."""
    source = load(path, upright=upright or not metadata, cmyk=cmyk, lenient=lenient)
    if not metadata:
        source = source._replace(metadata=(), density=NO_DENSITY)
    for change in source.changes:
        note(f"{path}: {change}")
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
        coefficients = _encode(image, quality, subsampling, None, None)
        if source is not None:
            coefficients = carrying(coefficients, source)
        return coefficients, _bytes(coefficients, how)

    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
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


def _check_options(
    quality: float | None, subsampling: str | None, tables: str | None, like: Path | None
) -> None:
    with options():
        if quality is not None:
            check_quality(quality)
        if subsampling is not None:
            check_subsampling("--subsampling", subsampling)
        decided = {"--quality": quality, "--tables": tables, "--subsampling": subsampling}
        both = [option for option, value in decided.items() if value is not None]
        if like is not None and both:
            raise ValueError(f"--like: expected without {', '.join(both)}, which it decides")


def _encode(
    image: Tensor, quality: float | None, subsampling: str | None, tables: str | None, like: Path | None
) -> Coefficients:
    how: dict[str, Any] = {"subsampling": subsampling, "channels": "CMYK" if len(image) == 4 else None}
    if tables is not None:
        base = load_tables(tables)
        how["tables"] = base if quality is None else scale(base, quality)
        quality = None
    if like is not None:
        how["like"] = pictures.read_jpeg(like)
    if tables is None and like is None and quality is None:
        quality = 75
    with torch.no_grad():
        return encode(image, quality, **how)


def _how(optimize: bool, progressive: bool) -> dict[str, Any]:
    return {"huffman": "optimized" if optimize else None, "progressive": progressive}


def _bytes(coefficients: Coefficients, how: dict[str, Any]) -> int:
    return int(bits(coefficients, **how)) // 8


def _psnr(original: Tensor, coefficients: Coefficients) -> str:
    error = 0.0
    for top, strip in _decoded(coefficients):
        difference = strip.float()
        difference -= original[:, top : top + strip.shape[-2]].contiguous()
        error += float(difference.square_().sum(-1).double().sum())
    return "infinite" if error == 0 else f"{10 * math.log10(255**2 * original.numel() / error):.2f} dB"


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
        strip = decode(replace(coefficients, levels=levels, size=(last - first, width)))
        yield top, strip[:, top - first : end - first]
