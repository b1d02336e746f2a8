"""How fast: every backend beside kornia, the paper's code and three file codecs, interleaved in one process.

    python -m bench.speed [--out bench/results/speed.json] [--rounds 15] [--quick]

A contestant's time is the median over rounds; each round runs every contestant once, so that a busy moment of the
machine hits all of them, and ratios mean something where absolute numbers do not. A backend whose output differs from
Pillow's, or whose gradient differs from the reference's, gets no number.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import io
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import jpegrad
from baselines import ALL
from bench.common import RESULTS, Results, installed, load_images, markdown
from jpegrad.backends import native_abi, native_ops
from jpegrad.backends.native import _settings
from jpegrad.rate import codes
from jpegrad.spec import Spec

QUALITY = 50
SHAPES = ((1, 3, 32, 32), (1, 3, 256, 256), (8, 3, 256, 256), (1, 3, 512, 512), (1, 3, 2048, 2048))
GRADIENT_TOLERANCE = 5e-5
# The slow ones get fewer rounds: no contestant may take longer than this in all.
SECONDS_EACH = 6.0
SECONDS_A_TURN = 0.01
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass
class Contestant:
    """A call to time.

    Args:
        name: row of the table.
        call: the timed work on one batch.
        threads: of PyTorch while it runs.
        wrong: why it gets no number, or "".
    """

    name: str
    call: Callable[[], Any]
    threads: int = 1
    wrong: str = ""


@dataclass
class Batch:
    """One batch in every form that a contestant takes."""

    bytes: Tensor
    unit: Tensor
    rows: list[np.ndarray]
    weight: Tensor
    expected: Tensor

    @classmethod
    def of(cls, shape: tuple[int, ...], pictures: list[Tensor]) -> Batch:
        count, _, height, width = shape
        found = []
        for i in range(count):
            picture = pictures[i % len(pictures)]
            tiles = (1, -(-height // picture.shape[1]), -(-width // picture.shape[2]))
            found.append(picture.tile(tiles)[:, :height, :width])
        whole = torch.stack(found).contiguous()
        rows = [np.ascontiguousarray(each.permute(1, 2, 0).numpy()) for each in whole]
        expected = torch.stack([torch.from_numpy(pillow(row)).permute(2, 0, 1) for row in rows])
        return cls(whole, whole / 255, rows, torch.randn(shape), expected)


def pillow(row: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(row).save(file, "JPEG", quality=QUALITY)
    with Image.open(file) as picture:
        return np.array(picture)


def opencv(row: np.ndarray) -> np.ndarray:
    import cv2

    _, data = cv2.imencode(".jpg", row, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def simplejpeg(row: np.ndarray) -> np.ndarray:
    import simplejpeg as codec

    return codec.decode_jpeg(codec.encode_jpeg(row, quality=QUALITY, colorsubsampling="420"))


def from_tensor(codec: Callable[[np.ndarray], np.ndarray], images: Tensor) -> Tensor:
    """What a training loop pays for a file codec: float tensor in, float tensor out."""
    rows = (images * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    decoded = np.stack([codec(row) for row in rows])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous().float() / 255


def into_warm_output(images: Tensor) -> Callable[[], Tensor]:
    """The kernel alone, writing a tensor that is there already."""
    settings, tables = _settings(Spec(), 3), jpegrad.tables.annex_k(QUALITY, dtype=torch.float64)
    codec = native_ops.codec(3, *images.shape[-2:], 2, settings)
    out = torch.empty_like(images)
    described = {"input": native_abi.describe(images), "output": native_abi.describe(out)}

    def call() -> Tensor:
        native_abi.invoke("jpeg", codec, len(images), tables=tables.data_ptr(), table_stride=0, **described)
        return out

    return call


def step(call: Callable[[Tensor], Tensor], batch: Batch) -> Callable[[], Tensor]:
    """Forward and backward, as a training step runs them."""
    image = batch.unit.clone().requires_grad_()

    def run() -> Tensor:
        (gradient,) = torch.autograd.grad(call(image), image, batch.weight)
        return gradient

    return run


def jpeg_with(backend: str, **options: Any) -> Callable[[Tensor], Tensor]:
    return lambda image: jpegrad.jpeg(image, QUALITY, backend=backend, **options)


def value_fault(call: Callable[[Tensor], Tensor], batch: Batch) -> str:
    """Why an exact backend's output is wrong, or ""."""
    with torch.no_grad():
        found = (call(batch.unit) * 255).round().to(torch.uint8)
    differing = int((found != batch.expected).sum())
    return f"{differing} samples differ from Pillow" if differing else ""


