"""How fast: every backend beside kornia, the paper's code, plain PyTorch and three file codecs, interleaved.

    jpegrad bench speed                    # a heap that keeps what is freed, as in a long training run
    jpegrad bench speed --fresh-memory     # malloc as it comes; and the memory that a call takes
    jpegrad bench speed --gpu

A contestant's time is the median over rounds; each round runs every contestant once, so that a busy moment of the
machine hits all of them, and ratios mean something where absolute numbers do not. A backend whose output differs from
Pillow's, or whose gradient differs from the reference's, gets no number. Both runs write into one file; one that is
interrupted goes on.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import hashlib
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import jpegrad
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
from jpegrad_studies.contestants import (
    QUALITY,
    Batch,
    Contestant,
    backwards,
    forwards,
    jpeg_with,
    peers,
    step,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHAPES = ((1, 3, 32, 32), (1, 3, 256, 256), (8, 3, 256, 256), (1, 3, 512, 512), (1, 3, 2048, 2048))
# The slow ones get fewer rounds: no contestant may take longer than this in all.
SECONDS_EACH = 6.0
SECONDS_A_TURN = 0.01
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
PAGE = ROOT / "docs" / "speed.md"


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def race(contestants: list[Contestant], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds by name."""
    times: dict[str, list[float]] = {each.name: [] for each in contestants}
    repeats: dict[str, int] = {}
    for _ in range(rounds):
        for each in contestants:
            spent, count = times[each.name], repeats.get(each.name, 1)
            if sum(spent) * count > SECONDS_EACH and len(spent) >= 3:
                continue
            with threads(each.threads), torch.set_grad_enabled(True):
                # The first call after another contestant's finds cold caches.
                repeats.setdefault(each.name, 1 + int(SECONDS_A_TURN / _seconds(each.call, 1, clock)))
                if count > 1:
                    each.call()
                spent.append(_seconds(each.call, repeats[each.name], clock))
    return {name: statistics.median(spent) for name, spent in times.items()}


def _seconds(call: Callable[[], Any], count: int, clock: Callable[[], float]) -> float:
    began = clock()
    for _ in range(count):
        call()
    return max(clock() - began, 1e-9) / count


def peak_bytes(call: Callable[[], Any]) -> int | None:
    """Highest resident memory during a call, beyond what was there before; None where the system does not tell."""
    try:
        call()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        call()
        return _status("VmHWM") - before
    except (OSError, AttributeError):
        return None


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise OSError(f"{field}: not in /proc/self/status")


def memory(pictures: list[Tensor]) -> dict[str, float | None]:
    """Bytes per pixel at 2048², with the output, and with the gradient where there is one."""
    batch = Batch.of((1, 3, 2048, 2048), pictures)
    rows: dict[str, Callable[[], Any]] = {
        "jpegrad native, forward": lambda: jpegrad.jpeg(batch.unit, QUALITY, backend="native"),
        "jpegrad native, forward + backward": step(jpeg_with("native"), batch),
        "jpegrad native, forward + backward, slope 1": step(jpeg_with("native", surrogate="identity"), batch),
    }
    for name, call in peers():
        if name == "kornia":
            rows["kornia, forward"] = lambda call=call: call(batch.unit)
            rows["kornia, forward + backward"] = step(call, batch)
    found = {name: peak_bytes(call) for name, call in rows.items()}
    return {name: None if value is None else round(value / 2048**2, 1) for name, value in found.items()}


def scan(shape: tuple[int, ...], pictures: list[Tensor], clock: Callable[[], float]) -> dict[str, float]:
    """Seconds for the exact size."""
    batch = Batch.of(shape, pictures)
    with torch.no_grad():
        coefficients = jpegrad.encode(batch.unit, QUALITY)
    contestants = [
        Contestant(
            f"jpegrad.bits, {huffman} tables",
            lambda huffman=huffman: jpegrad.bits(coefficients, huffman=huffman),
        )
        for huffman in ("default", "optimized")
    ]
    return race(contestants, 7, clock)


