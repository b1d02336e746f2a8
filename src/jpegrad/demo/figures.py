"""The figures of the report, as PNG data for an HTML page."""

import io

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from jpegrad.demo.recover import Recovery
from jpegrad.demo.study import QualitySlope
from jpegrad.page import data_url

BLUE, ORANGE, GRAY = "#1f6fb4", "#d1622b", "#8a8a8a"


def _finish(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return data_url(buffer.getvalue())


def quality_slopes(slopes: list[QualitySlope]) -> str:
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, slope in zip(figure.subplots(1, len(slopes), squeeze=False)[0], slopes, strict=True):
        axes.plot(
            slope.qualities, np.negative(slope.measured), color=GRAY, lw=4, alpha=0.5, label="measured, q ± 2"
        )
        axes.plot(slope.qualities, np.negative(slope.gradient), color=BLUE, lw=1.3, label="jpegrad")
        paper = np.negative(slope.paper)
        axes.plot(slope.qualities, paper, color=ORANGE, lw=0.9, label="the paper's straight-through")
        axes.set(
            yscale="log", title=slope.photograph, xlabel="quality", ylim=_range(np.negative(slope.measured))
        )
    figure.axes[0].set_ylabel("−d(squared error)/d(quality)")
    figure.axes[-1].legend(fontsize=8)
    return _finish(figure)


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()) / 3, float(values.max()) * 3


def tables(values: Tensor, titles: tuple[str, str], form: str, marked: Tensor | None = None) -> str:
    """Two 8×8 maps with their numbers; ``marked`` entries are drawn bold."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for i, axes in enumerate(figure.subplots(1, 2)):
        entries = values[i].numpy()
        shade = np.sign(entries) * np.sqrt(np.abs(entries))
        limit = np.abs(shade).max() or 1.0
        axes.imshow(shade, cmap="RdBu_r", vmin=-1.6 * limit, vmax=1.6 * limit)
        for (row, column), entry in np.ndenumerate(entries):
            bold = marked is not None and bool(marked[i, row, column])
            weight = "bold" if bold else "normal"
            axes.text(column, row, format(entry, form), ha="center", va="center", fontsize=8, weight=weight)
        axes.set(title=titles[i], xticks=[], yticks=[])
    return _finish(figure)


def recoveries(quality: Recovery, found: Recovery) -> str:
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(np.array(quality.paths), color=BLUE, lw=1.2)
    left.axhline(float(quality.secret), color=ORANGE, lw=1, ls="--", label="secret quality")
    left.set(xlabel="step", ylabel="quality of the four starts", ylim=(0, 101))
    left.legend(fontsize=8)
    right.plot(np.array(found.paths), color=BLUE, lw=1.2, label="entries found exactly")
    right.axhline(
        int(found.determined.sum()), color=ORANGE, lw=1, ls="--", label="entries that leave a trace"
    )
    right.set(xlabel="step", ylabel="table entries", ylim=(0, int(found.determined.sum()) * 1.1))
    right.legend(fontsize=8)
    return _finish(figure)
