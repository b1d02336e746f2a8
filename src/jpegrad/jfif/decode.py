"""The bytes of a .jpg file → its frame with every coefficient, and what its markers say (T.81 Annexes B and E)."""

from dataclasses import dataclass, field
from math import prod

from jpegrad.coefficients import NO_DENSITY, Density
from jpegrad.entropy.huffman import AC_CHROMA, AC_LUMA, DC_CHROMA, DC_LUMA, HuffmanTable
from jpegrad.jfif import segments
from jpegrad.jfif.errors import JPEGError, refuse
from jpegrad.jfif.frame import NEVER_SENT, Component, Frame, check_size, color_space, new_frame
from jpegrad.jfif.lookup import check_prefix_code
from jpegrad.jfif.scan import Scan, decode_scan
from jpegrad.jfif.segments import ScanHeader, Segment
from jpegrad.jfif.smoothing import SMOOTHED

BLOCKS_PER_BYTE = 128
"""Limit on work: all scans together may visit this many blocks per byte of the file. Real files stay far below, since
each block costs at least one bit in one of their scans, and they have about ten."""

SCANS = 64
"""How many more times each block may be visited where it can cost almost nothing: in arithmetic-coded and in damaged
files."""

MOST_SCANS = 64 * 14 * 4
"""As many as an undamaged file may have: one for each bit of each coefficient of four components."""

MOTION_JPEG = {(0, 0): DC_LUMA, (1, 0): AC_LUMA, (0, 1): DC_CHROMA, (1, 1): AC_CHROMA}
"""The tables of T.81 Annex K.3, which a sequential file may leave out, as the frames of a Motion JPEG do."""