def machine() -> dict[str, Any]:
    """What speed depends on besides the versions of packages: the processor, threads, and the kernels as built."""
    kernels = Path(jpegrad.__file__).with_name("backends").glob("native/_kernel.*")
    built = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(kernels))).hexdigest()[:12]
    models = re.findall(r"^model name\s*: (.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return {
        "cpus": os.cpu_count(),
        "cpu": models[0] if models else platform.processor(),
        "threads": torch.get_num_threads(),
        "kernels": built,
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def key_of(shape: tuple[int, ...], kind: str, fresh: bool = False) -> str:
    return f"{'×'.join(map(str, shape))} {kind}{', fresh memory' * fresh}"


def table(cells: dict[str, Any]) -> str:
    """Megapixels per second, a table for each kind of cell."""
    found = []
    for kind in ("F", "F+B", "F, fresh memory", "F+B, fresh memory", "size"):
        keys = [key for key in cells if key.endswith(" " + kind)]
        if keys:
            names = list(dict.fromkeys(name for key in keys for name in cells[key]["seconds"]))
            header = [kind, *(key.removesuffix(" " + kind) for key in keys)]
            found.append(
                markdown(header, [[name, *(_speed(cells[key], name) for key in keys)] for name in names])
            )
    return "\n\n".join(found)


def _speed(cell: dict[str, Any], name: str) -> str:
    if name in cell["wrong"]:
        return "wrong"
    seconds = cell["seconds"].get(name)
    return "–" if seconds is None else f"{cell['pixels'] / 1e6 / seconds:.3g}"


def summary(cells: dict[str, Any]) -> str:
    """What the package promises, beside what this run measured."""
    one, many, large = SHAPES[3], SHAPES[2], SHAPES[4]

    def ratio(slow: str, fast: str, kind: str = "F", shapes: tuple[Any, ...] = (one, many)) -> str:
        found = [cells[key_of(shape, kind)]["seconds"] for shape in shapes]
        return ", ".join(
            f"{each[slow] / each[fast]:.3g}×" if {slow, fast} <= set(each) else "–" for each in found
        )

    native, default = "jpegrad native", "jpegrad native, gaussian"
    warm = f"{native}, warm output"
    small = cells[key_of(SHAPES[0], "F")]["seconds"].get(native)
    copied = cells[key_of(large, "F")]["seconds"]
    rows = [
        [
            "forward against Pillow, tensor to tensor (512²; 8×256²)",
            "7×",
            ratio("Pillow, tensor to tensor", native),
        ],
        ["the same, uint8 in and out", "2×", ratio("Pillow, ready uint8", f"{native}, uint8")],
        ["forward against kornia", "35×", ratio("kornia", native)],
        ["forward and backward against kornia", "80×", ratio("kornia", default, "F+B")],
        [
            "2048², warm output, share of copy_",
            "40 %",
            f"{copied['copy_ (float32, warm)'] / copied[warm]:.0%}",
        ],
        ["two threads against one, 2048²", "1.7×", ratio(warm, f"{warm}, 2 threads", shapes=(large,))],
        ["a call on 1×3×32×32", "60 µs", "–" if small is None else f"{small * 1e6:.0f} µs"],
    ]
    fresh = [key_of(large, kind, fresh=True) for kind in ("F", "F+B")]
    if set(fresh) <= set(cells):
        found = (
            ratio("kornia", name, kind, (large,))
            for name, kind in ((native, "F, fresh memory"), (default, "F+B, fresh memory"))
        )
        rows.append(["2048² in fresh memory against kornia: forward; and backward", "", "; ".join(found)])
    for key, cell in cells.items():
        if key.endswith(" size"):
            speeds = " and ".join(
                f"{cell['pixels'] / 1e6 / seconds:.0f}" for seconds in cell["seconds"].values()
            )
            rows.append(
                [
                    f"exact size, {key.removesuffix(' size')}, default and optimized Huffman tables",
                    "60 Mpx/s",
                    speeds,
                ]
            )
    for name, per_pixel in cells.get("bytes per pixel at 2048²", {}).items():
        rows.append([f"memory: {name}, bytes per pixel", "", per_pixel])
    return markdown(["", "aim", "measured"], rows)


def figure(cells: dict[str, Any], path: Path) -> None:
    """Bars of the speeds at 512²."""
    from jpegrad_studies import figures

    figures.drawn(path, lambda drawing: _bars(cells, drawing), (11, 4.6))


def _bars(cells: dict[str, Any], drawing: Figure) -> None:
    from jpegrad_studies.figures import GREY, OURS

    axes = drawing.subplots(1, 2)
    for axis, kind, title in zip(axes, ("F", "F+B"), ("forward", "forward and backward"), strict=True):
        cell = cells[key_of(SHAPES[3], kind)]
        speeds = sorted(
            (cell["pixels"] / 1e6 / t, name) for name, t in cell["seconds"].items() if "copy_" not in name
        )
        colors = [OURS if name.startswith("jpegrad") else GREY for _, name in speeds]
        bars = axis.barh([name for _, name in speeds], [speed for speed, _ in speeds], color=colors)
        axis.bar_label(bars, fmt="%.3g", padding=2, fontsize=8)
        axis.set(xscale="log", xlabel="megapixels per second", title=title)
        axis.tick_params(axis="y", labelsize=8)
        axis.margins(x=0.12)
        axis.spines[["top", "right"]].set_visible(False)
    drawing.suptitle("1×3×512×512, float32, 4:2:0, quality 50")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="jpegrad bench speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="folder of PNG photographs; default: the bundled ones")
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.json")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="small shapes, few rounds, no slow contestants")
    parser.add_argument(
        "--fresh-memory", action="store_true", help="malloc as it comes: fresh pages for large tensors"
    )
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="the CUDA device instead; with --quick and TRITON_INTERPRET=1 the interpreter, which times nothing",
    )
    parser.add_argument("--tune", action="store_true", help="with --gpu, other sizes of programs instead")
    parser.add_argument(
        "--clock",
        choices=tuple(CLOCKS),
        default="wall",
        help="cpu: the process's own time, for one thread on a machine that others use too",
    )
    options = parser.parse_args(arguments)
    pictures = list(load_images(options.images).values())
    if options.gpu:
        from jpegrad_studies.gpu import SMALL, report, tuned

        small = {**SMALL, "device": "cuda" if torch.cuda.is_available() else "cpu"} if options.quick else {}
        given = {"rounds": options.rounds, **small}
        if options.tune:
            print(tuned(pictures, options.out.with_name("tuned-gpu.json"), **given))
        else:
            print(report(pictures, options.out.with_name("speed-gpu.json"), **given))
        return
    fresh, clock = options.fresh_memory, CLOCKS[options.clock]
    if not fresh:
        keep_freed_memory()
    rounds = 3 if options.quick else options.rounds
    settings = {"quality": QUALITY, "subsampling": "4:2:0", "rounds": rounds, "clock": options.clock}
    results = Results(options.out, {**settings, **machine()})
    shapes = SHAPES[:3] if options.quick else SHAPES[3:] if fresh else SHAPES
    wanted = {key_of(shape, kind, fresh): (shape, kind) for shape in shapes for kind in ("F", "F+B")}
    for key in track(results.missing(wanted), "speed"):
        shape, kind = wanted[key]
        entered = list((forwards if kind == "F" else backwards)(Batch.of(shape, pictures)))
        seconds = race([each for each in entered if not each.wrong], rounds, clock)
        wrong = {each.name: each.wrong for each in entered if each.wrong}
        pixels = shape[0] * shape[2] * shape[3]
        results.add(key, {"pixels": pixels, "load": os.getloadavg()[0], "seconds": seconds, "wrong": wrong})
    if fresh:  # a kept heap hides what a call takes
        for key in results.missing(["bytes per pixel at 2048²"]):
            results.add(key, memory(pictures))
    elif not options.quick:
        for shape in ((8, 3, 512, 512), (1, 3, 2048, 2048)):
            for key in results.missing([key_of(shape, "size")]):
                seconds = scan(shape, pictures, clock)
                results.add(key, {"pixels": shape[0] * shape[2] * shape[3], "seconds": seconds, "wrong": {}})
    text = table({key: cell for key, cell in results.cells.items() if "seconds" in cell})
    if not options.quick and key_of(SHAPES[4], "F+B") in results.cells:
        text = f"{summary(results.cells)}\n\nMegapixels per second:\n\n{text}"
    print(text)
    if CHECKOUT and options.out == RESULTS / "speed.json" and not options.quick:
        publish("speed", text, PAGE)
        figure(results.cells, ROOT / "docs" / "images" / "speed.png")


if __name__ == "__main__":
    main()
