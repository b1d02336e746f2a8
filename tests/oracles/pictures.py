"""Pictures to code: uint8 [C, H, W], from a seed, of the kinds that break codecs."""

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from jpegrad.data import photograph_names, photograph_path

Random = np.random.Generator


def photo(random: Random, channels: int, height: int, width: int) -> np.ndarray:
    """A crop of a bundled photograph at a random place (at most 192 × 200)."""
    pixels = _photograph(str(random.choice(photograph_names())), channels)
    y = random.integers(pixels.shape[1] - height + 1)
    x = random.integers(pixels.shape[2] - width + 1)
    return pixels[:, y : y + height, x : x + width].copy()


@cache
def _photograph(name: str, channels: int) -> np.ndarray:
    with Image.open(photograph_path(name)) as image:
        pixels = np.array(image.convert("RGB" if channels == 3 else "L"))
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def noise(random: Random, channels: int, height: int, width: int) -> np.ndarray:
    return random.integers(0, 256, (channels, height, width), dtype=np.uint8)


def saturated(random: Random, channels: int, height: int, width: int) -> np.ndarray:
    """Every sample 0 or 255: the corners of the colour cube."""
    return random.integers(0, 2, (channels, height, width), dtype=np.uint8) * np.uint8(255)


def patches(random: Random, channels: int, height: int, width: int) -> np.ndarray:
    """Saturated colours in patches of 3 × 5 pixels, which straddle blocks."""
    coarse = saturated(random, channels, height // 3 + 1, width // 5 + 1)
    return coarse.repeat(3, 1).repeat(5, 2)[:, :height, :width].copy()


def flat(random: Random, channels: int, height: int, width: int) -> np.ndarray:
    return np.broadcast_to(
        random.integers(0, 256, (channels, 1, 1), dtype=np.uint8), (channels, height, width)
    ).copy()


def ramp(random: Random, channels: int, height: int, width: int) -> np.ndarray:
    """A colour gradient whose slopes differ per channel."""
    slope = random.uniform(-255, 255, (2, channels, 1, 1))
    y, x = np.mgrid[:height, :width] / max(height, width)
    return (128 + slope[0] * y + slope[1] * x).clip(0, 255).astype(np.uint8)


def basis(random: Random, channels: int, height: int, width: int) -> np.ndarray:
    """Maximum-amplitude blocks: the signs of a DCT basis function, 0 or 255, another in every channel."""
    picture = np.empty((channels, height, width), np.uint8)
    y, x = np.mgrid[:height, :width] % 8
    for plane in picture:
        v, u = random.integers(0, 8, 2)
        wave = np.cos((2 * y + 1) * v * np.pi / 16) * np.cos((2 * x + 1) * u * np.pi / 16)
        plane[:] = np.where(wave * random.choice((-1, 1)) > 0, 255, 0)
    return picture


KINDS: dict[str, Callable[[Random, int, int, int], np.ndarray]] = {
    kind.__name__: kind for kind in (photo, noise, saturated, patches, flat, ramp, basis)
}
