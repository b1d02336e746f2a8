"""How close each approach comes to a real JPEG file."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from jpegrad_studies import figures
from jpegrad_studies.baselines import ALL, Baseline
from jpegrad_studies.baselines.fsa import pillow
from jpegrad_studies.common import (
    BINS,
    RESULTS,
    Results,
    bin_of,
    earlier,
    finish,
    load_images,
    markdown,
    one_thread,
    ours,
    track,
)

FEW = (1, 3, 5, 10, 15, 25, 35, 50, 60, 75, 85, 90, 95, 99)
SEED = 0

OURS = {
    subject.name: subject
    for subject in (
        ours("jpegrad", "exact forward (the default)"),
        ours("jpegrad 4:4:4", "exact forward", "4:4:4"),
        ours("jpegrad soft", "forward=\"soft\", Gaussian", forward="soft"),
        ours("jpegrad soft narrow", "forward=\"soft\", Gaussian, sigma 0.5", forward="soft", sigma=0.5),
        ours("jpegrad soft cubic", "forward=\"soft\", the paper's cubic", surrogate="reich2024"),
        ours("jpegrad soft 4:4:4", "forward=\"soft\", Gaussian", "4:4:4", forward="soft"),
    )
}  # fmt: skip
CV2_SUBSAMPLING = {
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}


def opencv(image: Tensor, quality: int, subsampling: str) -> np.ndarray:
    """[H, W, 3] through OpenCV's encoder and decoder."""
    bgr = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1])
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        CV2_SUBSAMPLING[subsampling],
    ]
    _, data = cv2.imencode(".jpg", bgr, options)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def compare(subject: Baseline, image: Tensor, quality: int) -> dict[str, float | None]:
    """One photograph, one quality; PSNR and SSIM of the unrounded output, differing samples of the rounded one."""
    torch.manual_seed(SEED)
    batch = image[None].float()
    real = pillow(batch, torch.tensor([float(quality)]), subject.subsampling)[0].permute(1, 2, 0).numpy()
    other = opencv(image, quality, subject.subsampling)
    with torch.no_grad():
        coded = subject(batch, float(quality))[0].permute(1, 2, 0).numpy()
    equal = bool((coded == real).all())
    return {
        "psnr": None if equal else float(peak_signal_noise_ratio(real, coded, data_range=255)),
        "ssim": float(structural_similarity(real, coded, data_range=255, channel_axis=2)),
        "differing": float((np.clip(np.round(coded), 0, 255) != real).mean()),
        "differing_opencv": float((np.clip(np.round(coded), 0, 255) != other).mean()),
    }


def run(directory: Path | None, full: bool, limit: int | None, path: Path) -> Results:
    images = load_images(directory, limit)
    qualities = range(1, 100) if full else FEW
    subjects = {**earlier(), **OURS}
    settings = {"images": list(images), "seed": SEED, "psnr": "unrounded output against Pillow's 8 bits"}
    results = Results(path, settings)
    keys = {f"{name}/{q}": (subject, q) for name, subject in subjects.items() for q in qualities}
    for key in track(results.missing(keys), description="forward"):
        subject, quality = keys[key]
        results.add(key, {name: compare(subject, image, quality) for name, image in images.items()})
    return results


def mean_psnr(cells: list[dict[str, dict[str, float | None]]]) -> float:
    """Mean over photographs and qualities; infinite where an output is equal to the file's, NaN of nothing."""
    values = [math.inf if one["psnr"] is None else one["psnr"] for cell in cells for one in cell.values()]
    return float(np.mean(values)) if values else math.nan


def by_bin(results: Results, name: str) -> dict[str, list[dict[str, dict[str, float | None]]]]:
    bins: dict[str, list[dict[str, dict[str, float | None]]]] = {key: [] for key in BINS}
    for key, cell in results.cells.items():
        subject, quality = key.rsplit("/", 1)
        if subject == name:
            bins[bin_of(int(quality))].append(cell)
    return bins


def decibels(value: float) -> str:
    return "exact" if math.isinf(value) else "–" if math.isnan(value) else f"{value:.2f}"


def mean(cells: list[dict[str, dict[str, float | None]]], field: str) -> float:
    return float(np.mean([one[field] for cell in cells for one in cell.values()]))


