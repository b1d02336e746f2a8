"""Do files made for the eye's metrics beat jpegli and mozjpeg at SSIMULACRA2 and Butteraugli?

    jpegrad bench tune_judged --judges FOLDER --images FOLDER [--crop] [--limit N] [--out FILE]

Every point is a file on disk, decoded by Pillow and judged by the official tools. BD-rate is of bytes at equal score,
per image over the scores that the anchor has at 0.5 … 1.0 (web) and at 1.5 … 3.0 bits per pixel (high).

The folder of judges holds `ssimulacra2`, `butteraugli_main` (which prints the maximum and a line "3-norm: x"),
`cjpegli` and mozjpeg's `cjpeg` as `mozcjpeg`; docs/tune.md says where they come from.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.interpolate import PchipInterpolator
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

PAGE = ROOT / "docs" / "tune.md"
QUALITIES = (40, 60, 75, 85, 91, 95)
RANGES = {"web": (0.5, 1.0), "high": (1.5, 3.0)}
SEED = 0
CROP = (256, 384)

Coder = Callable[[Path, Path, Path], None]
"""(folder of the tools, picture, file to write)."""


def command(tool: str, *options: str) -> Callable[[int], Coder]:
    """An encoder's program at a quality, which stands for ``{q}`` in its options; ``{in}`` and ``{out}`` are files."""

    def at(quality: int) -> Coder:
        def code(tools: Path, source: Path, output: Path) -> None:
            names = {"q": quality, "in": source, "out": output}
            subprocess.run(
                [tools / tool, *(option.format(**names) for option in options)],
                check=True,
                capture_output=True,
            )

        return code

    return at


ANCHORS = {
    "mozjpeg 4:2:0": (
        command("mozcjpeg", "-quality", "{q}", "-sample", "2x2", "-outfile", "{out}", "{in}"),
        (30, 40, 50, 60, 70, 78, 84, 89, 93, 96, 98),
    ),
    "jpegli": (
        command("cjpegli", "{in}", "{out}", "-q", "{q}"),
        (30, 40, 50, 60, 70, 78, 84, 89, 93, 96, 98),
    ),
    "jpegli 4:2:0": (
        command("cjpegli", "{in}", "{out}", "-q", "{q}", "--chroma_subsampling=420"),
        (30, 40, 50, 60, 70, 78, 84, 89, 93, 96, 98),
    ),
}
METHODS = {
    "perceptual": {"metric": "perceptual", "progressive": True},
    "ssimulacra2": {"metric": "ssimulacra2", "progressive": True},
}
SCORES = {
    "ssimulacra2": "SSIMULACRA2",
    "norm": "Butteraugli 3-norm",
    "maximum": "Butteraugli max",
    "ssim": "SSIM Y",
    "ms_ssim": "MS-SSIM RGB",
    "psnr_y": "PSNR Y",
}


def judged(tools: Path, source: Path, path: Path, image: Tensor) -> dict[str, float]:
    """Size and scores of a file on disk, each the higher the better."""
    with Image.open(path) as opened:
        decoded = opened.convert("RGB")
    shown = path.with_suffix(".shown.png")
    decoded.save(shown)

    def says(tool: str) -> list[str]:
        run = subprocess.run([tools / tool, source, shown], check=True, capture_output=True, text=True)
        return run.stdout.split()

    (score,) = says("ssimulacra2")
    maximum, _, norm = says("butteraugli_main")
    pixels = torch.from_numpy(np.array(decoded)).permute(2, 0, 1)
    report = tune.report(pixels, image)
    similar = {
        name: float(-10 * np.log10(1 - report[name])) for name in ("ssim", "ms_ssim") if name in report
    }
    return {
        "bytes": path.stat().st_size,
        "ssimulacra2": float(score),
        "norm": -float(np.log(float(norm))),
        "maximum": -float(np.log(float(maximum))),
        "psnr_y": report["psnr_y"],
        **similar,
    }


def cell(tools: Path, image: Tensor, name: str, steps: int) -> dict[str, Any]:
    points, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "source.png", Path(folder) / "file.jpg"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(source)
        for quality in QUALITIES if name in METHODS else ANCHORS[name][1]:
            start = time.process_time()
            if name in METHODS:
                options: dict[str, Any] = METHODS[name]
                target = tune.LikeQuality(quality)
                output.write_bytes(tune.compress(image, target=target, steps=steps, **options).to_bytes())
            else:
                ANCHORS[name][0](quality)(tools, source, output)
            seconds.append(time.process_time() - start)
            points.append({"quality": quality, **judged(tools, source, output, image)})
    return {"pixels": image.shape[1] * image.shape[2], "points": points, "seconds": float(np.median(seconds))}


