"""The speed study on a CUDA device: CUDA events, and shares of the floor that the bandwidth of a copy sets."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jpegrad_studies.common import Results, markdown
from jpegrad_studies.contestants import QUALITY, Batch, gradient_fault, jpeg_with, peers, step, value_fault

SHAPE = (64, 3, 512, 512)
PIXELS = SHAPE[0] * SHAPE[2] * SHAPE[3]
# Bytes per pixel that a call cannot avoid: float32 pixels in and out, the 8-bit planes between two kernels, and for the
# backward pass gradients in and out and a residual of one byte for each coefficient.
FLOOR = {"F": 27.0, "F+B": 54.8, "F, uint8": 9.0}
WARM_UP = 5


def seconds(call: Callable[[], Any], rounds: int) -> float:
    """Median time on the device."""
    for _ in range(WARM_UP):
        call()
    torch.cuda.synchronize()
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times)


def contestants(batch: Batch) -> list[tuple[str, str, Callable[[], Any], str]]:
    """Kind, name, call, and why it gets no number, or ""."""
    triton = jpeg_with("triton")
    fault = value_fault(triton, batch)
    found: list[tuple[str, str, Callable[[], Any], str]] = [
        ("F", "jpegrad triton", lambda: triton(batch.unit), fault),
        ("F, uint8", "jpegrad triton", lambda: triton(batch.bytes), fault),
    ]
    for surrogate in ("gaussian", "identity", "reich2024_ste"):
        call = jpeg_with("triton", surrogate=surrogate)
        wrong = fault or gradient_fault(call, batch, surrogate=surrogate)
        found.append(("F+B", f"jpegrad triton, {surrogate}", step(call, batch), wrong))
    for name, call in peers():
        found.append(("F", name, lambda call=call: call(batch.unit), ""))
        found.append(("F+B", name, step(call, batch), ""))
        if name == "kornia":
            compiled: Callable[[Tensor], Tensor] = torch.compile(call, dynamic=False)
            found.append(("F", "kornia, compiled", lambda compiled=compiled: compiled(batch.unit), ""))
            found.append(("F+B", "kornia, compiled", step(compiled, batch), ""))
    return found


def report(pictures: list[Tensor], out: Path, rounds: int) -> str:
    """The table, and its figures in ``out``.

    Raises:
        ValueError: There is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise ValueError("--gpu: expected a CUDA device, found none")
    batch = Batch.of(SHAPE, pictures)
    batch = Batch(batch.bytes.cuda(), batch.unit.cuda(), [], batch.weight.cuda(), batch.expected.cuda())
    target = torch.empty_like(batch.unit)
    copy = seconds(lambda: target.copy_(batch.unit), rounds)
    bandwidth = 24 * PIXELS / copy
    name = torch.cuda.get_device_name()
    results = Results(out, {"device": name, "shape": SHAPE, "quality": QUALITY, "rounds": rounds})
    rows: list[list[object]] = [["copy_", "F", f"{copy * 1e6:.0f}", f"{bandwidth / 1e12:.2f} TB/s", "–"]]
    entered = contestants(batch)
    times = {(kind, who): seconds(call, rounds) for kind, who, call, wrong in entered if not wrong}
    for kind, who, _, wrong in entered:
        if wrong:
            rows.append([who, kind, "wrong", wrong, "–"])
            continue
        spent, kornia = times[kind, who], times.get((kind, "kornia"))
        share = f"{FLOOR[kind] * PIXELS / bandwidth / spent:.0%}"
        rows.append(
            [who, kind, f"{spent * 1e6:.0f}", share, "–" if kornia is None else f"{kornia / spent:.1f}×"]
        )
        results.add(f"{who} {kind}", {"seconds": spent, "bandwidth": bandwidth})
    header = [f"{name}, {'×'.join(map(str, SHAPE))}", "", "µs", "share of the floor", "against kornia"]
    return markdown(header, rows)
