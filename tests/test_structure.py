"""What read_structure says: what libjpeg-turbo traces of the same markers, of damaged and refused files too."""

import contextlib
import re
import subprocess
import time
from collections import Counter

import pytest
import torch

import jpegrad
from corpus import (
    corpus,
    exif_with_size_and_thumbnail,
    noise,
    picture,
    pillow,
    separate_scans,
    tensor,
    with_segments,
)
from jpegrad import lossless
from jpegrad.io import read_header, read_structure
from jpegrad.jfif import JPEGError, segments
from jpegtran import PROGRAM, jpegtran, needs_jpegtran
from tests.fuzz.mutate import mutant


def traced(data: bytes) -> list[str]:
    """The markers as libjpeg-turbo meets them."""
    assert PROGRAM is not None
    done = subprocess.run([PROGRAM, "-verbose", "-verbose"], input=data, capture_output=True, check=False)
    return done.stderr.decode("latin-1").splitlines()


@needs_jpegtran
@pytest.mark.parametrize("name", corpus())
def test_the_structure_is_what_libjpeg_traces(name: str) -> None:
    data = corpus()[name]
    structure, lines = read_structure(data), traced(data)
    assert structure.fault is None
    if "redefined" in name:
        # It stops at the second table for the same slot.
        return

    def count(start: str) -> int:
        return sum(line.startswith(start) for line in lines)

    if "4x4,1x1" not in name:
        assert len(structure.scans) == count("Start Of Scan:")
        sent = [re.findall(r"=(\d+)", line) for line in lines if re.match(r"\s+Ss=", line)]
        if structure.process == "progressive":
            assert [list(map(str, scan.sent[1:])) for scan in structure.scans] == sent
        assert structure.huffman_tables == count("Define Huffman Table")
    assert structure.quantization_tables == count("Define Quantization Table")
    intervals, interval = [], 0
    for line in lines:
        if line.startswith("Define Restart Interval"):
            interval = int(line.rsplit(" ", 1)[1])
        elif line.startswith("Start Of Scan:"):
            intervals.append(interval)
    assert [scan.restart_interval for scan in structure.scans][: len(intervals)] == intervals
    frame = next(line for line in lines if line.startswith("Start Of Frame"))
    marker = next(each for each in structure.segments if each.kind.startswith("SOF"))
    assert f"0x{marker.marker:02x}" in frame


@pytest.mark.parametrize("name", corpus())
def test_segments_and_scans_fill_the_file(name: str) -> None:
    data = corpus()[name]
    structure, header = read_structure(data), read_header(data)
    covered = [(each.offset - 4, each.offset + each.length) for each in structure.segments]
    covered += [(scan.offset, scan.offset + scan.length) for scan in structure.scans]
    position = 2
    for start, end in sorted(covered):
        between = data[position:start]
        assert start >= position
        assert set(between) <= {0xFF} or "garbage" in name
        position = end
    assert data[position : structure.end] == b"\xff\xd9"
    assert structure.trailing == len(data) - structure.end
    assert (structure.trailing > 0) == (name == "trailing garbage")
    assert (structure.process, structure.arithmetic) == (header.process, header.arithmetic)
    # Of the header are those before the first scan.
    before = [each for each in structure.segments if each.offset < structure.scans[0].offset]
    assert {segments.DQT, segments.SOS} >= {each.marker for each in before if each.kind in ("DQT", "SOS")}
    metadata = [
        each
        for each in before
        if each.marker in (*segments.APPLICATION, segments.COM) and each.kind not in ("JFIF", "Adobe")
    ]
    assert tuple(metadata) == header.metadata
    assert header.quantization_tables <= structure.quantization_tables
    assert header.huffman_tables <= structure.huffman_tables
    if header.process == "baseline" and len(structure.scans) == 1:
        assert (header.quantization_tables, header.huffman_tables, header.huffman) == (
            structure.quantization_tables,
            structure.huffman_tables,
            structure.huffman,
        )


@needs_jpegtran
@pytest.mark.parametrize("script", [
    "0,1,2: 0-0, 0, 0;\n0: 1-63, 0, 0;\n2: 1-63, 0, 0;\n1: 1-63, 0, 0;\n",
    "0,1,2: 0-0, 0, 1;\n0,1,2: 0-0, 1, 0;\n0: 1-9, 0, 2;\n0: 10-63, 0, 2;\n1: 1-63, 0, 0;\n2: 1-63, 0, 0;\n"
    "0: 1-63, 2, 1;\n0: 1-63, 1, 0;\n",
    "1;\n0;\n2;\n",
    "0,2;\n1;\n",
])  # fmt: skip
def test_a_script_goes_there_and_back(tmp_path_factory: pytest.TempPathFactory, script: str) -> None:
    path = tmp_path_factory.mktemp("scans") / "script.txt"
    path.write_text(script)
    data = jpegtran(pillow(picture(40, 56), subsampling="4:2:2"), "-scans", str(path))
    assert data is not None
    structure = read_structure(data)
    assert structure.script == script
    if structure.process == "progressive":
        again = jpegrad.to_bytes(jpegrad.read(data), progressive=[scan.sent for scan in structure.scans])
        assert again == data
    assert len(jpegrad.read(data).levels) == 3


def test_huffman_tables_are_told_apart() -> None:
    plain, optimized = (pillow(picture(40, 56), optimize=optimize) for optimize in (False, True))
    assert [read_header(x).huffman for x in (plain, optimized)] == ["default", "own"]
    assert [read_structure(x).huffman for x in (plain, optimized)] == ["default", "own"]
    assert read_header(plain).huffman_tables == 4
    assert read_header(pillow(picture(16, 16)[..., 0])).huffman_tables == 2
    assert read_structure(corpus()["no Huffman tables"]).huffman == "default"
    assert read_structure(corpus()["no Huffman tables"]).huffman_tables == 0
    assert read_structure(corpus()["arithmetic"]).huffman is None
    assert read_header(corpus()["arithmetic progressive"]).huffman is None
    # One table for luma, the other for chroma: numbers of slots do not matter.
    assert read_structure(pillow(picture(16, 16), keep_rgb=True)).huffman == "default"


