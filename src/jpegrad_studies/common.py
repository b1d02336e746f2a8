"""What every study shares: photographs, subjects, resumable JSON results, generated tables."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import jpegrad
from jpegrad.data import photograph_names, photograph_path
from jpegrad_studies.baselines import ALL, Baseline

ROOT = Path(__file__).resolve().parents[2]
COMPARISON = ROOT / "docs" / "comparison.md"
IMAGES = ROOT / "docs" / "images"
CHECKOUT = COMPARISON.exists()
# An installed package writes into the working directory.
RESULTS = (ROOT if CHECKOUT else Path()) / "studies" / "results"
PACKAGES = (
    *("jpegrad", "torch", "numpy", "pillow", "opencv-python-headless", "kornia", "scikit-image", "triton"),
    *("jpeglib", "simplejpeg", "scipy", "torchmetrics", "efficientnet_lite_pytorch"),
)

BINS = {"1–10": (1, 10), "11–25": (11, 25), "26–50": (26, 50), "51–75": (51, 75), "76–99": (76, 99)}


def bin_of(quality: float) -> str:
    return next(name for name, (low, high) in BINS.items() if low <= quality <= high)


def load_images(directory: Path | None, limit: int | None = None, multiple: int = 16) -> dict[str, Tensor]:
    """Photographs as uint8 [3, H, W] by name, cut at the lower right to multiples of `multiple`.

    Args:
        directory: A folder of PNG files; None takes the bundled photographs.
        limit: At most so many, in order of name.
        multiple: 16, because several published codes accept nothing else.
    """
    if directory is None:
        paths = [photograph_path(name) for name in photograph_names()]
    else:
        paths = sorted(
            path for path in directory.iterdir() if path.suffix.lower() in {".png", ".ppm", ".bmp"}
        )
    if not paths:
        raise ValueError(f"directory must hold PNG photographs; {directory} has none")
    images = {}
    for path in paths[:limit]:
        with Image.open(path) as picture:
            width, height = (side - side % multiple for side in picture.size)
            pixels = np.array(picture.convert("RGB").crop((0, 0, width, height)))
        images[path.stem] = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    return images


def middle(image: Tensor, side: int) -> Tensor:
    """The middle of a photograph, in 0 ... 255."""
    top, left = ((extent - side) // 2 for extent in image.shape[1:])
    return image[:, top : top + side, left : left + side].float()


def codec(**options: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """jpegrad.jpeg on images in 0 ... 255 with fixed options, in the form of a baseline's call."""

    def call(image: Tensor, quality: Tensor, base: Tensor | None = None) -> Tensor:
        chosen = {"quality": quality}
        if base is not None:
            chosen = {"tables": jpegrad.tables.scale(base, quality)}
        return jpegrad.jpeg(image, **chosen, value_range=(0.0, 255.0), **options)

    return call


def ours(name: str, notes: str, subsampling: str = "4:2:0", **options: Any) -> Baseline:
    """A mode of jpegrad as a subject of the studies."""
    call = codec(subsampling=subsampling, **options)
    return Baseline(name, 2026, "this package", call, ("image", "quality", "tables"), subsampling, notes)


def earlier(before: int = 9999) -> dict[str, Baseline]:
    """The published approaches that can run here, from before the given year."""
    return {
        name: baseline
        for name, baseline in ALL.items()
        if baseline.call is not None and baseline.year < before and (name != "kornia" or installed("kornia"))
    }


def keep_freed_memory() -> None:
    """Let malloc keep what is freed, as in a long training run: large tensors need no new pages each time.

    Raises:
        OSError: This system's malloc cannot be asked.
    """
    try:
        libc = ctypes.CDLL(None)
        # M_MMAP_MAX: large blocks come from the heap too; M_TRIM_THRESHOLD: whose end is never given back.
        accepted = libc.mallopt(-4, 0) and libc.mallopt(-1, 2**31 - 1)
    except AttributeError:
        accepted = False
    if not accepted:
        raise OSError("mallopt: expected glibc's, this system has none that can be asked")


