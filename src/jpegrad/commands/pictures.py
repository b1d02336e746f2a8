"""Pictures between files and tensors, and what the commands say of them."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from torch import Tensor

from jpegrad.codec import Coefficients
from jpegrad.coefficients import NO_DENSITY
from jpegrad.commands.terminal import WrongOption, note
from jpegrad.files import begins_with, check_output, write_atomically
from jpegrad.io import SUFFIXES, read
from jpegrad.jfif import JPEGError
from jpegrad.pictures import Picture, exif_of, icc_of

LOSSLESS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM"}
"""Pillow's name of the format of each suffix."""
STARTS = {"PNG": (b"\x89PNG",), "BMP": (b"BM",), "TIFF": (b"II", b"MM"), "PPM": (b"P",)}
IS_JPEG = begins_with(b"\xff\xd8\xff")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of a .jpg file name it."""
    try:
        yield
    except JPEGError as error:
        message = str(error).replace("strict=False", "--lenient")
        raise JPEGError(f"{path}: {message}") from None


def read_jpeg(path: Path, lenient: bool = False) -> Coefficients:
    """A .jpg file; errors name it."""
    with naming(path):
        return read(path, strict=not lenient)


def to_pillow(image: Tensor) -> Image.Image:
    """A uint8 ``[C, H, W]`` picture."""
    pixels = image.permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def check_jpeg(path: Path, inputs: list[Path | None], force: bool) -> None:
    """Raise unless a .jpg may be written there."""
    if path.suffix.lower() not in SUFFIXES:
        raise WrongOption(f"--output: expected a name that ends in {', '.join(SUFFIXES)}, got {path}")
    check_output("--output", path, IS_JPEG, inputs=inputs, force=force)


def check_picture(path: Path, inputs: list[Path | None], force: bool) -> None:
    """Raise unless a .jpg or a picture without loss may be written there."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        check_jpeg(path, inputs, force)
    elif suffix in LOSSLESS:
        check_decoded(path, inputs, force)
    else:
        raise WrongOption(
            f"--output: expected a name that ends in {', '.join(SUFFIXES)} (coded) or {', '.join(LOSSLESS)} "
            f"(decoded), got {path}"
        )


def check_decoded(path: Path, inputs: list[Path | None], force: bool) -> None:
    """Raise unless a picture without loss may be written there."""
    suffix = path.suffix.lower()
    if suffix not in LOSSLESS:
        raise WrongOption(f"--output: expected a name that ends in {', '.join(LOSSLESS)}, got {path}")
    check_output("--output", path, begins_with(*STARTS[LOSSLESS[suffix]]), inputs=inputs, force=force)


def turned(image: Tensor, orientation: int | None) -> Tensor:
    """A picture ``[C, H, W]`` as Exif's orientation says that it is to be seen."""
    image = image.mT if orientation in (5, 6, 7, 8) else image
    across = (-1,) if orientation in (2, 3, 6, 7) else ()
    down = (-2,) if orientation in (3, 4, 7, 8) else ()
    return image.flip(across + down)


def save(path: Path, image: Tensor, source: Picture) -> None:
    """Write a uint8 picture with the metadata of its source that the format can carry."""
    kind = LOSSLESS[path.suffix.lower()]
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
        note(f"{path}: {', '.join(lost)} cannot be kept in {kind}")
    buffer = io.BytesIO()
    to_pillow(image).save(buffer, kind, **{name: value for name, value in options.items() if value})
    write_atomically(path, buffer.getvalue())
