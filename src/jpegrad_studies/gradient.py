"""Each gradient against the real codec's own.

To the image: the derivative of E[loss(file(image + sigma noise))]. To quality and tables: how the error of real files
moves with them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import jpegrad
from jpegrad_studies import figures
from jpegrad_studies.baselines import Baseline
from jpegrad_studies.baselines.fsa import pillow
from jpegrad_studies.classifiers import classifier
from jpegrad_studies.common import (
    RESULTS,
    Results,
    earlier,
    finish,
    load_images,
    markdown,
    one_thread,
    ours,
    track,
)
from jpegrad_studies.truth import Loss, quality_slope, smoothed_gradient, table_slopes

SEED = 0
SIDE = 32
MARGIN = 20
PARTS = 10
SMOOTHED = ((10, 1.0), (10, 4.0), (50, 2.0), (90, 4.0))
QUALITIES = (2, 5, 9, 10, 16, 25, 33, 42, 50, 58, 66, 74, 82, 90, 95, 98)
TABLE_QUALITIES = (10, 50, 90)
MODES = ("4:2:2", "4:4:0", "4:1:1")


def image_subjects(sigma: float) -> dict[str, Baseline]:
    """Everything with a gradient to the image; the Gaussian at the noise's own width."""
    records = ("identity", "cubic", "sin", "fourier", "soft_round")
    return {
        **{name: one for name, one in earlier().items() if "image" in one.differentiable},
        **{f"jpegrad {name}": ours(name, "", surrogate=name) for name in records},
        "jpegrad gaussian": ours("gaussian", "", surrogate="gaussian", sigma=sigma),
        "jpegrad soft gaussian": ours("soft", "", surrogate="gaussian", sigma=sigma, forward="soft"),
    }


def table_subjects() -> dict[str, Baseline]:
    """Everything with a gradient to quality or tables."""
    records = ("identity", "cubic", "dead_zone", "gaussian")
    return {
        **{name: one for name, one in earlier().items() if {"quality", "tables"} & set(one.differentiable)},
        "jpegrad": ours("default", ""),
        **{f"jpegrad {name}": ours(name, "", table_surrogate=name) for name in records},
        "jpegrad soft": ours("soft", "", forward="soft"),
    }


def losses(crop: Tensor, quality: int, subsampling: str) -> dict[str, Loss]:
    """Random weights; a classifier's gradient at the coded picture as weights; its cross-entropy itself."""
    logits = classifier("lite0")
    answer = logits(crop[None]).argmax(1)
    coded = pillow(crop[None], torch.tensor([float(quality)]), subsampling).requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(logits(coded), answer), coded)
    white = torch.randn(crop.shape, generator=torch.Generator().manual_seed(SEED))

    def weighted(weights: Tensor) -> Loss:
        return lambda images: (images * weights).sum((1, 2, 3))

    def cross_entropy(images: Tensor) -> Tensor:
        return F.cross_entropy(logits(images), answer.expand(len(images)), reduction="none")

    # Unit weights: a classifier that is sure of its answer has tiny ones.
    return {
        "white": weighted(white),
        "linearised": weighted(slope[0] / slope.norm()),
        "classifier": cross_entropy,
    }


