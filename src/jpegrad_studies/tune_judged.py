"""Do files made for the eye's metrics beat jpegli and mozjpeg at SSIMULACRA2 and Butteraugli?

    jpegrad bench tune_judged --judges FOLDER --images FOLDER [FOLDER …] [--files FOLDER] [--out FILE]

Every point is a file on disk, decoded by Pillow and judged by the official tools. BD-rate is of bytes at equal score,
per image over the scores that the anchor has at 0.5 … 1.0 (web) and at 1.5 … 3.0 bits per pixel (high).

The folder of judges holds `ssimulacra2`, `butteraugli_main` (which prints the maximum and a line "3-norm: x"),
`cjpegli` and mozjpeg's `cjpeg` as `mozcjpeg`; docs/tune.md says where they come from.

Each file is a result of its own, so an interrupted run goes on; the tables are of the pictures that are finished.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from scipy.interpolate import PchipInterpolator
from torch import Tensor
from torchmetrics.functional.image import visual_information_fidelity

import jpegrad
from jpegrad import tune
from jpegrad.entropy.script import spectral_selection
from jpegrad.tune.metrics import Qualities, luma
from jpegrad_studies.bdrate import Points, bd_rate
from jpegrad_studies.bdrate import curve as curve_of
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
FIGURE = ROOT / "docs" / "images" / "tune-judged.png"
RANGES = {"web": (0.5, 1.0), "high": (1.5, 3.0)}
SEED = 0
CROP = (256, 384)

Coder = Callable[[Path, Path, Path, Tensor], None]
"""(folder of the tools, picture, file to write, picture again)."""


def command(tool: str, *options: str) -> Callable[[int, int], Coder]:
    """An encoder's program at a quality, which stands for ``{q}`` in its options; ``{in}`` and ``{out}`` are files."""

    def at(quality: int, steps: int) -> Coder:
        def code(tools: Path, source: Path, output: Path, image: Tensor) -> None:
            names = {"q": quality, "in": source, "out": output}
            subprocess.run(
                [tools / tool, *(option.format(**names) for option in options)],
                check=True,
                capture_output=True,
            )

        return code

    return at


def tuned(metric: str) -> Callable[[int, int], Coder]:
    """What ``jpegrad tune --progressive`` makes."""

    def at(quality: int, steps: int) -> Coder:
        def code(tools: Path, source: Path, output: Path, image: Tensor) -> None:
            target = tune.LikeQuality(quality)
            made = tune.compress(image, metric=metric, target=target, steps=steps, progressive=True)
            output.write_bytes(made.to_bytes())

        return code

    return at


def shipped(name: str) -> Callable[[int, int], Coder]:
    """Learned tables alone, with plain rounding: what any encoder makes of them."""

    def at(quality: int, steps: int) -> Coder:
        def code(tools: Path, source: Path, output: Path, image: Tensor) -> None:
            tables = jpegrad.tables.scale(jpegrad.tables.load(name), quality)
            coded = jpegrad.encode(image, tables=tables)
            jpegrad.write(output, coded, progressive=spectral_selection(coded.channels))

        return code

    return at


ANCHORS = {
    "mozjpeg 4:2:0": command("mozcjpeg", "-quality", "{q}", "-sample", "2x2", "-outfile", "{out}", "{in}"),
    "jpegli": command("cjpegli", "{in}", "{out}", "-q", "{q}"),
    "jpegli 4:2:0": command("cjpegli", "{in}", "{out}", "-q", "{q}", "--chroma_subsampling=420"),
}
METHODS = {
    "perceptual": tuned("perceptual"),
    "ssimulacra2": tuned("ssimulacra2"),
    "tables alone": shipped("perceptual"),
}
TITLES = {
    "perceptual": '`metric="perceptual"`, progressive',
    "ssimulacra2": '`metric="ssimulacra2"`, progressive',
    "tables alone": "the shipped tables `perceptual` with plain rounding, progressive",
}
_ANCHORS = (60, 82, 93, 40, 22, 97)
_TUNED = (62, 89, 32, 95, 12)
QUALITIES = {
    **dict.fromkeys((*ANCHORS, "tables alone"), _ANCHORS),
    **dict.fromkeys(("perceptual", "ssimulacra2"), _TUNED),
}
"""In the order in which they are made; those beyond a file that is small or large enough already are left out."""
ENOUGH = {**dict.fromkeys(ANCHORS, (0.5, 3.0)), **dict.fromkeys(METHODS, (0.45, 2.4))}
"""Bits per pixel between which points are wanted: those of a method lie lower at equal score."""
SCORES = {
    "ssimulacra2": "SSIMULACRA2",
    "norm": "Butteraugli 3-norm",
    "maximum": "Butteraugli max",
    "vif": "VIF",
    "ssim": "SSIM Y",
    "ms_ssim": "MS-SSIM RGB",
    "psnr_y": "PSNR Y",
}


