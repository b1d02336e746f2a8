"""Who races in the speed study, and what must be right before a time counts."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import jpegrad
from jpegrad.backends.fused.settings import parse, settings_of
from jpegrad.backends.native import abi, kernels
from jpegrad.spec import Spec
from jpegrad_studies.baselines import ALL
from jpegrad_studies.common import installed
from jpegrad_studies.plain import plain_jpeg

QUALITY = 50
GRADIENT_TOLERANCE = 5e-5
# Two soft forwards in float32: of grey levels in 0…1, and of the gradient's norm.
SOFT_TOLERANCE, SOFT_GRADIENT_TOLERANCE = 1e-4, 5e-4


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
        whole = tiled(shape, pictures)
        rows = [np.ascontiguousarray(each.permute(1, 2, 0).numpy()) for each in whole]
        expected = torch.stack([torch.from_numpy(pillow(row)).permute(2, 0, 1) for row in rows])
        return cls(whole, whole / 255, rows, torch.randn(shape), expected)


def tiled(shape: tuple[int, ...], pictures: list[Tensor]) -> Tensor:
    """Photographs side by side, ``[B, 3, H, W]``."""
    count, _, height, width = shape
    found = pictures[0].new_empty(shape)
    for i in range(count):
        picture = pictures[i % len(pictures)]
        tiles = (1, -(-height // picture.shape[1]), -(-width // picture.shape[2]))
        found[i] = picture.tile(tiles)[:, :height, :width]
    return found


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
    settings, tables = settings_of(Spec(), 3, kernels), jpegrad.tables.annex_k(QUALITY, dtype=torch.float64)
    codec = kernels.codec(3, *images.shape[-2:], 2, parse(settings))
    out = torch.empty_like(images)
    described = {"input": abi.describe(images), "output": abi.describe(out)}

    def call() -> Tensor:
        abi.invoke("jpeg", codec, len(images), tables=tables.data_ptr(), table_stride=0, **described)
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


def soft_fault(call: Callable[[Tensor], Tensor], batch: Batch) -> str:
    """Why a backend's soft forward is wrong, or "": compared with the reference on a part of the batch."""
    part = batch.unit[:1, :, :256, :256]
    with torch.no_grad():
        error = float((call(part) - jpeg_with("reference", forward="soft")(part)).abs().max())
    return "" if error < SOFT_TOLERANCE else f"differs from the reference by {255 * error:.1e} grey levels"


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
    tolerance = SOFT_GRADIENT_TOLERANCE if options.get("forward") == "soft" else GRADIENT_TOLERANCE
    return "" if error < tolerance else f"gradient differs from the reference by {error:.1e}"


def forwards(batch: Batch) -> Iterator[Contestant]:
    image, count = batch.unit, min(2, os.cpu_count() or 1)
    target = torch.empty_like(image)
    yield Contestant("copy_ (float32, warm)", lambda: target.copy_(image))
    for backend in ("native", "plain", "reference"):
        if backend != "reference" or _is_small(batch):
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
    soft = jpeg_with("native", forward="soft")
    yield Contestant("jpegrad native, soft", lambda: soft(image), 1, soft_fault(soft, batch))
    slower = jpeg_with("plain", forward="soft")
    yield Contestant("jpegrad plain, soft", lambda: slower(image), 1, soft_fault(slower, batch))
    for name, call in peers():
        if "compiled" not in name or _is_medium(batch):
            yield Contestant(name, lambda call=call: call(image))


def peers() -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """kornia, the paper's own approaches and plain PyTorch, on images in 0…1."""
    for key in ("kornia", "reich_soft", "reich_ste"):
        call = ALL[key].call
        if call is not None and (key != "kornia" or installed("kornia")):
            yield ALL[key].name, lambda image, call=call: call(image * 255, _qualities(image))
    yield "plain PyTorch, eager", lambda image: plain_jpeg(image, QUALITY)
    yield "plain PyTorch, compiled", torch.compile(lambda image: plain_jpeg(image, QUALITY), dynamic=False)


def _qualities(image: Tensor) -> Tensor:
    return torch.full((len(image),), float(QUALITY), device=image.device)


def _is_small(batch: Batch) -> bool:
    return batch.unit[0, 0].numel() <= 2**18


def _is_medium(batch: Batch) -> bool:
    """Compilers and float64 code take seconds elsewhere, and say nothing new."""
    return 2**16 <= batch.unit[0, 0].numel() <= 2**18


def backwards(batch: Batch) -> Iterator[Contestant]:
    for surrogate in ("gaussian", "identity", "reich2024_ste"):
        call = jpeg_with("native", surrogate=surrogate)
        fault = value_fault(call, batch) or gradient_fault(call, batch, surrogate=surrogate)
        yield Contestant(f"jpegrad native, {surrogate}", step(call, batch), 1, fault)
    soft = jpeg_with("native", forward="soft")
    fault = soft_fault(soft, batch) or gradient_fault(soft, batch, forward="soft")
    yield Contestant("jpegrad native, soft", step(soft, batch), 1, fault)
    call = jpeg_with("native")
    if (os.cpu_count() or 1) > 1:
        yield Contestant(
            "jpegrad native, gaussian, 2 threads", step(call, batch), 2, gradient_fault(call, batch)
        )
    for name, options in {"gaussian": {}, "soft": {"forward": "soft"}}.items():
        plain = jpeg_with("plain", **options)
        fault = gradient_fault(plain, batch, **options)
        yield Contestant(f"jpegrad plain, {name}", step(plain, batch), 1, fault)
    if _is_small(batch):
        yield Contestant("jpegrad reference, gaussian", step(jpeg_with("reference"), batch))
        yield Contestant("jpegrad reference, soft", step(jpeg_with("reference", forward="soft"), batch))
    for name, call in peers():
        if (_is_small(batch) and ("compiled" not in name or _is_medium(batch))) or name == "kornia":
            yield Contestant(name, step(call, batch))
