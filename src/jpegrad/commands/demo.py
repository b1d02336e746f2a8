"""``jpegrad demo``."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jpegrad.commands.options import Force, Json
from jpegrad.commands.terminal import done, errors, is_terminal, say, show, tell, words
from jpegrad.files import check_output, write_atomically

if TYPE_CHECKING:
    from jpegrad.demo.study import Results


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The report to write.")] = Path(
        "jpegrad-demo.html"
    ),
    seed: Annotated[int, typer.Option(help="Draws the secret quality and the secret tables.")] = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show the codec and its gradients on real photographs, as an HTML report."""
    check_output("--output", output, force=force)
    # matplotlib is slow to load, and so is PyTorch.
    import torch

    from jpegrad.demo import report, study

    # For pictures this small a second thread costs more than it gives.
    torch.set_num_threads(1)
    columns = (TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, disable=not is_terminal()) as progress:

        def steps(description: str, items: list[Any]) -> Iterator[Any]:
            yield from progress.track(items, description=description)

        results = study.compute(seed, steps)
    write_atomically(output, report.html(results).encode())
    if as_json:
        rows = [
            {name: value for name, value in vars(row).items() if name != "picture"}
            for row in results.fidelity
        ]
        tell({"report": str(output), "fidelity": rows, "summary": results.summary()})
        return
    _print(results)
    done(f"report: {output}")


def _print(results: "Results") -> None:
    table = words("photograph", "mode")
    for column in ("q", "samples", "differ", "PSNR", "bytes (= Pillow's)"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in results.fidelity:
        table.add_row(
            row.photograph,
            row.subsampling,
            str(row.quality),
            f"{row.samples:,}",
            str(row.different),
            f"{row.psnr:.2f} dB",
            f"{row.size:,} {'=' if row.same_bytes else '≠'}",
        )
    show(table)
    for line in results.summary():
        say(line)
