"""What do tables learned for a classifier save?

    jpegrad bench tune_classifier --labelled DIR [--learn N] [--test N]

One table set is learned on the divergence between what EfficientNet-Lite0 says of the original and of the file, on
other pictures than it is tested on. Its scale is then moved to trace bytes against accuracy, as the quality does for
the default tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import Progress
from torch import Tensor

import jpegrad
from jpegrad import tune
from jpegrad_studies.classifiers import Classifier, classifier, labelled
from jpegrad_studies.common import CHECKOUT, RESULTS, ROOT, markdown, publish, versions, write_whole

PAGE = ROOT / "docs" / "tune.md"
QUALITIES = (5, 9, 15, 24, 38, 60)
LIKE = 18
"""The quality whose Lagrange multiplier the tables are learned for: where accuracy begins to fall."""


def divergence(logits: Classifier) -> tune.Metric:
    """Kullback-Leibler divergence from the classes of the original."""

    def against(original: Tensor) -> Any:
        with torch.no_grad():
            expected = logits(original * 255).log_softmax(-1)

        def loss(reconstruction: Tensor) -> Tensor:
            found = logits(reconstruction * 255).log_softmax(-1)
            return F.kl_div(found, expected, reduction="batchmean", log_target=True)

        return loss

    return tune.Metric("divergence", against, "Kullback & Leibler, 1951, of EfficientNet-Lite0's classes")


def learn(logits: Classifier, images: Tensor, steps: int) -> Tensor:
    """Tables at the multiplier of :data:`LIKE`, shared by all images."""
    with Progress(transient=True) as progress:
        task = progress.add_task("learning", total=steps)
        return tune.learn_image_tables(
            [image.to(torch.uint8) for image in images],
            metric=divergence(logits),
            target=tune.LikeQuality(LIKE),
            steps=steps,
            progress=lambda: progress.advance(task),
        )


@torch.no_grad()
def measured(logits: Classifier, images: Tensor, classes: Tensor, tables: Tensor) -> dict[str, float]:
    """Mean bytes, accuracy and divergence of files with these tables."""
    size, right, diverged = 0.0, 0, 0.0
    for part, truth in zip(images.split(16), classes.split(16), strict=True):
        coefficients = jpegrad.encode(part.to(torch.uint8), tables=tables)
        size += float(jpegrad.bits(coefficients, huffman="optimized").sum()) / 8
        found = logits(jpegrad.decode(coefficients).float())
        right += int((found.argmax(1) == truth).sum())
        expected, got = logits(part).log_softmax(-1), found.log_softmax(-1)
        diverged += float(F.kl_div(got, expected, reduction="sum", log_target=True))
    count = len(images)
    return {"bytes": size / count, "top1": 100 * right / count, "divergence": diverged / count}


def measured_levels(logits: Classifier, images: Tensor, classes: Tensor, quality: int) -> dict[str, float]:
    """The same of files whose tables and levels were made for each picture, for squared error."""
    size, right, diverged = 0.0, 0, 0.0
    metric = divergence(logits)
    for image, truth in zip(images, classes, strict=True):
        tuned = tune.compress(image.to(torch.uint8), target=tune.LikeQuality(quality))
        with torch.no_grad():
            decoded = jpegrad.decode(tuned.coefficients)[None]
            right += int(logits(decoded * 255).argmax(1) == truth)
            diverged += float(metric.against(image[None] / 255)(decoded))
        size += tuned.size
    count = len(images)
    return {"bytes": size / count, "top1": 100 * right / count, "divergence": diverged / count}


def saved(default: list[dict[str, float]], learned: list[dict[str, float]], column: str) -> list[float]:
    """Bytes of the learned tables over those of the default ones where these have the same value, in percent."""
    order = sorted(default, key=lambda point: point["bytes"])
    size = np.log([point["bytes"] for point in order])
    # Accuracy of few pictures may fall with the bytes; of all such points the smaller file counts.
    sign = 1 if column == "top1" else -1
    value = np.maximum.accumulate([sign * point[column] for point in order])
    found = []
    for point in learned:
        at = sign * point[column]
        if value[0] < at < value[-1]:
            found.append(100 * (point["bytes"] / float(np.exp(np.interp(at, value, size))) - 1))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench tune_classifier", description=__doc__)
    parser.add_argument("--labelled", type=Path, required=True, help="folder of pictures with a labels.csv")
    parser.add_argument("--learn", type=int, default=64, help="pictures to learn on (default: 64)")
    parser.add_argument("--test", type=int, default=200, help="other pictures to test on (default: 200)")
    parser.add_argument("--steps", type=int, default=10, help="of descent (default: 10)")
    parser.add_argument("--out", type=Path, default=RESULTS / "tune_classifier.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    logits = classifier("lite0")
    _, images, classes = labelled(options.labelled)
    pool, rest = images[: options.learn], slice(options.learn, options.learn + options.test)
    curves: dict[str, list[dict[str, float]]] = {}
    learned: dict[str, Any] = {}
    bases = {
        "default tables": jpegrad.tables.annex_k(LIKE),
        "data-set tables, MSE": jpegrad.tables.scale(jpegrad.tables.load("mse"), LIKE),
        "classifier's tables": learn(logits, pool, options.steps),
    }
    for name, tables in bases.items():
        learned[name] = tables.int().tolist()
        curves[name] = []
        for quality in QUALITIES:
            factor = jpegrad.tables.annex_k(quality).mean() / jpegrad.tables.annex_k(LIKE).mean()
            at = jpegrad.tables.legal(tables * factor)
            curves[name].append(measured(logits, images[rest], classes[rest], at))
    curves["tables and levels, MSE"] = [
        measured_levels(logits, images[rest], classes[rest], quality) for quality in QUALITIES[2:]
    ]
    document = {
        "versions": versions(),
        "settings": {"learn": options.learn, "test": options.test, "like": LIKE, "steps": options.steps},
        "tables": learned,
        "curves": curves,
    }
    write_whole(options.out, json.dumps(document, indent=1) + "\n")
    text = report(document)
    print(text)
    if CHECKOUT and options.out == RESULTS / "tune_classifier.json":
        publish("tune-classifier", text, PAGE)


def report(document: dict[str, Any]) -> str:
    settings, curves = document["settings"], document["curves"]
    default = curves["default tables"]
    rows = []
    for name, points in curves.items():
        cells = [f"{p['bytes']:.0f} / {p['top1']:.1f} / {p['divergence']:.3f}" for p in points]
        rows.append([name, *cells, *[""] * (len(default) - len(cells))])
    lines = []
    for name, points in curves.items():
        if points is default:
            continue
        for column, title in (("top1", "top-1"), ("divergence", "divergence")):
            found = saved(default, points, column)
            if found:
                lines.append(
                    f"- {name}, bytes at equal {title}: {np.mean(found):+.1f} % on average over {len(found)} scales "
                    f"({min(found):+.1f} … {max(found):+.1f})"
                )
    heading = (
        f"Tables learned on {settings['learn']} pictures of 224 × 224, tested on {settings['test']} others: mean bytes "
        "of a file with optimised Huffman codes, accuracy, and divergence from the classes of the original."
    )
    header = ["bytes / top-1 / divergence", *[""] * len(default)]
    return "\n\n".join([heading, markdown(header, rows), "\n".join(lines)])


if __name__ == "__main__":
    main()