def test_tables_that_are_defined_again_count_again() -> None:
    coefficients = jpegrad.encode(tensor(picture(24, 24)), quality=80)
    data = separate_scans(coefficients, one_slot=True)
    assert (read_header(data).quantization_tables, read_structure(data).quantization_tables) == (1, 3)


def test_restart_intervals_belong_to_scans() -> None:
    data = pillow(picture(40, 56), progressive=True)
    second = read_structure(data).scans[1]
    # In front of the second scan, whose own markers begin with the tables that come before it.
    place = read_structure(data).scans[0].offset + read_structure(data).scans[0].length
    changed = data[:place] + segments.segment(segments.DRI, b"\0\7") + data[place:]
    found = read_structure(changed).scans
    assert [scan.restart_interval for scan in found[:3]] == [0, 7, 7]
    assert found[1].length == second.length


@pytest.mark.parametrize("name", ["pillow 4:2:0 photo", "pillow 4:2:0 photo progressive", "arithmetic"])
def test_a_cut_file_is_known_up_to_the_cut(name: str) -> None:
    data = corpus()[name]
    whole = read_structure(data)
    for end in range(2, len(data), 7):
        part = read_structure(data[:end])
        assert part.fault is not None and part.fault.startswith(("truncated", "corrupt"))
        assert part.end == end and part.trailing == 0
        assert part.segments == whole.segments[: len(part.segments)]
        known = len(part.scans)
        assert part.scans[:-1] == whole.scans[: max(0, known - 1)]
        assert all(each.offset + each.length <= end for each in part.segments)


def test_any_bytes_have_a_structure() -> None:
    data = pillow(picture(40, 56), progressive=True, comment=b"c")
    for seed in range(300):
        damage = noise(1, 4, seed).ravel().tolist()
        broken = bytearray(data)
        for where, value in zip(damage[::2], damage[1::2], strict=True):
            broken[2 + where * (len(data) - 3) // 255] = value
        structure = read_structure(bytes(broken))
        assert structure.fault is None or structure.fault.startswith(("truncated", "corrupt"))
        assert 0 <= structure.trailing <= len(data)
    with pytest.raises(JPEGError, match="not a JPEG file"):
        read_structure(b"GIF89a")
    assert read_structure(b"\xff\xd8\xff\xd9").fault == "corrupt: no frame header"
    assert read_structure(b"\xff\xd8").fault is not None


def test_files_that_read_refuses_have_a_structure() -> None:
    plain = pillow(picture(40, 56))
    for marker, process in ((0xC3, "lossless"), (0xC5, "hierarchical"), (0xCB, "lossless")):
        structure = read_structure(plain.replace(b"\xff\xc0", bytes((0xFF, marker)), 1))
        assert (structure.process, len(structure.scans)) == (process, 1)


def test_thumbnails_are_found() -> None:
    thumbnail = pillow(picture(12, 16))
    for order in "<>":
        exif = exif_with_size_and_thumbnail(order, thumbnail)
        data = with_segments(pillow(picture(16, 16)), (0xE1, exif))
        found = read_header(data).thumbnail
        assert found is not None
        assert data[found[0] : sum(found)] == thumbnail
        short = with_segments(pillow(picture(16, 16)), (0xE1, exif[:-1]))
        assert read_header(short).thumbnail is None
    assert read_header(pillow(picture(16, 16))).thumbnail is None


def test_a_structure_is_read_at_the_speed_of_memory() -> None:
    coded = bytes(range(255)) * 20000 + b"\xff\x00" * 20000
    plain = pillow(picture(16, 16))
    large = plain[:-2] + coded + plain[-2:]
    start = time.process_time()
    structure = read_structure(large)
    taken = time.process_time() - start
    assert structure.scans[0].length > len(coded)
    # It takes 6 ms; to walk through it byte by byte takes half a second.
    assert taken < 0.1


def explored(index: int, seed: int) -> str:
    """What header, structure and lossless changes make of a damaged file; an assertion fails where they disagree."""
    data = mutant(seed, index)
    try:
        structure = read_structure(data)
    except JPEGError:
        with pytest.raises(JPEGError, match="not a JPEG file"):
            read_header(data)
        return "none"
    with contextlib.suppress(JPEGError):
        header = read_header(data)
        assert structure.fault is not None or structure.process is not None
        assert header.huffman_tables <= structure.huffman_tables
    try:
        whole = jpegrad.read(data, max_pixels=1 << 20)
    except JPEGError:
        return "refused"
    assert structure.fault is None
    assert structure.scans and header.size == whole.size
    assert lossless.orientation(whole) == header.orientation or len(structure.scans) > 1
    # Forged metadata and tables go along.
    with contextlib.suppress(ValueError):
        upright = lossless.apply_orientation(whole, trim=True)
        assert upright is whole or lossless.orientation(upright) == 1
    twice = lossless.transpose(lossless.transpose(whole))
    assert all(map(torch.equal, twice.levels, whole.levels))
    assert twice.subsampling == whole.subsampling
    assert torch.equal(lossless.crop(whole, 0, 0, *whole.size).levels[0], whole.levels[0])
    return "read"


def test_damaged_files() -> None:
    outcomes = Counter(explored(index, 3) for index in range(400))
    assert outcomes["read"] > 20 and outcomes["refused"] > 200
