"""Exact sizes and coded bytes: equal to the files of Pillow, OpenCV and libjpeg, and to a sequential coder."""

import dataclasses
import itertools
import os
import tempfile

import jpeglib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import jpegrad
from corpus import COMMENT, EXIF, opencv, pillow, tensor
from jpegrad.entropy import huffman, scan, symbols
from jpegrad.entropy.coder import coded_scans
from jpegrad.rate import bits
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import RGB
from oracles import huffman as oracle
from oracles.pictures import KINDS

MODES = (*SUBSAMPLING, "gray")
PILLOW_MODES = ("4:4:4", "4:2:2", "4:2:0", "gray")
HUFFMAN = {"default": False, "optimized": True}
QUALITIES = (1, 2, 5, 10, 25, 40, 50, 60, 75, 85, 95, 99, 100)


def files(picture: np.ndarray, quality: int, mode: str, optimize: bool) -> list[bytes]:
    """The file of every encoder that has the mode; ``picture`` [C, H, W]."""
    pixels = picture[0] if mode == "gray" else np.ascontiguousarray(picture.transpose(1, 2, 0))
    found = []
    if mode in PILLOW_MODES:
        options = {} if mode == "gray" else {"subsampling": mode}
        found.append(pillow(pixels, quality=quality, optimize=optimize, **options))
    if mode not in PILLOW_MODES or quality % 2:
        found.append(
            opencv(pixels, "4:2:0" if mode == "gray" else mode, quality=quality, optimize=int(optimize))
        )
    return found


def scan_of(data: bytes) -> bytes:
    """The entropy-coded bytes of a file with one scan."""
    start = data.index(b"\xff\xda") + 2
    return data[start + int.from_bytes(data[start : start + 2], "big") : -2]


def check(picture: np.ndarray, qualities: tuple[int, ...], mode: str) -> None:
    options = {} if mode == "gray" else {"subsampling": mode}
    batch = torch.from_numpy(picture).expand(len(qualities), *picture.shape)
    coefficients = jpegrad.encode(batch, quality=torch.tensor(qualities), **options)
    for kind, optimize in HUFFMAN.items():
        sizes = bits(coefficients, huffman=kind)
        assert sizes.shape == (len(qualities),)
        for i, quality in enumerate(qualities):
            for data in files(picture, quality, mode, optimize):
                assert sizes[i] == 8 * len(data)
                levels = [level[i] for level in coefficients.levels]
                ((_, _, coded),) = coded_scans(levels, coefficients.size, coefficients.subsampling, kind)
                assert coded == scan_of(data)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_sizes_and_bytes_equal_real_files(mode: str, kind: str) -> None:
    random = np.random.default_rng([MODES.index(mode), list(KINDS).index(kind)])
    for height, width in [*random.integers(1, 41, (3, 2)), (16, 40)]:
        check(KINDS[kind](random, 1 if mode == "gray" else 3, height, width), QUALITIES, mode)


@pytest.mark.slow
@pytest.mark.parametrize("height", range(1, 41))
@pytest.mark.parametrize("mode", MODES)
def test_sizes_and_bytes_equal_real_files_at_every_size(mode: str, height: int) -> None:
    random = np.random.default_rng([7, MODES.index(mode), height])
    kinds = itertools.cycle(KINDS.values())
    for width in range(1, 41):
        qualities = tuple(random.choice(np.arange(1, 101), 2, replace=False).tolist())
        check(next(kinds)(random, 1 if mode == "gray" else 3, height, width), qualities, mode)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_sizes_and_bytes_equal_real_files_at_every_quality(mode: str, kind: str) -> None:
    random = np.random.default_rng([8, MODES.index(mode), list(KINDS).index(kind)])
    check(KINDS[kind](random, 1 if mode == "gray" else 3, 61, 83), tuple(range(1, 101)), mode)