def tables(results: Results) -> str:
    """The study's tables in Markdown."""
    everything = {**ALL, **OURS}
    names = list(dict.fromkeys(key.rsplit("/", 1)[0] for key in results.cells))
    rows, psnr = [], {}
    for name in names:
        bins = by_bin(results, name)
        cells = [cell for group in bins.values() for cell in group]
        psnr[name] = {**{key: mean_psnr(group) for key, group in bins.items()}, "all": mean_psnr(cells)}
        rows.append(
            [
                name,
                everything[name].subsampling,
                *(decibels(value) for value in psnr[name].values()),
                f"{mean(cells, 'ssim'):.4f}",
                f"{100 * mean(cells, 'differing'):.2f} %",
                f"{100 * mean(cells, 'differing_opencv'):.2f} %",
            ]
        )
    rows += [[name, one.subsampling, *["–"] * 9] for name, one in ALL.items() if one.call is None]
    rows.sort(
        key=lambda row: (row[1], row[7] == "–", row[7] != "exact", -psnr.get(row[0], {"all": 0})["all"])
    )
    header = [
        "approach",
        "sampling",
        *(f"PSNR {key}" for key in BINS),
        "PSNR 1–99",
        "SSIM",
        "differing",
        "to OpenCV",
    ]
    count = len(results.settings["images"])
    counted = f"{count} photographs, {len({key.rsplit('/', 1)[1] for key in results.cells})} qualities."
    parts = [counted, markdown(header, rows), gains(psnr, everything), figure_1(results), remarks(names)]
    return "\n\n".join(parts)


def gains(psnr: dict[str, dict[str, float]], everything: dict[str, Baseline]) -> str:
    """Leads over the best approach from before 2024 at 4:2:0: as published, and with our tables around it."""
    before = [
        n for n in psnr if everything[n].year < 2024 and everything[n].subsampling == "4:2:0" and n != "fsa"
    ]
    groups = [[name for name in before if everything[name].published], before]
    compared = [name for name in ("reich_soft", "reich_ste", "jpegrad soft narrow") if name in psnr]
    if not all(groups):
        return ""
    header = ["quality"]
    for title in ("best as published", "best with our tables and filters"):
        header += [title, *(f"{name} leads by" for name in compared)]
    rows = []
    for key in [*BINS, "all"]:
        row = [key]
        for group in groups:
            best = max(group, key=lambda name: psnr[name][key])
            row += [f"{best}, {psnr[best][key]:.2f}"]
            row += [f"{psnr[name][key] - psnr[best][key]:+.2f}" for name in compared]
        rows.append(row)
    return markdown(header, rows)


# PSNR and SSIM that the paper prints in its Figure 1, one photograph against OpenCV.
FIGURE_1 = {
    50: {"shin": (43.13, 0.996), "reich": (43.25, 0.997)},
    1: {"shin": (18.05, 0.616), "reich": (36.39, 0.978)},
}


def figure_1(results: Results) -> str:
    """The paper's Figure 1 beside the same two qualities here."""
    rows = []
    for quality, printed in FIGURE_1.items():
        for name, family in (
            ("shin", "shin"),
            ("shin_upright", "shin"),
            ("reich_soft", "reich"),
            ("reich_ste", "reich"),
        ):
            cell = results.cells.get(f"{name}/{quality}")
            if cell is None:
                continue
            values = [one["psnr"] for one in cell.values()]
            spread = f"{min(values):.2f} … {max(values):.2f}"
            decibel, ssim = printed[family]
            measured = (f"{np.mean(values):.2f}", spread, f"{mean([cell], 'ssim'):.3f}")
            rows.append([quality, name, *measured, f"{decibel} / {ssim} ({family})"])
    return markdown(
        ["quality", "approach", "mean PSNR", "over the photographs", "SSIM", "paper, Fig. 1"], rows
    )


def remarks(names: list[str]) -> str:
    rows = [[one.name, one.source, one.notes, one.status] for one in ALL.values()]
    rows += [[name, OURS[name].source, OURS[name].notes, "complete"] for name in names if name in OURS]
    return markdown(["approach", "source", "what it does", "formula"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench forward", description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of PNG photographs (default: the bundled ones)")
    parser.add_argument("--full", action="store_true", help="every quality 1 ... 99 instead of 14 of them")
    parser.add_argument("--limit", type=int, help="at most so many photographs")
    parser.add_argument("--out", type=Path, default=RESULTS / "forward.json", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    one_thread()
    results = run(options.images, options.full, options.limit, options.out)
    finish("forward", tables(results), options.out, lambda path: figures.forward(results, path))


if __name__ == "__main__":
    main()
