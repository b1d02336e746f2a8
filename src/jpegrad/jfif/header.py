"""What the marker segments before the first scan say of a .jpg file, for any process, precision and sampling."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, TypeGuard

from torch import Tensor

from jpegrad.coefficients import NO_DENSITY, Density
from jpegrad.jfif import segments
from jpegrad.jfif.errors import JPEGError
from jpegrad.jfif.exif import orientation_of
from jpegrad.jfif.frame import color_space, natural_tables, subsampling_of
from jpegrad.jfif.segments import FrameHeader
from jpegrad.tables import QualityEstimate, estimate_quality

CHUNK = 1 << 16
START = 64
"""Bytes of a segment that are read at once: its marker, its length, and the name with which metadata begins."""


class Carried(NamedTuple):
    """A metadata segment of a file.

    Args:
        marker: 0xE0 (APP0) to 0xEF (APP15), or 0xFE (COM).
        kind: "Exif", "XMP", "ICC profile", "comment", …, or "APP4" where the name says nothing.
        offset: where its payload begins in the file.
        length: of its payload in bytes.
    """

    marker: int
    kind: str
    offset: int
    length: int


@dataclass(frozen=True, eq=False)
class Header:
    """What a .jpg file says of itself before its first scan.

    Args:
        size: (height, width) in pixels; height 0 where the file says it only after its first scan.
        process: ``"baseline"``, ``"extended sequential"``, ``"progressive"``, ``"lossless"`` or ``"hierarchical"``.
        arithmetic: whether the entropy coding is arithmetic; else it is Huffman's.
        precision: bits per sample.
        color: ``"gray"``, ``"YCbCr"``, ``"RGB"``, ``"CMYK"``, ``"YCCK"`` or ``"unknown"``, by libjpeg's rules.
        sampling: (horizontal, vertical) factor of each component.
        subsampling: the library's word for these, or None if :func:`jpegrad.read` refuses them.
        tables: ``[n, 8, 8]``, float32, natural order, as :class:`~jpegrad.Coefficients` has them; None where one is
            missing, as it may be before a later scan.
        restart_interval: in MCUs; 0 if there are no restart markers.
        density: as :class:`~jpegrad.Coefficients` has it.
        orientation: Exif's, 1 to 8; None if there is none.
        metadata: application and comment segments in their order, but JFIF's and Adobe's headers.

    Source: ITU-T T.81 Annex B; JFIF 1.02; Exif 2.32; libjpeg-turbo ``jdapimin.c`` (colour space).
    """

    size: tuple[int, int]
    process: str
    arithmetic: bool
    precision: int
    color: str
    sampling: tuple[tuple[int, int], ...]
    subsampling: str | None
    tables: Tensor | None = field(repr=False)
    restart_interval: int
    density: Density
    orientation: int | None
    metadata: tuple[Carried, ...] = field(repr=False)

    @property
    def components(self) -> int:
        """How many there are."""
        return len(self.sampling)

    @property
    def progressive(self) -> bool:
        """Whether the process is."""
        return self.process == "progressive"

    @property
    def quality(self) -> QualityEstimate | None:
        """What :func:`jpegrad.tables.estimate_quality` makes of the tables; None without legal ones.

        libjpeg codes the components of RGB and CMYK as luma.
        """
        if self.tables is None or not (self.tables > 0).all():
            return None
        first = self.tables[0]
        alike = self.color not in ("YCbCr", "YCCK") and all(table.equal(first) for table in self.tables)
        return estimate_quality(self.tables[:1] if alike else self.tables[:3])


class _Bytes:
    """Random access to a file in memory."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.size = data, len(data)

    def get(self, at: int, count: int) -> bytes:
        return bytes(self.data[at : at + count])


