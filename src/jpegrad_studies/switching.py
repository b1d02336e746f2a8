"""What a switch to jpegrad.compat saves: other projects' own layers and the drop-ins, in turns.

    PYTHONPATH=CHECKOUTS jpegrad bench switching

A project takes part if its module can be imported: art, kornia and torchvision when they are installed, the others from
checkouts on PYTHONPATH. Each number is the ratio of the medians of both, on one thread.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jpegrad_studies.common import (
    CHECKOUT,
    RESULTS,
    ROOT,
    Results,
    load_images,
    markdown,
    middle,
    one_thread,
    publish,
    track,
)

QUALITY = 75
SHAPES = ((8, 192), (1, 192))
PAGE = ROOT / "docs" / "switching.md"
Layer = Callable[[Tensor], Tensor]


class Switch(NamedTuple):
    """A project's layer and its drop-in.

    Args:
        theirs: Its module; that of the drop-in has the name ``ours`` in jpegrad.compat.
        ours: See ``theirs``.
        layer: From either module and the side of the images the layer on ``[B, 3, side, side]``.
        low, high: Range of the images; None is bytes.
        gradient: Whether it is used with one.
    """

    theirs: str
    ours: str
    layer: Callable[[Any, int], Layer]
    low: float | None = 0.0
    high: float | None = 1.0
    gradient: bool = True


def _each(call: Callable[[Tensor, Tensor], Tensor]) -> Layer:
    return lambda x: call(x, torch.full((len(x),), float(QUALITY)))


def _pair(call: Callable[[tuple[Tensor, Tensor]], Tensor]) -> Layer:
    return lambda x: call((x, x))


def _masked(call: Callable[..., tuple[Tensor, Tensor]]) -> Layer:
    # A copy, because videoseal's own writes into the image.
    return lambda x: call(x.clone(), x, QUALITY)[0]


BASICSR, VIDEOSEAL = "basicsr.utils.diffjpeg", "videoseal.augmentation.valuemetric"
MBRS, TORCHVISION = "network.noise_layers.jpeg", "torchvision.transforms.v2"
SWITCHES = {
    "torchvision `v2.JPEG`": Switch(
        TORCHVISION, "torchvision", lambda m, _: m.JPEG(QUALITY), None, None, False
    ),
    "kornia `jpeg_codec_differentiable`": Switch(
        "kornia.enhance", "kornia", lambda m, _: _each(m.jpeg_codec_differentiable)
    ),
    "kornia `RandomJPEG`": Switch(
        "kornia.augmentation", "kornia", lambda m, _: m.RandomJPEG((float(QUALITY), float(QUALITY)))
    ),
    "diff_jpeg `DiffJPEGCoding()`": Switch(
        "diff_jpeg", "diff_jpeg", lambda m, _: _each(m.DiffJPEGCoding()), 0.0, 255.0
    ),
    "diff_jpeg `DiffJPEGCoding(ste=True)`": Switch(
        "diff_jpeg", "diff_jpeg", lambda m, _: _each(m.DiffJPEGCoding(ste=True)), 0.0, 255.0
    ),
    "mlomnitz `DiffJPEG`": Switch(
        "DiffJPEG", "mlomnitz", lambda m, side: m.DiffJPEG(side, side, True, QUALITY)
    ),
    "BasicSR `DiffJPEG()`": Switch(BASICSR, "basicsr", lambda m, _: _each(m.DiffJPEG())),
    "BasicSR `DiffJPEG(False)`": Switch(
        BASICSR, "basicsr", lambda m, _: _each(m.DiffJPEG(False)), gradient=False
    ),
    "ART `JpegCompression`": Switch(
        "art.defences.preprocessor",
        "art",
        lambda m, _: lambda x: m.JpegCompression((0, 1), QUALITY, channels_first=True)(x.numpy())[0],
        gradient=False,
    ),
    "videoseal `JPEG`": Switch(VIDEOSEAL, "videoseal", lambda m, _: _masked(m.JPEG())),
    "MBRS `Jpeg`": Switch(MBRS, "mbrs", lambda m, _: _pair(m.Jpeg(QUALITY)), -1.0),
    "MBRS `JpegTest`": Switch(MBRS, "mbrs", lambda m, _: _pair(m.JpegTest(QUALITY)), -1.0, gradient=False),
}


def images(switch: Switch, count: int, side: int) -> Tensor:
    photos = [middle(photo, side).byte() for photo in load_images(None).values()]
    pixels = torch.stack([photos[i % len(photos)].roll(7 * i, -1) for i in range(count)])
    if switch.low is None or switch.high is None:
        return pixels
    return switch.low + pixels / 255 * (switch.high - switch.low)


def call(layer: Layer, image: Tensor, gradient: bool) -> None:
    if gradient:
        layer(image.clone().requires_grad_()).sum().backward()
    else:
        with torch.no_grad():
            layer(image)


def ratio(old: Layer, new: Layer, image: Tensor, gradient: bool, rounds: int) -> list[float]:
    """Median seconds of the old, of the new."""
    spent: tuple[list[float], list[float]] = ([], [])
    gc.disable()
    for turn in range(rounds + 1):
        for layer, seconds in zip((old, new), spent, strict=True):
            begin = time.perf_counter()
            call(layer, image, gradient)
            # The first turn warms up.
            if turn:
                seconds.append(time.perf_counter() - begin)
    gc.enable()
    return [statistics.median(seconds) for seconds in spent]


def table(results: Results) -> str:
    """Old ÷ new; a project without a gradient has none for the backward pass."""
    columns = [f"{count}/{way}" for count, _ in SHAPES for way in ("forward", "both")]
    rows = []
    for name, times in results.cells.items():
        ratios = [times[key][0] / times[key][1] if key in times else None for key in columns]
        rows.append([name, *("–" if x is None else f"{x:.1f}" for x in ratios)])
    heads = [f"{count} × {side}²{way}" for count, side in SHAPES for way in ("", ", with backward")]
    return markdown(["old ÷ new", *heads], rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("jpegrad bench switching", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS / "switching.json")
    chosen = parser.parse_args(argv)
    one_thread()
    results = Results(chosen.out, {"quality": QUALITY, "shapes": SHAPES, "rounds": chosen.rounds})
    for name in track(results.missing(SWITCHES), "switching"):
        switch = SWITCHES[name]
        try:
            theirs = importlib.import_module(switch.theirs)
        except ModuleNotFoundError as error:
            print(f"{name}: left out, {error}")
            continue
        ours = importlib.import_module(f"jpegrad.compat.{switch.ours}")
        times = {}
        for count, side in SHAPES:
            image = images(switch, count, side)
            old, new = switch.layer(theirs, side), switch.layer(ours, side)
            for way in ("forward", "both") if switch.gradient else ("forward",):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    times[f"{count}/{way}"] = ratio(old, new, image, way == "both", chosen.rounds)
        results.add(name, times)
    print(table(results))
    if CHECKOUT and chosen.out == RESULTS / "switching.json":
        publish("switching", table(results), PAGE)


if __name__ == "__main__":
    main()
