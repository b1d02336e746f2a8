"""``read(strict=False)``: what libjpeg makes of damaged files, sample for sample, and what was wrong."""

import time
from collections.abc import Callable

import jpeglib
import numpy as np
import pytest
import torch

import jpegrad
from corpus import corpus, join, libjpeg, picture, pillow, pillow_pixels, separate_scans, split, tensor
from jpegrad.backends import native
from jpegrad.entropy.huffman import AC_LUMA
from jpegrad.jfif import JPEGError, segments
from jpegrad.jfif.segments import FrameComponent, ScanComponent
from test_jfif import bit_bytes, entropy_file, forged, patch, progressive_file
from tests.fuzz import recover
from tests.fuzz.decoders import compare
from tests.fuzz.mutate import mutant
from tests.fuzz.recover import EQUAL, WITH_EOI, WITHOUT_LAST, by_pillow, damaged, judge, restarts

needs_native = pytest.mark.skipif(not native.level_kernels(torch.empty(0)), reason="no native kernel here")


@pytest.fixture(params=("native", "reference"))
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test reads with the native decoder and with the one in Python."""
    if request.param == "native" and not native.level_kernels(torch.empty(0)):
        pytest.skip("no native kernel here")
    monkeypatch.setenv("JPEGRAD_BACKEND", request.param)


def pixels(data: bytes) -> np.ndarray:
    return jpegrad.decode(jpegrad.read(data, strict=False), dtype=torch.uint8).numpy()


def equals_pillow(data: bytes) -> bool:
    theirs = by_pillow(data)
    return theirs is not None and np.array_equal(pixels(data), theirs)


@needs_native
def test_a_slice_of_damaged_files() -> None:
    outcomes = recover.fuzz(440, seed=4)
    assert outcomes[EQUAL] > 350
    assert sum(number for outcome, number in outcomes.items() if outcome.startswith("undefined")) < 20


@pytest.mark.slow
def test_many_damaged_files() -> None:
    outcomes = recover.fuzz(6600, seed=5)
    assert outcomes[EQUAL] > 5000


def test_a_slice_of_damaged_files_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPEGRAD_BACKEND", "reference")
    assert recover.fuzz(66, seed=6)[EQUAL] > 45


@pytest.mark.parametrize("kind", ["plain", "progressive", "restart", "progressive restart", "separate"])
def test_truncations(kind: str, decoder: None) -> None:
    image = picture(9, 35)
    data = {
        "plain": pillow(image, quality=30),
        "progressive": pillow(image, progressive=True, quality=30),
        "restart": pillow(image, restart_marker_blocks=1, quality=30),
        "progressive restart": pillow(image, restart_marker_blocks=2, progressive=True, quality=30),
        "separate": separate_scans(jpegrad.encode(tensor(image), quality=30)),
    }[kind]
    scan = data.index(b"\xff\xda")
    for length in range(0, len(data), 3):
        cut = data[:length]
        if length < scan + 2 + data[scan + 3]:
            with pytest.raises(JPEGError):
                jpegrad.read(cut, strict=False)
            continue
        found = jpegrad.read(cut, strict=False)
        assert found.damage, length
        assert judge(cut) in (EQUAL, WITHOUT_LAST), length


@needs_native
def test_truncations_of_arithmetic_coding() -> None:
    for flags in ((), ("+PROGRESSIVE_MODE",)):
        data = libjpeg(picture(17, 35), "turbo210", [(2, 2), (1, 1), (1, 1)], "+ARITH_CODE", *flags)
        compared = 0
        for length in range(data.index(b"\xff\xda") + 14, len(data)):
            compared += judge(data[:length]) == WITH_EOI
        assert compared > 100


@pytest.mark.parametrize("name", list(corpus())[::5])
def test_whole_files_are_read_as_ever(name: str, decoder: None) -> None:
    whole, found = jpegrad.read(corpus()[name]), jpegrad.read(corpus()[name], strict=False)
    assert found.damage == () == whole.damage
    assert all(map(torch.equal, found.levels, whole.levels))
    assert torch.equal(found.tables, whole.tables)
    assert (found.metadata, found.density, found.size) == (whole.metadata, whole.density, whole.size)


def test_what_was_wrong_is_said(decoder: None) -> None:
    data = pillow(picture(40, 56), restart_marker_blocks=2)
    first = data.index(b"\xff\xda") + 40
    for damaged_file, words in {
        data[:-2]: ["truncated: the file ends before its EOI marker"],
        data[:first]: [
            "scan 1: truncated: the entropy-coded data ends",
            "scan 1: truncated: restart intervals are missing",
        ],
        data.replace(b"\xff\xd2", b"\xff\xd5"): ["scan 1: corrupt: restart markers are out of order"],
        data[:-2] + b"\xff\xfe\0\x09ab": ["truncated: inside the segment of marker 0xFFFE"],
        data[:-2] + data[data.index(b"\xff\xda") :]: ["corrupt: a scan repeats or skips bits"],
    }.items():
        assert equals_pillow(damaged_file), words
        found = jpegrad.read(damaged_file, strict=False).damage
        for word in words:
            assert any(damage.startswith(word) for damage in found), found
        with pytest.raises(JPEGError, match=r"\(strict=False reads what is there\)|repeats or skips"):
            jpegrad.read(damaged_file)


def test_what_libjpeg_refuses_is_refused(decoder: None) -> None:
    plain, progressive = pillow(picture(24, 40)), pillow(picture(24, 40), progressive=True)
    parts = split(progressive)
    for message, data in {
        "not a JPEG file": b"GIF89a",
        "before its first scan": plain[:200],
        "no frame header": b"\xff\xd8\xff\xd9",
        "more than one frame header": join([*parts[:4], parts[3], *parts[4:]]),
        "unexpected marker 0xFF02": join([*parts[:-2], (2, b"\xff\x02\0\2"), *parts[-2:]]),
        "length 0 of the segment": join([*parts[:-3], (segments.DHT, b"\xff\xc4\0\0"), *parts[-2:]]),
        "progressive scan of": patch(progressive, segments.SOS, 8, 64),
        "exceeds max_pixels": progressive,
    }.items():
        with pytest.raises(JPEGError, match=message):
            jpegrad.read(data, strict=False, max_pixels=900 if "max_pixels" in message else None)


def with_markers(data: bytes, change: Callable[[int], bytes]) -> bytes:
    """The file with other bytes for its restart markers, by their number."""
    for number, at in reversed(list(enumerate(restarts(data)))):
        data = data[:at] + change(number) + data[at + 2 :]
    return data


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("code", [*range(0xD0, 0xD8), 0x01, 0xC8, 0xD9, 0xDB])
def test_every_resynchronisation(code: int, progressive: bool, decoder: None) -> None:
    """Each marker in the place of the third: passed, skipped, or waited for."""
    plain = pillow(picture(40, 100), quality=60, restart_marker_blocks=2, progressive=progressive)
    if progressive:
        # Of the first scan alone.
        scans = [i for i, (marker, _) in enumerate(split(plain)) if marker == segments.SOS]
        plain = join(split(plain)[: scans[1]]) + b"\xff\xd9"
    normal = [bytes((0xFF, 0xD0 + i % 8)) for i in range(99)]
    changed = with_markers(plain, lambda i: bytes((0xFF, code)) if i == 2 else normal[i])
    several = with_markers(plain, lambda i: bytes((0xFF, code)) if 2 <= i <= 4 else normal[i])
    added = with_markers(plain, lambda i: bytes((0xFF, code)) + normal[i] if i == 2 else normal[i])
    lost = with_markers(plain, lambda i: b"" if i == 2 else normal[i])
    for data in (changed, several, added, lost):
        # Behind the scan some markers are no segment, or one that never ends.
        assert judge(data) == EQUAL or (progressive and code in (0xC8, 0xDB))


def test_a_lost_restart_marker_costs_one_interval(decoder: None) -> None:
    image = picture(16, 16 * 12)
    data = pillow(image, quality=60, restart_marker_blocks=1)
    whole = pillow_pixels(data)
    lost = pixels(with_markers(data, lambda i: b"" if i == 3 else bytes((0xFF, 0xD0 + i % 8))))
    right = [
        np.array_equal(lost[:, :, 16 * i + 1 : 16 * i + 15], whole[:, :, 16 * i + 1 : 16 * i + 15])
        for i in range(12)
    ]
    assert right == [i != 4 for i in range(12)]


def test_corrupt_codes(decoder: None) -> None:
    """Codes that are none, runs that leave their block, symbols without a meaning, levels of 17 bits."""
    zero, one = "00", "001"
    ends = "1010"
    codes = {symbol: f"{code:0{length}b}" for symbol, (code, length) in AC_LUMA.codes().items()}
    for bits in [
        zero + codes[0xF0] * 4 + zero + ends,
        zero + codes[0xF0] * 3 + codes[0xF1] + "1" + zero + one + ends,
        zero + "1" * 16 + "0" + zero + one + ends,
        "1" * 17 + one + ends + zero + one + ends,
        zero + codes[0x03] + "101" + "1" * 16,
    ]:
        data = entropy_file(bit_bytes(bits), 3)
        assert equals_pillow(data)
        assert jpegrad.read(data, strict=False).damage


def test_symbols_that_only_progressive_files_have(decoder: None) -> None:
    ended, run = "010", "0110"
    whole = progressive_file((0, 63, 0x00, ended)).replace(b"\xff\xc2", b"\xff\xc0")
    assert not jpegrad.read(whole).damage
    data = progressive_file((0, 63, 0x00, run)).replace(b"\xff\xc2", b"\xff\xc0")
    assert equals_pillow(data)
    assert jpegrad.read(data, strict=False).damage
    with pytest.raises(jpegrad.JPEGError, match="symbol"):
        jpegrad.read(data)


def levels_of_libjpeg(data: bytes, path: object) -> np.ndarray:
    return components_of_libjpeg(data, path)[0]


def components_of_libjpeg(data: bytes, path: object) -> list[np.ndarray]:
    name = f"{path}/damaged.jpg"
    with open(name, "wb") as file:
        file.write(data)
    with jpeglib.version("turbo210"):
        found = jpeglib.read_dct(name)
        found.load()
    return [each for each in (found.Y, found.Cb, found.Cr) if each is not None]


def test_levels_beyond_16_bits_wrap(decoder: None, tmp_path: object) -> None:
    dc, first = (0, 0, 0x00, "0"), (1, 63, 0x01, "0" + f"{(1 << 15) - 1 - (1 << 14):015b}" + "10")
    block = "11111111110" + "1" * 14 + "1010"  # size 14, the largest difference
    large, level = [1, 0, 1, *[1] * 14, 0, *[0] * 14], [0, 1, 0, 1, 1, *[1] * 12, 0, *[1] * 13]
    for data in [
        entropy_file(bit_bytes(block * 5), 5),
        progressive_file(dc, first, (1, 63, 0x10, "101")),
        progressive_file(dc, (1, 63, 0x02, first[3])),
        forged((large, [1]), (large, [1]), (large, [1])),
        forged(([0], [*level, 1])),
        # A DC difference without a meaning behind one of 1: its block stays empty.
        forged(([1, 0, 0], [1]), ([1, 0, 1, *[1] * 15], [])),
    ]:
        assert np.array_equal(
            jpegrad.read(data, strict=False).levels[0].numpy(), levels_of_libjpeg(data, tmp_path)
        )


def test_refinements_that_do_not_fit(decoder: None, tmp_path: object) -> None:
    """Bits that come twice, numbers of two bits, runs that leave the band, and codes that are none."""
    dc, ended = (0, 0, 0x00, "0"), "10"
    known = (1, 63, 0x01, "11110" + "1" + "11110" + "0" + ended)  # +2 and -2 at places 1 and 2
    for scans in [
        [known, (1, 63, 0x10, ended + "11"), (1, 63, 0x10, ended + "11")],
        [known, (1, 63, 0x10, "1110" + "1" + "11" + ended)],
        [known, (1, 5, 0x10, "1100" + "01"), (6, 63, 0x10, ended)],
        [known, (1, 63, 0x10, "111111" * 9)],
        [known, (1, 3, 0x10, "0" + "1" + "11"), (4, 63, 0x10, "0" + "0")],
        [(1, 63, 0x01, "1100"), (1, 63, 0x10, "1101")],
        [(1, 63, 0x00, "1" * 17 + ended), (1, 63, 0x00, ended)],
    ]:
        data = progressive_file(dc, *scans)
        found = jpegrad.read(data, strict=False)
        assert np.array_equal(found.levels[0].numpy(), levels_of_libjpeg(data, tmp_path)), scans
        assert found.damage


def test_refining_runs_that_leave_their_band(decoder: None, tmp_path: object) -> None:
    dc, known = (0, 0, 0x00, "0"), (1, 63, 0x01, "11110" + "1" + "11110" + "0" + "10")
    for scans in [
        [(1, 5, 0x10, "01" + "11" + "10"), (6, 63, 0x10, "10" + "1")],
        [(1, 5, 0x10, "00" + "11" + "10"), (6, 63, 0x10, "10" + "0")],
        [(1, 5, 0x10, "1110" + "10"), (6, 63, 0x10, "10")],
        [(1, 63, 0x10, "1110" + "11" + "1110" * 2 + "00" * 2 + "0" * 40)],
        [(1, 63, 0x10, "1110" + "01" + "1110" * 2 + "01" * 2 + "0" * 40)],
    ]:
        data = progressive_file(dc, known, *scans)
        # Code 0 is a level of 1 bit behind 7 zeros, 1110 are 16 zeros.
        table, other = bytes((0x0F, 0x00, 0x10, 0x02, 0x01)), bytes((0x71, 0x00, 0x10, 0xF0, 0x01))
        assert table in data
        data = data.replace(table, other)
        found = jpegrad.read(data, strict=False)
        assert np.array_equal(found.levels[0].numpy(), levels_of_libjpeg(data, tmp_path)), scans
        assert any("leaves its block" in damage for damage in found.damage)


def test_scans_in_disorder(decoder: None) -> None:
    parts = split(pillow(picture(33, 48), quality=70, progressive=True))
    scans = [i for i, (marker, _) in enumerate(parts) if marker == segments.SOS]
    # The tables come with their scan; tables of all go to the front where they do not clash.
    for one in scans:
        assert equals_pillow(join(parts[:one] + parts[one + 1 :]))
        assert equals_pillow(join(parts[: one + 1] + parts[one:]))


def test_a_scan_that_ends_early_is_smoothed_in_part(decoder: None) -> None:
    """Rows that the last scan did not reach are smoothed as the scan before left them."""
    data = pillow(picture(120, 72), quality=60, progressive=True)
    ends = [m for m in range(len(data) - 1) if data[m : m + 2] == b"\xff\xda"]
    compared = 0
    for begin, end in zip(ends, [*ends[1:], len(data)], strict=True):
        for part in (0.25, 0.5, 0.75):
            judged = judge(data[: begin + int(part * (end - begin))])
            assert judged in (EQUAL, WITHOUT_LAST)
            compared += judged == EQUAL
    assert compared > 15


def test_the_row_of_an_interval_behind_a_lost_one(decoder: None) -> None:
    """Where a row of MCUs is one MCU, libjpeg does not count the row that a restart begins."""
    data = pillow(picture(72, 8)[..., 1].copy(), quality=70, progressive=True, restart_marker_blocks=1)
    parts = split(data)
    scans = [i for i, (marker, _) in enumerate(parts) if marker == segments.SOS]
    for scan in scans:
        marker, part = parts[scan]
        found = restarts(part)
        for lost in range(1, len(found)):
            # The interval between two restart markers loses its data; here the scan is the last one.
            emptied = part[: found[lost - 1] + 2] + part[found[lost] :]
            assert equals_pillow(join([*parts[:scan], (marker, emptied)]) + b"\xff\xd9"), (scan, lost)


def arithmetic_file(rng: np.random.Generator) -> bytes:
    """Random arithmetic-coded data, in which restart markers may come or not."""
    progressive, interval = bool(rng.integers(2)), int(rng.integers(4))
    frame = segments.emit_sof((32, 48), [FrameComponent(i, 1 + (i == 1), 1 + (i == 1), 0) for i in (1, 2, 3)])
    header = segments.emit_sos([ScanComponent(i, 0, 0) for i in (1, 2, 3)])[:-3]
    pieces = [b"\xff\0", b"\xff\0", b"\xfe", b"\0", *(bytes((0xFF, 0xD0 + i)) for i in range(4))]

    def data() -> bytes:
        drawn = rng.integers(0, 11, int(rng.integers(1, 120)))
        return b"".join(pieces[i] if i < 8 else bytes((int(rng.integers(255)),)) for i in drawn)

    scans = [header + bytes((0, 0, 0) if progressive else (0, 63, 0)) + data()]
    if progressive:
        one = segments.emit_sos([ScanComponent(1, 0, 0)])[:-3]
        scans += [one + bytes((1, 9, 0x01)) + data(), one + bytes((1, 9, 0x10)) + data()]
    return b"".join(
        [
            *(b"\xff\xd8", segments.emit_dqt(0, [1] * 64)),
            frame.replace(b"\xff\xc0", b"\xff\xca" if progressive else b"\xff\xc9"),
            segments.segment(segments.DRI, bytes((0, interval))),
            *scans,
            b"\xff\xd9",
        ]
    )


def test_restarts_of_arithmetic_coding(decoder: None, tmp_path: object) -> None:
    compared = 0
    for seed in range(150):
        data = arithmetic_file(np.random.default_rng(seed))
        try:
            found = jpegrad.read(data, strict=False)
        except JPEGError:
            continue
        for ours, theirs in zip(found.levels, components_of_libjpeg(data, tmp_path), strict=True):
            assert np.array_equal(ours.numpy(), theirs), seed
        compared += 1
    assert compared > 50


def test_a_component_that_never_came(decoder: None) -> None:
    data = separate_scans(jpegrad.encode(tensor(picture(24, 40)), quality=60))
    parts = split(data)
    scans = [i for i, (marker, _) in enumerate(parts) if marker == segments.SOS]
    for missing in scans:
        cut = join(parts[:missing] + parts[missing + 1 :])
        assert equals_pillow(cut)
        assert jpegrad.read(cut, strict=False).damage == ("truncated: the scans do not send every component",)


def test_a_component_without_dc_is_not_smoothed(decoder: None) -> None:
    """Nor is any other."""
    coefficients = jpegrad.encode(tensor(picture(24, 40)), quality=90, subsampling="4:4:4")
    script = [jpegrad.ProgressiveScan((i,), *band) for band in ((0, 0), (1, 63)) for i in range(3)]
    parts = split(jpegrad.to_bytes(coefficients, progressive=script))
    scans = [i for i, (marker, _) in enumerate(parts) if marker == segments.SOS]
    for missing in ([0, 4], [1, 3], [2, 3, 4, 5]):
        cut = join([part for i, part in enumerate(parts) if i not in [scans[each] for each in missing]])
        assert equals_pillow(cut)
        found = jpegrad.read(cut, strict=False)
        assert found.smoothing is None
        assert "truncated: the scans do not send every component" in found.damage


def test_table_entries_of_0(decoder: None) -> None:
    for progressive in (False, True):
        plain = pillow(picture(24, 40), quality=60, progressive=progressive)
        for offset in (1, 2, 5, 40):
            data = patch(plain, segments.DQT, offset, 0)
            assert equals_pillow(data)
            found = jpegrad.read(data, strict=False)
            assert found.damage == ("corrupt: quantization table 0 has an entry 0",)
            assert (
                np.array_equal(pillow_pixels(jpegrad.to_bytes(found)), pixels(data))
                or found.smoothing is not None
            )


def test_damage_is_carried_and_joined() -> None:
    image = picture(24, 40)
    one = jpegrad.read(pillow(image)[:-2], strict=False)
    other = jpegrad.read(pillow(image)[:-40], strict=False)
    batch = jpegrad.Coefficients.stack([one, other])
    assert batch.damage == tuple(dict.fromkeys(one.damage + other.damage))
    assert batch[0].damage == batch.damage and one.to("cpu").damage == one.damage


def test_strict_is_a_bool() -> None:
    with pytest.raises(TypeError, match="strict: expected True or False, got 'no'"):
        jpegrad.read(pillow(picture(8, 8)), strict="no")


@needs_native
def test_large_frames_of_few_bytes_take_little_time() -> None:
    """Data that end at once are not walked through, whatever the size and the restart interval."""
    ones, frame = (
        segments.emit_dqt(0, [1] * 64),
        segments.emit_sof((8000, 8000), [FrameComponent(1, 1, 1, 0)]),
    )
    scan = segments.emit_sos([ScanComponent(1, 0, 0)])
    sequential = b"".join([b"\xff\xd8", ones, frame, segments.segment(segments.DRI, b"\0\1"), scan])
    dc = scan[:-3] + bytes(3)
    ac = b"".join(scan[:-3] + bytes((k, k, 0)) for k in range(1, 40))
    huffman = segments.emit_dht(0, 0, (1, *[0] * 15), (0,)) + segments.emit_dht(1, 0, (1, *[0] * 15), (0,))
    several = b"".join([b"\xff\xd8", ones, frame.replace(b"\xff\xc0", b"\xff\xc2"), huffman, dc, ac])
    for data in (sequential, several):
        start = time.perf_counter()
        found = jpegrad.read(data, strict=False, level_dtype=torch.int16)
        assert found.damage and not found.levels[0][0, 1:].any()
        assert time.perf_counter() - start < 5


def test_scans_are_bounded() -> None:
    ones, frame = segments.emit_dqt(0, [1] * 64), segments.emit_sof((800, 800), [FrameComponent(1, 1, 1, 0)])
    huffman = segments.emit_dht(0, 0, (1, *[0] * 15), (0,))
    scan = segments.emit_sos([ScanComponent(1, 0, 0)])[:-3] + bytes(3)
    data = b"".join([b"\xff\xd8", ones, frame.replace(b"\xff\xc0", b"\xff\xc2"), huffman, scan * 90])
    with pytest.raises(JPEGError, match="decompression bomb"):
        jpegrad.read(data, strict=False)


def test_many_small_scans_are_refused_soon() -> None:
    ones, frame = segments.emit_dqt(0, [1] * 64), segments.emit_sof((8, 8), [FrameComponent(1, 1, 1, 0)])
    scan = segments.emit_sos([ScanComponent(1, 0, 0)])[:-3] + bytes((1, 63, 0))
    huffman = segments.emit_dht(1, 0, (1, *[0] * 15), (0,))
    data = b"".join(
        [b"\xff\xd8", ones, frame.replace(b"\xff\xc0", b"\xff\xc2"), huffman, (scan + bytes(1)) * 100_000]
    )
    start = time.perf_counter()
    with pytest.raises(JPEGError, match="more than 3584 scans"):
        jpegrad.read(data, strict=False)
    assert time.perf_counter() - start < 20


def test_a_scan_of_all_components_behind_one_of_some(decoder: None) -> None:
    """Only a first scan that sends everything is the end."""
    coefficients = jpegrad.encode(tensor(picture(24, 40)), quality=60, subsampling="4:4:4")
    separate = split(separate_scans(coefficients, one_slot=True))
    together = split(jpegrad.to_bytes(coefficients))
    scan = [marker for marker, _ in together].index(segments.SOS)
    tables = [part for part in together if part[0] == segments.DHT]
    first = [marker for marker, _ in separate].index(segments.SOS)
    header = segments.emit_sos([ScanComponent(i, min(i - 1, 1), min(i - 1, 1)) for i in (1, 2, 3)])
    data_of_all = together[scan][1][len(header) :]
    mixed = [*separate[: first + 1], *tables, (segments.SOS, header + data_of_all), *separate[first + 1 :]]
    assert equals_pillow(join(mixed))


@needs_native
def test_both_decoders_agree_beyond_the_headers() -> None:
    outcomes = [compare(damaged(7, i)) for i in range(150)] + [compare(mutant(8, i)) for i in range(150)]
    assert outcomes.count("equal, damaged") > 100