def one_thread() -> None:
    """One thread, and where it can be had a heap that keeps what is freed."""
    torch.set_num_threads(1)
    with contextlib.suppress(OSError):
        keep_freed_memory()


def installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def versions() -> dict[str, str]:
    """Python, the processor and every package that a result may depend on."""
    found = {name: version(name) for name in PACKAGES if installed(name)}
    return {"python": platform.python_version(), "machine": platform.machine(), **found}


class Results:
    """The cells of one study in one JSON file, written after each so that an interrupted run goes on.

    A file made with other settings or versions is not continued: its cells would not be comparable. It is set aside
    under its name with `.old` at the end, and a line on the error stream says why.

    Args:
        path: The JSON file.
        settings: Everything a cell depends on besides its own key: images, seed, sizes.
        made_by: Versions of the packages; None takes those that are installed.

    Raises:
        ValueError: The file is not one of results.
    """

    def __init__(self, path: Path, settings: dict[str, Any], made_by: dict[str, str] | None = None) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(settings))
        self.versions = versions() if made_by is None else made_by
        self.cells: dict[str, Any] = {}
        self.old = False
        if not path.exists():
            return
        try:
            stored = json.loads(path.read_text())
            found = {name: dict(stored[name]) for name in ("versions", "settings", "cells")}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: expected results of a study ({error})") from None
        differing = _differing(found["versions"], self.versions) or _differing(
            found["settings"], self.settings
        )
        if differing:
            self.old = True
            print(f"{path}: computed anew, because it was made with {differing}", file=sys.stderr)
        else:
            self.cells = found["cells"]

    def missing(self, keys: Iterable[str]) -> list[str]:
        return [key for key in keys if key not in self.cells]

    def add(self, key: str, cell: Any) -> None:
        self.cells[key] = cell
        if self.old:
            self.path.replace(self.path.with_name(self.path.name + ".old"))
            self.old = False
        head = json.dumps({"versions": self.versions, "settings": self.settings}, indent=1).removesuffix(
            "\n}"
        )
        lines = (f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in self.cells.items())
        write_whole(self.path, head + ',\n "cells": {\n' + ",\n".join(lines) + "\n }\n}\n")


def _differing(found: dict[str, Any], now: dict[str, Any]) -> str:
    """Where two records of the same kind differ, in words; nothing if they do not."""
    names = [name for name in {**found, **now} if found.get(name) != now.get(name)]
    return ", ".join(f"{name} {found.get(name, 'missing')}, now {now.get(name, 'missing')}" for name in names)


def track(keys: Sequence[str], description: str) -> Iterable[str]:
    """The keys one after the other, with a progress bar on the error stream: tables go to the other."""
    # Not needed on a bare machine that measures a GPU.
    from rich import progress
    from rich.console import Console

    return progress.track(keys, description=description, console=Console(stderr=True))


def write_whole(path: Path, text: str) -> None:
    """Write under another name, then rename: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(text)
    partial.replace(path)


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def finish(study: str, text: str, out: Path, figure: Callable[[Path], None] | None = None) -> None:
    """Print a study's tables; those of the results that belong to a checkout go into its documentation too."""
    print(text)
    if CHECKOUT and out == RESULTS / f"{study}.json":
        from jpegrad_studies.short import folded

        publish(study, folded(study, text))
        if figure:
            figure(IMAGES / f"{study}.png")


def publish(section: str, text: str, path: Path = COMPARISON) -> None:
    """Replace what stands between the two marks of a section."""
    begin, end = f"<!-- begin {section} -->", f"<!-- end {section} -->"
    page = path.read_text()
    if begin not in page or end not in page:
        raise ValueError(f"{path} must hold the marks {begin!r} and {end!r}")
    before, after = page.split(begin)[0], page.split(end)[1]
    write_whole(path, f"{before}{begin}\n\n{text}\n\n{end}{after}")


def bootstrap(values: np.ndarray, seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean under resampling of the images."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
