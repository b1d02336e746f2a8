"""Pictures between files and tensors."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from jpegrad.files import write_atomically

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")


def load(path: Path) -> Tensor:
    """An 8-bit RGB or gray picture as uint8 ``[C, H, W]``.

    Raises:
        ValueError: the file is no picture, has an alpha channel, or more than 8 bits per sample.
        OSError: the file cannot be read.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
    except UnidentifiedImageError:
        raise ValueError(f"{path}: expected a picture that Pillow can open") from None
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        raise ValueError(f"{path}: expected RGB or gray, got {picture.mode} with transparency, which JPEG lacks")
    if picture.mode in ("P", "1"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    if picture.mode not in ("RGB", "L"):
        raise ValueError(f"{path}: expected 8-bit RGB or gray, got Pillow mode {picture.mode}")
    pixels = torch.from_numpy(np.array(picture))
    return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def to_pillow(image: Tensor) -> Image.Image:
    """A uint8 ``[C, H, W]`` picture."""
    pixels = image.permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def encoded(image: Tensor, suffix: str) -> bytes:
    """A uint8 picture as the bytes of a file of the type that ``suffix`` names."""
    formats = Image.registered_extensions()
    if suffix.lower() not in formats:
        raise ValueError(f"output: expected the suffix of a picture (.jpg, .png, ...), got {suffix!r}")
    buffer = io.BytesIO()
    to_pillow(image).save(buffer, formats[suffix.lower()])
    return buffer.getvalue()


def save(path: Path, image: Tensor) -> None:
    """Write a uint8 picture losslessly under a name of any type but JPEG."""
    write_atomically(path, encoded(image, path.suffix))
