"""The speed study on a CUDA device: is it exact, how fast, and what share of the floor that a copy's bandwidth sets.

Everything needs torch, triton, numpy and Pillow alone; peers race where they are installed. Kernels are compiled first,
by as many processes as there are cores, which compare them with the reference meanwhile. Without a device the same code
runs under Triton's interpreter, on small shapes, to see that it runs.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from jpegrad.backends import reference, triton
from jpegrad.backends.triton import launch
from jpegrad.backends.triton.qualities import scaled
from jpegrad.spec import JFIF, Color, Spec, resolve, resolve_tables
from jpegrad_studies.common import Results, markdown
from jpegrad_studies.contestants import QUALITY, Batch, peers

Shape = tuple[int, int, int, int]
Size = tuple[int, int]
SHAPES: tuple[Shape, ...] = ((64, 3, 512, 512), (16, 3, 224, 224), (1, 3, 2048, 2048))
SIZES: tuple[Size, ...] = ((17, 33), (130, 263), (64, 1024))
MODES = ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1")
SMALL: dict[str, Any] = {"shapes": ((1, 3, 16, 32),), "sizes": ((9, 20),), "modes": ("4:2:0",), "rounds": 1}
"""What the interpreter computes in minutes."""
TUNED: dict[str, tuple[int, ...]] = {
    "MOST_MCUS": (4, 8, 16, 32),
    "PIXELS": (512, 1024, 2048),
    "WIDEST": (256, 512),
}
"""Constants of the launches, and what else they might be."""
SURROGATES = {"exact": ("gaussian", "identity"), "soft": ("gaussian",)}
# Bytes per pixel that a call cannot avoid: float32 pixels in and out, the planes between two kernels (8 bits, float32
# in the soft forward), and for the backward pass gradients in and out and what is kept of each coefficient (a residual
# of one byte, or a float32 slope). Levels are float32, 6 bytes a pixel in 4:2:0.
FLOOR = {
    "F": 27.0,
    "F+B": 54.8,
    "F, uint8": 9.0,
    "F, float16": 15.0,
    "soft F": 36.0,
    "soft F+B": 72.0,
    "encode": 18.0,
    "decode": 21.0,
    "soft encode": 18.0,
    "soft decode": 30.0,
}
WARM_UP = 5


class Task(NamedTuple):
    """One call to time; ``kind`` is a key of :data:`FLOOR`, ``who`` the contestant, ``graph`` one of CUDA's."""

    kind: str
    who: str
    call: Callable[[], Any]
    graph: bool = False


def seconds(call: Callable[[], Any], rounds: int, device: torch.device) -> float:
    """Median time of a call, on the device's own clock if it has one."""
    for _ in range(WARM_UP if device.type == "cuda" else 1):
        call()
    times = []
    for _ in range(rounds):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        else:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return statistics.median(times)


class Job(NamedTuple):
    """A part of what is compiled first: a mode, forward and size to compare with the reference, or a shape's calls."""

    pictures: list[np.ndarray]
    device: str
    forward: str
    mode: str = ""
    size: Size = (1, 1)
    shape: Shape | None = None

    def __call__(self) -> dict[str, Any]:
        """What :func:`compared` found; nothing for a shape."""
        pictures = [torch.from_numpy(picture) for picture in self.pictures]
        if self.shape is None:
            return compared(pictures, torch.device(self.device), self.mode, self.forward, self.size)
        batch = _batch(self.shape, pictures, torch.device(self.device))
        for task in tasks(batch, graphs=False):
            if task.who.startswith("jpegrad") and task.kind.startswith("soft") == (self.forward == "soft"):
                task.call()
        return {}


NAMES = ("gradient", "soft", "soft gradient", "halves", "soft halves")