def gradient_fault(call: Callable[[Tensor], Tensor], batch: Batch, **options: Any) -> str:
    """Why a backend's gradient is wrong, or "": compared with the reference on a part of the batch."""
    part = Batch(
        batch.bytes[:1, :, :256, :256],
        batch.unit[:1, :, :256, :256].contiguous(),
        [],
        batch.weight[:1, :, :256, :256].contiguous(),
        batch.expected,
    )
    found, expected = step(call, part)(), step(jpeg_with("reference", **options), part)()
    error = float((found - expected).norm() / expected.norm())
    return "" if error < GRADIENT_TOLERANCE else f"gradient differs from the reference by {error:.1e}"


def forwards(batch: Batch) -> Iterator[Contestant]:
    image, count = batch.unit, min(2, os.cpu_count() or 1)
    target = torch.empty_like(image)
    yield Contestant("copy_ (float32, warm)", lambda: target.copy_(image))
    for backend in ("native", "reference"):
        if backend == "native" or image[0, 0].numel() <= 2**18:
            call = jpeg_with(backend)
            yield Contestant(f"jpegrad {backend}", lambda call=call: call(image), 1, value_fault(call, batch))
    native = jpeg_with("native")
    yield Contestant("jpegrad native, uint8", lambda: native(batch.bytes), 1, value_fault(native, batch))
    whole = jpeg_with("native", subsampling="4:4:4")
    same = torch.equal(whole(image[..., :64]), jpeg_with("reference", subsampling="4:4:4")(image[..., :64]))
    yield Contestant(
        "jpegrad native, 4:4:4", lambda: whole(image), 1, "" if same else "differs from the reference"
    )
    yield Contestant("jpegrad native, warm output", into_warm_output(image), 1, value_fault(native, batch))
    if count > 1:
        yield Contestant("jpegrad native, 2 threads", lambda: native(image), 2, value_fault(native, batch))
        yield Contestant("jpegrad native, warm output, 2 threads", into_warm_output(image), 2)
    for name, codec in {"Pillow": pillow, "OpenCV": opencv, "simplejpeg": simplejpeg}.items():
        package = {"Pillow": "pillow", "OpenCV": "opencv-python-headless"}.get(name, name)
        if installed(package):
            yield Contestant(f"{name}, ready uint8", lambda codec=codec: [codec(row) for row in batch.rows])
            yield Contestant(f"{name}, tensor to tensor", lambda codec=codec: from_tensor(codec, image))
    for name, call in peers():
        yield Contestant(name, lambda call=call: call(image * 255))


def peers() -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """kornia and the paper's own approaches, on images in 0…255."""
    quality = torch.tensor([float(QUALITY)])
    for key in ("kornia", "reich_soft", "reich_ste"):
        if key in ALL and ALL[key].call is not None and (key != "kornia" or installed("kornia")):
            call = ALL[key].call
            yield ALL[key].name, lambda image, call=call: call(image, quality.expand(len(image)))


def backwards(batch: Batch) -> Iterator[Contestant]:
    for surrogate in ("gaussian", "identity", "reich2024_ste"):
        call = jpeg_with("native", surrogate=surrogate)
        fault = value_fault(call, batch) or gradient_fault(call, batch, surrogate=surrogate)
        yield Contestant(f"jpegrad native, {surrogate}", step(call, batch), 1, fault)
    call = jpeg_with("native")
    if (os.cpu_count() or 1) > 1:
        yield Contestant(
            "jpegrad native, gaussian, 2 threads", step(call, batch), 2, gradient_fault(call, batch)
        )
    if batch.unit[0, 0].numel() <= 2**18:
        yield Contestant("jpegrad reference, gaussian", step(jpeg_with("reference"), batch))
    for name, call in peers():
        yield Contestant(name, step(lambda image, call=call: call(image * 255), batch))


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
    pixels = 2048 * 2048
    rows: dict[str, Callable[[], Any]] = {
        "native, forward": lambda: jpegrad.jpeg(batch.unit, QUALITY, backend="native"),
        "native, forward + backward": step(jpeg_with("native"), batch),
        "native, forward + backward, slope 1": step(jpeg_with("native", surrogate="identity"), batch),
    }
    for name, call in peers():
        if name == "kornia":
            rows["kornia, forward"] = lambda call=call: call(batch.unit * 255)
            rows["kornia, forward + backward"] = step(lambda image, call=call: call(image * 255), batch)
    found = {name: peak_bytes(call) for name, call in rows.items()}
    return {name: None if value is None else round(value / pixels, 1) for name, value in found.items()}