def image_cells(
    crop: Tensor, quality: int, sigma: float, pairs: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Agreement of every subject on one crop, for each loss."""
    subjects = image_subjects(sigma)
    cells: dict[str, dict[str, dict[str, float]]] = {name: {} for name in subjects}
    for subsampling in sorted({one.subsampling for one in subjects.values()}):
        measures = losses(crop, quality, subsampling)
        truths = smoothed_gradient(
            crop, quality, subsampling, sigma, list(measures.values()), pairs, PARTS, SEED
        )
        for name, subject in subjects.items():
            if subject.subsampling != subsampling:
                continue
            for (kind, loss), truth in zip(measures.items(), truths, strict=True):
                torch.manual_seed(SEED)
                x = crop[None].clone().requires_grad_()
                value = loss(subject(x, float(quality))).sum()
                # MBRS draws a coding without a gradient now and then.
                gradient = torch.autograd.grad(value, x)[0] if value.requires_grad else torch.zeros_like(x)
                cells[name][kind] = asdict(truth.agreement(gradient[0]))
    return cells


def mode_cells(
    crop: Tensor, mode: str, quality: int, sigma: float, pairs: int
) -> dict[str, dict[str, float]]:
    """Agreement of both forwards on one crop in another mode, for random weights."""
    weights = torch.randn(crop.shape, generator=torch.Generator().manual_seed(SEED))

    def loss(images: Tensor) -> Tensor:
        return (images * weights).sum((-3, -2, -1))

    (truth,) = smoothed_gradient(crop, quality, mode, sigma, [loss], pairs, PARTS, SEED)
    cells = {}
    for forward in ("exact", "soft"):
        x = crop.clone().requires_grad_()
        coded = ours(forward, "", mode, surrogate="gaussian", sigma=sigma, forward=forward)
        (gradient,) = torch.autograd.grad(loss(coded(x[None], float(quality))).sum(), x)
        cells[forward] = asdict(truth.agreement(gradient))
    return cells


def quality_cell(subject: Baseline, image: Tensor) -> list[list[float]]:
    """[quality, true slope, predicted slope] of the mean squared error."""
    rows = []
    for quality in QUALITIES:
        q = torch.tensor([float(quality)], requires_grad=True)
        torch.manual_seed(SEED)
        error = (subject(image[None], q) - image).square().mean()
        (slope,) = torch.autograd.grad(error, q, allow_unused=True)
        predicted = 0.0 if slope is None else float(slope)
        rows.append([quality, quality_slope(image, quality, subject.subsampling), predicted])
    return rows


def table_cells(image: Tensor, quality: int) -> dict[str, list[float]]:
    """Correlation, and ratio of the summed slopes, of d(mean squared error)/dentry at the tables of a quality."""
    cells = {}
    tables = jpegrad.tables.annex_k(float(quality)).float()
    truths = {mode: table_slopes(image, tables, mode) for mode in ("4:2:0", "4:4:4")}
    for name, subject in table_subjects().items():
        if "tables" not in subject.differentiable or name == "kornia":
            continue
        base = tables.clone().requires_grad_()
        torch.manual_seed(SEED)
        # Quality 50 scales tables by one, so every approach gets these very tables.
        error = (subject(image[None], 50.0, base=base) - image).square().mean()
        (slopes,) = torch.autograd.grad(error, base)
        truth = truths[subject.subsampling]
        correlation = np.corrcoef(slopes.flatten(), truth.flatten())[0, 1] if slopes.any() else 0.0
        cells[name] = [float(correlation), float(slopes.abs().sum() / truth.abs().sum())]
    return cells


def unsaturated(images: dict[str, Tensor], side: int) -> dict[str, Tensor]:
    """The crop of each photograph, at whole MCUs, with the fewest samples near 0 and 255, where clipping rules."""
    cut = {}
    for name, image in images.items():
        near = ((image < MARGIN) | (image > 255 - MARGIN)).float()
        counts = F.avg_pool2d(near[None], side, 16).sum(1)[0]
        # Among equals the one with the most contrast: flat sky says little about rounding.
        contrast = (
            F.avg_pool2d(image[None].float() ** 2, side, 16)
            - F.avg_pool2d(image[None].float(), side, 16) ** 2
        )
        best = int((counts - 1e-6 * contrast.mean(1)[0]).argmin())
        top, left = (16 * index for index in divmod(best, counts.shape[1]))
        cut[name] = image[:, top : top + side, left : left + side].float()
    return cut


def run(options: argparse.Namespace) -> Results:
    images = load_images(options.images, options.limit)
    settings = {"images": list(images), "pairs": options.pairs, "parts": PARTS, "side": SIDE, "seed": SEED}
    results = Results(options.out, settings)
    whole = {name: image.float() for name, image in images.items()}
    work: dict[str, Callable[[], object]] = {}
    for name, crop in unsaturated(images, SIDE).items():
        for quality, sigma in SMOOTHED:
            work[f"image/{quality}/{sigma:g}/{name}"] = lambda a=crop, q=quality, s=sigma: image_cells(
                a, q, s, options.pairs
            )
            for mode in MODES:
                work[f"modes/{mode}/{quality}/{sigma:g}/{name}"] = lambda a=crop, m=mode, q=quality, s=sigma: (
                    mode_cells(a, m, q, s, options.pairs)
                )
    for name, image in whole.items():
        for quality in TABLE_QUALITIES:
            work[f"tables/{quality}/{name}"] = lambda a=image, q=quality: table_cells(a, q)
        for who, subject in table_subjects().items():
            if "quality" in subject.differentiable:
                work[f"quality/{who}/{name}"] = lambda a=image, s=subject: quality_cell(s, a)
    for key in track(results.missing(work), description="gradient"):
        results.add(key, work[key]())
    return results


def grouped(results: Results, kind: str) -> dict[str, list[object]]:
    """Cells of one kind by everything in their key but the photograph."""
    groups: dict[str, list[object]] = {}
    for key, cell in results.cells.items():
        if key.startswith(f"{kind}/"):
            groups.setdefault(key.removeprefix(f"{kind}/").rsplit("/", 1)[0], []).append(cell)
    return groups


def image_table(results: Results, loss: str) -> str:
    groups = grouped(results, "image")
    names = list(next(iter(groups.values()))[0])
    header = ["approach", *(f"q {place.split('/')[0]}, σ {place.split('/')[1]}" for place in groups)]
    rows = []
    for name in names:
        row, cosines = [name], []
        for cells in groups.values():
            cosine, size, bias = (
                np.mean([cell[name][loss][field] for cell in cells]) for field in ("cosine", "size", "bias")
            )
            error = np.sqrt(np.mean([cell[name][loss]["cosine_error"] ** 2 for cell in cells]) / len(cells))
            cosines.append(cosine)
            row.append(f"{cosine:.2f} ± {error:.2f} ({size:.2f}, {bias:+.2f})")
        rows.append((np.mean(cosines), row))
    return markdown(header, [row for _, row in sorted(rows, key=lambda pair: -pair[0])])


def mode_table(results: Results) -> str:
    """A row per mode and forward, a column per quality and noise."""
    columns, rows = [f"q {quality}, σ {sigma:g}" for quality, sigma in SMOOTHED], {}
    for place, cells in grouped(results, "modes").items():
        mode, quality, sigma = place.split("/")
        for forward in cells[0]:
            cosine, size, error = (
                np.mean([cell[forward][field] for cell in cells])
                for field in ("cosine", "size", "cosine_error")
            )
            row = rows.setdefault(f"{mode}, {forward}", ["–"] * len(columns))
            row[columns.index(f"q {quality}, σ {sigma}")] = (
                f"{cosine:.3f} ± {error / np.sqrt(len(cells)):.3f} ({size:.2f})"
            )
    return markdown(["mode, forward", *columns], [[name, *row] for name, row in rows.items()])


def quality_table(results: Results) -> str:
    rows = []
    for name, cells in grouped(results, "quality").items():
        _, truth, predicted = np.array([row for cell in cells for row in cell]).T
        ratio = predicted / truth
        dead = np.abs(ratio) < 0.02
        rows.append(
            [
                name,
                f"{100 * np.mean(ratio > 0):.0f} %",
                f"{np.median(ratio):.2f}",
                f"{100 * np.mean((ratio > 2 / 3) & (ratio < 1.5)):.0f} %",
                f"{100 * dead.mean():.0f} %",
            ]
        )
    rows.sort(key=lambda row: -float(row[3].split()[0]))
    return markdown(
        ["approach", "right sign", "predicted / true, median", "within × 1.5", "dead (below 2 %)"], rows
    )


def table_table(results: Results) -> str:
    groups = grouped(results, "tables")
    names = list(next(iter(groups.values()))[0])
    rows = []
    for name in names:
        shown = [np.mean([cell[name] for cell in cells], 0) for cells in groups.values()]
        rows.append([name, *(f"{correlation:.2f} / {ratio:.2f}" for correlation, ratio in shown)])
    return markdown(["approach", *(f"q {place}" for place in groups)], rows)


def report(results: Results) -> str:
    count = len(results.settings["images"])
    pairs = results.settings["pairs"]
    parts = [
        f"{count} photographs. To the image: {pairs} antithetic pairs of noise on a crop of {SIDE} × {SIDE},"
        " the one with the fewest samples near 0 and 255. Cosine ± standard error"
        " (size: truth per gradient, 1 is right; bias in root mean squares of the truth)."
    ]
    titles = {
        "white": "random weights on the coded picture",
        "linearised": "a classifier's gradient at the coded picture as weights",
        "classifier": "the classifier's cross-entropy, curved as it is",
    }
    for loss, title in titles.items():
        parts += [f"**To the image, {title}**", image_table(results, loss)]
    if grouped(results, "modes"):
        parts += ["**To the image in other modes, random weights on the coded picture**", mode_table(results)]
    parts += [
        f"**To the quality**: d(mean squared error)/dq against real files over q ± 2, q in {QUALITIES}",
        quality_table(results),
        "**To single table entries**: correlation / summed size, against real files with the entry moved by ±1, ±2",
        table_table(results),
    ]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench gradient", description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of PNG photographs (default: the bundled ones)")
    parser.add_argument("--limit", type=int, default=3, help="at most so many photographs")
    parser.add_argument(
        "--pairs", type=int, default=4000, help="antithetic pairs per crop, quality and width"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "gradient.json", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    one_thread()
    results = run(options)
    finish("gradient", report(results), options.out, lambda path: figures.gradient(results, path))


if __name__ == "__main__":
    main()
