"""What read_header says: what read says, of files that read refuses too, and from as few bytes as it needs."""

import array
import io
import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import jpegrad
from corpus import (
    COMMENT,
    ICC,
    corpus,
    exif,
    join,
    libjpeg,
    noise,
    picture,
    pillow,
    separate_scans,
    split,
    tensor,
    with_segments,
    without,
)
from jpegrad.io import read, read_header
from jpegrad.jfif import JPEGError, segments


@pytest.mark.parametrize("name", corpus())
def test_header_says_what_the_whole_file_says(name: str) -> None:
    data = corpus()[name]
    header, whole = read_header(data), read(data)
    assert header.size == whole.size
    assert (header.components, header.subsampling) == (whole.channels, whole.subsampling)
    assert header.color == whole.space
    assert header.density == whole.density
    assert (header.precision, header.arithmetic) == (8, "arithmetic" in name)
    assert header.progressive == any(
        bytes((0xFF, marker)) in data[: data.index(b"\xff\xda")] for marker in (0xC2, 0xCA)
    )
    before_scans = [
        (each.marker, data[each.offset : each.offset + each.length])
        for each in header.metadata
        if each.kind != "multi-picture index"
    ]
    assert tuple(before_scans) == whole.metadata[: len(before_scans)]
    if "redefined" in name:
        # The first scan knows one table only, which serves it alone.
        assert header.tables is not None
        assert torch.equal(header.tables[0], whole.tables[0])
    else:
        assert header.tables is not None
        assert torch.equal(header.tables, whole.tables)
        assert header.quality is not None


def test_fields_of_a_photograph() -> None:
    image = picture(40, 56)
    data = pillow(
        image,
        quality=83,
        exif=exif(6),
        icc_profile=ICC,
        comment=COMMENT,
        dpi=(300, 300),
        restart_marker_blocks=5,
    )
    header = read_header(data)
    assert header.size == (40, 56)
    assert (header.process, header.subsampling, header.sampling) == (
        "baseline",
        "4:2:0",
        ((2, 2), (1, 1), (1, 1)),
    )
    assert (header.restart_interval, header.density, header.orientation) == (5, (300, 300, "inch"), 6)
    assert [each.kind for each in header.metadata] == ["Exif", "ICC profile", "comment"]
    assert header.quality is not None
    assert (header.quality.quality, header.quality.exact) == (83, True)
    assert "size=(40, 56)" in repr(header)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("value", range(10))
def test_orientation(value: int, order: str) -> None:
    data = with_segments(
        pillow(picture(8, 8)), (0xE1, b"http://ns.adobe.com/xap/1.0/\0"), (0xE1, exif(value, order))
    )
    assert read_header(data).orientation == (value if 1 <= value <= 8 else None)


def test_damaged_exif_has_no_orientation() -> None:
    whole = exif(6)
    for length in range(6, len(whole) - 16):
        assert read_header(with_segments(pillow(picture(8, 8)), (0xE1, whole[:length]))).orientation is None


def test_files_that_read_refuses() -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (17, 9)).save(buffer, "JPEG", quality=60)
    cmyk = read_header(buffer.getvalue())
    assert (cmyk.color, cmyk.size, cmyk.components, cmyk.subsampling) == (
        "CMYK",
        (9, 17),
        4,
        "1x1,1x1,1x1,1x1",
    )
    assert cmyk.quality is not None
    assert cmyk.quality.quality == 60
    plain = pillow(picture(24, 40), quality=70)
    at = plain.index(b"\xff\xc0")

    def forged(offset: int, value: int) -> bytes:
        return plain[: at + offset] + bytes((value,)) + plain[at + offset + 1 :]

    assert read_header(forged(4, 12)).precision == 12
    assert read_header(forged(6, 0)).size == (0, 40)
    odd = read_header(forged(11, 0x42))
    assert (odd.sampling, odd.subsampling) == (((4, 2), (1, 1), (1, 1)), "4x2,1x1,1x1")
    for marker, process, arithmetic in (
        (0xC1, "extended sequential", False),
        (0xC3, "lossless", False),
        (0xC5, "hierarchical", False),
        (0xC9, "extended sequential", True),
        (0xCA, "progressive", True),
        (0xCB, "lossless", True),
    ):
        header = read_header(forged(1, marker))
        assert (header.process, header.arithmetic) == (process, arithmetic)
    # The data of the scan are never looked at.
    assert read_header(plain[: plain.index(b"\xff\xda") + 4]).size == (24, 40)
    missing = read_header(without(plain, segments.DQT))
    assert (missing.tables, missing.quality) == (None, None)


