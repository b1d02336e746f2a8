"""The adapter of Reich et al. beside a checkout of the published code.

Where a function jumps, the order of a sum decides. So the images get a little noise, which takes every coefficient
off the rounding thresholds, both sides run in float64, and the gradient's loss leaves out the samples that lie within
a thousandth of a grey level of the clip at 0 or 255.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from jpegrad_studies.baselines import ALL
from jpegrad_studies.common import RESULTS, Results, load_images, markdown, track

QUALITIES = (1, 2, 5, 8, 10, 15, 19.04, 25, 33, 40, 49, 50, 51, 60, 71.3, 75, 78, 85, 90, 92, 95, 99)
SIDE = 192


EDGE = 1e-3


def compare(published: Callable[..., Tensor], image: Tensor, quality: float, ste: bool) -> dict[str, float]:
    """Largest differences of the value (grey levels) and of the gradients, and relative ones in L2."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(image.shape, generator=generator, dtype=image.dtype)
    adapter = ALL["reich_ste" if ste else "reich_soft"]
    outcomes = []
    for ours in (False, True):
        x = image.clone().requires_grad_()
        q = torch.full((len(image),), float(quality), dtype=image.dtype, requires_grad=True)
        base = adapter.call.base.to(image).requires_grad_()
        if ours:
            coded = adapter(x, q, base=base)
        else:
            coded = published(x, q, quantization_table_y=base[0], quantization_table_c=base[1], ste=ste)
            unclear = torch.minimum(coded.detach().abs(), (coded.detach() - 255).abs()) < EDGE
            weights[unclear] = 0
        outcomes.append((coded.detach(), *torch.autograd.grad((coded * weights).sum(), (x, q, base))))
    (expected, *theirs), (value, *mine) = outcomes
    cell = {"value": float((value - expected).abs().max())}
    for name, a, b in zip(("image", "quality", "tables"), mine, theirs, strict=True):
        cell[f"gradient_{name}"] = float((a - b).abs().max())
        cell[f"relative_{name}"] = float((a - b).norm() / b.norm().clamp(min=1e-9))
    return cell


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench published", description=__doc__)
    parser.add_argument("checkout", type=Path, help="folder that holds the package diff_jpeg")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "published.json", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="torch.meshgrid")
    sys.path.insert(0, str(options.checkout))
    published = importlib.import_module("diff_jpeg").diff_jpeg_coding
    images = load_images(options.images, limit=6)
    noise = torch.Generator().manual_seed(1)
    batch = torch.stack([image[:, :SIDE, :SIDE] for image in images.values()]).double()
    batch += 0.1 * torch.rand(batch.shape, generator=noise, dtype=torch.float64)
    results = Results(options.out, {"images": list(images), "side": SIDE, "dtype": "float64"})
    keys = {f"{'ste' if ste else 'soft'}/{q}": (q, ste) for ste in (False, True) for q in QUALITIES}
    for key in track(results.missing(keys), description="published"):
        results.add(key, compare(published, batch, *keys[key]))
    rows = []
    for variant in ("soft", "ste"):
        cells = [cell for key, cell in results.cells.items() if key.startswith(variant)]
        rows.append([variant, *(f"{max(cell[field] for cell in cells):.2g}" for field in cells[0])])
    print(markdown(["largest difference", *next(iter(results.cells.values()))], rows))


if __name__ == "__main__":
    main()
