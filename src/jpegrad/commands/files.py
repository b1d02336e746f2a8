"""``jpegrad inspect``."""

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from torch import Tensor

from jpegrad.codec import Coefficients
from jpegrad.commands.code import Force, Lenient
from jpegrad.commands.pictures import naming
from jpegrad.commands.terminal import console, say
from jpegrad.data import published_table_names
from jpegrad.entropy.script import simple_progression
from jpegrad.io import read, read_header, read_structure, to_bytes
from jpegrad.jfif import JPEGError
from jpegrad.jfif.header import Header, quality_of
from jpegrad.jfif.segments import APPLICATION, COM
from jpegrad.jfif.structure import FoundScan, Structure
from jpegrad.rate import breakdown
from jpegrad.tables import load as load_tables

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
    """What a .jpg file holds: size, subsampling, tables, quality, scans, metadata, thumbnail, and its bits.

    Of a file that is not decoded it says all but the bits.

    Bits are counted in the baseline file that jpegrad writes of these levels, by component and by place in the block.
    """
    if plot is not None:
        from jpegrad.commands import plots

        plots.check(plot, file, force)
    facts = describe(file, "optimized" if optimize else "default", lenient)
    if plot is not None and facts["error"]:
        raise JPEGError(f"{file}: {facts['error']}")
    if plot is not None:
        plots.save(plot, facts)
    if as_json:
        print(json.dumps(facts))
    else:
        _print(facts)


def describe(file: Path, huffman: str, lenient: bool = False) -> dict[str, Any]:
    """All that ``inspect`` prints, as values that JSON has; also of a file that is not decoded, with the reason."""
    data = file.read_bytes()
    with naming(file):
        header, structure = read_header(data), read_structure(data)
    try:
        coefficients, error = read(data, strict=not lenient, level_dtype=torch.int16), None
    except JPEGError as refused:
        coefficients, error = None, str(refused).replace("strict=False", "--lenient")
    tables = header.tables if coefficients is None else coefficients.tables
    names = NAMES.get(header.color, ())
    return {
        "file": str(file),
        "bytes": len(data),
        "width": header.size[1],
        "height": header.size[0],
        "coding": header.process + (", arithmetic-coded" if header.arithmetic else ""),
        "process": header.process,
        "arithmetic": header.arithmetic,
        "precision": header.precision,
        "color": header.color,
        "subsampling": None if header.color == "gray" else header.subsampling,
        "sampling": header.sampling,
        "density": header.density,
        "orientation": header.orientation,
        "tables": None if tables is None else tables.int().tolist(),
        "quality": None if tables is None else _quality(tables, header.color),
        "quantization_tables": structure.quantization_tables,
        "huffman": {"kind": structure.huffman, "tables": structure.huffman_tables},
        "restart_interval": max((scan.restart_interval for scan in structure.scans), default=0),
        "scans": [
            {**scan.sent._asdict(), **dict(zip(scan._fields[1:], scan[1:], strict=True))}
            for scan in structure.scans
        ],
        "script": structure.script,
        "standard_script": _is_standard(structure, header),
        "metadata": [
            {"kind": carried.kind, "bytes": 4 + carried.length}
            for carried in structure.segments
            if carried.marker in (*APPLICATION, COM) and carried.kind not in ("JFIF", "Adobe")
        ],
        "thumbnail": _thumbnail(data, header),
        "trailing_bytes": structure.trailing,
        "fault": structure.fault,
        "error": error,
        "damage": [] if coefficients is None else list(coefficients.damage),
        "baseline": None
        if coefficients is None
        else {"huffman": huffman, **_bits(coefficients, huffman, names)},
    }


def _quality(tables: Tensor, color: str) -> dict[str, Any] | None:
    """The estimate from Annex K, or from the published tables that the file's own are scaled from."""
    found, base = quality_of(tables, color), "Annex K"
    if found is None:
        return None
    if not found.exact:
        for name in published_table_names():
            estimate = quality_of(tables, color, load_tables(name))
            if estimate is not None and estimate.exact:
                found, base = estimate, name
                break
    return {**found._asdict(), "base": base}


