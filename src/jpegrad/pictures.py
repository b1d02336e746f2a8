"""Pictures of any kind that Pillow opens: their pixels, and what a .jpg file carries along (Exif, ICC profile, XMP, …).

Sources: JFIF 1.02; Exif 2.32 4.7; ICC.1:2022 Annex B.4; XMP Specification Part 3, 1.1.3.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from jpegrad.codec import decode
from jpegrad.coefficients import NO_DENSITY, Density, Segment
from jpegrad.io import read
from jpegrad.jfif import JPEGError, segments
from jpegrad.jfif import exif as exif_segments
from jpegrad.jfif.exif import EXIF, ORIENTATION, XMP

ICC, MPF = b"ICC_PROFILE\0", b"MPF\0"
APP1 = 0xE1
LONGEST = 65533
"""Bytes that a segment holds."""
# What a TIFF file says of the picture, not of its own strips and tiles.
DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298, 0x8769, 0x8825)
SUBDIRECTORIES = (0x8769, 0x8825)
UNKEPT = {33723: "IPTC", 34377: "Photoshop's resources"}

Color = tuple[int, int, int]

ROWS = 256
"""Of a strip that is taken from Pillow at once."""


class Picture(NamedTuple):
    """A picture as a file has it.

    Args:
        pixels: uint8 ``[C, H, W]``, C = 3, 1 or, of CMYK, 4.
        metadata: segments for a .jpg file.
        density: as :class:`~jpegrad.Coefficients` has it.
        changes: what of the file is not in these, in words.
    """

    pixels: Tensor
    metadata: tuple[Segment, ...]
    density: Density
    changes: tuple[str, ...]


class Transparent(ValueError):
    """The picture has an alpha channel that is not opaque."""


def load(
    path: Path,
    *,
    data: bytes | None = None,
    upright: bool = False,
    cmyk: bool = False,
    lenient: bool = False,
    background: Color | None = None,
) -> Picture:
    """An 8-bit RGB or gray picture, or one of four inks.

    Of .jpg files the pixels are those of :func:`jpegrad.decode`, which are Pillow's; a damaged file, which Pillow may
    take without a word, is an error.

    Args:
        path: a file of any kind that Pillow opens.
        data: its bytes, if they have been read; ``path`` is then its name alone.
        upright: turn the pixels as Exif's orientation says, and say 1 there. Else they are as stored, and the
            metadata keep the orientation; but those of a TIFF file are always turned.
        cmyk: take pictures of CMYK too.
        lenient: take damaged .jpg files as :func:`jpegrad.read` does with ``strict=False``.
        background: R, G and B, 0 to 255, to lay behind what is transparent; None takes no transparency.

    Raises:
        ValueError: the file is no picture, is transparent, has more than 8 bits per sample, or is neither RGB nor gray
            nor, if wanted, CMYK.
        OSError: the file cannot be read.
    """
    with _naming(path), Image.open(path if data is None else io.BytesIO(data)) as opened:
        _check_depth(opened)
        if opened.format in ("JPEG", "MPO"):
            data = path.read_bytes() if data is None else data
            found = _decoded(data, opened, lenient)
            if found is not None:
                pixels, damage = found
                if len(pixels) == 4 and not cmyk:
                    raise ValueError("expected 8-bit RGB or gray, got Pillow mode CMYK")
                return _of_jpeg(data, pixels, opened, upright, damage)
        frames = getattr(opened, "n_frames", 1)
        stored = _orientation(opened) if opened.format == "TIFF" else None
        opened.load()
        orientation = _orientation(opened) if stored is None else stored
        changes = _left_out(frames)
        metadata, density = _carried(data, opened, changes)
        if upright or opened.format == "TIFF":
            # Of TIFF files Pillow has turned the pixels already; of others this does.
            ImageOps.exif_transpose(opened, in_place=True)
            metadata, density = _upright(metadata, density, orientation, changes)
        pixels = torch.from_numpy(_array(_in_8_bits(opened, cmyk, background)))
    pixels = pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return Picture(pixels, metadata, density, tuple(changes))


def of_jpeg(path: Path, data: bytes, pixels: Tensor, *, damage: tuple[str, ...] = ()) -> Picture:
    """The upright picture of a .jpg file that is decoded already.

    Args:
        path: its name.
        data: its bytes.
        pixels: uint8 ``[C, H, W]``, as stored; they may be of another size than the file's.
        damage: what was wrong with it.

    Raises:
        ValueError: its segments are damaged.
    """
    with _naming(path), Image.open(io.BytesIO(data)) as opened:
        return _of_jpeg(data, pixels, opened, True, damage)


def exif_of(metadata: tuple[Segment, ...]) -> bytes | None:
    """The Exif among some segments, as Pillow's ``save`` takes it."""
    return next(
        (payload for marker, payload in metadata if marker == APP1 and payload.startswith(EXIF)), None
    )


