"""The figure of ``jpegrad inspect --plot``."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from jpegrad.commands.terminal import WrongOption
from jpegrad.files import check_output, write_atomically

FORMATS = (".png", ".svg", ".pdf")


def check(path: Path, source: Path, force: bool) -> None:
    """Raise unless a figure may be written there."""
    if path.suffix.lower() not in FORMATS:
        raise WrongOption(f"--plot: expected a name that ends in {', '.join(FORMATS)}, got {path}")
    check_output("--plot", path, inputs=[source], force=force)


def save(path: Path, facts: dict[str, Any]) -> None:
    """Draw what ``describe`` found.

    Raises:
        OSError: the file cannot be written.
    """
    buffer = io.BytesIO()
    draw(facts).savefig(buffer, format=path.suffix.lower()[1:], dpi=130)
    write_atomically(path, buffer.getvalue())


def draw(facts: dict[str, Any]) -> Figure:
    """Tables above, bits by coefficient below them, then levels; all on logarithmic scales."""
    bits = facts["baseline"].get("bits", {})
    maps = {name: part["coefficients"] for name, part in bits.items() if isinstance(part, dict)}
    columns = max(len(facts["tables"]), len(facts["levels"]))
    rows = 3 if maps else 2
    figure = Figure(figsize=(4.6 * columns, 0.8 + 4.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for i, table in enumerate(facts["tables"]):
        _map(grid[0, i], f"quantization table {i}", np.array(table), "Blues")
    for i, (name, part) in enumerate(maps.items()):
        _map(grid[1, i], f"bits of {name}, {np.sum(part):,}", np.array(part), "Oranges")
    for i, (name, parts) in enumerate(facts["levels"].items()):
        _levels(grid[-1, i], f"levels of {name}", parts)
    for axes in grid.flat:
        if not axes.has_data():
            axes.remove()
    size = f"{facts['width']}×{facts['height']}, {facts['bytes']:,} bytes"
    figure.suptitle(f"{Path(facts['file']).name}: {size}", parse_math=False)
    return figure


def _levels(axes: Axes, title: str, parts: dict[str, dict[int, int]]) -> None:
    # Symmetric and linear around 0, where nearly all levels are.
    for part, color in (("AC", "tab:blue"), ("DC", "tab:orange")):
        values, counts = zip(*sorted(parts[part].items()), strict=True)
        axes.plot(values, counts, marker=".", lw=0.8, color=color, label=part)
    axes.set_xscale("symlog", linthresh=16)
    axes.set(title=title, xlabel="level", ylabel="how often", yscale="log")
    axes.legend(frameon=False)


def _map(axes: Axes, title: str, entries: np.ndarray, colors: str) -> None:
    # Dark cells would hide the numbers; zeros have no logarithm and stay white.
    scale = LogNorm(1, max(2, float(entries.max())) ** 1.5)
    axes.imshow(np.ma.masked_equal(entries, 0), cmap=colors, norm=scale)
    for (row, column), entry in np.ndenumerate(entries):
        axes.text(column, row, _short(int(entry)), ha="center", va="center", fontsize=8)
    axes.set(
        title=title,
        xlabel="horizontal frequency",
        ylabel="vertical frequency",
        xticks=range(8),
        yticks=range(8),
    )


def _short(number: int) -> str:
    return (
        str(number)
        if number < 10_000
        else f"{number / 1000:.0f}k"
        if number < 10**6
        else f"{number / 1e6:.1f}M"
    )