def _scan(scan: FoundScan) -> dict[str, Any]:
    found = scan._asdict()
    return {**found.pop("sent")._asdict(), **found}


def _is_standard(structure: Structure, header: Header) -> bool:
    """Whether the scans are libjpeg's own for a progressive file."""
    standard = simple_progression(header.components, luma_chroma=header.color == "YCbCr")
    return structure.process == "progressive" and tuple(scan.sent for scan in structure.scans) == standard


def _thumbnail(data: bytes, header: Header) -> dict[str, Any] | None:
    if header.thumbnail is None:
        return None
    offset, length = header.thumbnail
    try:
        height, width = read_header(data[offset : offset + length]).size
    except JPEGError as error:
        return {"bytes": length, "error": str(error)}
    return {"bytes": length, "width": width, "height": height}


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
    color = facts["color"] if facts["color"] == "gray" else f"{facts['color']} {_sampling(facts)}"
    depth = "" if facts["precision"] == 8 else f", {facts['precision']} bits per sample"
    say(
        f"{facts['file']}: {facts['width']}×{facts['height']}, {color}, {facts['coding']}{depth}, "
        f"{facts['bytes']:,} bytes"
    )
    for damage in facts["damage"]:
        say(f"damaged, {damage}")
    if facts["error"]:
        say(f"not decoded: {facts['error']}")
    elif facts["fault"] and not facts["damage"]:
        say(f"damaged: {facts['fault']}")
    _print_quality(facts["quality"])
    _print_structure(facts)
    if len(facts["scans"]) > 1 and not facts["standard_script"]:
        for line in facts["script"].splitlines():
            say(f"scan {line}")
    for segment in facts["metadata"]:
        say(f"carries {segment['kind']}, {segment['bytes']:,} bytes")
    thumbnail = facts["thumbnail"]
    if thumbnail and "width" in thumbnail:
        say(f"thumbnail {thumbnail['width']}×{thumbnail['height']}, {thumbnail['bytes']:,} bytes")
    elif thumbnail:
        say(f"thumbnail of {thumbnail['bytes']:,} bytes: {thumbnail['error']}")
    if facts["trailing_bytes"]:
        say(f"{facts['trailing_bytes']:,} bytes follow the end of the picture")
    for i, entries in enumerate(facts["tables"] or ()):
        _print_map(f"quantization table {i}", entries)
    baseline = facts["baseline"]
    if baseline is None:
        return
    if "error" in baseline:
        say(f"no baseline file holds it: {baseline['error']}")
        return
    _print_parts(baseline)
    for name in NAMES[facts["color"]]:
        _print_map(f"bits of {name} by coefficient", baseline["bits"][name]["coefficients"])


def _sampling(facts: dict[str, Any]) -> str:
    return facts["subsampling"] or ",".join(f"{h}x{v}" for h, v in facts["sampling"])


def _print_quality(quality: dict[str, Any] | None) -> None:
    if quality is None:
        say("quality unknown: a quantization table is missing or has an entry 0")
    elif quality["exact"] and quality["base"] == "Annex K":
        say(f"quality {quality['quality']}: libjpeg's tables")
    elif quality["exact"]:
        say(f"quality {quality['quality']} of the published tables {quality['base']}")
    else:
        say(
            f"quality about {quality['quality']}: entries differ from libjpeg's by {quality['distance']:.1%} on average"
        )


def _print_structure(facts: dict[str, Any]) -> None:
    kinds = {"default": "Annex K's Huffman tables", "own": "Huffman tables of its own"}
    parts = [
        _count(facts["quantization_tables"], "quantization table"),
        kinds.get(facts["huffman"]["kind"], ""),
        _count(len(facts["scans"]), "scan") + (" as libjpeg's" if facts["standard_script"] else ""),
        f"restart interval of {_count(facts['restart_interval'], 'MCU')}"
        if facts["restart_interval"]
        else "",
        f"orientation {facts['orientation']}" if facts["orientation"] else "",
    ]
    say(", ".join(filter(None, parts)))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


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
