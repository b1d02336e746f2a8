"""The figures of the documentation, from the studies' results."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np

from jpegrad_studies.common import Results, bootstrap

matplotlib.use("Agg")
from matplotlib import pyplot

# What the text speaks of; the tables hold the rest.
APPROACHES = {
    "shin": "Shin & Song",
    "shin_upright": "Shin & Song, right tables",
    "korus_sin": "Korus & Memon",
    "soft_round": "soft rounding",
    "reich_soft": "Reich et al., soft",
    "reich_ste": "Reich et al., STE",
    "jpegrad soft": "jpegrad, soft",
    "jpegrad soft narrow": "jpegrad, soft, narrow",
}
ATTACKS = {
    "no JPEG in the loop": "no JPEG in the loop",
    "fsa": "FSA",
    "shin_tables": "Shin & Song, right tables",
    "reich_soft": "Reich et al., soft",
    "jpegrad default": "jpegrad, default",
    "jpegrad soft narrowing from wide": "jpegrad, soft, narrowing",
    "jpegrad soft narrowing from wide, sharp clamps": "the same, sharp clamps",
}


def forward(results: Results, path: Path) -> None:
    """PSNR to the real file against quality; the exact forward has none to show."""
    canvas, axis = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for name, label in APPROACHES.items():
        points = []
        for key, cell in results.cells.items():
            subject, quality = key.rsplit("/", 1)
            if subject == name:
                points.append((int(quality), np.mean([one["psnr"] or math.inf for one in cell.values()])))
        if points:
            axis.plot(*zip(*sorted(points), strict=True), label=label, marker=".", markersize=4)
    axis.set(xlabel="quality", ylabel="PSNR to the file, dB", xlim=(0, 100))
    axis.grid(color="0.9")
    axis.legend(fontsize="small")
    save(canvas, path)


def attack(results: Results, path: Path) -> None:
    """What I-FGSM of 2 grey levels gains on EfficientNet-Lite0 over the paper's STE, pair by pair, with intervals."""
    from jpegrad_studies.attack import REFERENCE, gains, grouped

    canvas, axis = pyplot.subplots(figsize=(8, 4), layout="constrained")
    rows = grouped(results).get(("lite0", "I-FGSM", "2"), {})
    for shift, (name, label) in enumerate(ATTACKS.items()):
        shared = sorted({*rows.get(name, {})} & {*rows.get(REFERENCE, {})})
        if not shared:
            continue
        pairs = [gains(rows[name], rows[REFERENCE], [quality]) for quality in shared]
        means = np.array([values.mean() for values in pairs])
        low, high = np.array([bootstrap(values) for values in pairs]).T
        places = np.array(shared) + 0.4 * (shift - len(ATTACKS) / 2)
        axis.errorbar(
            places, means, (means - low, high - means), label=label, marker="o", markersize=4, capsize=2
        )
    axis.axhline(0, color="0.5", linewidth=1)
    axis.set(xlabel="quality", ylabel="cross-entropy gained over Reich et al., STE", xlim=(0, 100))
    axis.grid(color="0.9")
    axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save(canvas, path)


def train(results: Results, path: Path) -> None:
    """Mean error over all settings of files: every seed, and the interval of the mean, a panel per task."""
    from jpegrad_studies.train import curriculum, grouped, interval, overall

    groups = grouped(results)
    canvas, axes = pyplot.subplots(
        1, len(groups), figsize=(5 * len(groups), 6), layout="constrained", squeeze=False
    )
    for axis, ((task, steps, ramp), group) in zip(axes[0], groups.items(), strict=True):
        rows = {name: [overall(one) for one in seeds.values()] for name, seeds in group.items()}
        rows = dict(sorted(rows.items(), key=lambda one: -np.mean(one[1])))
        for place, values in enumerate(rows.values()):
            mean, half = interval(values)
            axis.plot(values, [place] * len(values), ".", color="0.6")
            axis.errorbar(
                mean, place, xerr=None if math.isnan(half) else half, fmt="o", color="C0", capsize=2
            )
        axis.set_yticks(range(len(rows)), rows)
        axis.set(xlim=(0, None), xlabel="error, %", title=f"{task}, {steps} steps\n{curriculum(ramp)}")
        axis.grid(color="0.9")
    save(canvas, path)


def conversion(results: Results, path: Path) -> None:
    """Derivatives to every number against those of real files, in root mean squares, a panel per parameter."""
    from jpegrad_studies.conversion import grouped

    panels = ("conversion", "filter")
    canvas, axes = pyplot.subplots(1, len(panels), figsize=(10, 4.6), layout="constrained")
    for axis, which in zip(axes, panels, strict=True):
        cells = [
            one["random weights"] for many in grouped(results, "gradient", which).values() for one in many
        ]
        scales = [np.sqrt(np.mean(np.square(cell["truth"]))) for cell in cells]
        for name, marker in {"slope 1": "x", "cubic": "+", "jpegrad": "s", "jpegrad soft": "o"}.items():
            points = [
                np.array([cell["truth"], cell[name]["predicted"]]) / scale
                for cell, scale in zip(cells, scales, strict=True)
            ]
            true, predicted = np.concatenate(points, 1)
            axis.plot(true, predicted, marker, label=name, markersize=4, alpha=0.6, fillstyle="none")
        axis.axline((0, 0), slope=1, color="0.5", linewidth=1)
        axis.set(xlabel="of real files", ylabel="of the gradient", title=which)
        axis.grid(color="0.9")
    axes[0].legend(fontsize="small")
    save(canvas, path)


def save(canvas: pyplot.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=110)
    pyplot.close(canvas)
