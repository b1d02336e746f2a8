"""``jpegrad surrogates`` and ``jpegrad backends``."""

import torch
from rich.console import Console
from rich.table import Table

from jpegrad import backends as available
from jpegrad.spec import Spec
from jpegrad.surrogates import ALL, Component

console = Console()


def surrogates() -> None:
    """The gradient estimators of the library."""
    table = Table(
        "name", "slope at 0", "at ¼", "at ½", "source", title="slope against u = coefficient / step (step 16)"
    )
    points = torch.tensor([0.0, 0.25, 0.499999], dtype=torch.float64)
    step = torch.tensor(16.0, dtype=torch.float64)
    for record in ALL.values():
        slopes = record.slope(points, step, Component("Y", 0.447))
        table.add_row(record.name, *(f"{slope:.3f}" for slope in slopes.tolist()), record.source)
    console.print(table)


def backends() -> None:
    """Which code runs, in the order in which ``auto`` tries it, and why."""
    table = Table("backend", "uint8 on the CPU", "float32 on the CPU", "float32 on CUDA")
    samples = [torch.zeros(3, 16, 16, dtype=torch.uint8), torch.zeros(3, 16, 16)]
    if torch.cuda.is_available():
        samples.append(torch.zeros(3, 16, 16, device="cuda"))
    for name in available.ORDER:
        row = []
        for sample in samples:
            reasons = available.reasons(name, "jpeg", sample, Spec())
            row.append("[green]runs[/]" if not reasons else "; ".join(reasons))
        table.add_row(name, *row, *["no device"] * (3 - len(row)))
    console.print(table)
    for work, kernel, coder in (("read", "decode_scan", "decoder"), ("written", "encode_scan", "encoder")):
        native = available.kernel(kernel, torch.empty(0, dtype=torch.int16))
        which = (
            f"the native entropy {coder}" if native else f"the entropy {coder} in Python, which is far slower"
        )
        console.print(f"Files are {work} by {which}.", highlight=False)
    console.print("JPEGRAD_BACKEND=reference turns acceleration off.", highlight=False)