class Judges:
    """All that judge files of one picture.

    Args:
        tools: folder of the official programs.
        image: the picture, uint8 ``[3, H, W]``.
        folder: for what the programs read.
    """

    def __init__(self, tools: Path, image: Tensor, folder: Path) -> None:
        self.tools, self.image = tools, image
        self.source, self.shown = folder / "source.png", folder / "shown.png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(self.source)
        self.qualities = Qualities(image[None].float() / 255)

    @torch.no_grad()
    def scores(self, path: Path) -> dict[str, float]:
        """Size and scores of a file on disk, each the higher the better."""
        with Image.open(path) as opened:
            decoded = opened.convert("RGB")
        decoded.save(self.shown, compress_level=1)
        (score,) = self._says("ssimulacra2")
        maximum, _, norm = self._says("butteraugli_main")
        pixels = torch.from_numpy(np.array(decoded)).permute(2, 0, 1)[None].float() / 255
        found = self.qualities(pixels)
        return {
            "bytes": path.stat().st_size,
            "ssimulacra2": float(score),
            "norm": -float(np.log(float(norm))),
            "maximum": -float(np.log(float(maximum))),
            "vif": float(visual_information_fidelity(255 * luma(pixels), 255 * self.qualities.luma)),
            **{name: float(-10 * np.log10(1 - found[name])) for name in ("ssim", "ms_ssim")},
            "psnr_y": found["psnr_y"],
        }

    def _says(self, tool: str) -> list[str]:
        command = [self.tools / tool, self.source, self.shown]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def curve(results: Results, name: str, image: str) -> dict[str, Any]:
    """The points of a contestant and a picture that are there."""
    height, width = results.settings["images"][image]
    found = {q: results.cells.get(f"{name}/{image}/{q}") for q in sorted(QUALITIES[name])}
    points = [{"quality": q, **cell} for q, cell in found.items() if cell]
    return {"pixels": height * width, "points": points}


def needed(results: Results, name: str, image: str, quality: int) -> bool:
    """Whether no point nearer to the middle lies at the end of what is wanted, or beyond."""
    found = curve(results, name, image)
    middle = QUALITIES[name][0]
    low, high = ENOUGH[name]
    for made in found["points"]:
        bits = 8 * made["bytes"] / found["pixels"]
        if quality < made["quality"] <= middle and bits <= low:
            return False
        if middle <= made["quality"] < quality and bits >= high:
            return False
    return True


def difference(anchor: dict[str, Any], test: dict[str, Any], score: str, bits: tuple[float, float]) -> float:
    """Of bytes in percent, at the scores that the anchor has between two rates; NaN where there is none."""
    known, new = (scored(found["points"], score) for found in (anchor, test))
    if not known or not new:
        return float("nan")
    low, high = (rate * anchor["pixels"] / 8 for rate in bits)
    return bd_rate(known, new, (low, high))


def finished(results: Results, method: str) -> list[str]:
    """The pictures of which every point is there that is wanted."""
    return [
        image
        for image in results.settings["images"]
        if not any(
            needed(results, name, image, quality) and f"{name}/{image}/{quality}" not in results.cells
            for name in (*ANCHORS, method)
            for quality in QUALITIES[name]
        )
    ]


def scored(points: Sequence[dict[str, float]], score: str) -> Points:
    """Bytes and scores of the files that have the score."""
    return [(p["bytes"], p[score]) for p in points if score in p]


