"""Smaller files by gradient descent on squared error + λ · bits, for one photograph: its pixels, then its tables.

    python examples/rate_distortion.py [PHOTOGRAPH] [--quality 60] [--steps 40]

Every size printed is that of a real file. λ is the Lagrange multiplier of the quality scale itself at this quality,
so a lower cost means: better than turning the quality down.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import jpegrad
from jpegrad.data import photograph_path

Encode = Callable[[], jpegrad.Coefficients]


def squared_error(coefficients: jpegrad.Coefficients, image: Tensor) -> Tensor:
    return (jpegrad.decode(coefficients) - image).square().sum() * 255**2


def size(coefficients: jpegrad.Coefficients) -> Tensor:
    return jpegrad.bits(coefficients, huffman="optimized")


@torch.no_grad()
def trade_off(image: Tensor, quality: float) -> float:
    """Squared error per bit along the quality scale."""
    low, high = (jpegrad.encode(image, quality + change) for change in (-5, 5))
    return ((squared_error(low, image) - squared_error(high, image)) / (size(high) - size(low))).item()


def descend(
    encode: Encode, parameter: Tensor, image: Tensor, multiplier: float, learning_rate: float, steps: int
) -> None:
    """Adam on the parameter, which ends at the best of its real files."""
    optimizer = torch.optim.Adam([parameter], lr=learning_rate, betas=(0.8, 0.95))
    best, lowest = parameter.detach().clone(), math.inf
    for _ in range(steps):
        coefficients = encode()
        cost = squared_error(coefficients, image) + multiplier * size(coefficients)
        if cost.item() < lowest:
            best, lowest = parameter.detach().clone(), cost.item()
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    with torch.no_grad():
        parameter.copy_(best)


@torch.no_grad()
def report(name: str, coefficients: jpegrad.Coefficients, image: Tensor, multiplier: float) -> None:
    data = jpegrad.to_bytes(coefficients, huffman="optimized")
    error = squared_error(coefficients, image).item()
    psnr = 10 * math.log10(255**2 * image.numel() / error)
    cost = error / multiplier / 8 + len(data)
    print(f"{name:24}{len(data):>9,} bytes   {psnr:6.2f} dB   cost {cost:>9,.0f} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photograph", nargs="?", type=Path, default=photograph_path("hibiscus"))
    parser.add_argument("--quality", type=float, default=60)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()

    with Image.open(options.photograph) as picture:
        pixels = np.array(picture.convert("RGB"))
    image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    quality = options.quality
    multiplier = trade_off(image, quality)
    report("as it is", jpegrad.encode(image, quality), image, multiplier)

    changed = image.clone().requires_grad_()
    descend(
        lambda: jpegrad.encode(changed.clamp(0, 1), quality),
        changed,
        image,
        multiplier,
        0.4 / 255,
        options.steps,
    )
    report("pixels", jpegrad.encode(changed.clamp(0, 1), quality), image, multiplier)

    start = jpegrad.tables.annex_k(quality)
    # In the logarithm the size is nearly straight, and entries stay positive.
    logarithm = start.log().requires_grad_()
    descend(
        lambda: jpegrad.encode(image, tables=logarithm.exp()),
        logarithm,
        image,
        multiplier,
        0.06,
        options.steps,
    )
    report("tables", jpegrad.encode(image, tables=logarithm.exp()), image, multiplier)


if __name__ == "__main__":
    main()