def test_sizes_where_the_scan_ends_on_any_bit_of_a_word() -> None:
    # A flat gray block costs 6 bits, so the scan ends on every even bit; Pillow and the coder must agree on all.
    ends = set()
    for blocks in range(1, 33):
        picture = np.full((1, 8, 8 * blocks), 77, np.uint8)
        check(picture, (50,), "gray")
        levels = jpegrad.encode(torch.from_numpy(picture), quality=50).levels
        ((_, _, coded),) = coded_scans(levels, (8, 8 * blocks), "4:4:4")
        ends.add(len(coded) % 4)
    assert ends == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", HUFFMAN)
@pytest.mark.parametrize("tables", ["two", "three", "equal"])
def test_sizes_with_own_tables(tables: str, kind: str) -> None:
    random = np.random.default_rng(3)
    picture = KINDS["photo"](random, 3, 40, 33)
    entries = torch.from_numpy(random.integers(1, 256, (2 if tables == "two" else 3, 8, 8))).float()
    if tables == "equal":
        entries[1:] = entries[0]
    coefficients = jpegrad.encode(torch.from_numpy(picture), tables=entries)
    qtables = entries.flatten(1).int().tolist()
    data = pillow(picture.transpose(1, 2, 0), qtables=qtables, subsampling="4:2:0", optimize=HUFFMAN[kind])
    assert bits(coefficients, huffman=kind) == 8 * len(data)


def test_size_of_gray_with_colour_tables() -> None:
    picture = KINDS["photo"](np.random.default_rng(4), 1, 24, 24)
    coefficients = jpegrad.encode(torch.from_numpy(picture), tables=jpegrad.tables.annex_k(30))
    assert bits(coefficients) == 8 * len(pillow(picture[0], quality=30))


def test_size_counts_what_the_file_carries() -> None:
    picture = KINDS["photo"](np.random.default_rng(5), 3, 24, 24)
    pixels = np.ascontiguousarray(picture.transpose(1, 2, 0))
    plain = jpegrad.encode(torch.from_numpy(picture), quality=75)
    carrying = dataclasses.replace(
        plain, metadata=jpegrad.read(pillow(pixels, exif=EXIF, comment=COMMENT)).metadata
    )
    assert len(carrying.metadata) == 2
    assert bits(carrying) == 8 * len(pillow(pixels, exif=EXIF, comment=COMMENT))
    assert bits(carrying, metadata=False) == bits(plain) == 8 * len(jpegrad.to_bytes(plain))


def test_size_of_rgb_stored_as_it_is() -> None:
    picture = KINDS["photo"](np.random.default_rng(6), 3, 24, 24)
    coefficients = jpegrad.encode(torch.from_numpy(picture), quality=75, subsampling="4:4:4", color=RGB)
    assert bits(coefficients) == 8 * len(jpegrad.to_bytes(coefficients))


def test_leading_dimensions_of_any_number(photograph) -> None:
    image = photograph("tulips")[:, :40, :48]
    single = [bits(jpegrad.encode(image, quality=q), huffman="optimized") for q in (20, 50, 80, 90, 95, 100)]
    assert all(size.shape == () and size.dtype == torch.float64 for size in single)
    qualities = torch.tensor([[20, 50, 80], [90, 95, 100]])
    batch = bits(jpegrad.encode(image.expand(2, 3, 3, 40, 48), quality=qualities), huffman="optimized")
    assert torch.equal(batch.flatten(), torch.stack(single))


def test_batches_are_counted_in_parts_alike(photograph, monkeypatch: pytest.MonkeyPatch) -> None:
    coefficients = jpegrad.encode(
        photograph("coast")[:, :32, :48].expand(5, 3, 32, 48), torch.arange(10, 60, 10)
    )
    whole = bits(coefficients, huffman="optimized")
    monkeypatch.setattr(scan, "COEFFICIENTS_AT_ONCE", 5000)
    assert torch.equal(bits(coefficients, huffman="optimized"), whole)


