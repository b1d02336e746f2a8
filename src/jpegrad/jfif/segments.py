"""Marker segments of a .jpg file: finding, parsing and emitting them (ITU-T T.81 Annex B, JFIF 1.02)."""

import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

from jpegrad.coefficients import UNITS, Density
from jpegrad.entropy.huffman import HuffmanTable
from jpegrad.jfif.errors import JPEGError
from jpegrad.tables import ZIGZAG

SOI, EOI, SOS, DQT, DHT, DRI, DAC, DNL, COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xCC, 0xDC, 0xFE
SOF0, SOF1, SOF2, SOF9, SOF10 = 0xC0, 0xC1, 0xC2, 0xC9, 0xCA
APP0, APP2, APP14 = 0xE0, 0xE2, 0xEE
APPLICATION = range(0xE0, 0xF0)
RESTARTS = range(0xD0, 0xD8)
STANDALONE = (0x01, *RESTARTS)
FRAMES = {
    SOF0: "baseline",
    SOF1: "extended sequential",
    SOF2: "progressive",
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical",
    SOF9: "sequential, arithmetic-coded",
    SOF10: "progressive, arithmetic-coded",
    0xCB: "lossless",
    0xCD: "hierarchical",
    0xCE: "hierarchical",
    0xCF: "hierarchical",
}

SKIPPED = {*APPLICATION, COM, DNL}
"""Markers whose segments need not be understood."""
KNOWN = {*FRAMES, *STANDALONE, *SKIPPED, SOS, EOI, DQT, DHT, DRI, DAC}
"""Markers that a file may have behind its SOI."""

# FF 00 is a stuffed byte of entropy-coded data; any number of fill bytes FF may stand before a marker.
MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


NAMES = {
    b"JFIF\0": "JFIF",
    b"JFXX\0": "JFIF extension",
    b"Adobe": "Adobe",
    b"Exif\0": "Exif",
    b"http://ns.adobe.com/xap/1.0/\0": "XMP",
    b"http://ns.adobe.com/xmp/extension/\0": "XMP extension",
    b"ICC_PROFILE\0": "ICC profile",
    b"Photoshop 3.0\0": "Photoshop",
    b"MPF\0": "multi-picture index",
}
"""What the payload of an application segment begins with, and what it is."""


def kind(marker: int, payload: bytes) -> str:
    """What an application or comment segment holds."""
    if marker == COM:
        return "comment"
    return next((name for start, name in NAMES.items() if payload.startswith(start)), f"APP{marker & 15}")


def process_of(marker: int | None) -> tuple[str | None, bool]:
    """What the marker of a frame says: ``"baseline"`` and so on, and whether the entropy coding is arithmetic."""
    if marker is None:
        return None, False
    process = FRAMES[marker].split(",")[0]
    return "extended sequential" if process == "sequential" else process, marker >= SOF9


class Segment(NamedTuple):
    marker: int
    payload: bytes
    end: int
    """Where the next segment, or the entropy-coded data of a scan, begins."""
    damage: str = ""
    """Why it has no payload."""


def next_segment(data: bytes, position: int) -> Segment:
    """The first marker segment at or after ``position``; like libjpeg, bytes that are no marker are skipped.

    A file that ends too early ends with a damaged EOI.
    """
    found = MARKER.search(data, position)
    if found is None:
        return Segment(EOI, b"", len(data), "truncated: the file ends before its EOI marker")
    marker, start = data[found.end() - 1], found.end()
    if marker in STANDALONE or marker in (SOI, EOI):
        return Segment(marker, b"", start)
    length = int.from_bytes(data[start : start + 2], "big")
    if start + max(length, 2) > len(data):
        return Segment(marker, b"", len(data), f"truncated: inside the segment of marker 0xFF{marker:02X}")
    if length < 2:
        damage = f"corrupt: length {length} of the segment of marker 0xFF{marker:02X}"
        return Segment(marker, b"", start + 2, damage)
    return Segment(marker, data[start + 2 : start + length], start + length)


def scan_end(data: bytes, start: int) -> int:
    """Where the scan ends whose data begins at ``start``: at a marker that is no restart marker, or with the file."""
    found = _MARKER_IN_SCAN.search(data, start)
    return len(data) if found is None else found.start()


class FrameComponent(NamedTuple):
    """A component as SOF declares it."""

    identifier: int
    h: int
    v: int
    table: int


class FrameHeader(NamedTuple):
    precision: int
    height: int
    width: int
    components: tuple[FrameComponent, ...]


def parse_sof(payload: bytes) -> FrameHeader:
    if len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
        raise JPEGError("corrupt: wrong length of the frame header")
    precision, height, width, count = struct.unpack(">BHHB", payload[:6])
    fields = [payload[6 + 3 * i : 9 + 3 * i] for i in range(count)]
    components = tuple(FrameComponent(c, hv >> 4, hv & 15, table) for c, hv, table in fields)
    return FrameHeader(precision, height, width, components)


class ScanComponent(NamedTuple):
    """A component as SOS selects it: its identifier and the Huffman tables it uses."""

    identifier: int
    dc: int
    ac: int


class ScanHeader(NamedTuple):
    """Components, first and last zigzag index, and the bit positions of successive approximation."""

    components: tuple[ScanComponent, ...]
    first: int
    last: int
    high: int
    low: int


