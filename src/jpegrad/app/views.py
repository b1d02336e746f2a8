"""What one looks at: pictures of a coded picture, of its difference to the real file, of gradients, of its bits."""

import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jpegrad.app import classifier
from jpegrad.app.settings import Settings
from jpegrad.codec import Coefficients, encode, jpeg
from jpegrad.entropy.huffman import DEFAULT, code_book
from jpegrad.entropy.symbols import (
    EOB,
    ZRL,
    huffman_slots,
    mcu_grid,
    scan_order,
    scan_symbols,
    table_count,
    whole,
)
from jpegrad.io import to_bytes
from jpegrad.page import gradient
from jpegrad.rate import bits
from jpegrad.sampling import ratios
from jpegrad.tune.metrics import psnr

GAIN = 16
"""How much brighter differences are shown."""
# From dark to bright, evenly in lightness: blue, violet, red, orange, yellow.
HEAT = ((0, 0, 40), (87, 16, 110), (187, 55, 84), (249, 142, 9), (252, 255, 164))


class View(NamedTuple):
    """A uint8 picture ``[3, H, W]``, and what is to be said of it: names and words."""

    image: Tensor
    facts: tuple[tuple[str, str], ...] = ()


def file_of(image: Tensor, settings: Settings) -> tuple[Coefficients, bytes]:
    """The levels and the bytes of the .jpg of a uint8 picture ``[C, H, W]``; the same whatever the forward is."""
    options = {**settings.options(), "forward": "exact"}
    with torch.no_grad():
        coefficients = encode(image, **options)
    return coefficients, to_bytes(coefficients)


def look(image: Tensor, settings: Settings, view: str) -> View:
    """One of :data:`VIEWS` of a uint8 picture ``[C, H, W]``, C = 3 or 1.

    Raises:
        ValueError: there is no such view.
    """
    if view not in VIEWS:
        raise ValueError(f"view: expected one of {', '.join(VIEWS)}; got {view!r}")
    found = VIEWS[view](image, settings)
    return found._replace(image=found.image.expand(3, -1, -1))


def original(image: Tensor, settings: Settings) -> View:
    """The picture itself."""
    return View(image)


def coded(image: Tensor, settings: Settings) -> View:
    """What the codec returns, and the file's figures."""
    _, data = file_of(image, settings)
    shown = _coded(image, settings)
    decibels = psnr(shown.double() / 255, image.double() / 255)
    said = "infinite" if math.isinf(decibels) else f"{decibels:.2f} dB"
    count = f"{len(data):,} bytes, {8 * len(data) / image[0].numel():.3f} bits per pixel"
    return View(shown.round().byte(), (("file", count), ("PSNR", said)))


def difference(image: Tensor, settings: Settings) -> View:
    """What the codec returns against what Pillow decodes of the file."""
    _, data = file_of(image, settings)
    with Image.open(io.BytesIO(data)) as opened:
        real = torch.from_numpy(np.array(opened)).reshape(*image.shape[1:], -1).permute(2, 0, 1)
    apart = (_coded(image, settings) - real).abs()
    differ = int(apart.count_nonzero())
    words = f"{differ:,} of {apart.numel():,} samples differ from the real file"
    if differ:
        words += f", by {apart.mean().item():.3f} grey levels on average and {apart.max().item():.1f} at most"
    return View((GAIN * apart).round().clamp(max=255).byte(), (("difference", f"{words}; shown × {GAIN}"),))


def error_gradient(image: Tensor, settings: Settings) -> View:
    """d(mean squared error to the original in grey levels²)/d(pixel)."""

    def loss(x: Tensor) -> Tensor:
        return (jpeg(x, **settings.options()) - x.detach()).square().mean() * 255**2

    return _slope(image, loss, "squared error", "grey levels²")


def size_gradient(image: Tensor, settings: Settings) -> View:
    """d(bits of the file)/d(pixel), by the rate model that is the default."""
    options = {**settings.options(), "forward": "exact"}
    return _slope(image, lambda x: bits(encode(x, **options)), "size", "bits")


def classifier_gradient(image: Tensor, settings: Settings) -> View:
    """d(loss of a classifier that sees the coded picture)/d(pixel); its class is that of the original."""
    network = classifier.network()
    with torch.no_grad():
        before = network(image[None].expand(-1, 3, -1, -1).float() / 255)[0]
        after = network(_coded(image, settings)[None].expand(-1, 3, -1, -1) / 255)[0]
    label = before.argmax()

    def loss(x: Tensor) -> Tensor:
        seen = jpeg(x, **settings.options())[None].expand(-1, 3, -1, -1)
        return torch.nn.functional.cross_entropy(network(seen), label[None])

    shares = ", ".join(
        f"{x.softmax(0)[label].item():.1%} {name}" for x, name in ((before, "before"), (after, "coded"))
    )
    said = f"class {int(label)} of ImageNet, {shares}; coded it is class {int(after.argmax())}"
    found = _slope(image, loss, "loss", "nats")
    return found._replace(facts=(("classifier", said), *found.facts))


