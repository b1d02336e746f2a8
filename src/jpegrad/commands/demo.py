"""``jpegrad demo``."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jpegrad.commands.code import Force
from jpegrad.files import begins_with, check_output, write_atomically

if TYPE_CHECKING:
    from jpegrad.demo.study import Results

console = Console()


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The report to write.")] = Path(
        "jpegrad-demo.html"
    ),
    seed: Annotated[int, typer.Option(help="Draws the secret quality and the secret tables.")] = 0,
    force: Force = False,
) -> None:
    """Show the codec and its gradients on real photographs, as an HTML report."""
    check_output("--output", output, begins_with(b"<!doctype html"), force=force)
    # matplotlib is slow to load, and no other command needs it.
    from jpegrad.demo import report, study

    # For pictures this small a second thread costs more than it gives.
    torch.set_num_threads(1)
    columns = (TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:

        def steps(description: str, items: list[Any]) -> Iterator[Any]:
            yield from progress.track(items, description=description)

        results = study.compute(seed, steps)
    _print(results)
    write_atomically(output, report.html(results).encode())
    console.print(f"report: {output}", highlight=False)


def _print(results: "Results") -> None:
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