def icc_of(metadata: tuple[Segment, ...]) -> bytes | None:
    """The ICC profile among some segments."""
    parts = [x[len(ICC) :] for marker, x in metadata if marker == segments.APP2 and x.startswith(ICC)]
    return b"".join(part[2:] for part in sorted(parts, key=lambda part: part[0])) or None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever Pillow and its readers raise for files too large or damaged is a ValueError that names the file."""
    try:
        with warnings.catch_warnings():
            # Pictures beyond twice this size are an error, and smaller ones are no reason for a word.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except UnidentifiedImageError:
        raise ValueError(f"{path}: expected a picture that Pillow can open") from None
    except (
        *(OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error),
        Image.DecompressionBombError,
    ) as error:
        # Only the system's errors name the file.
        if isinstance(error, OSError) and error.filename is not None:
            raise
        kind = type(error) if isinstance(error, (JPEGError, Transparent)) else ValueError
        raise kind(f"{path}: {error}") from None


def _decoded(
    data: bytes, opened: ImageFile.ImageFile, lenient: bool
) -> tuple[Tensor, tuple[str, ...]] | None:
    """The pixels of a .jpg file and what was wrong with it; None of a kind that Pillow alone decodes."""
    try:
        found = read(data, strict=not lenient, max_pixels=None, level_dtype=torch.int16)
    except JPEGError as error:
        if str(error).startswith("not supported"):
            return None
        raise
    return decode(found, dtype=torch.uint8), found.damage


def _of_jpeg(
    data: bytes, pixels: Tensor, opened: ImageFile.ImageFile, upright: bool, damage: tuple[str, ...]
) -> Picture:
    changes = [f"damaged, {each}" for each in damage] + _left_out(getattr(opened, "n_frames", 1))
    metadata, density = _segments(data, changes)
    if upright:
        orientation = _orientation(opened)
        pixels = turned(pixels, orientation)
        metadata, density = _upright(metadata, density, orientation, changes)
    return Picture(pixels, metadata, density, tuple(changes))


def turned(image: Tensor, orientation: int | None) -> Tensor:
    """A picture ``[C, H, W]`` as Exif's orientation says that it is to be seen."""
    image = image.mT if orientation in (5, 6, 7, 8) else image
    across = (-1,) if orientation in (2, 3, 6, 7) else ()
    down = (-2,) if orientation in (3, 4, 7, 8) else ()
    return image.flip(across + down)


def _orientation(opened: Image.Image) -> int:
    return opened.getexif().get(ORIENTATION, 1)


def _left_out(frames: int) -> list[str]:
    return [f"{frames - 1} further pictures, frames or pages are left out"] if frames > 1 else []


def _upright(
    metadata: tuple[Segment, ...], density: Density, orientation: int, changes: list[str]
) -> tuple[tuple[Segment, ...], Density]:
    """What goes with pixels that are turned as the orientation says."""
    if orientation in range(2, 9):
        changes.append(f"Exif's orientation {orientation} is applied to the pixels")
    if orientation in range(5, 9):
        density = (density[1], density[0], density[2])
    return tuple((marker, exif_segments.upright(payload)) for marker, payload in metadata), density


def _check_depth(opened: ImageFile.ImageFile) -> None:
    """Raise for samples of which Pillow would keep the upper 8 bits without a word."""
    for tile in opened.tile:
        raw, *rest = tile[3] if isinstance(tile[3], tuple) and tile[3] else (tile[3],)
        # Of the colours in 16 bits of a BMP file none has more than 6.
        deep = ("16" in str(raw) and raw != "BGR;16") or "16" in tile[0]
        if deep or (opened.format == "PPM" and any(isinstance(x, int) and x > 255 for x in rest)):
            raise ValueError("expected 8-bit RGB or gray, got 16 bits per sample")


def _in_8_bits(image: Image.Image, cmyk: bool, background: Color | None) -> Image.Image:
    """Mode RGB or L, which loses nothing but transparency; or CMYK as it is."""
    palette = image.palette.mode if image.palette else ""
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA") or palette.endswith("A"):
        layered = image.convert("RGBA")
        if layered.getchannel("A").getextrema() != (255, 255):
            if background is None:
                raise Transparent(
                    f"expected RGB or gray, got {image.mode} with transparency, which JPEG lacks"
                )
            gray = image.mode in ("L", "LA", "1") and len({*background}) == 1
            behind = Image.new("RGBA", image.size, (*background, 255))
            return Image.alpha_composite(behind, layered).convert("L" if gray else "RGB")
    if image.mode in ("RGBA", "P", "PA"):
        return image.convert("RGB")
    if image.mode in ("LA", "1"):
        return image.convert("L")
    if image.mode not in ("RGB", "L") and not (cmyk and image.mode == "CMYK"):
        raise ValueError(f"expected 8-bit RGB or gray, got Pillow mode {image.mode}")
    return image


