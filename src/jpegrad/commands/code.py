"""``jpegrad jpeg`` and ``jpegrad size``."""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from jpegrad.codec import Coefficients, decode, encode
from jpegrad.commands import pictures
from jpegrad.io import read, write
from jpegrad.rate import bits
from jpegrad.spec import SUBSAMPLING, check_choice
from jpegrad.tables import load as load_tables

Picture = Annotated[Path, typer.Argument(help="An 8-bit RGB or gray picture.", show_default=False)]
Quality = Annotated[float | None, typer.Option("--quality", "-q", help="1 to 100; 75 if nothing else decides.")]
Subsampling = Annotated[str | None, typer.Option(help=f"One of {', '.join(SUBSAMPLING)}; 4:2:0 by default.")]
Tables = Annotated[Path | None, typer.Option(help="JSON file of quantization tables, used as they are.")]
Like = Annotated[Path | None, typer.Option(help="A .jpg whose tables and subsampling to use.")]
Optimize = Annotated[bool, typer.Option(help="Huffman tables made for the picture.")]

console = Console()


def jpeg(
    picture: Picture,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A real .jpg file, or the decoded picture as .png, .bmp, ...")
    ],
    quality: Quality = None,
    subsampling: Subsampling = None,
    tables: Tables = None,
    like: Like = None,
    target_bytes: Annotated[int | None, typer.Option(help="Take the best quality whose file fits.")] = None,
    optimize: Optimize = False,
) -> None:
    """Code a picture as libjpeg-turbo does, and write the .jpg or what a viewer shows of it."""
    image = pictures.load(picture)
    if target_bytes is not None:
        others = {"--quality": quality, "--tables": tables, "--like": like}
        if any(value is not None for value in others.values()):
            raise ValueError("--target-bytes: expected without --quality, --tables and --like; it finds the quality")
        quality = best_quality(image, target_bytes, subsampling, optimize)
        console.print(f"quality {quality:g} is the best whose file fits {target_bytes:,} bytes")
    coefficients = _encode(image, quality, subsampling, tables, like)
    decoded = decode(coefficients)
    if output.suffix.lower() in pictures.JPEG_SUFFIXES:
        write(output, coefficients, huffman=_huffman(optimize))
    else:
        pictures.save(output, decoded)
    count = _bytes(coefficients, optimize)
    pixels = image.shape[-2] * image.shape[-1]
    console.print(
        f"{output}: {image.shape[-1]}×{image.shape[-2]}, as .jpg {count:,} bytes "
        f"({8 * count / pixels:.3f} bits per pixel), PSNR {_psnr(image, decoded)}",
        highlight=False,
    )


def size(
    picture: Picture,
    quality: Annotated[list[float] | None, typer.Option("--quality", "-q", help="1 to 100; may be repeated.")] = None,
    subsampling: Subsampling = None,
    tables: Tables = None,
    like: Like = None,
) -> None:
    """The exact size of the .jpg, without writing it, for standard and optimised Huffman tables."""
    image = pictures.load(picture)
    table = Table("quality", "bytes", "bytes, optimised Huffman", "bits per pixel", "PSNR")
    pixels = image.shape[-2] * image.shape[-1]
    for q in quality or [None]:
        coefficients = _encode(image, q, subsampling, tables, like)
        standard, optimised = (_bytes(coefficients, optimize) for optimize in (False, True))
        label = "–" if tables or like else f"{75 if q is None else q:g}"
        psnr = _psnr(image, decode(coefficients))
        table.add_row(label, f"{standard:,}", f"{optimised:,}", f"{8 * standard / pixels:.3f}", psnr)
    console.print(table)


def best_quality(image: Tensor, target: int, subsampling: str | None, optimize: bool) -> int:
    """The highest integer quality whose file has at most ``target`` bytes.

    Raises:
        ValueError: not even quality 1 fits.
    """

    def fits(quality: int) -> bool:
        return _bytes(_encode(image, quality, subsampling, None, None), optimize) <= target

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("searching the quality", total=12)
        if not fits(1):
            count = _bytes(_encode(image, 1, subsampling, None, None), optimize)
            raise ValueError(f"--target-bytes: expected at least {count} bytes, the size at quality 1; got {target}")
        low, high = 1, 101
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
            progress.advance(task)
        # Sizes all but rise with quality; look a little past the first that is too large.
        for quality in range(min(low + 4, 100), low, -1):
            progress.advance(task)
            if fits(quality):
                return quality
    return low


def _encode(
    image: Tensor, quality: float | None, subsampling: str | None, tables: Path | None, like: Path | None
) -> Coefficients:
    if subsampling is not None:
        check_choice("--subsampling", subsampling, tuple(SUBSAMPLING))
    options: dict[str, Any] = {"subsampling": subsampling}
    if tables is not None:
        options["tables"] = load_tables(tables)
    if like is not None:
        options["like"] = read(like)
    if tables is None and like is None and quality is None:
        quality = 75
    with torch.no_grad():
        return encode(image, quality, **options)


def _huffman(optimize: bool) -> str:
    return "optimized" if optimize else "default"


def _bytes(coefficients: Coefficients, optimize: bool) -> int:
    return int(bits(coefficients, huffman=_huffman(optimize))) // 8


def _psnr(original: Tensor, decoded: Tensor) -> str:
    error = (original.double() - decoded.double()).square().mean()
    return "infinite" if error == 0 else f"{10 * torch.log10(255**2 / error):.2f} dB"