def random_levels(random: np.random.Generator, size: tuple[int, int], mode: str) -> list[torch.Tensor]:
    """Levels that no picture has: sparse or dense blocks, long runs, the largest levels."""
    shape = [1] if mode == "gray" else [1, 3, 3]
    coefficients = jpegrad.encode(
        torch.zeros(len(shape), *size), 50, subsampling="4:2:0" if mode == "gray" else mode
    )
    levels = []
    for level in coefficients.levels:
        kept = (
            random.random(level.shape)
            < random.choice([0, 0.01, 0.1, 0.6, 1], level.shape[:-2])[..., None, None]
        )
        values = random.integers(-1023, 1024, level.shape) >> random.integers(0, 11, level.shape)
        levels.append(torch.from_numpy(values * kept).float())
    return levels


@given(
    seed=st.integers(0, 2**32),
    mode=st.sampled_from(MODES),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_any_levels_as_a_sequential_coder(seed: int, mode: str, height: int, width: int) -> None:
    levels = random_levels(np.random.default_rng(seed), (height, width), mode)
    subsampling = "4:4:4" if mode == "gray" else mode
    for kind in HUFFMAN:
        ((_, tables, coded),) = coded_scans(levels, (height, width), subsampling, kind)
        code = [oracle.codes(counts, listed) for _, _, counts, listed in tables]
        assert [(a, b) for a, b, _, _ in tables] == [(0, 0), (1, 0), (0, 1), (1, 1)][: len(tables)]
        expected = oracle.scan_bits([x.int().numpy() for x in levels], code, *SUBSAMPLING[subsampling])
        assert coded == oracle.stuffed(expected)
        size, listed = scan.scan_bytes(levels, height, width, subsampling, kind).tolist()
        assert size == len(coded)
        assert listed == sum(len(table) for table in code)


def levels_with_a_deep_tree(symbols: int) -> torch.Tensor:
    """Gray blocks of one AC level each; no two (run, size) symbols together are as frequent as the next but one."""
    zigzag = torch.tensor(jpegrad.tables.ZIGZAG)
    blocks = []
    for i in range(symbols):
        block = torch.zeros(64)
        block[zigzag[1 + i % 15]] = 2.0 ** (i // 15)
        blocks.append(block.expand(int(1.7**i), 64))
    rows = sum(map(len, blocks)) // 64 + 1
    blocks.append(torch.zeros(64).expand(64 * rows - sum(map(len, blocks)), 64))
    return torch.cat(blocks).view(rows, 64, 8, 8)


@pytest.mark.parametrize("count", [16, 17, 18, 19])
def test_codes_longer_than_16_bits_are_shortened_as_by_libjpeg(count: int) -> None:
    levels = levels_with_a_deep_tree(count)
    size = (8 * levels.shape[0], 8 * levels.shape[1])
    plain = jpegrad.Coefficients((levels,), torch.ones(1, 8, 8), size, "4:4:4")
    with tempfile.TemporaryDirectory() as folder:
        source, target = (os.path.join(folder, name) for name in ("a.jpg", "b.jpg"))
        jpegrad.write(source, plain)
        jpeglib.read_dct(source).write_dct(target, flags=["+OPTIMIZE_CODING"])
        with open(target, "rb") as file:
            expected = file.read()
    ((_, tables, coded),) = coded_scans([levels], size, "4:4:4", "optimized")
    assert coded == scan_of(expected)
    assert tables[1][2][15] > 0


def test_annex_k_is_the_default_of_pillow() -> None:
    data = pillow(np.zeros((8, 8, 3), np.uint8))
    for table, kind in zip(huffman.DEFAULT, (0x00, 0x10, 0x01, 0x11), strict=True):
        assert (
            b"\xff\xc4"
            + (19 + len(table.symbols)).to_bytes(2, "big")
            + bytes([kind, *table.counts, *table.symbols])
            in data
        )


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=256).filter(any))
def test_optimal_tables_are_prefix_codes_that_leave_ones_free(frequencies: list[int]) -> None:
    table = huffman.optimal_table(frequencies)
    assert sorted(table.symbols) == [symbol for symbol, f in enumerate(frequencies) if f]
    assert sum(table.counts) == len(table.symbols)
    assert sum(count / 2**length for length, count in enumerate(table.counts, 1)) <= 1 - 2**-16
    code = oracle.codes(table.counts, table.symbols)
    assert {symbol: (int(word, 2), len(word)) for symbol, word in code.items()} == table.codes()