@dataclass
class Decoder:
    """State while the segments of a file go by."""

    data: bytes
    max_pixels: int | None
    strict: bool = True
    frame: Frame | None = None
    quantization: dict[int, tuple[int, ...]] = field(default_factory=dict)
    huffman: dict[tuple[int, int], HuffmanTable] = field(default_factory=dict)
    conditioning: dict[tuple[int, int], int] = field(default_factory=dict)
    restart_interval: int = 0
    arithmetic: bool = False
    visited: int = 0
    jfif: bool = False
    density: Density = NO_DENSITY
    adobe_transform: int | None = None
    metadata: list[tuple[int, bytes]] = field(default_factory=list)
    damage: dict[str, None] = field(default_factory=dict)

    def space(self) -> str:
        """What the components of the frame are."""
        components = self.frame.components if self.frame else []
        return color_space([c.header.identifier for c in components], self.jfif, self.adobe_transform)

    def note(self, damage: str) -> None:
        """Take note of damage that libjpeg goes on after, or refuse it."""
        if self.strict:
            refuse(damage)
        self.damage[damage] = None

    def start_frame(self, segment: Segment) -> None:
        kind = segments.FRAMES[segment.marker]
        if kind in ("lossless", "hierarchical"):
            raise JPEGError(
                f"not supported: {kind} JPEG; expected baseline, extended sequential or progressive"
            )
        if self.frame is not None:
            raise JPEGError("corrupt: more than one frame header")
        header = segments.parse_sof(segment.payload)
        if header.precision != 8:
            raise JPEGError(f"not supported: {header.precision} bits per sample; expected 8")
        check_size(header, self.max_pixels)
        progressive = segment.marker in (segments.SOF2, segments.SOF10)
        self.arithmetic = segment.marker in (segments.SOF9, segments.SOF10)
        bounded = self.strict and not self.arithmetic
        self.frame = new_frame(header, progressive, len(self.data) if bounded else None)
        if not self.frame.progressive:
            self.huffman = MOTION_JPEG | self.huffman

    def read_scan(self, segment: Segment) -> int:
        """Decode one scan and return where it ends."""
        frame = self.frame
        if frame is None:
            raise JPEGError("corrupt: a scan before the frame header")
        if frame.ended:
            raise JPEGError("corrupt: a scan repeats or skips bits; the one before sends all of them")
        header = segments.parse_sos(segment.payload)
        if frame.progressive:
            check_progression(header)
        else:
            # Some encoders fill in the progressive fields of a sequential scan wrongly; they have no meaning there.
            header = header._replace(first=0, last=63, high=0, low=0)
        components = select(frame, header)
        frame.scans += 1
        if frame.scans > MOST_SCANS:
            raise JPEGError(f"decompression bomb: more than {MOST_SCANS} scans")
        for component in components:
            if component.table is None:
                component.table = self.table(component.header.table)
        self.advance(frame, components, header)
        number = frame.scans
        scan = Scan(
            header,
            components,
            frame.progressive,
            self.restart_interval,
            self.strict,
            self.note if self.strict else lambda damage: self.note(f"scan {number}: {damage}"),
        )
        self.take_tables(scan)
        self.visited += scan.mcus() * sum(scan.blocks_in_mcu())
        limit = BLOCKS_PER_BYTE * len(self.data)
        if self.arithmetic or not self.strict:
            limit += SCANS * sum(prod(component.padded) for component in frame.components)
        if self.visited > limit:
            raise JPEGError(
                f"decompression bomb: {len(self.data)} bytes, whose scans visit more than {limit} blocks"
            )
        frame.ended = frame.scans == 1 and not frame.progressive and len(components) == len(frame.components)
        end, reached = decode_scan(self.data, segment.end, scan)
        if self.data.find(b"\xff\xff\0", segment.end, end) >= 0:
            # Two of libjpeg-turbo's decoders disagree on it, and which one serves depends on its buffer.
            scan.note("corrupt: fill bytes inside of the entropy-coded data")
        # In rows of MCUs as an interleaved scan has them. Arithmetic data have no end.
        frame.reached = components[0].padded[0] if self.arithmetic else reached
        if len(components) == 1 and not self.arithmetic:
            frame.reached //= components[0].header.v
        return end

    def advance(self, frame: Frame, components: list[Component], header: ScanHeader) -> None:
        """Check that a scan sends what is due next of its coefficients, and note that it did (T.81 G.1.1.1)."""
        _, first, last, high, low = header
        for component in components:
            known = slice(min(first, 1), max(last + 1, SMOOTHED))
            component.before[known] = (component.pending if frame.scans > 1 else [0] * 64)[known]
            if any(pending != (high or NEVER_SENT) for pending in component.pending[first : last + 1]):
                self.note(f"corrupt: a scan repeats or skips bits of coefficients {first} to {last}")
            component.pending[first : last + 1] = [low] * (last + 1 - first)

    def take_tables(self, scan: Scan) -> None:
        """The tables with which a scan is coded."""
        if self.arithmetic:
            if any(max(selected.dc, selected.ac) > 3 for selected in scan.header.components):
                self.note("corrupt: a conditioning table above 3")
            bounds = [self.conditioning.get((0, slot), 0x10) for slot in range(16)]
            knees = [self.conditioning.get((1, slot), 5) for slot in range(16)]
            scan.conditioning = bytes([*(x & 15 for x in bounds), *(x >> 4 for x in bounds), *knees])
            return
        for selected in scan.header.components:
            if scan.header.first == 0 and scan.header.high == 0:
                scan.dc[selected.dc] = self.huffman_table(0, selected.dc)
            if scan.header.last > 0:
                scan.ac[selected.ac] = self.huffman_table(1, selected.ac)

    def table(self, slot: int) -> tuple[int, ...]:
        if slot not in self.quantization:
            raise JPEGError(f"corrupt: quantization table {slot} is missing")
        if 0 in self.quantization[slot]:
            self.note(f"corrupt: quantization table {slot} has an entry 0")
        return self.quantization[slot]

    def huffman_table(self, kind: int, slot: int) -> HuffmanTable:
        table = self.huffman.get((kind, slot))
        if table is None:
            raise JPEGError(f"corrupt: {('DC', 'AC')[kind]} Huffman table {slot} is missing")
        if kind == 0 and any(symbol > 15 for symbol in table.symbols):
            raise JPEGError("corrupt: a DC Huffman table with a symbol above 15")
        check_prefix_code(table)
        return table

    def take(self, segment: Segment) -> int:
        """Do what a segment says, and return where the next one may begin."""
        marker = segment.marker
        if marker in segments.FRAMES:
            self.start_frame(segment)
        elif marker == segments.SOS:
            return self.read_scan(segment)
        elif marker == segments.DQT:
            self.quantization |= segments.parse_dqt(segment.payload)
        elif marker == segments.DHT:
            self.huffman |= segments.parse_dht(segment.payload)
        elif marker == segments.DAC:
            self.conditioning |= segments.parse_dac(segment.payload)
        elif marker == segments.DRI:
            self.restart_interval = segments.parse_dri(segment.payload)
        elif marker in segments.APPLICATION or marker == segments.COM:
            self.keep_marker(segment)
        return segment.end

    def keep_marker(self, segment: Segment) -> None:
        """Two kinds of application segments decide the colour space, before the first scan; others are metadata."""
        marker, payload = segment.marker, segment.payload
        if marker == segments.APP0:
            if len(payload) >= 14 and payload.startswith(b"JFIF\0") and not self.visited:
                self.jfif, self.density = True, segments.parse_jfif(payload)
        elif marker == segments.APP14:
            if len(payload) >= 12 and payload.startswith(b"Adobe") and not self.visited:
                self.adobe_transform = payload[11]
        elif not (marker == segments.APP2 and payload.startswith(b"MPF\0")):
            # A multi-picture index holds offsets into this very file: it would be wrong in any other.
            self.metadata.append((marker, payload))


