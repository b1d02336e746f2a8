"""Do learned tables and levels make smaller files?

    jpegrad bench tune [--images DIR] [--limit N] [--out FILE]

Every point is a file on disk: its size that of the file, its quality that of Pillow's decoding. The anchor is Pillow
with default tables and optimised Huffman codes, 4:2:0. A method gets one number per image: Bjøntegaard's difference of
rate at equal quality.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jpeglib
import numpy as np
import torch
from PIL import Image
from torch import Tensor

import jpegrad
import jpegrad.tune.joint as joint
from jpegrad import tune
from jpegrad_studies.bdrate import bd_rate
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

QUALITIES = (20, 40, 60, 75, 90)
ANCHORS = (8, 14, *range(20, 95, 5), 95)
PAGE = ROOT / "docs" / "tune.md"
FIGURE = ROOT / "docs" / "images" / "tune.png"
SEED = 0

Method = Callable[[Tensor, int], bytes]


def pillow(image: Tensor, quality: int) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.save(stream, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
    return stream.getvalue()


def mozjpeg(image: Tensor, quality: int) -> bytes:
    """Progressive, trellis, its own tables and scans: what its own program makes by default."""
    with jpeglib.version("mozjpeg403"), tempfile.TemporaryDirectory() as folder:
        picture = jpeglib.from_spatial(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
        picture.samp_factor = "4:2:0"
        path = Path(folder) / "picture.jpg"
        picture.write_spatial(str(path), qt=quality)
        return path.read_bytes()


def shipped(name: str) -> Method:
    """Tables for all qualities, with plain rounding: what any encoder makes of them."""
    tables = jpegrad.tables.load(name)

    def code(image: Tensor, quality: int) -> bytes:
        coefficients = jpegrad.encode(image, tables=jpegrad.tables.scale(tables, quality))
        return jpegrad.to_bytes(coefficients, huffman="optimized")

    return code


def tuned(metric: str, **options: Any) -> Method:
    return lambda image, quality: tune.compress(
        image, metric=metric, target=tune.LikeQuality(quality), **options
    ).to_bytes()


def without(method: Method, **constants: float) -> Method:
    """A method with other constants of ``jpegrad.tune.joint``."""

    def code(image: Tensor, quality: int) -> bytes:
        before = {name: getattr(joint, name) for name in constants}
        try:
            for name, value in constants.items():
                setattr(joint, name, value)
            return method(image, quality)
        finally:
            for name, value in before.items():
                setattr(joint, name, value)

    return code


METHODS: dict[str, Method] = {
    "flat tables": shipped("flat"),
    "Robidoux's tables": shipped("robidoux"),
    "Klein's tables": shipped("klein"),
    "mozjpeg, progressive": mozjpeg,
    "data-set tables, MSE": shipped("mse"),
    "data-set tables, MS-SSIM": shipped("ms-ssim"),
    "data-set tables, mix": shipped("mix"),
    "image's tables, MSE": tuned("mse", choose_levels=False),
    "image's tables, MS-SSIM": tuned("ms-ssim", choose_levels=False),
    "tables and levels, MSE": tuned("mse"),
    "tables and levels, MS-SSIM": tuned("ms-ssim"),
    "tables and levels, mix": tuned("mix"),
}
FIXED = torch.tensor(jpegrad.tables.ANNEX_K)
ABLATIONS: dict[str, Method] = {
    "**tables alone, MSE**, from Annex K": tuned("mse", choose_levels=False, base=FIXED),
    "rate model `laplace`": tuned("mse", choose_levels=False, base=FIXED, rate="laplace"),
    "rate model `quadratic`": tuned("mse", choose_levels=False, base=FIXED, rate="quadratic"),
    "rate model `nonzeros`": tuned("mse", choose_levels=False, base=FIXED, rate="nonzeros"),
    "table slope `dead_zone`": tuned("mse", choose_levels=False, base=FIXED, table_surrogate="dead_zone"),
    "table slope `identity`": tuned("mse", choose_levels=False, base=FIXED, table_surrogate="identity"),
    "table slope `cubic`": tuned("mse", choose_levels=False, base=FIXED, table_surrogate="cubic"),
    "**tables and levels, MSE**": tuned("mse"),
    "from Annex K": tuned("mse", base=FIXED),
    "without learning tables": without(tuned("mse"), STRIDE=0.0),
    "without targets": without(tuned("mse"), PREPARATION=0, FOLLOW=0.0),
    "single Newton steps": without(tuned("mse"), STRIDE=1.0, LONGEST_STRIDE=1.0),
    "trellis once": tuned("mse", steps=0),
    "**tables and levels, MS-SSIM**": tuned("ms-ssim"),
    "MS-SSIM, without weights of blocks": without(tuned("ms-ssim"), BLOCKS=1.0),
    "MS-SSIM, without targets": without(tuned("ms-ssim"), PREPARATION=0, FOLLOW=0.0),
}
ANCHOR = "anchor"
COLUMNS = {"psnr": "PSNR", "psnr_y": "PSNR Y", "ms_ssim": "MS-SSIM", "ssim": "SSIM Y"}


def point(data: bytes, image: Tensor, folder: Path) -> dict[str, float]:
    """Size and qualities of a file on disk."""
    path = folder / "file.jpg"
    path.write_bytes(data)
    with Image.open(path) as opened:
        decoded = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)
    return {"bytes": path.stat().st_size, **tune.report(decoded.float() / 255, image.float() / 255)}


def cell(method: Method, image: Tensor, qualities: Sequence[int]) -> dict[str, Any]:
    points, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for quality in qualities:
            start = time.process_time()
            data = method(image, quality)
            seconds.append(time.process_time() - start)
            points.append({"quality": quality, **point(data, image, Path(folder))})
    return {"points": points, "seconds": float(np.median(seconds))}


def run(directory: Path | None, limit: int | None, ablations: int, out: Path) -> Results:
    torch.set_num_threads(1)
    images = load_images(directory, limit, multiple=1)
    results = Results(out, {"images": sorted(images), "qualities": QUALITIES, "anchors": ANCHORS})
    keys = [f"{name}/{image}" for image in images for name in (ANCHOR, *METHODS)]
    keys += [f"ablation {name}/{image}" for image in list(images)[:ablations] for name in ABLATIONS]
    for key in track(results.missing(keys), "tune"):
        name, image = key.split("/")
        if name == ANCHOR:
            found = cell(pillow, images[image], ANCHORS)
        else:
            method = METHODS.get(name) or ABLATIONS[name.removeprefix("ablation ")]
            found = cell(method, images[image], QUALITIES)
        results.add(key, found)
    return results


def curve(found: dict[str, Any], column: str) -> list[tuple[float, float]]:
    """(bytes, dB) of each file; similarities s as −10 log10(1 − s)."""
    points = [p for p in found["points"] if column in p]
    return [
        (p["bytes"], p[column] if column.startswith("psnr") else -10 * np.log10(max(1 - p[column], 1e-9)))
        for p in points
    ]


def finished(results: Results, name: str) -> list[str]:
    """The photographs that a run has done with all methods, so that all are measured on the same; or all ablations."""
    group = [f"ablation {a}" for a in ABLATIONS] if name.startswith("ablation ") else [ANCHOR, *METHODS]
    return [
        image
        for image in results.settings["images"]
        if all(f"{member}/{image}" in results.cells for member in group)
    ]


def differences(results: Results, name: str, column: str, anchor: str = ANCHOR) -> np.ndarray:
    """BD-rate of each image that both have."""
    cells = results.cells
    values = []
    for image in finished(results, name):
        known, test = curve(cells[f"{anchor}/{image}"], column), curve(cells[f"{name}/{image}"], column)
        values.append(bd_rate(known, test) if known and test else float("nan"))
    found = np.array(values)
    return found[np.isfinite(found)]


def shown(values: np.ndarray) -> str:
    if not len(values):
        return "–"
    if len(values) < 3:
        return f"{values.mean():+.1f}"
    low, high = bootstrap(values, SEED)
    return f"{values.mean():+.1f} ({low:+.1f} … {high:+.1f})"


def seconds(results: Results, name: str) -> str:
    times = [found["seconds"] for key, found in results.cells.items() if key.split("/")[0] == name]
    return f"{np.median(times):.2f}"


def tables(results: Results) -> str:
    images = finished(results, ANCHOR)
    rows = [
        [name, *(shown(differences(results, name, column)) for column in COLUMNS), seconds(results, name)]
        for name in METHODS
    ]
    qualities = ", ".join(map(str, results.settings["qualities"]))
    parts = [
        f"{len(images)} photographs ({', '.join(images)}), qualities {qualities}. BD-rate in % "
        "against Pillow's default tables with optimised Huffman codes, mean and 95 % interval over the photographs; "
        "seconds of one core per file.",
        markdown(["method", *COLUMNS.values(), "seconds"], rows),
    ]
    moz = "mozjpeg, progressive"
    rows = [
        [name, *(shown(differences(results, name, column, moz)) for column in COLUMNS)]
        for name in METHODS
        if name != moz
    ]
    parts += ["Against mozjpeg's progressive files:", markdown(["method", *COLUMNS.values()], rows)]
    rows = []
    for name in ABLATIONS:
        key = f"ablation {name}"
        values = [differences(results, key, column) for column in ("psnr", "ms_ssim")]
        if any(map(len, values)):
            rows.append([name, *map(shown, values), seconds(results, key)])
    if rows:
        few = finished(results, "ablation ")
        parts += [f"What each part is worth, on {', '.join(few)}:"]
        parts += [markdown(["variant", "PSNR", "MS-SSIM", "seconds"], rows)]
    return "\n\n".join(parts)


def figure(results: Results, path: Path) -> None:
    """Mean curves of all photographs: bits per pixel against PSNR and MS-SSIM."""
    from jpegrad_studies import figures

    figures.drawn(path, lambda drawing: _curves(results, drawing), (10, 4.4))


def _curves(results: Results, drawing: Figure) -> None:
    from jpegrad_studies.figures import GREY, OTHERS, OURS

    drawn = {
        ANCHOR: ("default tables", GREY, "-"),
        "mozjpeg, progressive": ("mozjpeg", OTHERS[0], "-"),
        "data-set tables, MSE": ("jpegrad, data-set tables, MSE", OURS, ":"),
        "data-set tables, MS-SSIM": ("jpegrad, data-set tables, MS-SSIM", OURS, "-."),
        "tables and levels, MSE": ("jpegrad, tables and levels, MSE", OURS, "-"),
        "tables and levels, MS-SSIM": ("jpegrad, tables and levels, MS-SSIM", OURS, "--"),
    }
    axes = drawing.subplots(1, 2)
    for axis, column in zip(axes, ("psnr", "ms_ssim"), strict=True):
        for name, (label, color, dashes) in drawn.items():
            cells = [results.cells[f"{name}/{image}"] for image in finished(results, name)]
            curves = np.array([curve(found, column) for found in cells])
            # The geometric mean of the sizes, as BD-rate takes it.
            size, quality = np.exp(np.log(curves[..., 0]).mean(0)) / 1000, curves[..., 1].mean(0)
            axis.plot(
                size, quality, "o", linestyle=dashes, color=color, label=label, markersize=3, linewidth=1.2
            )
        axis.set(xscale="log", xlabel="kilobytes per file (geometric mean)", ylabel="dB")
        axis.set_title("PSNR" if column == "psnr" else "MS-SSIM, −10 log10(1 − s)")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench tune", description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of PNG photographs; default: the bundled ones")
    parser.add_argument("--limit", type=int, help="at most so many photographs")
    parser.add_argument("--ablations", type=int, default=3, help="photographs of the ablations (default: 3)")
    parser.add_argument("--out", type=Path, default=RESULTS / "tune.json", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    results = run(options.images, options.limit, options.ablations, options.out)
    text = tables(results)
    print(text)
    if CHECKOUT and options.out == RESULTS / "tune.json":
        publish("tune", text, PAGE)
        figure(results, FIGURE)


if __name__ == "__main__":
    main()
