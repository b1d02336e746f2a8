"""Files read: equal to Pillow's decoding over the whole corpus, and the documented error for everything else."""

import contextlib
import dataclasses
import struct
import time
import tracemalloc
from array import array
from collections.abc import Sequence

import jpeglib
import numpy as np
import pytest
import torch

import jpegrad
from corpus import (
    COMMENT,
    EXIF,
    corpus,
    join,
    libjpeg,
    noise,
    picture,
    pillow,
    pillow_pixels,
    separate_scans,
    split,
    tensor,
    with_16_bit_tables,
    without,
)
from jpegrad.backends import native
from jpegrad.entropy.huffman import AC_LUMA, HuffmanTable
from jpegrad.io import read, to_bytes
from jpegrad.jfif import JPEGError, arithmetic, segments
from jpegrad.jfif.decode import BLOCKS_PER_BYTE
from jpegrad.jfif.errors import refuse
from jpegrad.jfif.lookup import lookup
from jpegrad.jfif.segments import FrameComponent, ScanComponent
from jpegrad.sampling import SUBSAMPLING, sampling_factors
from jpegrad.spec import RGB


@pytest.fixture(autouse=True, params=("native", "reference"))
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test reads with the native decoder and with the one in Python."""
    if request.param == "native" and not native.level_kernels(torch.empty(0)):
        pytest.skip("no native kernel here")
    monkeypatch.setenv("JPEGRAD_BACKEND", request.param)


def pixels(coefficients: jpegrad.Coefficients) -> np.ndarray:
    # Kernels have the named modes.
    backend = "auto" if coefficients.subsampling in SUBSAMPLING else "reference"
    return jpegrad.decode(coefficients, dtype=torch.uint8, backend=backend).numpy()


def patch(data: bytes, marker: int, offset: int, value: int) -> bytes:
    """One byte of the payload of the first such segment replaced."""
    at = data.index(bytes((0xFF, marker))) + 4 + offset
    return data[:at] + bytes((value,)) + data[at + 1 :]


@pytest.fixture(scope="module")
def plain() -> bytes:
    return pillow(picture(24, 40), quality=75)


@pytest.fixture(scope="module")
def progressive() -> bytes:
    return pillow(picture(24, 40), quality=75, progressive=True)


@pytest.mark.parametrize("name", corpus())
def test_decodes_equal_to_pillow(name: str) -> None:
    data = corpus()[name]
    assert np.array_equal(pixels(read(data)), pillow_pixels(data))


@pytest.mark.parametrize("name", corpus())
def test_survives_our_own_writing(name: str) -> None:
    coefficients = read(corpus()[name])
    if sum(h * v for h, v in sampling_factors(coefficients.channels, coefficients.subsampling)) > 10:
        with pytest.raises(ValueError, match="at most 10 blocks in an MCU"):
            to_bytes(coefficients)
        return
    for progressive in (False, True):
        again = read(to_bytes(coefficients, progressive=progressive))
        assert all(torch.equal(x, y) for x, y in zip(again.levels, coefficients.levels, strict=True))
        assert torch.equal(again.tables, coefficients.tables)
        assert (again.size, again.subsampling) == (coefficients.size, coefficients.subsampling)
        assert (again.color, again.metadata) == (coefficients.color, coefficients.metadata)


@pytest.mark.parametrize("mode", SUBSAMPLING)
def test_levels_of_all_entropy_codings_are_those_of_the_encoder(mode: str) -> None:
    image = picture(50, 70)
    expected = jpegrad.encode(tensor(image), quality=75, subsampling=mode)
    files = [separate_scans(expected), to_bytes(expected, huffman="optimized")]
    if mode in ("4:4:4", "4:2:2", "4:2:0"):
        files += [
            pillow(image, quality=75, subsampling=mode, progressive=p, restart_marker_blocks=r)
            for p in (0, 1)
            for r in (0, 1, 7)
        ]
    for data in files:
        found = read(data)
        assert found.subsampling == mode
        # Separate scans have a table each.
        assert torch.equal(found.tables[:2], expected.tables)
        assert all(torch.equal(x, y) for x, y in zip(found.levels, expected.levels, strict=True))


def test_levels_equal_those_that_libjpeg_gives_out(tmp_path: object) -> None:
    path = f"{tmp_path}/picture.jpg"
    coded = {"mozjpeg403": [()], "9f": [(), ("+ARITH_CODE",), ("+ARITH_CODE", "+PROGRESSIVE_MODE")]}
    for version, flags in [(version, flags) for version, several in coded.items() for flags in several]:
        factors = [(2, 2), (1, 1), (1, 1)] if version == "mozjpeg403" else [(1, 1)] * 3
        with open(path, "wb") as file:
            file.write(libjpeg(noise(33, 50), version, factors, *flags))
        with jpeglib.version(version):
            theirs = jpeglib.read_dct(path)
            theirs.load()
        ours = read(path)
        for component, level in zip((theirs.Y, theirs.Cb, theirs.Cr), ours.levels, strict=True):
            assert np.array_equal(component, level.numpy())
        assert np.array_equal(theirs.qt, ours.tables.numpy())


def test_color_space_is_recognised_as_libjpeg_does() -> None:
    files = corpus()
    rgb = {"pillow rgb", "pillow rgb progressive", "rgb by identifiers", "Adobe 0"}
    for name in [
        *rgb,
        "JFIF and Adobe 0",
        "Adobe 1",
        "Adobe 2",
        "no JFIF header",
        "separate scans identifiers 82 83 84",
    ]:
        assert read(files[name]).color == (RGB if name in rgb else None), name


def test_metadata() -> None:
    data = corpus()["pillow metadata"]
    assert read(data).metadata[0] == (0xE1, EXIF)
    assert read(data).metadata[-1] == (0xFE, COMMENT)
    assert read(corpus()["comment after the scan"]).metadata == ((0xFE, COMMENT),)
    index = segments.segment(0xE2, b"MPF\0" + bytes(20))
    assert read(data[:2] + index + data[2:]).metadata == read(data).metadata


@pytest.mark.parametrize("marker", [m for m in segments.FRAMES if m not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)])
def test_other_processes_are_not_supported(plain: bytes, marker: int) -> None:
    kind = {3: "lossless", 11: "lossless"}.get(marker & 15, "hierarchical")
    with pytest.raises(JPEGError, match=f"not supported: {kind}"):
        read(plain.replace(b"\xff\xc0", bytes((0xFF, marker)), 1))


def frame_file(*factors: tuple[int, int]) -> bytes:
    """A frame header alone, of components with these (h, v)."""
    components = [FrameComponent(i, h, v, 0) for i, (h, v) in enumerate(factors)]
    return b"".join([b"\xff\xd8", segments.emit_sof((16, 16), components), bytes(100), b"\xff\xd9"])


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ([(1, 1)] * 2, "2 components"),
        ([(1, 1)] * 5, "5 components"),
        ([], "0 components"),
        ([(3, 1), (2, 1), (2, 1)], "3x1, 2x1, 2x1"),
    ],
)
def test_other_components_and_sampling_factors_are_not_supported(
    factors: list[tuple[int, int]], message: str
) -> None:
    with pytest.raises(JPEGError, match=f"not supported: .*{message}"):
        read(frame_file(*factors))


def test_other_precision_and_late_height_are_not_supported(plain: bytes) -> None:
    with pytest.raises(JPEGError, match="not supported: 12 bits"):
        read(patch(plain, segments.SOF0, 0, 12))
    with pytest.raises(JPEGError, match=r"not supported: .*DNL"):
        read(patch(plain, segments.SOF0, 2, 0))


@pytest.mark.parametrize("kind", ["plain", "progressive", "restart", "separate"])
def test_every_truncation_raises(kind: str) -> None:
    image = picture(17, 19)
    data = {
        "plain": pillow(image),
        "progressive": pillow(image, progressive=True),
        "restart": pillow(image, restart_marker_blocks=1),
        "separate": separate_scans(jpegrad.encode(tensor(image), quality=75)),
    }[kind]
    read(data)
    # After its first scan a progressive file may end with any segment, or a fill byte behind it.
    ends = set()
    if kind == "progressive":
        parts = split(data)
        scan = [marker for marker, _ in parts].index(segments.SOS)
        ends = {2 + sum(len(part) for _, part in parts[:end]) for end in range(scan + 1, len(parts))}
        ends |= {end + 1 for end in ends}
    for length in range(len(data)):
        with pytest.raises(JPEGError, match="truncated" if length > 1 else "not a JPEG file"):
            read(data[:length])
        if length > 1 and length not in ends:
            # With an EOI after the cut, what is missing is noticed by counting. A cut through a marker is corrupt.
            with pytest.raises(JPEGError):
                read(data[: min(length, len(data) - 4)] + b"\xff\xd9")


def test_missing_scans_raise(progressive: bytes) -> None:
    parts = split(progressive)
    scans = [i for i, (marker, _) in enumerate(parts) if marker == segments.SOS]
    # Of the standard script, the scans that another refines, or without which there is no picture.
    for scan in scans[:6]:
        with pytest.raises(JPEGError, match=r"truncated|repeats or skips"):
            read(join(parts[:scan] + parts[scan + 1 :]))
    for scan in scans:
        with pytest.raises(JPEGError, match="repeats or skips"):
            read(join(parts[: scan + 1] + parts[scan:]))


@pytest.mark.parametrize(
    ("marker", "offset", "value", "message"),
    [
        (segments.DQT, 0, 0x24, "DQT"),
        (segments.DQT, 5, 0, "entry 0"),
        (segments.DHT, 0, 0x20, "DHT"),
        (segments.DHT, 3, 200, "DHT|prefix code"),
        (segments.DHT, 17, 0x71, "symbol above 15"),
        (segments.SOF0, 4, 0, "without columns"),
        (segments.SOF0, 5, 4, "wrong length of the frame header"),
        (segments.SOF0, 8, 9, "quantization table 9 is missing"),
        (segments.SOF0, 7, 0x52, "sampling factors"),
        (segments.SOS, 0, 2, "wrong length of a scan header"),
        (segments.SOS, 1, 77, "component 77"),
        (segments.SOS, 2, 0x33, "Huffman table 3 is missing"),
    ],
)
def test_corrupt_headers(plain: bytes, marker: int, offset: int, value: int, message: str) -> None:
    with pytest.raises(JPEGError, match=message):
        read(patch(plain, marker, offset, value))


def test_corrupt_progressions(progressive: bytes) -> None:
    for offset, value in ((7, 5), (8, 9), (9, 0x21), (9, 0x0E), (8, 64)):
        with pytest.raises(JPEGError, match=r"progressive scan|repeats or skips"):
            read(patch(progressive, segments.SOS, offset, value))
    with pytest.raises(JPEGError, match="Huffman table 0 is missing"):
        read(without(progressive, segments.DHT))


def test_more_corrupt_structure(plain: bytes) -> None:
    parts = split(plain)
    kinds = [marker for marker, _ in parts]
    frame, scan = kinds.index(segments.SOF0), kinds.index(segments.SOS)
    cases = {
        "not a JPEG file": b"GIF89a" + plain,
        "more than one frame header": join(parts[: frame + 1] + parts[frame:]),
        "a scan before the frame header": join(parts[:frame] + parts[frame + 1 :]),
        "no frame header": b"\xff\xd8\xff\xd9",
        "quantization table 0 is missing": without(plain, segments.DQT),
        "before its first scan": without(plain, segments.SOS),
        "repeats or skips": join(parts[: scan + 1] + parts[scan:]),
        "unexpected marker 0xFFD8": plain[:2] + plain,
        "unexpected marker 0xFF02": join([(2, b"\xff\x02\0\2"), *parts]),
        "restart interval segment": join([(segments.DRI, segments.segment(segments.DRI, b"\0")), *parts]),
        "length 1 of the segment": join([(segments.COM, b"\xff\xfe\0\1"), *parts]),
        "truncated: inside the segment": join([(segments.COM, b"\xff\xfe\xff\xff"), *parts]),
    }
    for message, data in cases.items():
        with pytest.raises(JPEGError, match=message):
            read(data)


def test_restart_markers_are_checked() -> None:
    data = pillow(picture(24, 40), restart_marker_blocks=1)
    with pytest.raises(JPEGError, match="restart marker 1 is out of order"):
        read(data.replace(b"\xff\xd1", b"\xff\xd2"))
    with pytest.raises(JPEGError, match="truncated: 5 restart intervals, expected 6"):
        read(data.replace(b"\xff\xd4", b""))


def entropy_file(data: bytes, blocks: int = 1, marker: int = segments.SOF0, **scan: int) -> bytes:
    """A gray file of 8×8·blocks pixels whose scan holds ``data``, with the luma tables of Annex K."""
    ones = segments.emit_dqt(0, [1] * 64)
    frame = segments.emit_sof((8, 8 * blocks), [FrameComponent(1, 1, 1, 0)]).replace(
        b"\xff\xc0", bytes((0xFF, marker))
    )
    huffman = segments.emit_dht(1, 0, AC_LUMA.counts, AC_LUMA.symbols)
    huffman += segments.emit_dht(0, 0, (0, 1, 5, *[1] * 9, *[0] * 4), tuple(range(15)))
    header = segments.emit_sos([ScanComponent(1, 0, 0)])
    header = header[:-3] + bytes((scan.get("first", 0), scan.get("last", 63), scan.get("bits", 0)))
    return b"".join([b"\xff\xd8", ones, frame, huffman, header, data, bytes(0), b"\xff\xd9"])


def bit_bytes(bits: str) -> bytes:
    padded = bits + "1" * (-len(bits) % 8)
    return int(padded or "0", 2).to_bytes(len(padded) // 8, "big").replace(b"\xff", b"\xff\0")


def test_corrupt_entropy_coded_data() -> None:
    codes = {symbol: f"{code:0{length}b}" for symbol, (code, length) in AC_LUMA.codes().items()}
    zero = "00"
    read(entropy_file(bit_bytes(zero + codes[0])))
    assert (
        read(entropy_file(bit_bytes(zero + codes[0xF0] * 3 + codes[0xE1] + "1"))).levels[0].flatten()[-1] == 1
    )
    cases = {
        "leaves its block": [zero + codes[0xF0] * 4, zero + codes[0xF0] * 3 + codes[0xF1] + "1"],
        "no Huffman code": [zero + "1" * 16 + "0" * 99, "1" * 60],
        "truncated": ["", "0", zero, zero + codes[0xF0] + codes[0x0A] + "1"],
    }
    for message, several in cases.items():
        for bits in several:
            with pytest.raises(JPEGError, match=message):
                read(entropy_file(bit_bytes(bits)))


def test_dc_levels_that_run_away_raise() -> None:
    # Size 14, the largest difference, in every block.
    code = HuffmanTable((0, 1, 5, *[1] * 9, *[0] * 4), tuple(range(15))).codes()[14]
    block = f"{code[0]:0{code[1]}b}" + "1" * 14 + "1010"
    assert read(entropy_file(bit_bytes(block * 2), 2)).levels[0][0, 1, 0, 0] == 2 * 16383
    with pytest.raises(JPEGError, match="DC level leaves 16 bits"):
        read(entropy_file(bit_bytes(block * 3), 3))


def progressive_file(*scans: tuple[int, int, int, str]) -> bytes:
    """A progressive gray file of one block: scans of (first, last, high and low bit, data).

    Code 0 is DC size 0; of AC codes, 0 is a level of 15 bits, 10 the end of the block, 110 the end of 2 or 3 blocks,
    1110 a level of 2 bits, 11110 of 1 bit.
    """
    ones = segments.emit_dqt(0, [1] * 64)
    frame = segments.emit_sof((8, 8), [FrameComponent(1, 1, 1, 0)]).replace(b"\xff\xc0", b"\xff\xc2")
    tables = segments.emit_dht(0, 0, (1, *[0] * 15), (0,))
    tables += segments.emit_dht(1, 0, (1, 1, 1, 1, 1, *[0] * 11), (0x0F, 0x00, 0x10, 0x02, 0x01))
    parts = [b"\xff\xd8", ones, frame, tables]
    for first, last, bits, data in scans:
        parts += [
            segments.emit_sos([ScanComponent(1, 0, 0)])[:-3],
            bytes((first, last, bits)),
            bit_bytes(data),
        ]
    return b"".join([*parts, bytes(0), b"\xff\xd9"])


def test_ac_levels_that_leave_16_bits_raise() -> None:
    dc, first = (0, 0, 0x00, "0"), (1, 63, 0x01, "0" + f"{(1 << 15) - 1 - (1 << 14):015b}" + "10")
    # -2^14 at bit 1 is -2^15 as a level; one bit more of it leaves 16 bits, and so does bit 2 at once.
    assert read(progressive_file(dc, first, (1, 63, 0x10, "100"))).levels[0][0, 0, 0, 1] == -(1 << 15)
    for wrong in ([first, (1, 63, 0x10, "101")], [(1, 63, 0x02, first[3])]):
        with pytest.raises(JPEGError, match="an AC level leaves 16 bits"):
            read(progressive_file(dc, *wrong))


def test_corrupt_progressive_data() -> None:
    dc, ended = (0, 0, 0x00, "0"), "10"
    read(progressive_file(dc, (1, 63, 0x01, ended), (1, 63, 0x10, ended)))
    # A band that its last level fills has no end.
    bands = [
        (1, 2, 0x01, ended),
        (3, 63, 0x01, ended),
        (1, 2, 0x10, "111101" + "111100"),
        (3, 63, 0x10, ended),
    ]
    assert read(progressive_file(dc, *bands)).levels[0].flatten()[[1, 8]].tolist() == [1, -1]
    for message, scans in {
        "leaves its block": [
            [(1, 63, 0x00, "1100")],
            [(1, 63, 0x01, ended), (1, 63, 0x10, "1100")],
        ],
        "no meaning": [[(1, 63, 0x01, ended), (1, 63, 0x10, "1110" + "11" + ended)]],
        "no Huffman code": [[(1, 63, 0x00, "1111")], [(1, 63, 0x01, ended), (1, 63, 0x10, "1111")]],
        "truncated": [[(1, 63, 0x00, "")], [(1, 63, 0x01, ended), (1, 63, 0x10, "")]],
    }.items():
        for several in scans:
            with pytest.raises(JPEGError, match=message):
                read(progressive_file(dc, *several))


def test_one_bit_that_is_missing() -> None:
    whole = "00" + "001" + "1010"
    assert read(entropy_file(bit_bytes(whole))).levels[0].flatten()[1] == 1
    with pytest.raises(JPEGError, match="truncated"):
        read(entropy_file(bit_bytes(whole[:8])))


def test_restart_markers_behind_the_last_interval() -> None:
    plain = pillow(picture(24, 40), restart_marker_blocks=1)
    for added, right in (((5,), True), ((5, 6, 7), True), ((4,), False), ((5, 7), False)):
        data = plain[:-2] + b"".join(bytes((0xFF, 0xD0 + i)) for i in added) + plain[-2:]
        if right:
            assert np.array_equal(pixels(read(data)), pillow_pixels(plain))
        else:
            with pytest.raises(JPEGError, match="out of order"):
                read(data)


def test_conditioning_of_arithmetic_coding(tmp_path: object) -> None:
    path, read_alike = f"{tmp_path}/picture.jpg", 0
    for seed in range(12):
        plain = libjpeg(noise(8, 8, seed), "turbo210", [(1, 1)] * 3, "+ARITH_CODE")
        begin = plain.index(b"\xff\xc9")

        def conditioned(payload: bytes, plain: bytes = plain, begin: int = begin) -> bytes:
            return (
                plain[:begin] + segments.segment(segments.DAC, payload) + without(plain, segments.DAC)[begin:]
            )

        default = read(conditioned(bytes((0x00, 0x10, 0x01, 0x10, 0x10, 5, 0x11, 5)))).levels
        assert all(map(torch.equal, default, read(plain).levels))
        # Read with other conditioning the data mean something else, if anything.
        other = conditioned(bytes((0x00, 0x43, 0x01, 0x52, 0x10, 60, 0x11, 1)))
        with open(path, "wb") as file:
            file.write(other)
        try:
            ours = read(path).levels
        except JPEGError:
            continue
        with jpeglib.version("turbo210"):
            theirs = jpeglib.read_dct(path)
            theirs.load()
        for component, level in zip((theirs.Y, theirs.Cb, theirs.Cr), ours, strict=True):
            assert np.array_equal(component, level.numpy())
        read_alike += not all(map(torch.equal, ours, default))
    assert read_alike > 3
    for wrong in (b"\0", b"\x04\x10", b"\x20\x10", b"\x00\x01", b"\x10\x00", b"\x10\x40"):
        with pytest.raises(JPEGError, match="DAC"):
            read(conditioned(wrong))


class Forger(arithmetic.Decoder):
    """Codes the decisions that a decoder is to find (T.81 D.1, in integers of any length)."""

    def __init__(self, decisions: Sequence[int]) -> None:
        super().__init__(b"", [], bytes(16) + bytes([1] * 16) + bytes([5] * 16), refuse)
        self.decisions, self.bottom, self.bits = iter(decisions), 0, 16

    def decide(self, bins: bytearray, at: int) -> int:
        symbol = next(self.decisions)
        part, after_less, after_more = arithmetic.STATES[bins[at] & 0x7F]
        less, lower = symbol != bins[at] >> 7, self.interval - part
        upper = less != (lower < part)
        self.bottom, self.interval = (self.bottom + lower, part) if upper else (self.bottom, lower)
        if self.interval < 0x8000:
            bins[at] = bins[at] & 0x80 ^ (after_less if less else after_more)
        while self.interval < 0x8000:
            self.interval, self.bottom, self.bits = 2 * self.interval, 2 * self.bottom, self.bits + 1
        return symbol

    def data(self) -> bytes:
        padding = -self.bits % 8
        return (
            (self.bottom << padding).to_bytes((self.bits + padding) // 8, "big").replace(b"\xff", b"\xff\0")
        )


def forged(*blocks: tuple[list[int], list[int]], first: int = 0, last: int = 63) -> bytes:
    """A file of blocks with these decisions for DC and for AC; or of the AC of a progressive scan."""
    forger = Forger([decision for block in blocks for decisions in block for decision in decisions])
    part = arithmetic.Part(0, array("h", bytes(2 * 80 * len(blocks))), 0, 0)
    for i in range(len(blocks)):
        with contextlib.suppress(JPEGError, StopIteration, OverflowError):
            if not first:
                forger.read_dc(part)
            forger.read_ac(part, 64 * i, max(first, 1), last, 0)
    marker = segments.SOF10 if first else segments.SOF9
    whole = entropy_file(forger.data(), len(blocks), marker, first=first, last=last)
    if first:
        dc = segments.emit_sos([ScanComponent(1, 0, 0)])[:-3] + bytes(3)
        at = whole.index(b"\xff\xda")
        whole = whole[:at] + dc + bytes(8) + whole[at:]
    return whole


def test_impossible_levels_in_arithmetic_coded_data() -> None:
    # A difference of 16385: nonzero, positive, not 1, 14 steps of size, 14 bits below the highest.
    large = [1, 0, 1, *[1] * 14, 0, *[0] * 14]
    assert read(forged((large, [1]))).levels[0][0, 0, 0, 0] == 16385
    level = [0, 1, 0, 1, 1, 1, 0, 0, 1]  # 6 or 7: size 4, bits 0 and 1
    assert read(forged(([0], [*level, 1]))).levels[0][0, 0, 0, 1] == 6
    for message, files in {
        "DC level leaves 16 bits": [
            forged((large, [1]), (large, [1])),
            forged(([1, 0, 1, *[1] * 15], [])),
        ],
        "AC level leaves 16 bits": [forged(([0], [0, 1, 0, 1, 1, *[1] * 14]))],
        "leaves its block": [
            forged(([0], [0, *[0] * 63])),
            forged(([], [0, *[0] * 5]), first=1, last=5),
            forged(([], [0, *[0] * 5, 1, 0, 0, 1]), first=1, last=5),
        ],
    }.items():
        for data in files:
            with pytest.raises(JPEGError, match=message):
                read(data)


def test_damage_in_arithmetic_coded_data() -> None:
    for flags in (("+ARITH_CODE",), ("+ARITH_CODE", "+PROGRESSIVE_MODE")):
        data = libjpeg(picture(59, 83), "turbo210", [(2, 2), (1, 1), (1, 1)], *flags)
        with pytest.raises(JPEGError, match="truncated"):
            read(data[:-300])
        start, rng, refused = data.index(b"\xff\xda") + 14, np.random.default_rng(0), 0
        for _ in range(60):
            changed = bytearray(data)
            changed[int(rng.integers(start, len(data) - 2))] ^= 1 << int(rng.integers(8))
            try:
                read(bytes(changed))
            except JPEGError:
                refused += 1
        assert refused


def test_huffman_tables_that_are_no_prefix_code() -> None:
    good = HuffmanTable((0, 2, *[0] * 14), (1, 2))
    assert lookup(good).codes[0] == 2 << 8 | 1
    for counts, symbols in (
        ((2, *[0] * 15), (1, 2)),
        ((0, 4, *[0] * 14), (1, 2, 3, 4)),
        ((0, 3, 3, *[0] * 13), tuple(range(6))),
    ):
        with pytest.raises(JPEGError, match="prefix code"):
            lookup(HuffmanTable(counts, symbols))


def test_progressive_fields_of_a_sequential_scan_mean_nothing(plain: bytes) -> None:
    for offset, value in ((7, 34), (8, 0), (9, 0x11)):
        assert np.array_equal(pixels(read(patch(plain, segments.SOS, offset, value))), pillow_pixels(plain))


def test_max_pixels(plain: bytes) -> None:
    assert read(plain, max_pixels=24 * 40).size == (24, 40)
    assert read(plain, max_pixels=None).size == (24, 40)
    with pytest.raises(JPEGError, match="24 x 40 pixels exceeds max_pixels=959"):
        read(plain, max_pixels=24 * 40 - 1)


@pytest.mark.parametrize("max_pixels", [None, 178_956_970])
def test_large_frames_in_small_files_cost_no_memory(plain: bytes, max_pixels: int | None) -> None:
    at = plain.index(b"\xff\xc0") + 5
    for side in (13000, 65535):
        huge = plain[:at] + struct.pack(">HH", side, side) + plain[at + 4 :]
        tracemalloc.start()
        with pytest.raises(JPEGError, match=r"cannot hold|max_pixels"):
            read(huge, max_pixels=max_pixels)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def test_scan_bombs_are_refused() -> None:
    """Scans that cost a few bytes each, over a frame as large as the file's length lets pass."""
    blocks = 8000
    ones = segments.emit_dqt(0, [1] * 64)
    frame = segments.emit_sof((8, 8 * blocks), [FrameComponent(1, 1, 1, 0)]).replace(b"\xff\xc0", b"\xff\xc2")
    # A code of one bit for "the band ends here in this and the next 4096…8191 blocks".
    huffman = segments.emit_dht(1, 0, (1, *[0] * 15), (0xC0,))
    bomb = [b"\xff\xd8", segments.segment(segments.COM, bytes(1000)), ones, frame, huffman]
    for first in range(1, 64):
        scan = segments.emit_sos([ScanComponent(1, 0, 0)])[:-3] + bytes((first, first, 0))
        bomb += [scan, bit_bytes("0" + f"{blocks - 4096:012b}")]
    data = b"".join([*bomb, b"\xff\xd9"])
    assert 63 * blocks > BLOCKS_PER_BYTE * 1000
    start = time.perf_counter()
    with pytest.raises(JPEGError, match="decompression bomb"):
        read(data + bytes(0), max_pixels=None)
    assert time.perf_counter() - start < 5


