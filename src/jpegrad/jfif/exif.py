"""Exif's orientation, sizes and thumbnail, read and changed in place (Exif 2.32 4.6; TIFF 6.0 section 2)."""

import re
import struct
from collections.abc import Iterator

EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
ORIENTATION, EXIF_DIRECTORY, PIXELS_ACROSS, PIXELS_DOWN = 0x0112, 0x8769, 0xA002, 0xA003
THUMBNAIL, THUMBNAIL_LENGTH = 0x0201, 0x0202
SHORT, LONG = 3, 4


class _Tiff:
    """The TIFF structure within Exif; what lies outside of it raises ``struct.error``."""

    def __init__(self, payload: bytes) -> None:
        self.data = bytearray(payload[len(EXIF) :])
        self.order = "<" if self.data[:2] == b"II" else ">"

    def get(self, kind: str, at: int) -> int:
        (found,) = struct.unpack_from(self.order + kind, self.data, at)
        return int(found)

    def put(self, kind: str, at: int, *values: int) -> None:
        struct.pack_into(self.order + kind, self.data, at, *values)

    def end(self, start: int) -> int:
        """Of a directory's entries; there stands where the next directory is."""
        return start + 2 + 12 * self.get("H", start)

    def entries(self, start: int, *tags: int) -> Iterator[tuple[int, int, int]]:
        """(tag, type, place of the value) of a directory's entries of one value."""
        for at in range(start + 2, self.end(start), 12):
            tag, kind, count = struct.unpack_from(f"{self.order}HHI", self.data, at)
            if tag in tags and count == 1:
                yield tag, kind, at + 8

    def first(self) -> int:
        return self.get("I", 4)


def orientation_of(payload: bytes) -> int | None:
    """1 to 8, or None where a segment says nothing or nonsense."""
    tiff = _Tiff(payload)
    try:
        for _, kind, at in tiff.entries(tiff.first(), ORIENTATION):
            if kind == SHORT:
                found = tiff.get("H", at)
                return found if 1 <= found <= 8 else None
    except struct.error:
        # Damaged Exif, in which no viewer finds an orientation.
        pass
    return None


def thumbnail_of(payload: bytes) -> tuple[int, int] | None:
    """(offset within the payload, length) of the .jpg file that Exif has as a thumbnail; None without one."""
    tiff = _Tiff(payload)
    try:
        second = tiff.get("I", tiff.end(tiff.first()))
        found = {
            tag: tiff.get("I", at)
            for tag, kind, at in (tiff.entries(second, THUMBNAIL, THUMBNAIL_LENGTH) if second else ())
            if kind == LONG
        }
    except struct.error:
        return None
    if len(found) < 2 or not 0 < found[THUMBNAIL_LENGTH] <= len(tiff.data) - found[THUMBNAIL]:
        return None
    return len(EXIF) + found[THUMBNAIL], found[THUMBNAIL_LENGTH]


def upright(payload: bytes) -> bytes:
    """Exif or XMP with orientation 1, everything else in its place; other segments as they are."""
    if payload.startswith(XMP):
        payload = re.sub(rb'(tiff:Orientation\s*=\s*["\'])\d', rb"\g<1>1", payload)
        return re.sub(rb"(<tiff:Orientation>)\d", rb"\g<1>1", payload)
    if not payload.startswith(EXIF):
        return payload
    tiff = _Tiff(payload)
    try:
        for _, kind, at in tiff.entries(tiff.first(), ORIENTATION):
            if kind == SHORT:
                tiff.put("H", at, 1)
    except struct.error:
        return payload
    return EXIF + bytes(tiff.data)


def sized(payload: bytes, size: tuple[int, int]) -> bytes:
    """Exif whose size in pixels is (height, width), where it says one; other segments as they are."""
    if not payload.startswith(EXIF):
        return payload
    tiff = _Tiff(payload)
    values = {PIXELS_DOWN: size[0], PIXELS_ACROSS: size[1]}
    try:
        for _, _, directory in list(tiff.entries(tiff.first(), EXIF_DIRECTORY)):
            for tag, _, at in tiff.entries(tiff.get("I", directory), *values):
                tiff.put("H", at - 6, LONG)
                tiff.put("I", at, values[tag])
    except struct.error:
        return payload
    return EXIF + bytes(tiff.data)


def without_thumbnail(payload: bytes) -> bytes:
    """Exif that leads to no thumbnail, everything else in its place; other segments as they are."""
    if not payload.startswith(EXIF) or thumbnail_of(payload) is None:
        return payload
    tiff = _Tiff(payload)
    tiff.put("I", tiff.end(tiff.first()), 0)
    return EXIF + bytes(tiff.data)
