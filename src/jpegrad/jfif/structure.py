"""Every marker segment of a .jpg file, and its scans, without decoding (ITU-T T.81 Annex B)."""

from dataclasses import dataclass, field
from typing import NamedTuple

from jpegrad.entropy.huffman import HuffmanTable
from jpegrad.entropy.script import ProgressiveScan
from jpegrad.jfif import segments
from jpegrad.jfif.errors import JPEGError
from jpegrad.jfif.header import Carried, huffman_kind
from jpegrad.jfif.segments import FrameHeader, ScanHeader

NAMES = {
    segments.DQT: "DQT",
    segments.DHT: "DHT",
    segments.DAC: "DAC",
    segments.DRI: "DRI",
    segments.DNL: "DNL",
    segments.SOS: "SOS",
    0xDE: "DHP",
    0xDF: "EXP",
}


class FoundScan(NamedTuple):
    """A scan of a file.

    Args:
        sent: what it sends, as :func:`jpegrad.to_bytes` takes it for progressive files; a sequential scan sends all
            places.
        restart_interval: in MCUs; 0 if there are no restart markers.
        offset: where its entropy-coded data begin in the file.
        length: of these in bytes.
    """

    sent: ProgressiveScan
    restart_interval: int
    offset: int
    length: int


@dataclass(frozen=True)
class Structure:
    """What a .jpg file is made of.

    Args:
        segments: all marker segments in their order, with the names of T.81 or, of metadata, of what they hold.
        scans: in their order.
        process: as :class:`~jpegrad.jfif.header.Header` has it; None without a frame header.
        arithmetic: whether the entropy coding is arithmetic.
        quantization_tables: how many the file defines; one that is defined again counts again.
        huffman_tables: how many Huffman tables it defines, likewise.
        huffman: ``"default"``, Annex K's, or ``"own"``; None with arithmetic coding.
        end: where the bytes behind the EOI marker begin, or the file ends.
        trailing: how many bytes these are.
        fault: what is wrong with the markers, after which nothing is known; None if nothing is.
    """

    segments: tuple[Carried, ...] = field(repr=False)
    scans: tuple[FoundScan, ...]
    process: str | None
    arithmetic: bool
    quantization_tables: int
    huffman_tables: int
    huffman: str | None
    end: int
    trailing: int
    fault: str | None

    @property
    def script(self) -> str:
        """The scans as cjpeg's and jpegtran's ``-scans`` take them, one a line."""
        lines = []
        for components, first, last, high, low in (scan.sent for scan in self.scans):
            line = ",".join(map(str, components))
            if self.process == "progressive":
                line += f": {first}-{last}, {high}, {low}"
            lines.append(f"{line};\n")
        return "".join(lines)


@dataclass
class _Walk:
    """State while the segments of a file go by."""

    data: bytes
    position: int = 2
    found: list[Carried] = field(default_factory=list)
    scans: list[FoundScan] = field(default_factory=list)
    frame: FrameHeader | None = None
    marker: int | None = None
    quantization: int = 0
    huffman: list[tuple[int, HuffmanTable]] = field(default_factory=list)
    restart_interval: int = 0

    def step(self) -> bool:
        """Take the next segment; false at EOI."""
        marker, payload, end, damage = segments.next_segment(self.data, self.position)
        if damage:
            raise JPEGError(damage)
        self.position = end
        if marker == segments.EOI:
            return False
        self.found.append(Carried(marker, _name(marker, payload), end - len(payload), len(payload)))
        if marker in segments.FRAMES:
            # Of a hierarchical file the first says what it is.
            self.marker = marker if self.marker is None else self.marker
            self.frame = segments.parse_sof(payload)
        elif marker == segments.DQT:
            self.quantization += len(segments.parse_dqt(payload))
        elif marker == segments.DHT:
            self.huffman += [(kind, table) for (kind, _), table in segments.parse_dht(payload).items()]
        elif marker == segments.DRI:
            self.restart_interval = segments.parse_dri(payload)
        elif marker == segments.SOS:
            self.scan(segments.parse_sos(payload))
        return True

    def scan(self, header: ScanHeader) -> None:
        if self.frame is None:
            raise JPEGError("corrupt: a scan before the frame header")
        start, self.position = self.position, segments.scan_end(self.data, self.position)
        components = _indices(self.frame, header)
        progressive = self.marker in (segments.SOF2, segments.SOF10)
        sent = ProgressiveScan(components, *(header[1:] if progressive else (0, 63, 0, 0)))
        self.scans.append(FoundScan(sent, self.restart_interval, start, self.position - start))


def walk(data: bytes) -> Structure:
    """The structure of a file.

    Raises:
        JPEGError: it does not begin as a .jpg file.
    """
    if data[:2] != segments.marker(segments.SOI):
        raise JPEGError("not a JPEG file: it does not begin with FF D8")
    state, fault = _Walk(data), None
    try:
        while state.step():
            pass
        if state.frame is None:
            fault = "corrupt: no frame header"
    except JPEGError as error:
        fault, state.position = str(error), len(data)
    process, arithmetic = segments.process_of(state.marker)
    return Structure(
        segments=tuple(state.found),
        scans=tuple(state.scans),
        process=process,
        arithmetic=arithmetic,
        quantization_tables=state.quantization,
        huffman_tables=len(state.huffman),
        huffman=None if arithmetic or state.marker is None else huffman_kind(state.huffman),
        end=state.position,
        trailing=len(data) - state.position,
        fault=fault,
    )


def _indices(frame: FrameHeader, header: ScanHeader) -> tuple[int, ...]:
    """As in libjpeg, a repeated identifier means the next component that has it."""
    chosen: list[int] = []
    for selected in header.components:
        for i, component in enumerate(frame.components):
            if component.identifier == selected.identifier and i not in chosen:
                chosen.append(i)
                break
        else:
            raise JPEGError(
                f"corrupt: a scan of component {selected.identifier}, which the frame does not have"
            )
    return tuple(chosen)


def _name(marker: int, payload: bytes) -> str:
    if marker in segments.FRAMES:
        return f"SOF{marker & 15}"
    if marker in segments.APPLICATION or marker == segments.COM:
        return segments.kind(marker, payload)
    return NAMES.get(marker, f"FF{marker:02X}")