def _array(image: Image.Image) -> np.ndarray:
    """The samples ``[H, W]`` or ``[H, W, C]``; by strips, because Pillow gives what it is asked for twice."""
    width, height = image.size
    bands = len(image.getbands())
    samples = np.empty((height, width, bands) if bands > 1 else (height, width), np.uint8)
    for top in range(0, height, ROWS):
        bottom = min(height, top + ROWS)
        samples[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return samples


def _carried(
    data: bytes | None, image: Image.Image, changes: list[str]
) -> tuple[tuple[Segment, ...], Density]:
    """Segments and density of a loaded picture; what is lost of the file is added to ``changes``."""
    if data is not None and image.format in ("JPEG", "MPO"):
        return _segments(data, changes)
    found: list[Segment] = []
    exif = _exif(image)
    if len(EXIF + exif) > LONGEST:
        least = Image.Exif()
        least[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
        changes.append(
            f"Exif of {len(exif)} bytes, which no segment holds, is left out but for the orientation"
        )
        exif = least.tobytes().removeprefix(EXIF)
    if exif:
        found.append((APP1, EXIF + exif))
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    if len(XMP + xmp) > LONGEST:
        changes.append(f"XMP of {len(xmp)} bytes, which no segment holds, is left out")
    elif xmp:
        found.append((APP1, XMP + xmp))
    profile = image.info.get("icc_profile") or b""
    found += _icc(profile, changes)
    comment = image.info.get("comment") or b""
    comment = comment.encode() if isinstance(comment, str) else bytes(comment)
    if comment:
        found.append((segments.COM, comment[:LONGEST]))
    gamma = image.info.get("gamma", 1 / 2.2)
    if not profile and "srgb" not in image.info and abs(gamma - 1 / 2.2) > 1e-3:
        changes.append(
            f"gamma {gamma:g}, which JPEG cannot say, is left out: the picture will look different"
        )
    texts = {"XML:com.adobe.xmp", "Raw profile type exif"}
    if set(getattr(image, "text", {})) - texts:
        changes.append("text is left out")
    if image.format == "TIFF":
        tags = image.getexif()
        changes += [f"{name} is left out" for tag, name in UNKEPT.items() if tag in tags]
    return tuple(found), _density(image)


def _segments(data: bytes, changes: list[str]) -> tuple[tuple[Segment, ...], Density]:
    """The segments before the first scan, byte for byte, as :func:`jpegrad.read` keeps them."""
    found: list[Segment] = []
    density = NO_DENSITY
    segment = segments.next_segment(data, 2)
    while segment.marker not in (segments.SOS, segments.EOI):
        marker, payload, end = segment[:3]
        if marker == segments.APP0:
            if len(payload) >= 14 and payload.startswith(b"JFIF\0"):
                density = segments.parse_jfif(payload)
        elif marker == segments.APP2 and payload.startswith(MPF):
            # Its offsets hold in this very file only.
            if not any("further" in change for change in changes):
                changes.append("further pictures are left out")
        elif marker != segments.APP14 and (marker in segments.APPLICATION or marker == segments.COM):
            found.append((marker, payload))
        segment = segments.next_segment(data, end)
    return tuple(found), density


def _exif(image: Image.Image) -> bytes:
    """The TIFF structure within Exif, or nothing."""
    stored = image.info.get("exif")
    if stored:
        return bytes(stored).removeprefix(EXIF)
    exif, kept = image.getexif(), Image.Exif()
    for tag in DESCRIPTIVE if image.format == "TIFF" else tuple(exif):
        if tag in exif and tag not in SUBDIRECTORIES:
            kept[tag] = exif[tag]
    for tag in SUBDIRECTORIES:
        if entries := exif.get_ifd(tag):
            kept.get_ifd(tag).update(entries)
    return kept.tobytes().removeprefix(EXIF) if kept or any(map(kept.get_ifd, SUBDIRECTORIES)) else b""


def _icc(profile: bytes, changes: list[str]) -> list[Segment]:
    room = LONGEST - len(ICC) - 2
    parts = [profile[i : i + room] for i in range(0, len(profile), room)]
    if len(parts) > 255:
        changes.append(f"the ICC profile of {len(profile)} bytes, which no file holds, is left out")
        return []
    return [(segments.APP2, ICC + bytes((i, len(parts))) + part) for i, part in enumerate(parts, 1)]


def _density(image: Image.Image) -> Density:
    for name, unit in (("dpi", "inch"), ("aspect", "")):
        if name in image.info:
            x, y = (round(float(each)) for each in image.info[name])
            if 0 < x <= 65535 and 0 < y <= 65535:
                return x, y, unit
    return NO_DENSITY
