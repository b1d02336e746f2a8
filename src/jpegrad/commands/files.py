"""``jpegrad inspect``."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from jpegrad.codec import Coefficients
from jpegrad.commands.code import Force, Lenient
from jpegrad.commands.pictures import read_jpeg
from jpegrad.commands.terminal import console, say
from jpegrad.io import to_bytes
from jpegrad.jfif.segments import FRAMES, kind, next_segment
from jpegrad.rate import breakdown
from jpegrad.tables import estimate_quality

NAMES = {
    "gray": ("Y",),
    "YCbCr": ("Y", "Cb", "Cr"),
    "RGB": ("R", "G", "B"),
    "CMYK": ("C", "M", "Y", "K"),
    "YCCK": ("Y", "Cb", "Cr", "K"),
}


def inspect(
    file: Annotated[Path, typer.Argument(help="A .jpg file.", show_default=False)],
    optimize: Annotated[
        bool, typer.Option(help="Count bits with Huffman tables made for the picture, not Annex K's.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw tables and bits into this file: .png, .svg or .pdf.")
    ] = None,
    lenient: Lenient = False,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """What a .jpg file holds: size, subsampling, colour space, quantization tables, quality, metadata, and its bits.

    Bits are counted in the baseline file that jpegrad writes of these levels, by component and by place in the block.
    """
    if plot is not None:
        from jpegrad.commands import plots

        plots.check(plot, file, force)
    facts = describe(file, "optimized" if optimize else "default", lenient)
    if plot is not None:
        plots.save(plot, facts)
    if as_json:
        print(json.dumps(facts))
    else:
        _print(facts)


def describe(file: Path, huffman: str, lenient: bool = False) -> dict[str, Any]:
    """All that ``inspect`` prints, as values that JSON has."""
    coefficients = read_jpeg(file, lenient)
    data = file.read_bytes()
    height, width = coefficients.size
    color = coefficients.space
    # All inks have the table of luma, or one of their own each.
    tables = coefficients.tables[:1] if color == "CMYK" else coefficients.tables[:3]
    estimate = estimate_quality(tables)
    return {
        "file": str(file),
        "bytes": len(data),
        "width": width,
        "height": height,
        "coding": _coding(data),
        "color": color,
        "subsampling": None if color == "gray" else coefficients.subsampling,
        "tables": coefficients.tables.int().tolist(),
        "quality": estimate._asdict(),
        "damage": list(coefficients.damage),
        "metadata": [
            {"kind": kind(marker, payload), "bytes": 4 + len(payload)}
            for marker, payload in coefficients.metadata
        ],
        "baseline": {"huffman": huffman, **_bits(coefficients, huffman, NAMES[color])},
    }


def _coding(data: bytes) -> str:
    segment = next_segment(data, 0)
    while segment.marker not in FRAMES:
        segment = next_segment(data, segment.end)
    return FRAMES[segment.marker]


def _bits(coefficients: Coefficients, huffman: str, names: tuple[str, ...]) -> dict[str, Any]:
    try:
        size = len(to_bytes(coefficients, huffman=huffman))
    except ValueError as error:
        return {"error": str(error)}
    parts = breakdown(coefficients, huffman=huffman)
    return {
        "bytes": size,
        "bits": {
            **{
                name: {"coefficients": maps.tolist(), "end_of_block": int(ends)}
                for name, maps, ends in zip(names, parts.coefficients, parts.end_of_block, strict=True)
            },
            "padding": int(parts.padding),
            "stuffing": int(parts.stuffing),
            "headers": int(parts.headers),
            "metadata": int(parts.metadata),
        },
    }


def _print(facts: dict[str, Any]) -> None:
    color = facts["color"] if facts["color"] == "gray" else f"{facts['color']} {facts['subsampling']}"
    say(
        f"{facts['file']}: {facts['width']}×{facts['height']}, {color}, {facts['coding']}, {facts['bytes']:,} bytes"
    )
    for damage in facts["damage"]:
        say(f"damaged, {damage}")
    quality = facts["quality"]
    if quality["exact"]:
        say(f"quality {quality['quality']}: libjpeg's tables")
    else:
        say(
            f"quality about {quality['quality']}: entries differ from libjpeg's by {quality['distance']:.1%} on average"
        )
    for segment in facts["metadata"]:
        say(f"carries {segment['kind']}, {segment['bytes']:,} bytes")
    for i, entries in enumerate(facts["tables"]):
        _print_map(f"quantization table {i}", entries)
    baseline = facts["baseline"]
    if "error" in baseline:
        say(f"no baseline file holds it: {baseline['error']}")
        return
    _print_parts(baseline)
    for name in NAMES[facts["color"]]:
        _print_map(f"bits of {name} by coefficient", baseline["bits"][name]["coefficients"])


def _print_parts(baseline: dict[str, Any]) -> None:
    say(f"as a baseline file, {baseline['huffman']} Huffman tables: {baseline['bytes']:,} bytes")
    table = Table("part", "bits", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = {}
    for part, value in baseline["bits"].items():
        if isinstance(value, int):
            rows[part] = value
            continue
        total = sum(map(sum, value["coefficients"]))
        dc = value["coefficients"][0][0]
        rows |= {f"{part} DC": dc, f"{part} AC": total - dc, f"{part} end of block": value["end_of_block"]}
    size = 8 * baseline["bytes"]
    for part, bits in rows.items():
        table.add_row(part, f"{bits:,}", f"{bits / size:.1%}")
    table.add_section()
    table.add_row("together", f"{size:,}", "")
    console.print(table)


def _print_map(title: str, entries: list[list[int]]) -> None:
    table = Table(
        *[""] * 8, show_header=False, title=title, title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for column in table.columns:
        column.justify = "right"
    for row in entries:
        table.add_row(*map(str, row))
    console.print(table)
