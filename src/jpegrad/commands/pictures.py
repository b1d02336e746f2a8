"""Pictures between files and tensors."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from jpegrad.codec import Coefficients
from jpegrad.files import write_atomically
from jpegrad.io import read
from jpegrad.jfif import JPEGError

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
LOSSLESS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM"}
"""Pillow's name of the format of each suffix."""


def load(path: Path) -> Tensor:
    """An 8-bit RGB or gray picture as uint8 ``[C, H, W]``, as stored: Exif's orientation is not applied.

    Raises:
        ValueError: the file is no picture, has an alpha channel, or more than 8 bits per sample.
        OSError: the file cannot be read.
    """
    try:
        with Image.open(path) as opened:
            stored = [tile[3] for tile in opened.tile]
            opened.load()
    except UnidentifiedImageError:
        raise ValueError(f"{path}: expected a picture that Pillow can open") from None
    except (
        *(OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error),
        Image.DecompressionBombError,
    ) as error:
        # Of what Pillow's readers raise for pictures too large or damaged, only the system's errors name the file.
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"{path}: {error}") from None
    picture: Image.Image = opened
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        raise ValueError(
            f"{path}: expected RGB or gray, got {picture.mode} with transparency, which JPEG lacks"
        )
    if any("16" in str(raw) for raw in stored):
        # Pillow keeps the upper 8 bits without a word.
        raise ValueError(f"{path}: expected 8-bit RGB or gray, got 16 bits per sample")
    if picture.mode in ("P", "1"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    if picture.mode not in ("RGB", "L"):
        raise ValueError(f"{path}: expected 8-bit RGB or gray, got Pillow mode {picture.mode}")
    pixels = torch.from_numpy(np.array(picture))
    return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def read_jpeg(path: Path) -> Coefficients:
    """A .jpg file; errors name it."""
    try:
        return read(path)
    except JPEGError as error:
        raise JPEGError(f"{path}: {error}") from None


def to_pillow(image: Tensor) -> Image.Image:
    """A uint8 ``[C, H, W]`` picture."""
    pixels = image.permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def check_lossless(path: Path) -> None:
    """Raise unless ``path`` has a suffix of :data:`LOSSLESS`."""
    if path.suffix.lower() not in LOSSLESS:
        raise ValueError(
            f"output: expected a name that ends in {', '.join(JPEG_SUFFIXES)} (coded) or {', '.join(LOSSLESS)} "
            f"(decoded), got {path}"
        )


def save(path: Path, image: Tensor) -> None:
    """Write a uint8 picture under a name that :func:`check_lossless` accepts."""
    check_lossless(path)
    buffer = io.BytesIO()
    to_pillow(image).save(buffer, LOSSLESS[path.suffix.lower()])
    write_atomically(path, buffer.getvalue())