class _File:
    """The same for a file that can seek, from its position on."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.start = file, file.tell()
        self.size = max(0, file.seek(0, os.SEEK_END) - self.start)

    def get(self, at: int, count: int) -> bytes:
        self.file.seek(self.start + at)
        return self.file.read(count)


_Source = _Bytes | _File
_Found = tuple[int, bytes, int, int]
"""Marker; the bytes with which the payload begins; its offset and length."""


def parse(source: memoryview | BinaryIO) -> Header:
    """The header of a file: bytes, or an open file that can seek."""
    file: _Source = _Bytes(source) if isinstance(source, memoryview) else _File(source)
    frame: tuple[int, FrameHeader] | None = None
    quantization: dict[int, tuple[int, ...]] = {}
    metadata: list[Carried] = []
    density, jfif, adobe = NO_DENSITY, False, None
    restart_interval, orientation = 0, None
    for found in _segments(file):
        marker, start, offset, length = found
        if marker in segments.FRAMES:
            if frame is not None:
                raise JPEGError("corrupt: more than one frame header")
            frame = marker, segments.parse_sof(_payload(file, found))
        elif marker == segments.DQT:
            quantization |= segments.parse_dqt(_payload(file, found))
        elif marker == segments.DRI:
            restart_interval = segments.parse_dri(_payload(file, found))
        elif marker == segments.APP0 and length >= 14 and start.startswith(b"JFIF\0"):
            jfif, density = True, segments.parse_jfif(start)
        elif marker == segments.APP14 and length >= 12 and start.startswith(b"Adobe"):
            adobe = start[11]
        elif marker in segments.APPLICATION or marker == segments.COM:
            metadata.append(Carried(marker, segments.kind(marker, start), offset, length))
            if orientation is None and metadata[-1].kind == "Exif":
                orientation = orientation_of(_payload(file, found))
    if frame is None:
        raise JPEGError("corrupt: no frame header")
    marker, header = frame
    components = header.components
    tables = [(c.table, quantization.get(c.table)) for c in components]
    process = segments.FRAMES[marker].split(",")[0]
    return Header(
        size=(header.height, header.width),
        process="extended sequential" if process == "sequential" else process,
        arithmetic=marker >= segments.SOF9,
        precision=header.precision,
        color=color_space([c.identifier for c in components], jfif, adobe),
        sampling=tuple((c.h, c.v) for c in components),
        subsampling=subsampling_of(components),
        tables=natural_tables([(slot, t) for slot, t in tables if t]) if all(t for _, t in tables) else None,
        restart_interval=restart_interval,
        density=density,
        orientation=orientation,
        metadata=tuple(metadata),
    )


def _segments(file: _Source) -> Iterator[_Found]:
    """The segments up to the first scan, with the bytes with which their payload begins."""
    if file.get(0, 2) != segments.marker(segments.SOI):
        raise JPEGError("not a JPEG file: it does not begin with FF D8")
    position = 2
    while True:
        head = file.get(position, START)
        if len(head) < 4 or head[0] != 0xFF or head[1] in (0, 0xFF):
            position = _next_marker(file, position)
            head = file.get(position, START)
        marker = head[1]
        if marker in (segments.SOS, segments.EOI):
            return
        position += 2
        if marker in segments.STANDALONE:
            continue
        length = int.from_bytes(head[2:4], "big")
        if position + max(length, 2) > file.size:
            raise JPEGError(f"truncated: inside the segment of marker 0xFF{marker:02X}")
        if length < 2:
            raise JPEGError(f"corrupt: length {length} of the segment of marker 0xFF{marker:02X}")
        yield (marker, head[4 : 2 + length], position + 2, length - 2)
        position += length


def _payload(file: _Source, found: _Found) -> bytes:
    _, start, offset, length = found
    return start if length == len(start) else file.get(offset, length)


def _next_marker(file: _Source, position: int) -> int:
    """Where the next marker's FF stands; like libjpeg, bytes that are no marker are skipped."""
    while position < file.size:
        chunk = file.get(position, CHUNK)
        found = segments.MARKER.search(chunk)
        if found is not None:
            return position + found.start()
        # A marker may begin with the chunk's last byte.
        position += max(1, len(chunk) - 1)
    raise JPEGError("truncated: the file ends before its first scan")


def is_seekable(file: object) -> TypeGuard[BinaryIO]:
    """Whether it is a binary file object that can seek."""
    return isinstance(file, io.IOBase) and not isinstance(file, io.TextIOBase) and file.seekable()