def parse_sos(payload: bytes) -> ScanHeader:
    if not payload or not 1 <= payload[0] <= 4 or len(payload) != 4 + 2 * payload[0]:
        raise JPEGError("corrupt: wrong length of a scan header")
    count = payload[0]
    pairs = [payload[1 + 2 * i : 3 + 2 * i] for i in range(count)]
    first, last, approximation = payload[1 + 2 * count :]
    components = tuple(ScanComponent(c, t >> 4, t & 15) for c, t in pairs)
    return ScanHeader(components, first, last, approximation >> 4, approximation & 15)


def parse_dqt(payload: bytes) -> dict[int, tuple[int, ...]]:
    """Slot → 64 entries in zigzag order, 8 or 16 bits each."""
    found = {}
    while payload:
        wide, slot = payload[0] >> 4, payload[0] & 15
        length = 129 if wide else 65
        if wide > 1 or slot > 3 or len(payload) < length:
            raise JPEGError("corrupt: malformed quantization table segment (DQT)")
        found[slot] = struct.unpack(">64H" if wide else ">64B", payload[1:length])
        payload = payload[length:]
    return found


def parse_dht(payload: bytes) -> dict[tuple[int, int], HuffmanTable]:
    """(class, slot) → table; class 0 is DC, 1 is AC."""
    found = {}
    while payload:
        kind, slot = payload[0] >> 4, payload[0] & 15
        counts = payload[1:17]
        length = 17 + sum(counts)
        if kind > 1 or slot > 3 or len(counts) < 16 or sum(counts) > 256 or len(payload) < length:
            raise JPEGError("corrupt: malformed Huffman table segment (DHT)")
        found[kind, slot] = HuffmanTable(tuple(counts), tuple(payload[17:length]))
        payload = payload[length:]
    return found


def parse_dac(payload: bytes) -> dict[tuple[int, int], int]:
    """(class, slot) → conditioning of arithmetic coding; of DC, upper bound · 16 + lower bound; of AC, Kx."""
    if len(payload) % 2:
        raise JPEGError("corrupt: malformed conditioning segment (DAC)")
    found = {}
    for where, value in zip(payload[::2], payload[1::2], strict=True):
        kind, slot = where >> 4, where & 15
        legal = value & 15 <= value >> 4 if kind == 0 else 1 <= value <= 63
        if kind > 1 or slot > 3 or not legal:
            raise JPEGError("corrupt: malformed conditioning segment (DAC)")
        found[kind, slot] = value
    return found


def parse_dri(payload: bytes) -> int:
    if len(payload) != 2:
        raise JPEGError("corrupt: wrong length of the restart interval segment (DRI)")
    return int.from_bytes(payload, "big")


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def marker(code: int) -> bytes:
    return bytes((0xFF, code))


def parse_jfif(payload: bytes) -> Density:
    """The density that JFIF's header of at least 14 bytes declares; a unit that JFIF does not have is none."""
    unit, x, y = struct.unpack(">BHH", payload[7:12])
    return x, y, UNITS[unit] if unit < len(UNITS) else ""


def emit_jfif(density: Density) -> bytes:
    """JFIF 1.01 without a thumbnail."""
    x, y, unit = density
    return segment(APP0, b"JFIF\0\1\1" + struct.pack(">BHHBB", UNITS.index(unit), x, y, 0, 0))


def emit_adobe(transform: int) -> bytes:
    """Adobe marker: the components are R, G, B or C, M, Y, K (transform 0), or YCCK (2)."""
    return segment(APP14, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))


def emit_metadata(marker: int, payload: bytes) -> bytes:
    """A carried segment.

    Raises:
        ValueError: it is no application or comment segment, or it is too long.
    """
    if (marker not in APPLICATION and marker != COM) or marker in (APP0, APP14):
        raise ValueError(f"metadata: expected markers APP1 to APP13, APP15 or COM, got {marker:#04x}")
    if len(payload) > 65533:
        raise ValueError(
            f"metadata: expected at most 65533 bytes in a segment, got {len(payload)} in {marker:#04x}"
        )
    return segment(marker, payload)


def emit_dqt(slot: int, entries: Sequence[int]) -> bytes:
    """``entries``: 64 integers 1…65535 in natural order, of 16 bits each if one of them is above 255."""
    zigzag = [entries[i] for i in ZIGZAG]
    if is_wide(entries):
        return segment(DQT, struct.pack(">B64H", 1 << 4 | slot, *zigzag))
    return segment(DQT, bytes((slot, *zigzag)))


def is_wide(entries: Sequence[int]) -> bool:
    """Whether a quantization table needs 16 bits for each entry."""
    return max(entries) > 255


def emit_sof(size: tuple[int, int], components: Sequence[FrameComponent], marker: int = SOF0) -> bytes:
    parts = b"".join(bytes((c.identifier, c.h << 4 | c.v, c.table)) for c in components)
    return segment(marker, struct.pack(">BHHB", 8, *size, len(components)) + parts)


def emit_dht(kind: int, slot: int, counts: Sequence[int], symbols: Sequence[int]) -> bytes:
    return segment(DHT, bytes((kind << 4 | slot, *counts, *symbols)))


def emit_sos(
    components: Sequence[ScanComponent], first: int = 0, last: int = 63, high: int = 0, low: int = 0
) -> bytes:
    parts = b"".join(bytes((c.identifier, c.dc << 4 | c.ac)) for c in components)
    return segment(SOS, bytes((len(components),)) + parts + bytes((first, last, high << 4 | low)))
