"""Does the cost grow with the work alone: nanoseconds per pixel of the native kernel, from 32² to 8192² and in batches.

    jpegrad bench growth
    jpegrad bench growth --largest 2048

One thread, float32, 4:2:0, quality 50, a heap that keeps what is freed. A time is the processor's, and the median over
rounds, in each of which every call runs once. Memory is what a call allocates beyond the image, its result and its
gradient.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import parse, settings_of
from jpegrad.backends.native import kernels
from jpegrad.spec import Spec
from jpegrad_studies.common import (
    CHECKOUT,
    RESULTS,
    ROOT,
    Results,
    keep_freed_memory,
    load_images,
    markdown,
    publish,
    track,
)
from jpegrad_studies.contestants import QUALITY, jpeg_with, tiled
from jpegrad_studies.speed import PAGE, machine, threads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIDE = 256
"""Of the images of a batch."""
CALLS: dict[str, dict[str, Any]] = {"F": {}, "F+B": {}, "F+B, soft": {"forward": "soft"}}
# What a call may take in one round.
SECONDS = 0.05


def shapes(largest: int) -> list[tuple[int, ...]]:
    """Single images of growing size, and growing batches."""
    sizes = [(1, 3, side, side) for side in SIDES if side <= largest]
    return sizes + [
        (count, 3, SIDE, SIDE) for count in BATCHES if count > 1 and count * SIDE**2 <= largest**2
    ]


def calls(image: Tensor) -> dict[str, Callable[[], Any]]:
    weight, leaf = torch.randn(image.shape), image.clone().requires_grad_()

    def forward() -> Tensor:
        return jpeg_with("native")(image)

    def both(**options: Any) -> Callable[[], Tensor]:
        call = jpeg_with("native", **options)
        return lambda: torch.autograd.grad(call(leaf), leaf, weight)[0]

    return {name: forward if name == "F" else both(**options) for name, options in CALLS.items()}


def race(entered: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of a call."""
    spent: dict[str, list[float]] = {name: [] for name in entered}
    for call in entered.values():
        call()
    for _ in range(rounds):
        for name, call in entered.items():
            count, began = 0, time.process_time()
            while count == 0 or time.process_time() - began < SECONDS:
                call()
                count += 1
            spent[name].append((time.process_time() - began) / count)
    return {name: statistics.median(each) for name, each in spent.items()}


def kept_bytes(image: Tensor) -> dict[str, float]:
    """Bytes per pixel that a call keeps for its backward pass, all that it allocates but its result and gradient."""
    found = {"F": 0.0}
    for name, options in CALLS.items():
        if name != "F":
            settings = parse(settings_of(replace(Spec(), **options), image.shape[-3], kernels))
            tensors = kernels.saved(image, settings, False)
            found[name] = sum(x.numel() * x.element_size() for x in tensors) / image[:, 0].numel()
    return found


def table(cells: dict[str, Any], kept: dict[str, float]) -> str:
    """Nanoseconds per pixel."""
    rows = [
        [key, *(f"{1e9 * cell['seconds'][name] / cell['pixels']:.2f}" for name in CALLS)]
        for key, cell in cells.items()
    ]
    rows.append(["kept for the backward pass, bytes per pixel", *(f"{kept[name]:.1f}" for name in CALLS)])
    return markdown(["", *CALLS], rows)


def figure(cells: dict[str, Any], path: Path) -> None:
    """Nanoseconds per pixel over pixels and over images."""
    from jpegrad_studies import figures

    figures.drawn(path, lambda drawing: _lines(cells, drawing), (10, 3.6))


def _lines(cells: dict[str, Any], drawing: Figure) -> None:
    single = [cell for cell in cells.values() if cell["images"] == 1]
    batches = [cell for cell in cells.values() if cell["side"] == SIDE]
    panels = (
        (single, "side", "side of one image, pixels"),
        (batches, "images", f"images of {SIDE} × {SIDE} in a batch"),
    )
    for axis, (chosen, where, label) in zip(drawing.subplots(1, 2, sharey=True), panels, strict=True):
        chosen = sorted(chosen, key=lambda cell: cell[where])
        places = [cell[where] for cell in chosen]
        for name in CALLS:
            times = [1e9 * cell["seconds"][name] / cell["pixels"] for cell in chosen]
            axis.plot(places, times, label=name, marker="o", markersize=4)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set(xlabel=label)
        axis.set_xticks(places, [str(place) for place in places], fontsize="small")
        axis.grid(alpha=0.3)
    drawing.axes[0].set_ylabel("nanoseconds per pixel")
    drawing.axes[0].legend()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="jpegrad bench growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=Path, help="folder of PNG photographs; default: the bundled ones")
    parser.add_argument("--out", type=Path, default=RESULTS / "growth.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--largest", type=int, default=SIDES[-1], help="side of the largest image")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    pictures = list(load_images(options.images).values())
    settings = {"quality": QUALITY, "subsampling": "4:2:0", "rounds": options.rounds}
    results = Results(options.out, {**settings, **machine()})
    wanted = {"×".join(map(str, shape)): shape for shape in shapes(options.largest)}
    for key in track(results.missing(wanted), "growth"):
        shape = wanted[key]
        with threads(1):
            seconds = race(calls(tiled(shape, pictures) / 255), options.rounds)
        pixels = shape[0] * shape[2] * shape[3]
        results.add(key, {"images": shape[0], "side": shape[2], "pixels": pixels, "seconds": seconds})
    text = table(results.cells, kept_bytes(torch.zeros(1, 3, 512, 512)))
    print(text)
    if CHECKOUT and options.out == RESULTS / "growth.json" and options.largest == SIDES[-1]:
        publish("growth", text, PAGE)
        figure(results.cells, ROOT / "docs" / "images" / "growth.png")


if __name__ == "__main__":
    main()
