"""Every public call on a device that has no float64 and no kernels, in a process of its own: see ``test_devices.py``.

Each case is done twice, with tensors of the CPU and with those of the device, and both must agree: in their numbers, in
their gradients, and in where the results lie.
"""

import copy
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import jpegrad
import second_device
from jpegrad import rate, tables, tune
from jpegrad.home import moved
from jpegrad.testing import assertions, sampled

# Of an installed device only.
DEVICE = torch.device(second_device.NAME, 0)
Place = Callable[[Any], Any]
"""Tensors, or all of a record, to the device of the case."""

torch.manual_seed(0)
COARSE = torch.rand(2, 3, 6, 6)
IMAGES = torch.nn.functional.interpolate(COARSE, (26, 37), mode="bilinear") + 0.1 * torch.rand(2, 3, 26, 37)
QUALITY = torch.tensor([30.5, 80.0])


def gradients(call: Callable[..., Tensor], place: Place, *tensors: Tensor) -> list[Tensor]:
    """The value of a call and the gradients of its squares."""
    leaves = [place(tensor).requires_grad_() for tensor in tensors]
    out = call(*leaves)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), leaves)]


def coded(place: Place, **options: Any) -> Any:
    return jpegrad.encode(place(IMAGES), 75, **options)


def random_layer(place: Place, image: Tensor, **options: Any) -> Tensor:
    layer = jpegrad.nn.RandomJPEG(generator=torch.Generator().manual_seed(3), **options)
    return layer(place(image))


def written(place: Place) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jpg"
        jpegrad.write(path, place(coded(copy.copy)[0]))
        return path.read_bytes()


def record(place: Place) -> Any:
    """From a file to the device, changed there."""
    found = jpegrad.read(jpegrad.to_bytes(coded(copy.copy), 0)).to(place(torch.zeros(1)).device)
    turned = jpegrad.lossless.rotate(found, 90, trim=True)
    return [turned, jpegrad.decode(turned), jpegrad.encode(place(IMAGES[0]), like=found)]


def layer(place: Place) -> list[Tensor]:
    held = jpegrad.nn.JPEG(quality=QUALITY).to(place(torch.zeros(1)).device)
    return gradients(held, place, IMAGES)


def real_gradient(place: Place) -> Any:
    return sampled.real_gradient(
        place(IMAGES[0, :1]), 50, 2.0, lambda x: x.square().mean((1, 2, 3)), pairs=4, parts=2
    )