def exactness(
    pictures: Sequence[Tensor],
    device: torch.device,
    sizes: Sequence[Size],
    modes: Sequence[str],
    shapes: Sequence[Shape] = (),
) -> dict[str, Any]:
    """Samples that differ from the reference in each mode, and the largest relative error of each gradient.

    ``halves`` is the largest difference, in grey levels, between decoded levels and the picture of a single call. On a
    device the kernels for ``shapes`` are compiled by the way.
    """
    rows = [picture.numpy() for picture in pictures]
    jobs = [
        Job(rows, device.type, forward, mode, size)
        for forward in ("soft", "exact")
        for mode in modes
        for size in sizes
    ]
    if device.type == "cuda":
        jobs = [Job(rows, "cuda", f, shape=shape) for f in ("soft", "exact") for shape in shapes] + jobs
        # A process that has begun to use a device cannot fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(len(jobs), os.cpu_count() or 1), context) as pool:
            parts = list(pool.map(_done, jobs))
    else:
        parts = [_done(job) for job in jobs]
    found: dict[str, Any] = {"samples": 0, "differ": 0, **dict.fromkeys(NAMES, 0.0)}
    for part in parts:
        for name, value in part.items():
            found[name] = max(found[name], value) if name in NAMES else found[name] + value
    return found


def _done(job: Job) -> dict[str, Any]:
    return job()


def compared(
    pictures: Sequence[Tensor], device: torch.device, mode: str, forward: str, size: Size
) -> dict[str, Any]:
    """What :func:`exactness` says of one mode, forward and size."""
    image, quality = Batch.of((1, 3, *size), list(pictures)).unit, 15 + size[0] % 80
    found: dict[str, Any] = {}
    soft = forward == "soft"
    for surrogate in SURROGATES[forward]:
        chosen = resolve(subsampling=mode, forward=forward, surrogate=surrogate)
        ours, theirs = (
            _outcome(backend, picture, chosen, quality)
            for backend, picture in ((triton, image.to(device)), (reference, image.double()))
        )
        errors = [float((a - b).norm() / b.norm()) for a, b in zip(ours[1:], theirs[1:], strict=True)]
        apart = (_by_halves(image.to(device), chosen, quality) - ours[0]).abs()
        off = (ours[0] - theirs[0]).abs() * 255
        said: dict[str, Any] = {"halves": float(apart.max()) * 255, "gradient": max(errors)}
        said = {f"soft {name}": value for name, value in said.items()} if soft else said
        for name, value in said.items():
            found[name] = max(found.get(name, 0.0), value)
        if soft:
            found["soft"] = float(off.max())
        else:
            found["samples"] = found.get("samples", 0) + ours[0].numel()
            found["differ"] = found.get("differ", 0) + int((off > 0.01).sum())
    return found


def _outcome(backend: Any, image: Tensor, chosen: Spec, quality: int) -> list[Tensor]:
    """Decoded image, gradients to image and tables of one linear loss, on the CPU."""
    weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(image)
    entries = resolve_tables(image, quality, None, chosen).requires_grad_()
    image = image.clone().requires_grad_()
    out = backend.jpeg(image, entries, chosen)
    found = [out, *torch.autograd.grad((out * weight).sum(), (image, entries))]
    return [each.detach().double().cpu() for each in found]


def _by_halves(image: Tensor, chosen: Spec, quality: int) -> Tensor:
    """An image encoded and decoded, on the CPU."""
    entries = resolve_tables(image, quality, None, chosen)
    size = (image.shape[-2], image.shape[-1])
    with torch.no_grad():
        levels, _ = triton.encode(image, entries, chosen)
        noise = reference.block_noise(image, chosen)
        return triton.decode(levels, entries, size, image.dtype, chosen, noise).double().cpu()


