"""The figures of the documentation, from the studies' results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from jpegrad_studies.common import Results, bootstrap
from jpegrad_studies.short import TRAINED

if TYPE_CHECKING:
    from jpegrad_studies.train import Group

LOOKS = {"": "default", "-dark": "dark_background"}
"""What a name ends in, for a light and a dark page, and matplotlib's style of it."""
OURS, GREY = "#00a08f", "#8a8a8a"
OTHERS = ("#d97706", "#5b84d7", "#a067c8", "#b0921f", "#d8609f", GREY)
LINES = ("-", "--", ":", "-.")

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
    "jpegrad soft narrowing from wide": "jpegrad, narrowing",
    "jpegrad soft narrowing from wide, sharp clamps": "jpegrad, sharp clamps",
}


def drawn(path: Path, draw: Callable[[Figure], None], size: tuple[float, float], dpi: int = 110) -> None:
    """Draw once for light pages and once for dark ones, on no ground of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix, look in LOOKS.items():
        with style.context([look, {"legend.framealpha": 0.5, "grid.color": GREY}]):
            figure = Figure(figsize=size, layout="constrained")
            draw(figure)
            figure.savefig(path.with_stem(path.stem + suffix), dpi=dpi, transparent=True)


def lines(labels: Iterable[str]) -> dict[str, dict[str, str]]:
    """The colour and the line of each label: one colour for all of jpegrad's, another for each of the others."""
    found: dict[str, dict[str, str]] = {}
    ours = others = 0
    for label in labels:
        if label.startswith("jpegrad"):
            found[label] = {"color": OURS, "linestyle": LINES[ours % len(LINES)]}
            ours += 1
        else:
            found[label] = {
                "color": OTHERS[others % len(OTHERS)],
                "linestyle": LINES[others // len(OTHERS) % len(LINES)],
            }
            others += 1
    return found


def forward(results: Results, path: Path) -> None:
    """PSNR to the real file against quality; the exact forward has none to show."""
    drawn(path, lambda figure: _forward(results, figure), (8, 4))


def _forward(results: Results, figure: Figure) -> None:
    axis, looks = figure.subplots(), lines(APPROACHES.values())
    for name, label in APPROACHES.items():
        points = []
        for key, cell in results.cells.items():
            subject, quality = key.rsplit("/", 1)
            if subject == name:
                points.append((int(quality), np.mean([one["psnr"] or math.inf for one in cell.values()])))
        if points:
            axis.plot(
                *zip(*sorted(points), strict=True), label=label, marker=".", markersize=4, **looks[label]
            )
    axis.set(xlabel="quality", ylabel="PSNR to the file, dB", xlim=(0, 100))
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")


def attack(results: Results, path: Path) -> None:
    """What I-FGSM of 2 grey levels gains on EfficientNet-Lite0 over the paper's STE, pair by pair, with intervals."""
    drawn(path, lambda figure: _attack(results, figure), (8, 4.6))


def _attack(results: Results, figure: Figure) -> None:
    from jpegrad_studies.attack import REFERENCE, gains, grouped

    axis, looks = figure.subplots(), lines(ATTACKS.values())
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
            places,
            means,
            (means - low, high - means),
            label=label,
            marker="o",
            markersize=4,
            capsize=2,
            **looks[label],
        )
    axis.axhline(0, color=GREY, linewidth=1)
    axis.set(xlabel="quality", ylabel="cross-entropy gained over Reich et al., STE", xlim=(0, 100))
    axis.grid(alpha=0.3)
    figure.legend(fontsize="small", loc="outside lower center", ncols=3)


