"""Pictures between files and tensors, and what the commands say of them."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jpegrad.codec import Coefficients
from jpegrad.coefficients import NO_DENSITY
from jpegrad.commands import sources
from jpegrad.commands.terminal import note
from jpegrad.io import read
from jpegrad.jfif import JPEGError
from jpegrad.pictures import Picture, exif_of, icc_of


@contextmanager
def advising() -> Iterator[None]:
    """Errors of .jpg files name the options of the command line."""
    try:
        yield
    except JPEGError as error:
        raise JPEGError(str(error).replace("strict=False", "--lenient")) from None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of a .jpg file name it too."""
    with advising():
        try:
            yield
        except JPEGError as error:
            raise JPEGError(f"{sources.name(path)}: {error}") from None


def read_jpeg(path: Path, lenient: bool = False) -> Coefficients:
    """A .jpg file; errors name it."""
    with naming(path):
        return read(sources.read(path), strict=not lenient)


def to_pillow(image: Tensor) -> Image.Image:
    """A uint8 ``[C, H, W]`` picture."""
    pixels = image.permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def rgb_of_inks(image: Tensor) -> Tensor:
    """RGB of a uint8 CMYK picture ``[4, H, W]``, as Pillow's ``convert`` has it."""
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    inks = Image.frombytes("CMYK", (image.shape[2], image.shape[1]), pixels.tobytes())
    return torch.from_numpy(np.array(inks.convert("RGB"))).permute(2, 0, 1)


def save(path: Path, image: Tensor, source: Picture, suffix: str = ".png") -> None:
    """Write a uint8 picture with the metadata of its source that the format can carry.

    The name decides the format, and on standard output ``suffix``.
    """
    suffix = suffix if path == sources.STANDARD else path.suffix.lower()
    kind = sources.LOSSLESS[suffix]
    options: dict[str, object] = {}
    exif, profile = exif_of(source.metadata), icc_of(source.metadata)
    if kind in ("PNG", "TIFF"):
        options = {"exif": exif, "icc_profile": profile}
        left = sum(marker not in (0xE1, 0xE2) for marker, _ in source.metadata)
        lost = ["other metadata"] if left else []
    else:
        lost = [name for name, data in {"Exif": exif, "the ICC profile": profile}.items() if data]
    x, y, unit = source.density
    if unit and kind != "PPM":
        options["dpi"] = (x, y) if unit == "inch" else (2.54 * x, 2.54 * y)
    elif source.density != NO_DENSITY:
        lost.append("the density")
    if lost:
        note(f"{sources.target_name(path)}: {', '.join(lost)} cannot be kept in {kind}")
    buffer = io.BytesIO()
    to_pillow(image).save(buffer, kind, **{name: value for name, value in options.items() if value})
    sources.write(path, buffer.getvalue())
