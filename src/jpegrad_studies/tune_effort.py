"""What more steps of the descent bring, and what they take.

    jpegrad bench tune_effort [--images FOLDER] [--limit N] [--out FILE]

The gain is that of the cost, loss / multiplier + bits, in % of the bits of the first file: bytes saved at an equal
trade of bytes for quality. The first file is the picture's own rounding with learned tables, which no step has changed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from jpegrad import tune
from jpegrad_studies.common import (
    CHECKOUT,
    RESULTS,
    ROOT,
    Results,
    bootstrap,
    load_images,
    markdown,
    publish,
    track,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = ROOT / "docs" / "tune.md"
FIGURE = ROOT / "docs" / "images" / "tune-effort.png"
STEPS = (0, 1, 2, 4, 8, 16, 32)
QUALITY = 75
METRICS = ("perceptual", "mse")


def cell(image: Tensor, metric: str, steps: int) -> dict[str, Any]:
    start = time.process_time()
    target = tune.LikeQuality(QUALITY)
    made = tune.compress(image, metric=metric, target=target, steps=steps, progressive=True)
    seconds = time.process_time() - start
    return {"loss": made.loss, "bits": 8 * made.size, "multiplier": made.multiplier, "seconds": seconds}


def gain(first: dict[str, Any], made: dict[str, Any]) -> float:
    saved = (first["loss"] - made["loss"]) / first["multiplier"] + first["bits"] - made["bits"]
    return 100 * float(saved / first["bits"])


def run(directory: Path | None, limit: int | None, out: Path) -> Results:
    torch.set_num_threads(1)
    images = load_images(directory, limit, multiple=1)
    sizes = {name: image.shape[1] * image.shape[2] for name, image in images.items()}
    results = Results(out, {"images": sizes, "quality": QUALITY})
    keys = [f"{metric}/{image}/{steps}" for metric in METRICS for image in images for steps in STEPS]
    for key in track(results.missing(keys), "tune_effort"):
        metric, name, steps = key.split("/")
        results.add(key, cell(images[name], metric, int(steps)))
    return results


def measured(results: Results, metric: str, steps: int) -> tuple[np.ndarray, float]:
    """The gain on each picture, and the seconds for each megapixel."""
    sizes = results.settings["images"]
    cells = [
        (results.cells[f"{metric}/{name}/0"], results.cells[f"{metric}/{name}/{steps}"]) for name in sizes
    ]
    rates = [made["seconds"] / size * 1e6 for (_, made), size in zip(cells, sizes.values(), strict=True)]
    return np.array([gain(*pair) for pair in cells]), float(np.median(rates))


def tables(results: Results) -> str:
    rows = []
    for steps in STEPS:
        row = [str(steps)]
        for metric in METRICS:
            gains, seconds = measured(results, metric, steps)
            low, high = bootstrap(gains)
            row += [f"{gains.mean():.1f} ({low:.1f} … {high:.1f})" if steps else "0", f"{seconds:.1f}"]
        rows.append(row)
    names = ", ".join(results.settings["images"])
    header = ["steps", *(word for metric in METRICS for word in (f"`{metric}`", "s / Mpx"))]
    return "\n\n".join(
        [
            "Gain in % of the first file's bytes, and seconds of one core for a megapixel, at "
            f"`LikeQuality({QUALITY})`, progressive ({names}; 95 % intervals over the pictures):",
            markdown(header, rows),
        ]
    )


def figure(results: Results, path: Path) -> None:
    from jpegrad_studies import figures

    figures.drawn(path, lambda drawing: _curves(results, drawing), (6.4, 3.8))


def _curves(results: Results, drawing: Figure) -> None:
    from jpegrad_studies.figures import OURS

    axis = drawing.subplots()
    for metric, dashes in zip(METRICS, ("-", "--"), strict=True):
        found = [measured(results, metric, steps) for steps in STEPS]
        seconds, gains = [s for _, s in found], [g.mean() for g, _ in found]
        axis.plot(seconds, gains, "o", linestyle=dashes, color=OURS, label=metric, markersize=4)
        for steps, x, y in zip(STEPS, seconds, gains, strict=True):
            axis.annotate(str(steps), (x, y), textcoords="offset points", xytext=(4, -10), fontsize=8)
    axis.set(xscale="log", xlabel="seconds of one core for a megapixel", ylabel="gain, %")
    axis.grid(alpha=0.3)
    axis.legend(title="metric (numbers: steps)")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench tune_effort", description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of PNG photographs; default: the bundled ones")
    parser.add_argument("--limit", type=int, help="at most so many photographs")
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "tune_effort.json", help="(default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    results = run(options.images, options.limit, options.out)
    text = tables(results)
    print(text)
    if CHECKOUT and options.out == RESULTS / "tune_effort.json":
        publish("tune-effort", text, PAGE)
        figure(results, FIGURE)


if __name__ == "__main__":
    main()