def run(
    tools: Path, images: dict[str, Tensor], steps: int, methods: Sequence[str], files: Path, out: Path
) -> Results:
    torch.set_num_threads(1)
    sizes = {name: list(image.shape[1:]) for name, image in images.items()}
    results = Results(out, {"images": sizes, "steps": steps})
    keys = [
        (name, image, quality)
        for image in images
        for name in ((*ANCHORS, *methods) if methods else ())
        for quality in QUALITIES[name]
    ]
    files.mkdir(parents=True, exist_ok=True)
    judges: dict[str, Judges] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, image, quality in track(keys, "tune_judged"):
            key = f"{name}/{image}/{quality}"
            if not results.missing([key]) or not needed(results, name, image, quality):
                continue
            if image not in judges:
                here = Path(folder) / image
                here.mkdir(exist_ok=True)
                judges = {image: Judges(tools, images[image], here)}
            path = files / f"{name.replace(':', '').replace(' ', '-')}-{image}-{quality}.jpg"
            coder = (ANCHORS | METHODS)[name](quality, steps)
            start = time.process_time()
            coder(tools, judges[image].source, path, images[image])
            seconds = time.process_time() - start
            results.add(key, {"seconds": seconds, **judges[image].scores(path)})
    return results


def differences(
    results: Results, anchor: str, method: str, score: str, bits: tuple[float, float]
) -> np.ndarray:
    """Of all pictures that both have, where there is one."""
    values = np.array(
        [
            difference(curve(results, anchor, image), curve(results, method, image), score, bits)
            for image in finished(results, method)
        ]
    )
    return values[np.isfinite(values)]


def tables(results: Results) -> str:
    """One table for each method: against each anchor, at each score, web / high."""
    parts = []
    for method in METHODS:
        images = finished(results, method)
        if not images:
            continue
        rows = []
        for anchor in ANCHORS:
            row = [anchor]
            for score in SCORES:
                found = []
                for bits in RANGES.values():
                    values = differences(results, anchor, method, score, bits)
                    if len(values) > 2:
                        low, high = bootstrap(values, SEED)
                        found.append(f"{values.mean():+.1f} ({low:+.1f} … {high:+.1f})")
                    else:
                        found.append(f"{values.mean():+.1f}" if len(values) else "–")
                row.append(" / ".join(found))
            rows.append(row)
        points = [p for i in images for p in curve(results, method, i)["points"]]
        seconds = np.median([p["seconds"] for p in points])
        steps = "" if method == "tables alone" else f", {results.settings['steps']} steps"
        parts += [
            f"{TITLES[method]}: {len(points)} files of {len(images)} pictures ({', '.join(images)}){steps}, "
            f"{seconds:.1f} seconds of one core per file. Bytes in % at equal score, web / high, with 95 % intervals "
            "over the pictures:",
            markdown(["against", *SCORES.values()], rows),
        ]
    return "\n\n".join(parts)


def figure(results: Results, path: Path) -> None:
    """For each judge: bytes at equal score relative to those of mozjpeg, over mozjpeg's bits per pixel."""
    from jpegrad_studies import figures

    figures.drawn(path, lambda drawing: _curves(results, drawing), (10, 6.4))


