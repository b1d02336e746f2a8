"""``jpegrad jpeg`` and ``jpegrad size``."""

from pathlib import Path
from typing import Annotated

import typer

from jpegrad.commands import sources
from jpegrad.commands.options import (
    Background,
    ByteCount,
    Compare,
    Force,
    Json,
    Lenient,
    Like,
    Metadata,
    Optimize,
    Pictures,
    Progressive,
    Quality,
    Subsampling,
    Tables,
    color_of,
)
from jpegrad.commands.terminal import numbers, say, show, tell
from jpegrad.files import SUFFIXES


def jpeg(
    pictures: Pictures,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="A real .jpg file, or the decoded picture as .png, .bmp, ...; a folder for several; or -.",
        ),
    ],
    quality: Quality = None,
    subsampling: Subsampling = None,
    tables: Tables = None,
    like: Like = None,
    target_bytes: ByteCount = None,
    optimize: Optimize = False,
    progressive: Progressive = False,
    background: Background = None,
    metadata: Metadata = True,
    compare: Compare = True,
    suffix: Annotated[
        str, typer.Option(help="Of the files in a folder: .jpg, or .png, .bmp, ... for decoded pictures.")
    ] = ".jpg",
    lenient: Lenient = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Code pictures as libjpeg-turbo does, and write the .jpg or what a viewer shows of it."""
    jobs = sources.plan(
        pictures,
        output,
        suffixes=sources.PICTURES,
        written=(*SUFFIXES, *sources.LOSSLESS),
        suffix=suffix,
        inputs=[like, None if tables is None else Path(tables)],
        force=force,
    )
    from jpegrad.commands import coding

    how = coding.Coding(
        quality=quality,
        subsampling=subsampling,
        tables=tables,
        like=like,
        target_bytes=target_bytes,
        huffman="optimized" if optimize else None,
        progressive=progressive,
        background=color_of(background),
        metadata=metadata,
        compare=compare,
        lenient=lenient,
    )
    sources.each(jobs, lambda job: coding.jpeg(job, how, as_json))


def size(
    pictures: Pictures,
    quality: Annotated[
        list[float] | None, typer.Option("--quality", "-q", help="1 to 100; may be repeated.")
    ] = None,
    subsampling: Subsampling = None,
    tables: Tables = None,
    like: Like = None,
    background: Background = None,
    metadata: Metadata = True,
    compare: Compare = True,
    lenient: Lenient = False,
    as_json: Json = False,
) -> None:
    """The exact size of the .jpg, without writing it: with standard and optimised Huffman tables, and progressive."""
    found = sources.find(pictures, sources.PICTURES)
    from jpegrad.commands import coding

    how = coding.Coding(
        subsampling=subsampling,
        tables=tables,
        like=like,
        background=color_of(background),
        metadata=metadata,
        compare=compare,
        lenient=lenient,
    )
    qualities: list[float | None] = [*quality] if quality else [None]
    # Every quality is checked before any work is done.
    for each in qualities:
        coding.Coding(quality=each, tables=tables, like=like)

    def one(source: sources.Source) -> None:
        facts = coding.size(source.path, qualities, how)
        if as_json:
            tell(facts)
            return
        if len(found) > 1:
            say(f"{facts['file']}: {facts['width']}×{facts['height']}")
        table = numbers(
            "quality",
            "bytes",
            "bytes, optimised",
            "bytes, progressive",
            "bits per pixel",
            *(["PSNR"] if compare else []),
        )
        for row in facts["sizes"]:
            label = "–" if row["quality"] is None else f"{row['quality']:g}"
            counts = (row["bytes"], row["bytes_optimized"], row["bytes_progressive"])
            psnr = "infinite" if row.get("psnr") is None else f"{row['psnr']:.2f} dB"
            table.add_row(
                label,
                *(f"{count:,}" for count in counts),
                f"{row['bits_per_pixel']:.3f}",
                *([psnr] if compare else []),
            )
        show(table)

    sources.each(found, one)