CASES: dict[str, Callable[[Place], Any]] = {
    "jpeg": lambda p: gradients(lambda x: jpegrad.jpeg(x, 50), p, IMAGES),
    "quality": lambda p: gradients(lambda x, q: jpegrad.jpeg(x, q), p, IMAGES, QUALITY),
    "quality of the CPU": lambda p: gradients(lambda x: jpegrad.jpeg(x, QUALITY), p, IMAGES),
    "tables": lambda p: gradients(lambda x, t: jpegrad.jpeg(x, tables=t), p, IMAGES, tables.annex_k(60)),
    "colour": lambda p: gradients(
        lambda x, m: jpegrad.jpeg(x, 70, color=jpegrad.Color(m)),
        p,
        IMAGES,
        torch.tensor(jpegrad.spec.JFIF.matrix),
    ),
    "soft": lambda p: gradients(lambda x, q: jpegrad.jpeg(x, q, forward="soft"), p, IMAGES, QUALITY),
    "paper": lambda p: gradients(lambda x, q: jpegrad.jpeg(x, q, surrogate="reich2024"), p, IMAGES, QUALITY),
    "reference": lambda p: gradients(lambda x: jpegrad.jpeg(x, 50, backend="reference"), p, IMAGES),
    "plain": lambda p: gradients(lambda x: jpegrad.jpeg(x, 50, backend="plain"), p, IMAGES),
    "bytes": lambda p: jpegrad.jpeg(p((255 * IMAGES).clamp(0, 255).byte()), 50),
    "half": lambda p: jpegrad.jpeg(p(IMAGES.half()), 50, value_range=(0, 1)),
    "range per channel": lambda p: gradients(
        lambda x: jpegrad.jpeg(x, 50, value_range=((-0.1, 0.0, 0.1), (1.2, 1.1, 1.3))), p, IMAGES
    ),
    "truncation": lambda p: jpegrad.jpeg(p(IMAGES), 50, rounding="truncate"),
    "no number": lambda p: jpegrad.jpeg(p(IMAGES.where(IMAGES < 0.9, torch.nan)), QUALITY),
    "far outside": lambda p: jpegrad.jpeg(p(IMAGES), 50, value_range=(0, 255)),
    "planes": lambda p: jpegrad.jpeg(p(IMAGES[:, :2]), QUALITY, channels="planes"),
    "alpha": lambda p: jpegrad.jpeg(p(torch.cat([IMAGES, IMAGES[:, :1]], 1)), 50, channels="alpha"),
    "CMYK": lambda p: jpegrad.jpeg(p(torch.cat([IMAGES, IMAGES[:, :1]], 1)), 50, channels="CMYK"),
    "decoder": lambda p: jpegrad.jpeg(p(IMAGES), 50, decoder=jpegrad.Decoder(scale=2)),
    "channels last": lambda p: jpegrad.jpeg(p(IMAGES.to(memory_format=torch.channels_last)), 50),
    "encode": coded,
    "decode": lambda p: jpegrad.decode(p(coded(copy.copy))),
    "decode to levels": lambda p: gradients(
        lambda x: jpegrad.decode(
            dataclasses.replace(p(coded(copy.copy)), levels=(x, *p(coded(copy.copy)).levels[1:]))
        ),
        p,
        coded(copy.copy).levels[0],
    ),
    "bits": lambda p: gradients(lambda x, q: jpegrad.bits(jpegrad.encode(x, q)), p, IMAGES, QUALITY),
    "bits of a progressive file": lambda p: jpegrad.bits(p(coded(copy.copy)), progressive=True),
    "optimized bits": lambda p: gradients(
        lambda x: jpegrad.bits(jpegrad.encode(x, 50), huffman="optimized"), p, IMAGES
    ),
    "every rate": lambda p: [
        gradients(lambda x, name=name: jpegrad.bits(jpegrad.encode(x, 50), rate=name), p, IMAGES)
        for name in rate.ALL
    ],
    "breakdown": lambda p: rate.breakdown(p(coded(copy.copy))),
    "marginal costs": lambda p: rate.marginal_costs(p(coded(copy.copy))),
    "to_bytes": lambda p: jpegrad.to_bytes(p(coded(copy.copy)), 1),
    "to_bytes_batch": lambda p: jpegrad.to_bytes_batch(p(coded(copy.copy))),
    "write": written,
    "a file's record": record,
    "scale": lambda p: gradients(tables.scale, p, tables.annex_k(50), QUALITY),
    "annex_k": lambda p: [gradients(tables.annex_k, p, QUALITY), tables.annex_k(p(QUALITY.long()))],
    "annex_k there": lambda p: tables.annex_k(50, device=p(QUALITY).device),
    "legal": lambda p: gradients(tables.legal, p, tables.annex_k(50) * 3.3),
    "estimate_quality": lambda p: tables.estimate_quality(p(tables.annex_k(63))),
    "JPEG": layer,
    "RandomJPEG": lambda p: random_layer(p, IMAGES, quality=(30, 90), subsampling=("4:2:0", "4:4:4")),
    "RandomJPEG of real numbers": lambda p: random_layer(p, IMAGES, quality=(30.0, 90.0), p=0.7),
    "trellis": lambda p: tune.trellis(jpegrad.encode(p(IMAGES[0]), 50), 20.0),
    "compress": lambda p: tune.compress(p(IMAGES[0].clamp(0, 1)), target=tune.LikeQuality(50), steps=2),
    "learn_image_tables": lambda p: tune.learn_image_tables(
        p(IMAGES[0].clamp(0, 1)), target=tune.Bytes(700), steps=2
    ),
    "report": lambda p: tune.report(jpegrad.jpeg(p(IMAGES[0].clamp(0, 1)), 50), p(IMAGES[0].clamp(0, 1))),
    "sampled": real_gradient,
    "sample_error": lambda p: assertions.sample_error(p(IMAGES), p(IMAGES + 0.1)),
    "gradient_error": lambda p: assertions.gradient_error(p(IMAGES), p(IMAGES + 0.1)),
}


NUMBERS = ("estimate_quality", "sampled", "sample_error", "gradient_error", "report")
"""Cases whose results are no tensors of the caller's device."""


def to_device(x: Any) -> Any:
    return moved(x, lambda tensor: tensor.detach().to(DEVICE))


def same(found: Any, expected: Any, where: str) -> None:
    """Equal numbers, and tensors on the device unless they are the caller's own of the CPU."""
    if isinstance(found, Tensor):
        assert found.dtype is expected.dtype or expected.dtype is torch.float64, where
        found, expected = found.cpu().double(), expected.double()
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9, equal_nan=True, msg=where)
    elif isinstance(found, dict):
        for key in expected:
            same(found[key], expected[key], f"{where}: {key}")
    elif isinstance(found, (list, tuple)):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            same(a, b, f"{where}: {i}")
    elif dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            same(getattr(found, field.name), getattr(expected, field.name), f"{where}: {field.name}")
    else:
        assert found == expected, f"{where}: {found} {expected}"


def lies_there(found: Any) -> bool:
    places: list[torch.device] = []
    moved(found, lambda tensor: places.append(tensor.device) or tensor)
    return all(place == DEVICE for place in places)


def main() -> None:
    for name, case in CASES.items():
        expected, found = case(lambda x: moved(x, torch.clone)), case(to_device)
        same(found, expected, name)
        if name not in NUMBERS:
            assert lies_there(found), f"{name}: not on {DEVICE}"