def tasks(batch: Batch, graphs: bool) -> Iterator[Task]:
    """What races on one shape."""
    image = batch.unit.clone().requires_grad_()

    def both(call: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        return lambda: torch.autograd.grad(call(image), image, batch.weight)[0]

    def entered(who: str, call: Callable[[Tensor], Tensor], prefix: str = "") -> Iterator[Task]:
        yield Task(prefix + "F", who, lambda: call(batch.unit))
        yield Task(prefix + "F+B", who, both(call))

    exact, soft = _coded(), _coded(forward="soft")
    for task in (*entered("jpegrad", exact), *entered("jpegrad", soft, "soft ")):
        yield task
        if graphs:
            yield task._replace(who="jpegrad, CUDA graph", graph=True)
    yield Task("F+B", "jpegrad, identity", both(_coded(surrogate="identity")))
    yield Task("F, uint8", "jpegrad", lambda: exact(batch.bytes))
    half = batch.unit.half()
    yield Task("F, float16", "jpegrad", lambda: exact(half))
    for prefix, forward in (("", "exact"), ("soft ", "soft")):
        yield from _halves(batch.unit, prefix, resolve(forward=forward))
    each = torch.full((len(batch.unit),), float(QUALITY), device=image.device)
    yield from entered("jpegrad, quality per image", _coded(each))
    learned = Color(torch.tensor(JFIF.matrix, device=image.device).requires_grad_())
    for prefix, options in (("", {}), ("soft ", {"forward": "soft"})):
        yield Task(prefix + "F+B", "jpegrad, learned colours", both(_coded(color=learned, **options)))
    for name, call in peers():
        # Its compiler takes half a minute a shape.
        if "compiled" in name and batch.unit.shape != SHAPES[0]:
            continue
        # The paper's soft approach computes what kornia does.
        yield from entered(name, call, "soft " if name == "reich_soft" else "")


def _halves(image: Tensor, prefix: str, chosen: Spec) -> Iterator[Task]:
    entries, size = resolve_tables(image, QUALITY, None, chosen), (image.shape[-2], image.shape[-1])

    @torch.no_grad()
    def encode() -> Any:
        return triton.encode(image, entries, chosen)

    @torch.no_grad()
    def decode() -> Tensor:
        return triton.decode(levels, entries, size, image.dtype, chosen, noise)

    (levels, _), noise = encode(), reference.block_noise(image, chosen)
    yield Task(prefix + "encode", "jpegrad", encode)
    yield Task(prefix + "decode", "jpegrad", decode)


def _coded(quality: float | Tensor = QUALITY, **options: Any) -> Callable[[Tensor], Tensor]:
    def call(image: Tensor) -> Tensor:
        chosen = resolve(**options)
        return triton.jpeg(image, resolve_tables(image, quality, None, chosen, scaled), chosen)

    return call


def _captured(call: Callable[[], Any]) -> Callable[[], None]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def memory(call: Callable[[], Any], pixels: int) -> float:
    """Bytes per pixel that a call takes at its height beyond what was there before."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / pixels


def report(
    pictures: list[Tensor],
    out: Path,
    rounds: int,
    device: str = "cuda",
    shapes: Sequence[Shape] = SHAPES,
    sizes: Sequence[Size] = SIZES,
    modes: Sequence[str] = MODES,
) -> str:
    """The tables; their figures, and those that are no time, in ``out``.

    Raises:
        ValueError: There is no CUDA device, nor Triton's interpreter in its place.
    """
    chip = torch.device(device)
    on_cuda = chip.type == "cuda"
    if on_cuda and not torch.cuda.is_available():
        raise ValueError("--gpu: expected a CUDA device, found none")
    if not on_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError("--gpu: expected a CUDA device, or TRITON_INTERPRET=1 with --quick; found neither")
    name = torch.cuda.get_device_name() if on_cuda else "Triton's interpreter"
    results = Results(out, {"device": name, "quality": QUALITY, "rounds": rounds, "subsampling": "4:2:0"})
    if results.missing(["exactness"]):
        began = time.perf_counter()
        # Shapes of more than one image have the kernels of the others.
        found = exactness(pictures, chip, sizes, modes, shapes[:2])
        results.add("exactness", {**found, "seconds": round(time.perf_counter() - began, 1)})
    tables = [markdown(["against the reference", ""], list(results.cells["exactness"].items()))]
    for shape in shapes:
        key = "×".join(map(str, shape))
        if results.missing([key]):
            results.add(key, _measured(shape, pictures, rounds, chip))
        tables.append(_table(f"{name}, {key}", results.cells[key]))
    return "\n\n".join(tables)


def tuned(
    pictures: list[Tensor],
    out: Path,
    rounds: int,
    device: str = "cuda",
    shapes: Sequence[Shape] = SHAPES,
    **_: Any,
) -> str:
    """Each constant of the launches by itself, on the first shape: the times of all calls, and which is best."""
    chip, shape = torch.device(device), shapes[0]
    batch = _batch(shape, pictures, chip)
    results = Results(out, {"device": device, "rounds": rounds, "shape": list(shape)})
    for name, choices in TUNED.items():
        kept = getattr(launch, name)
        for choice in results.missing(f"{name} {each}" for each in choices):
            try:
                setattr(launch, name, int(choice.split()[1]))
                calls = [task for task in tasks(batch, graphs=False) if task.who == "jpegrad"]
                results.add(choice, {task.kind: seconds(task.call, rounds, chip) for task in calls})
            finally:
                setattr(launch, name, kept)
    kinds = list(next(iter(results.cells.values())))
    best = {kind: min(results.cells, key=lambda choice: results.cells[choice][kind]) for kind in kinds}
    rows = [
        [choice, *(f"{times[kind] * 1e6:.0f}{' best' * (best[kind] == choice)}" for kind in kinds)]
        for choice, times in results.cells.items()
    ]
    return markdown(["µs", *kinds], rows)


def _batch(shape: Shape, pictures: list[Tensor], chip: torch.device) -> Batch:
    """Photographs on the device; what Pillow makes of them stays on the CPU."""
    batch = Batch.of(shape, pictures)
    return Batch(batch.bytes.to(chip), batch.unit.to(chip), [], batch.weight.to(chip), batch.expected)


def _measured(shape: Shape, pictures: list[Tensor], rounds: int, chip: torch.device) -> dict[str, Any]:
    began, batch = time.perf_counter(), _batch(shape, pictures, chip)
    pixels, target = shape[0] * shape[2] * shape[3], torch.empty_like(batch.unit)
    found: dict[str, Any] = {
        "pixels": pixels,
        "copy": seconds(lambda: target.copy_(batch.unit), rounds, chip),
        "differ from Pillow": int(((_coded()(batch.unit).cpu() * 255).round() != batch.expected).sum()),
        "seconds": {},
        "bytes per pixel": {},
        "failed": {},
    }
    for task in tasks(batch, graphs=chip.type == "cuda"):
        row = f"{task.kind}: {task.who}"
        # A peer that runs out of memory or does not compile must not take the other figures with it.
        try:
            call = _captured(task.call) if task.graph else task.call
            found["seconds"][row] = seconds(call, rounds, chip)
            if chip.type == "cuda":
                found["bytes per pixel"][row] = memory(call, pixels)
        except Exception as error:
            found["failed"][row] = f"{type(error).__name__}: {error}"[:200]
    return {**found, "took": round(time.perf_counter() - began, 1)}


def _table(title: str, cell: dict[str, Any]) -> str:
    bandwidth = 24 * cell["pixels"] / cell["copy"]
    rows: list[list[object]] = [
        ["copy", f"{cell['copy'] * 1e6:.0f}", f"{bandwidth / 1e12:.2f} TB/s", "–", "–"]
    ]
    for row, spent in cell["seconds"].items():
        kind = row.partition(":")[0]
        kornia = cell["seconds"].get(f"{kind.removeprefix('soft ')}: kornia")
        share = f"{FLOOR[kind] * cell['pixels'] / bandwidth / spent:.0%}"
        taken = cell["bytes per pixel"].get(row)
        rows.append(
            [
                row,
                f"{spent * 1e6:.0f}",
                share,
                "–" if kornia is None else f"{kornia / spent:.1f}×",
                "–" if taken is None else f"{taken:.1f}",
            ]
        )
    rows += [[row, "failed", why, "–", "–"] for row, why in cell["failed"].items()]
    rows.append(["samples that differ from Pillow", cell["differ from Pillow"], "–", "–", "–"])
    return markdown([title, "µs", "share of the floor", "against kornia", "B/px beyond"], rows)