def scan(pictures: list[Tensor], clock: Callable[[], float]) -> dict[str, float]:
    """The exact size: megapixels per second at 2048²."""
    batch = Batch.of((1, 3, 2048, 2048), pictures)
    with torch.no_grad():
        coefficients = jpegrad.encode(batch.unit, QUALITY)
    book = codes.code_book(codes.DEFAULT)[None]
    levels = list(coefficients.levels)
    contestants = [
        Contestant(
            "native scan", lambda: torch.ops.jpegrad.native_scan_bytes(levels, book, 2048, 2048, (2, 2))
        ),
        Contestant("jpegrad.bits", lambda: jpegrad.rate.bits(coefficients)),
    ]
    return {name: 2048**2 / 1e6 / seconds for name, seconds in race(contestants, 5, clock).items()}


def keep_freed_memory() -> None:
    """Let malloc keep what is freed, as a long-running training process does: outputs need no new pages each time."""
    libc = ctypes.CDLL(None)
    # M_MMAP_MAX: large blocks come from the heap too; M_TRIM_THRESHOLD: whose end is never given back.
    if not (libc.mallopt(-4, 0) and libc.mallopt(-1, 2**31 - 1)):
        raise OSError("mallopt refused; run with --fresh-memory")


def table(cells: dict[str, Any]) -> str:
    """Megapixels per second."""
    found = []
    for kind in ("F", "F+B"):
        keys = [key for key in cells if key.endswith(" " + kind)]
        names = list(dict.fromkeys(name for key in keys for name in cells[key]["seconds"]))
        header = [kind, *(key.removesuffix(" " + kind) for key in keys)]
        rows = [[name, *(_speed(cells[key], name) for key in keys)] for name in names]
        found.append(markdown(header, rows))
    return "\n\n".join(found)


def _speed(cell: dict[str, Any], name: str) -> str:
    if name in cell["wrong"]:
        return "wrong"
    seconds = cell["seconds"].get(name)
    return "–" if seconds is None else f"{cell['pixels'] / 1e6 / seconds:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="folder of PNG photographs; default: the bundled ones")
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.json")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="small shapes, few rounds, no slow contestants")
    parser.add_argument(
        "--fresh-memory", action="store_true", help="malloc as it comes: fresh pages for large tensors"
    )
    parser.add_argument(
        "--clock",
        choices=tuple(CLOCKS),
        default="wall",
        help="cpu: the process's own time, for one thread on a machine that others use too",
    )
    arguments = parser.parse_args()
    if not arguments.fresh_memory:
        keep_freed_memory()
    pictures = list(load_images(arguments.images).values())
    clock = CLOCKS[arguments.clock]
    rounds = 3 if arguments.quick else arguments.rounds
    settings = {
        "quality": QUALITY,
        "subsampling": "4:2:0",
        "rounds": rounds,
        "fresh memory": arguments.fresh_memory,
    }
    results = Results(arguments.out, {**settings, "load": os.getloadavg()[0], "cpus": os.cpu_count()})
    for shape in SHAPES[:3] if arguments.quick else SHAPES:
        batch = Batch.of(shape, pictures)
        for kind, contestants in (("F", forwards), ("F+B", backwards)):
            entered = list(contestants(batch))
            seconds = race([each for each in entered if not each.wrong], rounds, clock)
            wrong = {each.name: each.wrong for each in entered if each.wrong}
            pixels = shape[0] * shape[2] * shape[3]
            key = f"{'×'.join(map(str, shape))} {kind}"
            results.add(key, {"pixels": pixels, "seconds": seconds, "wrong": wrong})
    if not arguments.quick:
        if arguments.fresh_memory:  # a kept heap hides what a call takes
            results.add("bytes per pixel at 2048²", memory(pictures))
        results.add("exact size, Mpx/s", scan(pictures, clock))
    print(table({key: cell for key, cell in results.cells.items() if "seconds" in cell}))


if __name__ == "__main__":
    main()
