"""What the marker segments before the first scan say of a .jpg file, for any process, precision and sampling."""

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, TypeGuard

from torch import Tensor

from jpegrad.coefficients import NO_DENSITY, Density
from jpegrad.entropy.huffman import AC_CHROMA, AC_LUMA, DC_CHROMA, DC_LUMA, HuffmanTable
from jpegrad.jfif import segments
from jpegrad.jfif.errors import JPEGError
from jpegrad.jfif.exif import orientation_of, thumbnail_of
from jpegrad.jfif.frame import color_space, natural_tables, subsampling_of
from jpegrad.jfif.segments import FrameHeader
from jpegrad.tables import QualityEstimate, estimate_quality

CHUNK = 1 << 16
START = 64
"""Bytes of a segment that are read at once: its marker, its length, and the name with which metadata begins."""


class Carried(NamedTuple):
    """A segment of a file.

    Args:
        marker: of metadata, 0xE0 (APP0) to 0xEF (APP15), or 0xFE (COM).
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
        quantization_tables: how many there are before the first scan.
        huffman_tables: how many Huffman tables there are before the first scan.
        huffman: ``"default"``, Annex K's (which a file may leave out), or ``"own"``, made for the picture for instance;
            None with arithmetic coding.
        restart_interval: in MCUs; 0 if there are no restart markers.
        density: as :class:`~jpegrad.Coefficients` has it.
        orientation: Exif's, 1 to 8; None if there is none.
        thumbnail: (offset in the file, length) of the .jpg file that Exif has as a thumbnail; None without one.
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
    quantization_tables: int
    huffman_tables: int
    huffman: str | None
    restart_interval: int
    density: Density
    orientation: int | None
    thumbnail: tuple[int, int] | None
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
        return None if self.tables is None else quality_of(self.tables, self.color)


def quality_of(tables: Tensor, color: str, base: Tensor | None = None) -> QualityEstimate | None:
    """The estimated quality of a file's tables, scaled from a base (None: Annex K); None of illegal ones."""
    if not (tables > 0).all():
        return None
    alike = color not in ("YCbCr", "YCCK") and all(table.equal(tables[0]) for table in tables)
    if alike:
        return estimate_quality(tables[:1], base)
    # One table may be that of chroma too.
    return estimate_quality(tables.expand(2, 8, 8) if len(tables) == 1 else tables[:3], base)


def huffman_kind(tables: Iterable[tuple[int, HuffmanTable]]) -> str:
    """``"default"`` if all of (class, table) are among Annex K's, else ``"own"``."""
    known = ((DC_LUMA, DC_CHROMA), (AC_LUMA, AC_CHROMA))
    return "default" if all(table in known[kind] for kind, table in tables) else "own"


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
    restart_interval, orientation, thumbnail, count = 0, None, None, 0
    huffman: list[tuple[int, HuffmanTable]] = []
    for found in _segments(file):
        marker, start, offset, length = found
        if marker in segments.FRAMES:
            if frame is not None:
                raise JPEGError("corrupt: more than one frame header")
            frame = marker, segments.parse_sof(_payload(file, found))
        elif marker == segments.DQT:
            tables_here = segments.parse_dqt(_payload(file, found))
            quantization, count = quantization | tables_here, count + len(tables_here)
        elif marker == segments.DHT:
            huffman += [(k, table) for (k, _), table in segments.parse_dht(_payload(file, found)).items()]
        elif marker == segments.DRI:
            restart_interval = segments.parse_dri(_payload(file, found))
        elif marker == segments.APP0 and length >= 14 and start.startswith(b"JFIF\0"):
            jfif, density = True, segments.parse_jfif(start)
        elif marker == segments.APP14 and length >= 12 and start.startswith(b"Adobe"):
            adobe = start[11]
        elif marker in segments.APPLICATION or marker == segments.COM:
            metadata.append(Carried(marker, segments.kind(marker, start), offset, length))
            if metadata[-1].kind == "Exif" and orientation is None and thumbnail is None:
                exif = _payload(file, found)
                orientation, place = orientation_of(exif), thumbnail_of(exif)
                thumbnail = place and (offset + place[0], place[1])
    if frame is None:
        raise JPEGError("corrupt: no frame header")
    marker, header = frame
    components = header.components
    tables = [(c.table, quantization.get(c.table)) for c in components]
    process, arithmetic = segments.process_of(marker)
    return Header(
        size=(header.height, header.width),
        process=process or "",
        arithmetic=arithmetic,
        precision=header.precision,
        color=color_space([c.identifier for c in components], jfif, adobe),
        sampling=tuple((c.h, c.v) for c in components),
        subsampling=subsampling_of(components),
        tables=natural_tables([(slot, t) for slot, t in tables if t]) if all(t for _, t in tables) else None,
        quantization_tables=count,
        huffman_tables=len(huffman),
        huffman=None if arithmetic else huffman_kind(huffman),
        restart_interval=restart_interval,
        density=density,
        orientation=orientation,
        thumbnail=thumbnail,
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