def test_colors_are_those_of_libjpeg() -> None:
    parts = split(pillow(picture(16, 16)))

    def adobe(transform: int, *rest: bytes) -> bytes:
        return join(
            [(0xEE, segments.segment(0xEE, b"Adobe" + bytes((0, 100, 0, 0, 0, 0, transform)))), *parts[1:]]
        )

    assert [read_header(adobe(i)).color for i in range(3)] == ["RGB", "YCbCr", "YCbCr"]
    assert read_header(corpus()["rgb by identifiers"]).color == "RGB"
    rgb = read_header(pillow(picture(16, 16), keep_rgb=True, quality=80))
    assert rgb.color == "RGB"
    # Its components are all coded as luma.
    assert rgb.quality is not None
    assert (rgb.quality.quality, rgb.quality.exact) == (80, True)


def test_damaged_headers_raise() -> None:
    plain = pillow(picture(24, 40))
    scan = plain.index(b"\xff\xda")
    for length in range(scan):
        with pytest.raises(JPEGError, match="truncated" if length > 1 else "not a JPEG file"):
            read_header(plain[:length])
    with pytest.raises(JPEGError, match="no frame header"):
        read_header(b"\xff\xd8\xff\xd9")
    with pytest.raises(JPEGError, match="more than one frame header"):
        read_header(plain[:scan] + plain[plain.index(b"\xff\xc0") :])
    with pytest.raises(JPEGError, match="length 1"):
        read_header(b"\xff\xd8\xff\xfe\0\1")


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.taken += len(found)
        return found


def test_only_headers_are_read() -> None:
    data = pillow(picture(24, 40), quality=90)
    big = with_segments(data, (0xE1, exif(3)), *[(0xE1, b"Exif\0\0" + bytes(65000))] * 310) + bytes(10**7)
    file = Counting(b"before" + big)
    file.seek(6)
    header = read_header(file)
    assert (header.orientation, len(header.metadata)) == (3, 311)
    assert file.tell() == 6
    assert file.taken < 311 * 64 + 10_000
    assert header.metadata[-1].length == 65006


def test_fill_bytes_and_garbage_between_segments() -> None:
    data = pillow(picture(24, 40), comment=COMMENT)
    for between in (b"\xff" * 100_000, b"garbage", b"\0" * 70_000, b"\xff\0" * 40_000):
        header = read_header(data[:2] + between + data[2:])
        assert (header.size, header.metadata[0].length) == ((24, 40), len(COMMENT))


def several(data: bytes, folder: Path) -> dict[str, object]:
    """One file as every kind of source."""
    path = folder / "picture.jpg"
    path.write_bytes(data)
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    spread = np.zeros((len(data), 2), np.uint8)
    spread[:, 0] = np.frombuffer(data, np.uint8)
    return {
        "path": path,
        "name": str(path),
        "bytes": data,
        "bytearray": bytearray(data),
        "memoryview": memoryview(data),
        "part": memoryview(b"xx" + data)[2:],
        "strided": spread[:, 0],
        "mmap": mapped,
        "array.array": array.array("B", data),
        "numpy": np.frombuffer(data, np.uint8),
        "torch": torch.tensor(list(data), dtype=torch.uint8),
        "BytesIO": io.BytesIO(data),
        "file": open(path, "rb"),
    }