def select(frame: Frame, header: ScanHeader) -> list[Component]:
    """The components of a scan; as in libjpeg, a repeated identifier means the next component that has it."""
    chosen: list[Component] = []
    for selected in header.components:
        for component in frame.components:
            if component.header.identifier == selected.identifier and not any(component is c for c in chosen):
                chosen.append(component)
                break
        else:
            raise JPEGError(
                f"corrupt: a scan of component {selected.identifier}, which the frame does not have"
            )
    return chosen


def check_progression(header: ScanHeader) -> None:
    """DC alone, or a band of AC of one component; all bits above ``low``, or one more (T.81 G.1.1.1)."""
    components, first, last, high, low = header
    band = 0 < first <= last < 64 and len(components) == 1
    if not (band or first == last == 0) or low > 13 or (high and high != low + 1):
        raise JPEGError(f"corrupt: progressive scan of coefficients {first} to {last}, bits {high} to {low}")


def decode(data: bytes, max_pixels: int | None, strict: bool = True) -> Decoder:
    """Read a file up to its EOI marker; what follows is ignored.

    Raises:
        JPEGError: see :class:`JPEGError`.
    """
    if data[:2] != segments.marker(segments.SOI):
        raise JPEGError("not a JPEG file: it does not begin with FF D8")
    decoder = Decoder(data, max_pixels, strict)
    position = 2
    while True:
        segment = segments.next_segment(data, position)
        try:
            if segment.marker not in segments.KNOWN:
                raise JPEGError(f"corrupt: unexpected marker 0xFF{segment.marker:02X}")
            ended = segment.marker == segments.EOI or (segment.damage != "" and segment.end == len(data))
            if segment.damage and not ended and segment.marker not in segments.SKIPPED:
                raise JPEGError(segment.damage)
            if segment.damage:
                decoder.note(segment.damage)
            if ended:
                break
            position = decoder.take(segment)
        except JPEGError as error:
            # When libjpeg has read the one scan of a sequential file, it shows the picture, come what may.
            if strict or decoder.frame is None or not decoder.frame.ended:
                raise
            decoder.note(str(error))
            break
    if decoder.frame is None:
        raise JPEGError("corrupt: no frame header")
    if not decoder.frame.scans:
        raise JPEGError("truncated: the file ends before its first scan")
    if not decoder.frame.complete():
        decoder.note("truncated: the scans do not send every component")
    return decoder