def heat(image: Tensor, settings: Settings) -> View:
    """The bytes of each luma block, with those of the chroma over it."""
    coefficients, data = file_of(image, settings)
    planes = block_bits(coefficients)
    height, width = coefficients.levels[0].shape[:2]
    total = torch.zeros(height, width, dtype=torch.float64)
    for plane, (h, v) in zip(planes, ratios(coefficients.channels, coefficients.subsampling), strict=True):
        spread = plane.double().repeat_interleave(v, 0).repeat_interleave(h, 1)[:height, :width]
        total += spread / (h * v)
    per_block = total / 8
    scale = per_block / per_block.max().clamp(min=1e-9)
    place = scale.clamp(0, 1) * (len(HEAT) - 1)
    low = place.floor().long().clamp(max=len(HEAT) - 2)
    colors = torch.tensor(HEAT, dtype=torch.float64)
    shown = torch.lerp(colors[low], colors[low + 1], (place - low).unsqueeze(-1))
    large = shown.round().byte().permute(2, 0, 1).repeat_interleave(8, 1).repeat_interleave(8, 2)
    names = ("Y", "Cb", "Cr")
    parts = ", ".join(
        f"{name} {int(plane.sum()) / 8:,.0f}" for name, plane in zip(names, planes, strict=False)
    )
    facts = (
        (
            "bytes per block",
            f"{per_block.min():.1f} (dark) to {per_block.max():.1f} (bright), {per_block.mean():.1f} on average",
        ),
        ("bytes", f"{parts}; the file has {len(data):,}"),
    )
    return View(large[:, : image.shape[1], : image.shape[2]], facts)


def block_bits(coefficients: Coefficients) -> list[Tensor]:
    """Bits of every block of one image in the baseline file with the Huffman tables of Annex K.

    Returns:
        ``[blocks_y, blocks_x]`` of each component, int64. Blocks that fill up MCUs count for the last real one before.
    """
    c, slots = coefficients, huffman_slots(coefficients.space)
    symbols = scan_symbols([whole(level)[None] for level in c.levels], c.size, c.subsampling, slots)
    length = code_book(DEFAULT[: table_count(c.channels, slots)])[..., 1].long()
    spent = length[symbols.table, symbols.symbol] + symbols.size
    spent += symbols.zrl * length[symbols.table, ZRL] + symbols.eob * length[symbols.table | 1, EOB]
    block = (symbols.table % 2 == 0).cumsum(0) - 1
    of_block = torch.zeros(int(block[-1]) + 1, dtype=torch.int64).index_add_(0, block, spent.long())
    rows, columns, factors = mcu_grid(c.channels, c.size, c.subsampling)
    in_mcu = of_block.view(rows * columns, -1).split([h * v for h, v in factors], 1)
    found = []
    for level, bits_of, h_v in zip(c.levels, in_mcu, factors, strict=True):
        shape = level.shape[:2]
        index, _ = scan_order((shape[0], shape[1]), (rows, columns), h_v)
        plane = torch.zeros(shape.numel(), dtype=torch.int64)
        found.append(plane.index_add_(0, index.flatten(), bits_of.flatten()).view(shape))
    return found


def _coded(image: Tensor, settings: Settings) -> Tensor:
    """What the codec returns, in grey levels, float32."""
    with torch.no_grad():
        if settings.forward == "exact":
            return jpeg(image, **settings.options()).float()
        return 255 * jpeg(image.float() / 255, **settings.options())


def _slope(image: Tensor, loss: Callable[[Tensor], Tensor], name: str, unit: str) -> View:
    x = (image.float() / 255).requires_grad_()
    value = loss(x)
    (found,) = torch.autograd.grad(value, x)
    found = found / 255
    largest = float(np.quantile(found.abs().numpy(), 0.99))
    amount = f"{value.item():,.0f}" if value.abs() >= 1000 else f"{value.item():.4g}"
    words = f"{amount} {unit}; its slope reaches ±{largest:.3g} per grey level of a sample"
    return View(gradient(found), ((name, f"{words} (gray is 0)"),))


VIEWS: dict[str, Callable[[Tensor, Settings], View]] = {
    "original": original,
    "coded": coded,
    "difference": difference,
    "error gradient": error_gradient,
    "size gradient": size_gradient,
    "classifier gradient": classifier_gradient,
    "bytes per block": heat,
}
"""Every view by its name."""