def _curves(results: Results, drawing: Figure) -> None:
    from jpegrad_studies.figures import GREY, OTHERS, OURS

    reference = next(iter(ANCHORS))
    rates = np.geomspace(0.5, 3.0, 13)
    looks: dict[str, dict[str, str]] = {
        "jpegli": {"color": OTHERS[0]},
        "jpegli 4:2:0": {"color": OTHERS[1]},
        "perceptual": {"color": OURS},
        "tables alone": {"color": OURS, "linestyle": "--"},
    }
    judges = ("ssimulacra2", "norm", "maximum", "vif")
    axes = drawing.subplots(2, 2, sharex=True)
    for axis, score in zip(axes.flat, judges, strict=True):
        axis.axhline(0, color=GREY, linewidth=1, label=reference)
        for name, look in looks.items():
            found = [
                _relative(results, reference, name, image, score, rates)
                for image in finished(results, "perceptual")
            ]
            ratios = np.array(found)
            # Where few pictures have a file that good or bad, the mean would be of others.
            enough = np.isfinite(ratios).sum(0) >= 0.8 * len(ratios)
            if enough.any():
                mean = np.nanmean(ratios[:, enough], 0)
                label = name if name in ANCHORS else f"jpegrad, {name}"
                axis.plot(rates[enough], mean, marker="o", label=label, markersize=3, linewidth=1.2, **look)
        axis.set(xscale="log", title=SCORES[score], ylabel="bytes at equal score, %")
        axis.set_xticks([0.5, 0.7, 1, 1.5, 2, 3], ["0.5", "0.7", "1", "1.5", "2", "3"], minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel(f"bits per pixel of {reference}")
    lines, labels = axes[0, 0].get_legend_handles_labels()
    drawing.legend(lines, labels, fontsize="small", loc="outside lower center", ncols=5)


def _relative(
    results: Results, anchor: str, name: str, image: str, score: str, rates: np.ndarray
) -> np.ndarray:
    """Bytes in % more than the anchor's, at the scores it has at these rates; NaN beyond what was measured."""
    known, new = (curve(results, each, image) for each in (anchor, name))
    (scores, size), (reached, needs) = (curve_of(scored(found["points"], score)) for found in (known, new))
    if min(len(scores), len(reached)) < 2:
        return np.full(len(rates), np.nan)
    at = np.log(rates * known["pixels"] / 8)
    wanted = np.interp(at, np.maximum.accumulate(size), scores, left=np.nan, right=np.nan)
    inside = (wanted >= reached[0]) & (wanted <= reached[-1])
    ratios = np.full(len(rates), np.nan)
    ratios[inside] = 100 * np.expm1(PchipInterpolator(reached, needs)(wanted[inside]) - at[inside])
    return ratios


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench tune_judged", description=__doc__)
    parser.add_argument("--judges", type=Path, required=True, help="folder of the official tools")
    parser.add_argument(
        "--images", type=Path, nargs="*", help="folders of PNG photographs; default: the bundled ones"
    )
    parser.add_argument("--only", nargs="*", help="names of photographs")
    parser.add_argument("--tables", action="store_true", help="make no files, only the tables and the figure")
    parser.add_argument("--crop", action="store_true", help="the middle 384 × 256 of each")
    parser.add_argument("--steps", type=int, default=16, help="of descent (default: 16)")
    parser.add_argument(
        "--methods",
        nargs="*",
        default=["perceptual", "tables alone"],
        choices=list(METHODS),
        help="none: no files, only the tables and the figure of those that are there",
    )
    parser.add_argument("--files", type=Path, help="where the files stay; default: a temporary folder")
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "tune_judged.json", help="(default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    images: dict[str, Tensor] = {}
    for folder in options.images or [None]:
        images |= load_images(folder, multiple=1)
    images = {name: image for name, image in images.items() if not options.only or name in options.only}
    if options.crop:
        images = {name: _centre(image) for name, image in images.items()}
    with tempfile.TemporaryDirectory() as temporary:
        files = options.files or Path(temporary)
        results = run(options.judges, images, options.steps, options.methods, files, options.out)
    text = tables(results)
    print(text)
    if CHECKOUT and options.out == RESULTS / "tune_judged.json":
        said = "Bytes at equal score beside mozjpeg, for four judges, over the size of its files"
        light, dark = FIGURE.name, f"{FIGURE.stem}-dark.png"
        pictures = f"![{said}](images/{light}#only-light)\n![{said}](images/{dark}#only-dark)"
        publish("tune-judged", f"{text}\n\n{pictures}", PAGE)
        figure(results, FIGURE)


def _centre(image: Tensor) -> Tensor:
    height, width = image.shape[1:]
    tall, wide = CROP if width > height else CROP[::-1]
    top, left = ((extent - side) // 2 // 16 * 16 for extent, side in ((height, tall), (width, wide)))
    return image[:, top : top + tall, left : left + wide].contiguous()


if __name__ == "__main__":
    main()