def difference(anchor: dict[str, Any], test: dict[str, Any], score: str, bits: tuple[float, float]) -> float:
    """Of bytes in percent, at the scores that the anchor has between two rates; NaN where there is none."""
    known, new = (_curve(found["points"], score) for found in (anchor, test))
    if min(map(len, (*known, *new))) < 2:
        return float("nan")
    at = np.log(np.array(bits) * anchor["pixels"] / 8)
    # The anchor's scores at these sizes.
    order = np.argsort(known[1])
    low, high = np.interp(at, known[1][order], known[0][order])
    low, high = max(low, new[0][0], known[0][0]), min(high, new[0][-1], known[0][-1])
    if not low < high:
        return float("nan")
    means = [PchipInterpolator(*curve).integrate(low, high) / (high - low) for curve in (known, new)]
    return 100 * float(np.expm1(means[1] - means[0]))


def _curve(points: Sequence[dict[str, float]], score: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores ascending, each once, and the logarithm of the bytes."""
    points = [p for p in points if score in p]
    values, index = np.unique([p[score] for p in points], return_index=True)
    return values, np.log([points[i]["bytes"] for i in index])


def run(tools: Path, images: dict[str, Tensor], steps: int, methods: Sequence[str], out: Path) -> Results:
    torch.set_num_threads(1)
    sizes = {name: list(image.shape[1:]) for name, image in images.items()}
    results = Results(out, {"images": sizes, "qualities": QUALITIES, "steps": steps})
    keys = [f"{name}/{image}" for image in images for name in (*ANCHORS, *methods)]
    for key in track(results.missing(keys), "tune_judged"):
        name, image = key.split("/")
        results.add(key, cell(tools, images[image], name, steps))
    return results


def tables(results: Results) -> str:
    """One table for each method: against each anchor, at each score, web / high."""
    parts = []
    for method in METHODS:
        images = [i for i in results.settings["images"] if f"{method}/{i}" in results.cells]
        if not images:
            continue
        rows = []
        for anchor in ANCHORS:
            row = [anchor]
            for score in SCORES:
                found = []
                for bits in RANGES.values():
                    values = np.array(
                        [
                            difference(
                                results.cells[f"{anchor}/{i}"], results.cells[f"{method}/{i}"], score, bits
                            )
                            for i in images
                        ]
                    )
                    values = values[np.isfinite(values)]
                    if len(values) > 2:
                        low, high = bootstrap(values, SEED)
                        found.append(f"{values.mean():+.1f} ({low:+.1f} … {high:+.1f})")
                    else:
                        found.append(f"{values.mean():+.1f}" if len(values) else "–")
                row.append(" / ".join(found))
            rows.append(row)
        seconds = np.median([results.cells[f"{method}/{i}"]["seconds"] for i in images])
        parts += [
            f'`metric="{method}"`, {len(images)} pictures ({", ".join(images)}), {results.settings["steps"]} steps, '
            f"{seconds:.1f} seconds of one core per file. Bytes in % at equal score, web / high, with 95 % intervals "
            "over the pictures:",
            markdown(["against", *SCORES.values()], rows),
        ]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench tune_judged", description=__doc__)
    parser.add_argument("--judges", type=Path, required=True, help="folder of the official tools")
    parser.add_argument("--images", type=Path, help="folder of PNG photographs; default: the bundled ones")
    parser.add_argument("--only", nargs="*", help="names of photographs")
    parser.add_argument("--limit", type=int, help="at most so many photographs")
    parser.add_argument("--crop", action="store_true", help="the middle 384 × 256 of each")
    parser.add_argument("--steps", type=int, default=16, help="of descent (default: 16)")
    parser.add_argument("--methods", nargs="*", default=["perceptual"], choices=list(METHODS))
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "tune_judged.json", help="(default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    images = load_images(options.images, options.limit, multiple=1)
    images = {name: image for name, image in images.items() if not options.only or name in options.only}
    if options.crop:
        images = {name: _centre(image) for name, image in images.items()}
    results = run(options.judges, images, options.steps, options.methods, options.out)
    text = tables(results)
    print(text)
    if CHECKOUT and options.out == RESULTS / "tune_judged.json":
        publish("tune-judged", text, PAGE)


def _centre(image: Tensor) -> Tensor:
    height, width = image.shape[1:]
    tall, wide = CROP if width > height else CROP[::-1]
    top, left = ((extent - side) // 2 // 16 * 16 for extent, side in ((height, tall), (width, wide)))
    return image[:, top : top + tall, left : left + wide].contiguous()


if __name__ == "__main__":
    main()
