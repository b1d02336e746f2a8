"""How fast .jpg files are read, written and changed, beside Pillow, OpenCV, simplejpeg, jpeglib and jpegtran.

    jpegrad bench files            # one thread
    jpegrad bench files --quick    # the smallest picture, few rounds

A time is the median over rounds; each round runs every contestant once. Files lie in memory, but for contestants that
take only names. Memory is what a call takes beyond what was there before.
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import jpegrad
from jpegrad_studies.common import (
    CHECKOUT,
    IMAGES,
    RESULTS,
    ROOT,
    Results,
    installed,
    keep_freed_memory,
    load_images,
    markdown,
    publish,
)
from jpegrad_studies.contestants import Contestant
from jpegrad_studies.speed import machine, peak_bytes, race

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = ROOT / "docs" / "files-decoders.md"
SIZES = {"0.4 Mpx": (512, 768), "3 Mpx": (1536, 2048), "12 Mpx": (3000, 4000)}
KINDS: dict[str, dict[str, Any]] = {
    "q 75": {"quality": 75},
    "q 95": {"quality": 95},
    "q 75, optimised": {"quality": 75, "optimize": True},
    "q 75, progressive": {"quality": 75, "progressive": True},
}
BATCH = 16
OURS = "jpegrad"
Jobs = dict[str, Callable[[], Any]]


def picture_of(size: tuple[int, int], pictures: Sequence[Tensor]) -> np.ndarray:
    """Photographs side by side, ``[H, W, 3]``."""
    height, width = size
    rows: list[np.ndarray] = []
    while sum(len(row) for row in rows) < height:
        row: list[np.ndarray] = []
        while sum(part.shape[1] for part in row) < width:
            row.append(pictures[(len(row) + 3 * len(rows)) % len(pictures)].permute(1, 2, 0).numpy())
        lowest = min(len(part) for part in row)
        rows.append(np.concatenate([part[:lowest] for part in row], axis=1)[:, :width])
    return np.ascontiguousarray(np.concatenate(rows)[:height])


def saved(picture: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", **options)
    return file.getvalue()


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


def _options(kind: str) -> dict[str, Any]:
    """Of ``to_bytes``."""
    saving = KINDS[kind]
    huffman = "optimized" if saving.get("optimize") else "default"
    return {"progressive": True} if saving.get("progressive") else {"huffman": huffman}


def reads(data: bytes, kind: str, folder: Path) -> Iterator[tuple[str, Jobs]]:
    """Reading the levels; the headers; the pixels."""
    path = folder / "read.jpg"
    path.write_bytes(data)
    jobs: Jobs = {OURS: lambda: jpegrad.read(data, level_dtype=torch.int16)}
    if installed("jpeglib"):
        import jpeglib

        jobs["jpeglib"] = lambda: jpeglib.read_dct(str(path)).load()
    yield f"read levels, {kind}", jobs
    if kind == "q 75":
        yield "read the header", {OURS: lambda: jpegrad.read_header(data), "Pillow": lambda: header(data)}
    jobs = {
        OURS: lambda: jpegrad.decode(jpegrad.read(data), dtype=torch.uint8),
        "Pillow": lambda: opened(data),
    }
    if installed("opencv-python-headless"):
        import cv2

        jobs["OpenCV"] = lambda: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if installed("simplejpeg"):
        import simplejpeg

        jobs["simplejpeg"] = lambda: simplejpeg.decode_jpeg(data)
    yield f"read pixels, {kind}", jobs


def header(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.size, picture.quantization  # type: ignore[attr-defined]


def writes(picture: np.ndarray, kind: str, folder: Path) -> Iterator[tuple[str, Jobs]]:
    """Writing levels, and coding pixels to a file."""
    image = torch.from_numpy(picture).permute(2, 0, 1)
    options, saving = _options(kind), KINDS[kind]
    coefficients = jpegrad.encode(image, quality=saving["quality"])
    if jpegrad.to_bytes(coefficients, **options) != saved(picture, **saving):
        raise ValueError(f"{kind}: the bytes differ from Pillow's")
    jobs: Jobs = {OURS: lambda: jpegrad.to_bytes(coefficients, **options)}
    if installed("jpeglib") and kind in ("q 75", "q 95"):
        import jpeglib

        (folder / "levels.jpg").write_bytes(saved(picture, **saving))
        levels = jpeglib.read_dct(str(folder / "levels.jpg"))
        levels.load()
        jobs["jpeglib"] = lambda: levels.write_dct(str(folder / "out.jpg"))
    yield f"write levels, {kind}", jobs
    jobs = {
        OURS: lambda: jpegrad.to_bytes(jpegrad.encode(image, quality=saving["quality"]), **options),
        "Pillow": lambda: saved(picture, **saving),
    }
    if installed("opencv-python-headless"):
        import cv2

        flags = [cv2.IMWRITE_JPEG_QUALITY, saving["quality"]]
        flags += [cv2.IMWRITE_JPEG_OPTIMIZE, 1] if saving.get("optimize") else []
        flags += [cv2.IMWRITE_JPEG_PROGRESSIVE, 1] if saving.get("progressive") else []
        jobs["OpenCV"] = lambda: cv2.imencode(".jpg", picture, flags)
    if installed("simplejpeg") and kind in ("q 75", "q 95"):
        import simplejpeg

        jobs["simplejpeg"] = lambda: simplejpeg.encode_jpeg(
            picture, quality=saving["quality"], colorsubsampling="420"
        )
    yield f"code pixels, {kind}", jobs


def changes(data: bytes, folder: Path) -> Iterator[tuple[str, Jobs]]:
    """Lossless changes of a file."""
    path = folder / "change.jpg"
    path.write_bytes(data)
    for name, change, written, options in (
        ("rotate", lambda c: jpegrad.lossless.rotate(c, 90, trim=True), {}, ["-rotate", "90", "-trim"]),
        ("optimise", lambda c: c, {"huffman": "optimized"}, ["-optimize"]),
        ("make progressive", lambda c: c, {"progressive": True}, ["-progressive"]),
    ):
        jobs: Jobs = {
            OURS: lambda change=change, written=written: jpegrad.to_bytes(
                change(jpegrad.read(data, level_dtype=torch.int16)), **written
            )
        }
        if tool := shutil.which("jpegtran"):
            command = [tool, *options, "-outfile", str(folder / "changed.jpg"), str(path)]
            jobs["jpegtran"] = functools.partial(subprocess.run, command, check=True)
        yield f"{name}, lossless", jobs


def batch_of(size: tuple[int, int], pictures: Sequence[Tensor]) -> jpegrad.Coefficients:
    image = torch.from_numpy(picture_of(size, pictures)).permute(2, 0, 1)
    return jpegrad.encode(image.expand(BATCH, -1, -1, -1).contiguous(), quality=75)


def tables(cells: dict[str, Any]) -> str:
    """Milliseconds of ours and of the fastest other by job and size; memory; files of a batch."""
    sizes = [size for size in SIZES if _starting(cells, f"{size}: ")]
    times = {size: _starting(cells, f"{size}: ") for size in sizes}
    found = [
        markdown(
            ["ms: jpegrad; fastest other", *sizes],
            [[job, *(_pair(times[size][job], 1e3) for size in sizes)] for job in times[sizes[0]]],
        )
    ]
    for size in sizes:
        if taken := _starting(cells, f"memory, {size}: "):
            rows = [[job, _pair(row, 1)] for job, row in taken.items()]
            found.append(markdown([f"{size}, bytes per pixel", "jpegrad; least other"], rows))
    batches = _starting(cells, f"{BATCH} files, threads: ")
    rows = [[threads, _number(row[OURS], 1e3)] for threads, row in batches.items()]
    found.append(markdown(["threads", f"to_bytes_batch of {BATCH} pictures of {sizes[0]}, ms"], rows))
    return "\n\n".join(found)


def _pair(row: dict[str, float], factor: float) -> str:
    """Our number, and the least of the others with its name."""
    others = {name: value for name, value in row.items() if name != OURS}
    least = min(others, key=lambda name: others[name], default=None)
    ours = _number(row[OURS], factor)
    return ours if least is None else f"{ours}; {least} {_number(others[least], factor)}"


def _starting(cells: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in cells.items() if key.startswith(prefix)}


def _number(value: float, factor: float) -> str:
    return f"{value * factor:.3g}"


DRAWN = (
    "read levels, q 75",
    "read levels, q 75, progressive",
    "read pixels, q 75",
    "write levels, q 75",
    "code pixels, q 75",
    "code pixels, q 75, optimised",
    "code pixels, q 75, progressive",
)


def figure(cells: dict[str, Any], path: Path) -> None:
    """Bars: how many times as fast as the fastest other, by job and size."""
    from jpegrad_studies import figures

    figures.drawn(path, lambda drawing: _bars(cells, drawing), (9, 4.6))


def _bars(cells: dict[str, Any], drawing: Figure) -> None:
    from jpegrad_studies import figures

    axis = drawing.subplots()
    for i, size in enumerate(SIZES):
        ratios = []
        for job in DRAWN:
            seconds = cells.get(f"{size}: {job}", {})
            others = [value for name, value in seconds.items() if name != OURS]
            ratios.append(min(others) / seconds[OURS] if others else np.nan)
        axis.barh(
            np.arange(len(DRAWN)) + 0.27 * (i - 1),
            ratios,
            0.25,
            label=size,
            color=figures.OURS,
            alpha=(1, 0.7, 0.4)[i],
        )
    axis.axvline(1, color=figures.GREY, linewidth=0.8)
    axis.set_yticks(range(len(DRAWN)), DRAWN)
    axis.invert_yaxis()
    axis.set(xlabel="times as fast as the fastest other")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def jobs_of(size: tuple[int, int], pictures: Sequence[Tensor], folder: Path) -> Iterator[tuple[str, Jobs]]:
    picture = picture_of(size, pictures)
    for kind, saving in KINDS.items():
        if kind != "q 75, optimised":
            yield from reads(saved(picture, **saving), kind, folder)
    for kind in KINDS:
        yield from writes(picture, kind, folder)
    yield from changes(saved(picture, quality=75), folder)


def memory(jobs: Jobs, pixels: int) -> dict[str, float]:
    """Bytes per pixel that each takes beyond what was there before; not of jpegtran, which is another process."""
    found = {name: peak_bytes(call) for name, call in jobs.items() if name != "jpegtran"}
    return {name: round(value / pixels, 2) for name, value in found.items() if value is not None}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="jpegrad bench files", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="folder of PNG photographs; default: the bundled ones")
    parser.add_argument("--out", type=Path, default=RESULTS / "files.json")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="the smallest picture and few rounds")
    options = parser.parse_args(arguments)
    pictures = list(load_images(options.images).values())
    rounds = 3 if options.quick else options.rounds
    results = Results(options.out, {"rounds": rounds, **machine()})
    sizes = dict(list(SIZES.items())[:1]) if options.quick else SIZES
    label, largest = list(sizes.items())[-1]
    with tempfile.TemporaryDirectory() as name:
        # First memory: a heap that keeps what is freed hides what a call takes.
        for job, jobs in jobs_of(largest, pictures, Path(name)):
            for key in results.missing([f"memory, {label}: {job}"]):
                results.add(key, memory(jobs, largest[0] * largest[1]))
        keep_freed_memory()
        torch.set_num_threads(1)
        for label, size in sizes.items():
            for job, jobs in jobs_of(size, pictures, Path(name)):
                for key in results.missing([f"{label}: {job}"]):
                    print(key, file=sys.stderr)
                    results.add(
                        key, race([Contestant(*each) for each in jobs.items()], rounds, time.perf_counter)
                    )
        batch = batch_of(next(iter(sizes.values())), pictures)
        for threads in sorted({1, os.cpu_count() or 1}):
            for key in results.missing([f"{BATCH} files, threads: {threads}"]):
                call = Contestant(OURS, lambda: jpegrad.to_bytes_batch(batch), threads)
                results.add(key, race([call], rounds, time.perf_counter))
    text = tables(results.cells)
    print(text)
    if CHECKOUT and options.out == RESULTS / "files.json" and not options.quick:
        publish("files", text, PAGE)
        figure(results.cells, IMAGES / "files.png")


if __name__ == "__main__":
    main()
