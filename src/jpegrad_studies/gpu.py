"""The speed study on a CUDA device: is it exact, how fast, and what share of the floor that a copy's bandwidth sets.

Everything needs torch, triton, numpy and Pillow alone; peers race where they are installed. Without a device the same
code runs under Triton's interpreter, on small shapes, for its test.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jpegrad.backends import reference, triton
from jpegrad.spec import Spec, resolve, resolve_tables
from jpegrad_studies.common import Results, markdown
from jpegrad_studies.contestants import QUALITY, Batch, peers

SHAPES = ((64, 3, 512, 512), (16, 3, 224, 224), (1, 3, 2048, 2048))
SIZES = ((17, 33), (130, 263), (1, 1), (64, 1024))
MODES = ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1")
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


def _picture(size: tuple[int, int], pictures: Sequence[Tensor]) -> Tensor:
    return Batch.of((1, 3, *size), list(pictures)).unit


def exactness(
    pictures: Sequence[Tensor], device: torch.device, sizes: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Samples that differ from the reference in each mode, and the largest relative error of each gradient.

    ``halves`` is the largest difference, in grey levels, between decoded levels and the picture of a single call.
    """
    names = ("gradient", "soft", "soft gradient", "halves", "soft halves")
    found: dict[str, Any] = {"samples": 0, "differ": 0, **dict.fromkeys(names, 0.0)}
    for subsampling in MODES:
        for number, size in enumerate(sizes):
            image = _picture(size, pictures)
            for forward, surrogate in (("exact", "gaussian"), ("exact", "identity"), ("soft", "gaussian")):
                chosen = resolve(subsampling=subsampling, forward=forward, surrogate=surrogate)
                ours, theirs = (
                    _outcome(backend, picture, chosen, 15 + 25 * number)
                    for backend, picture in ((triton, image.to(device)), (reference, image.double()))
                )
                halves = "halves" if forward == "exact" else "soft halves"
                apart = _by_halves(image.to(device), chosen, 15 + 25 * number) - ours[0]
                found[halves] = max(found[halves], float(apart.abs().max()) * 255)
                errors = [float((a - b).norm() / b.norm()) for a, b in zip(ours[1:], theirs[1:], strict=True)]
                if forward == "exact":
                    found["samples"] += ours[0].numel()
                    found["differ"] += int(((ours[0] - theirs[0]).abs() * 255 > 0.01).sum())
                    found["gradient"] = max(found["gradient"], *errors)
                else:
                    found["soft"] = max(found["soft"], float((ours[0] - theirs[0]).abs().max()) * 255)
                    found["soft gradient"] = max(found["soft gradient"], *errors)
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
    yield from entered("jpegrad, quality per image", _coded(torch.full((len(batch.unit),), float(QUALITY))))
    for name, call in peers():
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
        return triton.jpeg(image, resolve_tables(image, quality, None, chosen), chosen)

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
    shapes: Sequence[tuple[int, int, int, int]] = SHAPES,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> str:
    """The tables; their figures, and those that are no time, in ``out``.

    Raises:
        ValueError: There is no CUDA device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--gpu: expected a CUDA device, found none")
    chip = torch.device(device)
    on_cuda = chip.type == "cuda"
    name = torch.cuda.get_device_name() if on_cuda else "Triton's interpreter"
    results = Results(out, {"device": name, "quality": QUALITY, "rounds": rounds, "subsampling": "4:2:0"})
    if results.missing(["exactness"]):
        results.add("exactness", exactness(pictures, chip, sizes))
    tables = [markdown(["against the reference", ""], list(results.cells["exactness"].items()))]
    for shape in shapes:
        key = "×".join(map(str, shape))
        if results.missing([key]):
            results.add(key, _measured(shape, pictures, rounds, chip))
        tables.append(_table(f"{name}, {key}", results.cells[key]))
    return "\n\n".join(tables)


def _measured(
    shape: tuple[int, int, int, int], pictures: list[Tensor], rounds: int, chip: torch.device
) -> dict[str, Any]:
    batch = Batch.of(shape, pictures)
    batch = Batch(batch.bytes.to(chip), batch.unit.to(chip), [], batch.weight.to(chip), batch.expected)
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
    return found


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
