"""What each detail of the codec is worth.

Forward: the exact pipeline with one detail replaced by the real-valued habit, and the real-valued pipeline made exact
step by step. Backward: the derivative to the quality, and attacks, with one choice changed at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

import jpegrad
from jpegrad.spec import JFIF
from jpegrad.stages import blocks, chroma, color, dct, quant
from jpegrad.surrogates import ALL as SURROGATES
from jpegrad_studies.attack import ATTACKS, budget_gaussian, cell, plain
from jpegrad_studies.baselines.common import factor
from jpegrad_studies.baselines.fsa import pillow
from jpegrad_studies.baselines.reich import antialiased_down
from jpegrad_studies.classifiers import classifier, recognised, unlabelled
from jpegrad_studies.common import (
    RESULTS,
    Results,
    codec,
    finish,
    load_images,
    markdown,
    one_thread,
    ours,
    track,
)
from jpegrad_studies.gradient import quality_cell

QUALITIES = (1, 12, 35, 60, 85, 99)
# In the order of the pipeline.
INTEGERS = (
    "8-bit YCbCr",
    "8-bit downsampling",
    "rounding half away from zero",
    "integer DCT",
    "integer inverse DCT, 8-bit planes",
    "8-bit upsampling",
    "8-bit RGB",
)
OTHERS = (
    "table floors",
    "table clip",
    "plane clip",
    "image clip",
    "box downsampling",
    "triangle upsampling",
)


def tables_of(quality: int, missing: set[str]) -> Tensor:
    """[2, 8, 8]; without its floors the factor and the entries stay real, without its clip they may leave 1 ... 255."""
    base = jpegrad.tables.annex_k(50.0).double()
    percent = factor(torch.tensor(float(quality), dtype=torch.float64))
    floored = ((base * percent.floor() + 50) / 100).floor()
    entries = base * percent / 100 if "table floors" in missing else floored
    # An unclipped entry of 0 would divide by zero; half a step is what a floor without a clip leaves of it.
    return entries.clamp(min=0.5) if "table clip" in missing else entries.clamp(1, 255)


def code(image: Tensor, quality: int, missing: set[str]) -> Tensor:
    """[3, H, W] in 0 ... 255, sides multiples of 16, through JPEG without some of its details."""

    def step(detail: str, exact: Callable[..., Tensor], real: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return real if detail in missing else exact

    convert = step("8-bit YCbCr", color.to_ycbcr_exact, color.to_ycbcr_real)
    down = step("8-bit downsampling", chroma.downsample_exact, chroma.downsample_real)
    transform = step("integer DCT", dct.forward_exact, dct.forward_real)
    invert = step("integer inverse DCT, 8-bit planes", dct.inverse_exact, dct.inverse_real)
    up = step("8-bit upsampling", chroma.upsample_exact, chroma.upsample_real)
    finish = step("8-bit RGB", color.to_rgb_exact, color.to_rgb_real)
    if "box downsampling" in missing:
        down = lambda plane, h, v: plane if h == 1 else antialiased_down(plane[None, None])[0, 0]  # noqa: E731
    if "triangle upsampling" in missing:
        up = lambda plane, h, v: plane.repeat_interleave(h, 0).repeat_interleave(v, 1)  # noqa: E731
    matrix, offset, inverse = (torch.as_tensor(x).double() for x in (JFIF.matrix, JFIF.offset, JFIF.inverse))
    tables = tables_of(quality, missing)
    planes = []
    for i, plane in enumerate(convert(image.double(), matrix, offset)):
        ratio = 1 if i == 0 else 2
        table = tables[min(i, 1)]
        coefficients = transform(blocks.split(down(plane, ratio, ratio)))
        if "rounding half away from zero" in missing:
            levels = (coefficients / table).round()
        else:
            levels = quant.quantize_exact(coefficients, table)
        decoded = blocks.merge(invert(levels * table))
        planes.append(up(decoded if "plane clip" in missing else decoded.clamp(0, 255), ratio, ratio))
    rgb = finish(torch.stack(planes), inverse, offset)
    return rgb if "image clip" in missing else rgb.clamp(0, 255)


def variants() -> dict[str, set[str]]:
    """Every detail missing alone; then the real-valued pipeline and its steps towards the exact one."""
    steps = accumulate(INTEGERS, lambda left, detail: left - {detail}, initial=set(INTEGERS))
    names = ("all real", *(f"+ {detail}" for detail in INTEGERS))
    return {
        **{f"without {detail}": {detail} for detail in (*INTEGERS, *OTHERS)},
        **dict(zip(names, steps, strict=True)),
    }


def forward_cell(images: dict[str, Tensor], quality: int, missing: set[str]) -> dict[str, float | None]:
    outcome: dict[str, float | None] = {}
    for name, image in images.items():
        real = pillow(image[None].double(), torch.tensor([float(quality)]))[0].numpy()
        coded = code(image, quality, missing).numpy()
        equal = bool((coded == real).all())
        outcome[name] = None if equal else float(peak_signal_noise_ratio(real, coded, data_range=255))
    return outcome


def quality_choices() -> dict[str, dict[str, object]]:
    """Slopes of the quantiser, as tables see it, and of the floors in the quality scaling."""
    cubic_floors = replace(SURROGATES["gaussian"], floor=SURROGATES["reich2024_ste"].floor)
    return {
        "default": {},
        "quantiser with slope 1": {"table_surrogate": "identity"},
        "quantiser with the cubic's slope": {"table_surrogate": "cubic"},
        "floors with the cubic's slope": {"surrogate": cubic_floors, "table_surrogate": "distortion"},
        "both with the cubic's slope (the paper's)": {"surrogate": "reich2024_ste"},
    }


ATTACK_CHOICES = {
    "exact forward, Gaussian of 1.5 budgets": budget_gaussian("exact", 1.5),
    "clip slope 0.001": budget_gaussian("exact", 1.5, clip_slope=1e-3),
    "clip slope 1": budget_gaussian("exact", 1.5, clip_slope=1.0),
    "soft forward": budget_gaussian("soft", 1.5),
    "soft forward, clip slope 0.001": budget_gaussian("soft", 1.5, clip_slope=1e-3),
    "cubic": plain(codec(surrogate="cubic")),
    "cubic, soft forward": plain(codec(surrogate="cubic", forward="soft")),
    "slope 1": plain(codec(surrogate="identity")),
}
ATTACK_QUALITIES = (10, 50)


def run(options: argparse.Namespace) -> Results:
    images = load_images(options.images, options.limit)
    results = Results(options.out, {"images": list(images), "attacked": "bundled photographs", "budget": 2.0})
    work: dict[str, Callable[[], object]] = {}
    for name, missing in variants().items():
        for quality in QUALITIES:
            work[f"forward/{name}/{quality}"] = lambda q=quality, m=missing: forward_cell(images, q, m)
    for name, chosen in quality_choices().items():
        subject = ours(name, "", **chosen)
        work[f"quality/{name}"] = lambda s=subject: [
            quality_cell(s, image.float()) for image in images.values()
        ]
    if options.attack:
        logits = classifier("lite0")
        pool = unlabelled(logits)
        for quality in ATTACK_QUALITIES:
            for name, seen in ATTACK_CHOICES.items():
                work[f"attack/{name}/{quality}"] = lambda q=quality, s=seen: cell(
                    logits, s, recognised(logits, pool, q, len(pool[0])), q, ATTACKS["I-FGSM"], 2.0
                )
    for key in track(results.missing(work), description="ablate"):
        results.add(key, work[key]())
    return results


def forward_table(results: Results) -> str:
    rows = []
    for name in variants():
        row = [name]
        for quality in QUALITIES:
            values = list(results.cells[f"forward/{name}/{quality}"].values())
            found = [value for value in values if value is not None]
            equal = f" ({len(values) - len(found)} exact)" if found and len(found) < len(values) else ""
            row.append(f"{np.mean(found):.1f}{equal}" if found else "exact")
        rows.append(row)
    return markdown(["PSNR to Pillow, dB", *(f"q {quality}" for quality in QUALITIES)], rows)


def quality_table(results: Results) -> str:
    rows = []
    for name in quality_choices():
        _, truth, predicted = np.array([row for one in results.cells[f"quality/{name}"] for row in one]).T
        ratio = predicted / truth
        shares = (ratio > 0, (ratio > 2 / 3) & (ratio < 1.5), np.abs(ratio) < 0.02)
        sign, near, dead = (f"{100 * share.mean():.0f} %" for share in shares)
        rows.append([name, sign, f"{np.median(ratio):.2f}", near, dead])
    return markdown(
        ["d/dquality", "right sign", "predicted / true, median", "within × 1.5", "dead (below 2 %)"], rows
    )


def attack_table(results: Results) -> str:
    rows = []
    for name in ATTACK_CHOICES:
        cells = [results.cells.get(f"attack/{name}/{quality}") for quality in ATTACK_QUALITIES]
        if None in cells:
            return ""
        rows.append(
            [name, *(f"{100 * np.mean(c['right']):.0f} / {np.mean(c['cross_entropy']):.2f}" for c in cells)]
        )
    header = [
        "I-FGSM, 2 grey levels, top-1 % / cross-entropy",
        *(f"q {quality}" for quality in ATTACK_QUALITIES),
    ]
    return markdown(header, rows)


def report(results: Results) -> str:
    counted = f"{len(results.settings['images'])} photographs; attacks on the bundled ones."
    return "\n\n".join(
        (counted, forward_table(results), quality_table(results), attack_table(results))
    ).strip()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench ablate", description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of PNG photographs (default: the bundled ones)")
    parser.add_argument("--limit", type=int, help="at most so many photographs")
    parser.add_argument("--no-attack", dest="attack", action="store_false", help="leave the classifier out")
    parser.add_argument("--out", type=Path, default=RESULTS / "ablate.json", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    one_thread()
    finish("ablate", report(run(options)), options.out)


if __name__ == "__main__":
    main()