def train(results: Results, path: Path) -> None:
    """Mean error over all settings of files: every seed, and the interval of the mean, a panel per task."""
    from jpegrad_studies.train import grouped

    groups = grouped(results)
    rows = -(-len(groups) // 3)
    drawn(path, lambda figure: _train(groups, figure), (4.4 * min(len(groups), 3), 3.6 * rows))


def _train(groups: dict[tuple[str, int, float], Group], figure: Figure) -> None:
    from jpegrad_studies.train import curriculum, interval, overall

    columns = min(len(groups), 3)
    axes = list(figure.subplots(-(-len(groups) // columns), columns, squeeze=False).flat)
    for axis in axes[len(groups) :]:
        axis.remove()
    for axis, ((task, steps, ramp), group) in zip(axes, groups.items(), strict=False):
        named = {label: group[name] for name, label in TRAINED.items() if name in group} or group
        rows = {name: [overall(one) for one in seeds.values()] for name, seeds in named.items()}
        rows = dict(sorted(rows.items(), key=lambda one: -np.mean(one[1])))
        for place, (name, values) in enumerate(rows.items()):
            color = OURS if name.startswith("jpegrad") else OTHERS[0]
            mean, half = interval(values)
            axis.plot(values, [place] * len(values), ".", color=GREY)
            axis.errorbar(
                mean, place, xerr=None if math.isnan(half) else half, fmt="o", color=color, capsize=2
            )
        axis.set_yticks(range(len(rows)), rows, fontsize="small")
        axis.set(xlim=(0, None), xlabel="error, %")
        axis.set_title(f"{task}, {steps} steps\n{curriculum(ramp).removeprefix('coded ')}", fontsize="small")
        axis.grid(alpha=0.3)


GRADIENTS = {
    "jpegrad soft gaussian": "jpegrad, soft",
    "jpegrad gaussian": "jpegrad, exact",
    "reich_ste": "Reich et al., STE",
    "reich_soft": "Reich et al., soft",
    "kornia": "kornia",
    "fsa": "real file, identity",
}
QUALITY_GRADIENTS = {
    "jpegrad": "jpegrad, exact",
    "jpegrad identity": "slope 1",
    "reich_ste": "Reich et al., STE",
    "reich_soft": "Reich et al., soft",
    "kornia": "kornia",
}


def gradient(results: Results, path: Path) -> None:
    """Cosine to the truth with its standard error, and what each predicts of the change with quality."""
    drawn(path, lambda figure: _gradient(results, figure), (9, 4.1))


def _gradient(results: Results, figure: Figure) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    settings = sorted({tuple(key.split("/")[1:3]) for key in results.cells if key.startswith("image/")})
    looks = lines(GRADIENTS.values())
    for shift, (name, label) in enumerate(GRADIENTS.items()):
        cosines, errors = [], []
        for quality, sigma in settings:
            cells = [
                cell[name]["linearised"]
                for key, cell in results.cells.items()
                if key.startswith(f"image/{quality}/{sigma}/")
            ]
            cosines.append(np.mean([cell["cosine"] for cell in cells]))
            errors.append(math.sqrt(sum(cell["cosine_error"] ** 2 for cell in cells)) / len(cells))
        places = np.arange(len(settings)) + 0.06 * (shift - len(GRADIENTS) / 2)
        left.errorbar(
            places, cosines, errors, label=label, marker="o", markersize=4, capsize=2, **looks[label]
        )
    left.set_xticks(range(len(settings)), [f"quality {q},\nσ {s}" for q, s in settings])
    left.set(title="to the image", ylabel="cosine to the truth", ylim=(-0.05, 1.05))
    left.grid(alpha=0.3)
    figure.legend(fontsize="small", loc="outside lower center", ncols=6)
    for place, (name, label) in enumerate(reversed(QUALITY_GRADIENTS.items())):
        cells = [cell for key, cell in results.cells.items() if key.startswith(f"quality/{name}/")]
        _, truth, predicted = np.array([row for cell in cells for row in cell]).T
        # Zero and what points the wrong way stand at the left end.
        ratio = np.clip(predicted / truth, 0.01, 100)
        color = OURS if label.startswith("jpegrad") else GREY
        right.plot(
            ratio, place + np.linspace(-0.25, 0.25, len(ratio)), ".", color=color, markersize=3, alpha=0.6
        )
        right.plot(np.median(ratio), place, "|", color=color, markersize=22, markeredgewidth=2.5)
    right.set_yticks(range(len(QUALITY_GRADIENTS)), reversed(QUALITY_GRADIENTS.values()))
    right.axvline(1, color=GREY, linewidth=0.8)
    right.set(
        title="to the quality", xlabel="predicted change / true change", xscale="log", xlim=(0.008, 120)
    )
    right.set_xticks((0.01, 0.1, 1, 10, 100), ("≤ 0.01", "0.1", "1", "10", "≥ 100"))
    right.grid(alpha=0.3, axis="x")


RECOVERED = {
    "jpegrad soft, table_relative narrowing": "jpegrad, narrowing",
    "jpegrad soft, soft_round": "jpegrad, soft_round",
    "jpegrad soft": "jpegrad, soft",
    "jpegrad": "jpegrad, default",
    "reich_soft": "Reich et al., soft",
    "reich_ste": "Reich et al., STE",
}
RECOVERIES = {
    "recover quality": ("mean miss", "miss of the quality"),
    "recover tables": ("squared error to the file", "squared error with the tables found"),
    "networks": ("cost (%)", "cost beside no network, %"),
}


def recover(results: Results, path: Path) -> None:
    """What descent finds: a point per photograph or training, and their mean."""
    drawn(path, lambda figure: _recover(results, figure), (10, 2.8))


def _recover(results: Results, figure: Figure) -> None:
    axes = figure.subplots(1, len(RECOVERIES), sharey=True)
    for axis, (task, (column, title)) in zip(axes, RECOVERIES.items(), strict=True):
        for place, (name, label) in enumerate(reversed(RECOVERED.items())):
            if task == "networks":
                values = [c[column] for key, c in results.cells.items() if key.startswith(f"{task}/{name}/")]
            else:
                cells = [cell for key, cell in results.cells.items() if key.startswith(f"{task}/")]
                values = [cell[name][column] for cell in cells if name in cell]
            if values:
                color = OURS if label.startswith("jpegrad") else OTHERS[0]
                axis.plot(values, [place] * len(values), ".", color=GREY)
                axis.plot(np.mean(values), place, "o", color=color)
        axis.set_title(title, fontsize="medium")
        axis.grid(alpha=0.3)
        axis.margins(x=0.08)
    axes[0].set_yticks(range(len(RECOVERED)), reversed(RECOVERED.values()))


def conversion(results: Results, path: Path) -> None:
    """Derivatives to every number against those of real files, in root mean squares, a panel per parameter."""
    drawn(path, lambda figure: _conversion(results, figure), (10, 4.6))


def _conversion(results: Results, figure: Figure) -> None:
    from jpegrad_studies.conversion import grouped

    panels = ("conversion", "filter")
    axes, markers = (
        figure.subplots(1, len(panels)),
        {"slope 1": "x", "cubic": "+", "jpegrad": "s", "jpegrad soft": "o"},
    )
    looks = lines(markers)
    for axis, which in zip(axes, panels, strict=True):
        cells = [
            one["squared error to another encoder's file"]
            for many in grouped(results, "gradient", which).values()
            for one in many
        ]
        scales = [np.sqrt(np.mean(np.square(cell["truth"]))) for cell in cells]
        for name, marker in markers.items():
            points = [
                np.array([cell["truth"], cell[name]["predicted"]]) / scale
                for cell, scale in zip(cells, scales, strict=True)
            ]
            true, predicted = np.concatenate(points, 1)
            axis.plot(
                true,
                predicted,
                marker,
                label=name,
                color=looks[name]["color"],
                markersize=4,
                alpha=0.7,
                fillstyle="none",
            )
        axis.axline((0, 0), slope=1, color=GREY, linewidth=1)
        axis.set(xlabel="of real files", ylabel="of the gradient", title=which)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize="small")
