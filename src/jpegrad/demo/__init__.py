"""The demonstration on real photographs: numbers (``study``), figures (``figures``), one HTML file (``report``)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jpegrad.demo import report, study
from jpegrad.files import write_atomically


def run(output: Path, seed: int, console: Console) -> None:
    """Compute the study, print its figures and write the report.

    Args:
        output: the HTML file.
        seed: draws the secret quality and the secret tables.
        console: where to print.

    Raises:
        OSError: the report cannot be written.
    """
    # For pictures this small a second thread costs more than it gives.
    torch.set_num_threads(1)
    columns = (TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:

        def steps(description: str, items: list[Any]) -> Iterator[Any]:
            yield from progress.track(items, description=description)

        results = study.compute(seed, steps)
    _print(results, console)
    write_atomically(output, report.html(results).encode())
    console.print(f"report: {output}", highlight=False)


def _print(results: study.Results, console: Console) -> None:
    table = Table("photograph", "mode", "q", "samples", "differ", "PSNR", "bytes (= Pillow's)")
    for row in results.fidelity:
        table.add_row(
            row.photograph,
            row.subsampling,
            str(row.quality),
            f"{row.samples:,}",
            f"[{'red' if row.different else 'green'}]{row.different}[/]",
            f"{row.psnr:.2f} dB",
            f"{row.size:,} {'=' if row.same_bytes else '≠'}",
        )
    console.print(table)
    for line in results.summary():
        console.print(line, highlight=False)
