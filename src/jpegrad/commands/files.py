"""``jpegrad inspect``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from jpegrad.io import read
from jpegrad.rate import bits

console = Console()


def inspect(
    file: Annotated[Path, typer.Argument(help="A .jpg file.", show_default=False)],
) -> None:
    """What a .jpg file holds: size, subsampling, quantization tables."""
    c = read(file)
    height, width = c.size
    channels = "gray" if c.channels == 1 else c.subsampling
    console.print(f"{file}: {width}×{height}, {channels}, {file.stat().st_size:,} bytes", highlight=False)
    baseline = int(bits(c)) // 8
    console.print(f"as baseline JPEG with standard Huffman tables: {baseline:,} bytes", highlight=False)
    for i, entries in enumerate(c.tables.int().tolist()):
        table = Table(show_header=False, title=f"quantization table {i}")
        for row in entries:
            table.add_row(*(str(entry) for entry in row))
        console.print(table)
