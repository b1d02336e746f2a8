"""``jpegrad surrogates`` and ``jpegrad backends``."""

from typing import Any

from jpegrad.commands.options import Json
from jpegrad.commands.terminal import say, show, tell, words


def surrogates(as_json: Json = False) -> None:
    """The gradient estimators of the library."""
    import torch

    from jpegrad.surrogates import ALL, Component

    points = torch.tensor([0.0, 0.25, 0.499999], dtype=torch.float64)
    step = torch.tensor(16.0, dtype=torch.float64)
    table = words("name", title="slope against u = coefficient / step (step 16)")
    for column in ("slope at 0", "at ¼", "at ½"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("source")
    for record in ALL.values():
        slopes = record.slope(points, step, Component("Y", 0.447)).tolist()
        if as_json:
            tell(
                {
                    "name": record.name,
                    "slopes": dict(zip(("0", "1/4", "1/2"), slopes, strict=True)),
                    "source": record.source,
                }
            )
        table.add_row(record.name, *(f"{slope:.3f}" for slope in slopes), record.source)
    if not as_json:
        show(table)


def backends(as_json: Json = False) -> None:
    """Which code runs, in the order in which ``auto`` tries it, and why."""
    import torch

    from jpegrad import backends as available
    from jpegrad.spec import Spec

    samples = {
        "uint8 on the CPU": torch.zeros(3, 16, 16, dtype=torch.uint8),
        "float32 on the CPU": torch.zeros(3, 16, 16),
    }
    if torch.cuda.is_available():
        samples["float32 on CUDA"] = torch.zeros(3, 16, 16, device="cuda")
    facts: dict[str, Any] = {
        "backends": {
            name: {what: list(available.reasons(name, "jpeg", x, Spec())) for what, x in samples.items()}
            for name in available.ORDER
        },
        "files": {
            work: bool(available.kernel(kernel, torch.empty(0, dtype=torch.int16)))
            for work, kernel in (("read", "decode_scan"), ("written", "encode_scan"))
        },
    }
    if as_json:
        tell(facts)
        return
    table = words("backend", *samples, *([] if torch.cuda.is_available() else ["float32 on CUDA"]))
    for name, found in facts["backends"].items():
        row = ["; ".join(reasons) or "runs" for reasons in found.values()]
        table.add_row(name, *row, *["no device"] * (3 - len(row)))
    show(table)
    for (work, native), coder in zip(facts["files"].items(), ("decoder", "encoder"), strict=True):
        which = (
            f"the native entropy {coder}" if native else f"the entropy {coder} in Python, which is far slower"
        )
        say(f"Files are {work} by {which}.")
    say("JPEGRAD_BACKEND=reference turns acceleration off.")