@pytest.mark.parametrize(
    ("place", "value"), [((0, 1), 1024.0), ((7, 7), -1024.0), ((0, 0), 2048.0), ((3, 3), 1e6)]
)
def test_levels_beyond_baseline_are_refused_and_counted_as_clamped(
    place: tuple[int, int], value: float
) -> None:
    level = torch.zeros(1, 2, 8, 8)
    level[..., 0, place[0], place[1]] = value
    with pytest.raises(ValueError, match=r"levels\[0\]: expected"):
        coded_scans([level], (8, 16), "4:4:4")
    sizes = []
    for legal in (level, level.clamp(-1023, 1023) if place != (0, 0) else level.clamp(-2047, 2047)):
        sizes.append(bits(jpegrad.Coefficients((legal,), torch.ones(1, 8, 8), (8, 16), "4:4:4")))
    assert sizes[0] == sizes[1]


def test_dc_levels_too_far_apart_are_refused() -> None:
    level = torch.zeros(1, 2, 8, 8)
    level[0, :, 0, 0] = torch.tensor([-1024.0, 1024.0])
    with pytest.raises(ValueError, match="at most 2047 apart"):
        coded_scans([level], (8, 16), "4:4:4")


def test_wrong_arguments() -> None:
    coefficients = jpegrad.encode(torch.rand(3, 8, 8), quality=50)
    with pytest.raises(ValueError, match=r"huffman: expected one of .*, got 'best'"):
        bits(coefficients, huffman="best")
    with pytest.raises(ValueError, match=r"rate: expected one of .*, got 'entropy'"):
        bits(coefficients, rate="entropy")
    with pytest.raises(TypeError, match="rate: expected a name or a RateModel, got int"):
        bits(coefficients, rate=3)
    with pytest.raises(TypeError, match="coefficients: expected Coefficients, got Tensor"):
        bits(torch.zeros(3, 8, 8))


def test_operators_keep_their_promises_to_torch() -> None:
    levels = [x.float() for x in random_levels(np.random.default_rng(0), (24, 40), "4:2:0")]
    # The fake result has the right shape, no input is changed, and nothing claims a derivative.
    for slots in ([0, 1, 1], [0, 0, 0]):
        measured = (levels, 24, 40, "4:2:0", "optimized", slots)
        torch.library.opcheck(torch.ops.jpegrad.scan_bytes.default, measured)
        torch.library.opcheck(torch.ops.jpegrad.scan_counts.default, (levels, 24, 40, "4:2:0", slots))


def test_scan_order_visits_every_block_once() -> None:
    for mode, (h, v) in SUBSAMPLING.items():
        for blocks in itertools.product(range(1, 10), repeat=2):
            mcus = -(-blocks[0] // v), -(-blocks[1] // h)
            index, dummy = symbols.scan_order(blocks, mcus, (h, v))
            assert sorted(index[~dummy].tolist()) == list(range(blocks[0] * blocks[1])), mode


def test_sizes_in_a_photograph(photograph) -> None:
    for name in ("tulips", "portrait"):
        check(photograph(name).numpy(), (30, 92), "4:2:0")


def test_tensor_of_bytes_is_not_needed() -> None:
    # uint8 images, no gradient: a size all the same.
    picture = tensor(np.zeros((9, 9, 3), np.uint8))
    assert bits(jpegrad.encode(picture, quality=75)) == 8 * len(
        pillow(np.zeros((9, 9, 3), np.uint8), quality=75)
    )