def test_fill_bytes_take_linear_time(plain: bytes) -> None:
    start = time.perf_counter()
    for filling in (b"\xff" * 1_000_000, b"\xff" * 1_000_000 + b"\0", b"\xff\0" * 500_000):
        assert np.array_equal(pixels(read(plain[:2] + filling + plain[2:])), pillow_pixels(plain))
        # In the data of a scan, fill bytes before a stuffed one are damage.
        strict = not filling.endswith(b"\xff\xff\0")
        found = read(plain[:-2] + filling + plain[-2:], strict=strict)
        assert np.array_equal(pixels(found), pillow_pixels(plain)) and (found.damage == ()) == strict
    assert time.perf_counter() - start < 10


def test_sixteen_bit_entries_are_read_as_they_are() -> None:
    data = pillow(picture(24, 40), quality=10)
    wide = read(with_16_bit_tables(data, 7))
    assert torch.equal(wide.tables, 7 * read(data).tables)
    assert torch.equal(wide.levels[0], read(data).levels[0])


def test_a_table_that_all_components_share_is_given_once() -> None:
    coefficients = read(corpus()["pillow rgb"])
    assert coefficients.tables.shape == (1, 8, 8)
    again = read(to_bytes(dataclasses.replace(coefficients, color=None)))
    assert again.color is None