def test_every_kind_of_source(tmp_path: Path) -> None:
    data = pillow(picture(24, 40), quality=77)
    whole = read(data)
    for name, source in several(data, tmp_path).items():
        assert read_header(source).size == (24, 40), name
        assert torch.equal(read(source).levels[0], whole.levels[0]), name
        if hasattr(source, "close"):
            source.close()


def test_other_sources_raise(tmp_path: Path) -> None:
    data = pillow(picture(8, 8))
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    wrong = [
        None,
        5,
        [1, 2],
        torch.zeros(4, 4, dtype=torch.uint8),
        torch.zeros(4),
        np.zeros((3, 4), np.uint8),
        np.zeros(4, np.int16),
        np.zeros(4, bool),
        io.StringIO("text"),
    ]
    for function in (read, read_header):
        for source in wrong:
            with pytest.raises(TypeError, match="source: expected"):
                function(source)
        with open(path, encoding="latin-1") as text, pytest.raises(TypeError, match="binary mode"):
            function(text)
        with pytest.raises(JPEGError, match="not a JPEG file"):
            function(b"")
        with pytest.raises(FileNotFoundError):
            function(tmp_path / "none.jpg")


def test_file_objects_are_read_from_where_they_stand() -> None:
    data = pillow(picture(24, 40))
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    assert read_header(file).size == (24, 40)
    assert read(file).size == (24, 40)


def test_levels_of_16_bits_serve_everywhere() -> None:
    data = pillow(noise(33, 50), quality=60)
    short, plain = read(data, level_dtype=torch.int16), read(data)
    assert {level.dtype for level in short.levels} == {torch.int16}
    assert {level.dtype for level in read(data, level_dtype=torch.float64).levels} == {torch.float64}
    for dtype in (torch.uint8, torch.float32, torch.float64):
        for forward in ("exact", "soft"):
            decoded = [jpegrad.decode(c, dtype=dtype, forward=forward) for c in (short, plain)]
            assert torch.equal(*decoded)
    assert torch.equal(jpegrad.decode(short, backend="reference"), jpegrad.decode(plain))
    for huffman in ("default", "optimized"):
        assert jpegrad.bits(short, huffman=huffman) == jpegrad.bits(plain, huffman=huffman)
        assert jpegrad.to_bytes(short, huffman=huffman) == jpegrad.to_bytes(plain, huffman=huffman)
    assert jpegrad.rate.breakdown(short).total == jpegrad.rate.breakdown(plain).total
    with pytest.raises(TypeError, match="level_dtype: expected one of"):
        read(data, level_dtype=torch.uint8)


def test_arithmetic_is_named() -> None:
    data = libjpeg(picture(20, 20), "turbo210", [(1, 1)] * 3, "+ARITH_CODE", "+PROGRESSIVE_MODE")
    header = read_header(data)
    assert (header.process, header.arithmetic) == ("progressive", True)


def test_tables_before_later_scans_may_be_missing() -> None:
    coefficients = jpegrad.encode(tensor(picture(24, 40)), quality=80)
    parts = split(separate_scans(coefficients))
    tables = [part for part in parts if part[0] == segments.DQT]
    first_scan = next(i for i, part in enumerate(parts) if part[0] == segments.SOS)
    late = (
        [part for part in parts[: first_scan + 1] if part not in tables[1:]]
        + tables[1:]
        + parts[first_scan + 1 :]
    )
    assert torch.equal(read(join(late)).tables[:2], coefficients.tables)
    assert read_header(join(late)).tables is None


@pytest.mark.parametrize("read", [jpegrad.read, jpegrad.read_header, jpegrad.read_structure])
def test_an_error_names_the_file(read: Callable[[object], object], tmp_path: Path) -> None:
    wrong = tmp_path / "picture.jpg"
    wrong.write_bytes(b"GIF89a")
    for source in (wrong, str(wrong)):
        with pytest.raises(jpegrad.JPEGError, match=r"^\S*picture\.jpg: not a JPEG file"):
            read(source)
    with pytest.raises(jpegrad.JPEGError, match=r"^not a JPEG file"):
        read(b"GIF89a")
