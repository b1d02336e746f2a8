"""What each part of the descent brings: files made without it, beside those of the whole.

    jpegrad bench tune_ablate [--images FOLDER] [--limit N] [--steps N] [--out FILE]

The gain is that of the cost, loss / multiplier + bits, in % of the bits of the first file, as in ``tune_effort``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

import jpegrad
from jpegrad import tune
from jpegrad.entropy.script import spectral_selection
from jpegrad.tune import joint
from jpegrad.tune.joint import Descent, File, Parts, Weights, fit_weights
from jpegrad_studies.common import (
    CHECKOUT,
    RESULTS,
    Results,
    bootstrap,
    load_images,
    markdown,
    publish,
    track,
)
from jpegrad_studies.tune_effort import METRICS, PAGE, QUALITY, gain


def _one_weight(error: Tensor, slope: Tensor) -> Weights:
    """The mean of :func:`jpegrad.tune.joint.fit_weights` for all frequencies and blocks."""
    found = fit_weights(error, slope)
    return Weights(torch.full_like(found.frequency, float(found.each.mean())), torch.ones_like(found.block))


def _all_blocks(descent: Descent, trial: File, multiplier: float) -> list[Tensor]:
    return [torch.ones_like(k, dtype=torch.bool) for k in descent.caution]


def _targets_stay(descent: Descent, weights: tuple[Weights, ...]) -> Parts:
    return descent.targets


def _unprepared(descent: Descent) -> Parts:
    return descent.image


PATCHES: dict[str, tuple[object, str, Callable[..., Any]]] = {
    "no test by block: a trial is taken whole or not at all": (Descent, "_kept", _all_blocks),
    "no weights from the probe: one for all blocks and frequencies": (joint, "fit_weights", _one_weight),
    "the targets stay at the image's own coefficients": (Descent, "_followed", _targets_stay),
    "no descent on the unquantized coefficients before": (Descent, "_prepared", _unprepared),
    "the tables stay as they begin": (Descent, "_change_tables", Descent._change_levels),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "ordinary rounding: tables alone": {"choose_levels": False},
    "tables that begin at those of Annex K": {"base": torch.tensor(jpegrad.tables.ANNEX_K).float()},
    "levels chosen by the prices of a baseline file": {"progressive": False},
    "three tables": {"table_count": 3},
    "4:4:4": {"subsampling": "4:4:4"},
}
FIRST, WHOLE = "no step", "the whole"
VARIANTS = (WHOLE, *PATCHES, *OPTIONS)


def cell(image: Tensor, metric: str, variant: str, steps: int) -> dict[str, Any]:
    options: dict[str, Any] = {"progressive": True, **OPTIONS.get(variant, {})}
    with patch.object(*PATCHES[variant]) if variant in PATCHES else nullcontext():
        made = tune.compress(image, metric=metric, target=tune.LikeQuality(QUALITY), steps=steps, **options)
    # Whatever the levels were chosen for, the file is a progressive one.
    coded = made.coefficients
    data = jpegrad.to_bytes(coded, progressive=spectral_selection(coded.channels))
    return {"loss": made.loss, "bits": 8 * len(data), "multiplier": made.multiplier}


def run(directory: Path | None, limit: int | None, steps: int, out: Path) -> Results:
    torch.set_num_threads(1)
    images = load_images(directory, limit, multiple=1)
    results = Results(out, {"images": list(images), "quality": QUALITY, "steps": steps})
    keys = [
        f"{metric}/{image}/{variant}"
        for metric in METRICS
        for image in images
        for variant in (FIRST, *VARIANTS)
    ]
    for key in track(results.missing(keys), "tune_ablate"):
        metric, name, variant = key.split("/")
        results.add(key, cell(images[name], metric, variant, 0 if variant == FIRST else steps))
    return results


def gains(results: Results, metric: str, variant: str) -> np.ndarray:
    """On each picture."""
    found = [
        [results.cells[f"{metric}/{name}/{v}"] for v in (FIRST, variant)]
        for name in results.settings["images"]
    ]
    return np.array([gain(*pair) for pair in found])


def tables(results: Results) -> str:
    rows = []
    for variant in VARIANTS:
        row = [variant]
        for metric in METRICS:
            found = gains(results, metric, variant)
            less = found - gains(results, metric, WHOLE)
            low, high = bootstrap(less)
            row += [
                f"{found.mean():.1f}",
                "" if variant == WHOLE else f"{less.mean():+.1f} ({low:+.1f} … {high:+.1f})",
            ]
        rows.append(row)
    names, steps = ", ".join(results.settings["images"]), results.settings["steps"]
    header = [
        "made without a part, or otherwise",
        *(word for metric in METRICS for word in (f"`{metric}`", "to the whole")),
    ]
    return "\n\n".join(
        [
            f"Gain in % of the first file's bytes at `LikeQuality({QUALITY})`, progressive, {steps} steps ({names}; "
            "95 % intervals over the pictures):",
            markdown(header, rows),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench tune_ablate", description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of PNG photographs; default: the bundled ones")
    parser.add_argument("--limit", type=int, help="at most so many photographs")
    parser.add_argument("--steps", type=int, default=16, help="of descent (default: 16)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "tune_ablate.json", help="(default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    results = run(options.images, options.limit, options.steps, options.out)
    text = tables(results)
    print(text)
    if CHECKOUT and options.out == RESULTS / "tune_ablate.json":
        publish("tune-ablate", text, PAGE)


if __name__ == "__main__":
    main()
