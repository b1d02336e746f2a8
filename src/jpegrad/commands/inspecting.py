"""What ``jpegrad inspect`` finds and prints."""

from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from jpegrad.codec import Coefficients
from jpegrad.commands import sources
from jpegrad.commands.pictures import naming
from jpegrad.commands.terminal import numbers, say, show
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


SINGLE = 3
"""Levels of so many bits have a row each."""


def describe(file: Path, huffman: str, lenient: bool = False) -> dict[str, Any]:
    """All that ``inspect`` prints, as values that JSON has; also of a file that is not decoded, with the reason."""
    data = sources.read(file)
    with naming(file):
        header, structure = read_header(data), read_structure(data)
    try:
        coefficients, error = read(data, strict=not lenient, level_dtype=torch.int16), None
    except JPEGError as refused:
        coefficients, error = None, str(refused).replace("strict=False", "--lenient")
    tables = header.tables if coefficients is None else coefficients.tables
    names = NAMES.get(header.color, ())
    return {
        "file": sources.name(file),
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
        "metadata": _metadata(structure),
        "thumbnail": _thumbnail(data, header),
        "trailing_bytes": structure.trailing,
        "fault": structure.fault,
        "error": error,
        "damage": [] if coefficients is None else list(coefficients.damage),
        "baseline": None
        if coefficients is None
        else {"huffman": huffman, **_bits(coefficients, huffman, names)},
        "levels": None if coefficients is None else _histograms(coefficients, names),
    }


def draw(path: Path, facts: dict[str, Any]) -> None:
    """Draw what ``describe`` found into a file.

    Raises:
        JPEGError: there is nothing to draw of a file that is not decoded.
        OSError: the file cannot be written.
    """
    from jpegrad.commands import plots

    if facts["error"]:
        raise JPEGError(f"{facts['file']}: {facts['error']}")
    plots.save(path, facts)


def _histograms(coefficients: Coefficients, names: tuple[str, ...]) -> dict[str, dict[str, dict[int, int]]]:
    """How often each level occurs, of each component, of DC and of AC."""
    found: dict[str, dict[str, dict[int, int]]] = {}
    for name, levels in zip(names, coefficients.levels, strict=True):
        flat = levels.flatten(-2)
        found[name] = {}
        for part, some in (("DC", flat[..., :1]), ("AC", flat[..., 1:])):
            values, counts = some.unique(return_counts=True)
            found[name][part] = dict(zip(values.int().tolist(), counts.tolist(), strict=True))
    return found


def overview() -> Table:
    """One row for each of several files."""
    table = numbers("size", "bytes", "quality")
    for column in ("coding", "colour", "metadata"):
        table.add_column(column)
    table.add_column("file", no_wrap=True)
    return table


def add_row(table: Table, file: Path, lenient: bool) -> None:
    """What is most asked for, of files that are damaged too."""
    data = sources.read(file)
    with naming(file):
        header, structure = read_header(data), read_structure(data)
    try:
        read(data, strict=not lenient, level_dtype=torch.int16)
        fault = ""
    except JPEGError as error:
        fault = ", not decoded: " + str(error).replace("strict=False", "--lenient")
    quality = None if header.tables is None else _quality(header.tables, header.color)
    label = "–"
    if quality is not None:
        label = f"{'' if quality['exact'] else '≈'}{quality['quality']}"
        label += "" if quality["base"] == "Annex K" else f" {quality['base']}"
    table.add_row(
        f"{header.size[1]}×{header.size[0]}",
        f"{len(data):,}",
        label,
        header.process + (", arithmetic" if header.arithmetic else "") + fault,
        _color({"color": header.color, "subsampling": header.subsampling, "sampling": header.sampling}),
        ", ".join(dict.fromkeys(one["kind"] for one in _metadata(structure))),
        sources.name(file),
    )


def _metadata(structure: Structure) -> list[dict[str, Any]]:
    return [
        {"kind": carried.kind, "bytes": 4 + carried.length}
        for carried in structure.segments
        if carried.marker in (*APPLICATION, COM) and carried.kind not in ("JFIF", "Adobe")
    ]


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


def show_all(facts: dict[str, Any], histogram: bool) -> None:
    """Print what ``describe`` found."""
    depth = "" if facts["precision"] == 8 else f", {facts['precision']} bits per sample"
    say(
        f"{facts['file']}: {facts['width']}×{facts['height']}, {_color(facts)}, {facts['coding']}{depth}, "
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
    if histogram:
        _print_histograms(facts["levels"])
    if "error" in baseline:
        say(f"no baseline file holds it: {baseline['error']}")
        return
    _print_parts(baseline)
    for name in NAMES[facts["color"]]:
        _print_map(f"bits of {name} by coefficient", baseline["bits"][name]["coefficients"])


def _color(facts: dict[str, Any]) -> str:
    if facts["color"] == "gray":
        return "gray"
    sampling = facts["subsampling"] or ",".join(f"{h}x{v}" for h, v in facts["sampling"])
    return f"{facts['color']} {sampling}"


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
    table = numbers("bits", "share", first="part")
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
    show(table)


def _print_histograms(levels: dict[str, dict[str, dict[int, int]]]) -> None:
    """Small levels one by one, larger ones by their number of bits, of each component."""
    parts = {f"{name} {part}": counts for name, kinds in levels.items() for part, counts in kinds.items()}
    say("how often each level occurs")
    table = numbers(*parts, first="level")
    width = max((abs(level).bit_length() for counts in parts.values() for level in counts), default=0)
    edges = [(-(2**n) + 1, -(2 ** (n - 1))) for n in range(width, SINGLE, -1)]
    edges += [(level, level) for level in range(1 - 2**SINGLE, 2**SINGLE)]
    edges += [(-high, -low) for low, high in reversed(edges[: max(0, width - SINGLE)])]
    for low, high in edges:
        counts = [
            sum(count for level, count in found.items() if low <= level <= high) for found in parts.values()
        ]
        if any(counts):
            label = str(low) if low == high else f"{low} to {high}"
            table.add_row(label, *(f"{count:,}" if count else "" for count in counts))
    show(table)


def _print_map(title: str, entries: list[list[int]]) -> None:
    table = Table(show_header=False, title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for _ in range(8):
        table.add_column(justify="right", no_wrap=True)
    for row in entries:
        table.add_row(*map(str, row))
    show(table)
