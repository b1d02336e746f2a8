"""Files written: equal to other encoders' bytes, read back without loss, and errors that name what no file can hold."""

import dataclasses
import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import jpegrad
from corpus import (
    COMMENT,
    EXIF,
    ICC,
    libjpeg,
    noise,
    opencv,
    picture,
    pillow,
    pillow_pixels,
    tensor,
    with_16_bit_tables,
)
from jpegrad.io import read, to_bytes, write
from jpegrad.jfif import JPEGError
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import JFIF, RGB, Color

PILLOW_MODES = ("4:4:4", "4:2:2", "4:2:0")
HUFFMAN = {"default": False, "optimized": True}
Case = tuple[np.ndarray, int]
SIZES = [(1, 1), (1, 40), (40, 1), (7, 9), (8, 8), (9, 16), (17, 15), (16, 33), (31, 32), (40, 39)]


def same(a: jpegrad.Coefficients, b: jpegrad.Coefficients) -> bool:
    return (
        all(torch.equal(x, y) for x, y in zip(a.levels, b.levels, strict=True))
        and torch.equal(a.tables, b.tables)
        and (a.size, a.subsampling, a.color, a.metadata, a.density)
        == (b.size, b.subsampling, b.color, b.metadata, b.density)
    )


def patched(coefficients: jpegrad.Coefficients, value: float, component: int = 0) -> jpegrad.Coefficients:
    """The last level of a component replaced."""
    levels = [level.clone() for level in coefficients.levels]
    levels[component][..., -1, -1, -1, -1] = value
    return dataclasses.replace(coefficients, levels=tuple(levels))


def batch(
    images: list[np.ndarray], qualities: Sequence[int], mode: str
) -> tuple[jpegrad.Coefficients, list[Case]]:
    """Every image at every quality, encoded at once; and the same pairs in the order of the batch."""
    stacked = torch.stack([tensor(image) for image in images])[:, None].expand(-1, len(qualities), -1, -1, -1)
    coefficients = jpegrad.encode(stacked, quality=torch.tensor(qualities), subsampling=mode)
    return coefficients, list(itertools.product(images, qualities))


def assert_bytes_equal_pillow(images: list[np.ndarray], qualities: Sequence[int], mode: str) -> None:
    coefficients, cases = batch(images, qualities, mode)
    # Without the argument Pillow writes gray files with factors 1x1, as we do; with it, with the factors of the mode.
    options = {"subsampling": mode} if images[0].ndim == 3 else {}
    for (index, (image, quality)), huffman in itertools.product(enumerate(cases), HUFFMAN):
        expected = pillow(image, quality=quality, optimize=HUFFMAN[huffman], **options)
        assert to_bytes(coefficients, index, huffman=huffman) == expected


@pytest.mark.parametrize("mode", PILLOW_MODES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_bytes_equal_pillow(size: tuple[int, int], mode: str) -> None:
    assert_bytes_equal_pillow([picture(*size), noise(*size)], (1, 50, 75, 97), mode)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gray_bytes_equal_pillow(size: tuple[int, int]) -> None:
    gray = [picture(*size)[..., 1].copy(), noise(*size)[..., 1].copy()]
    assert_bytes_equal_pillow(gray, (1, 50, 75, 97), "4:4:4")


@pytest.mark.parametrize("mode", SUBSAMPLING)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_bytes_equal_opencv(size: tuple[int, int], mode: str) -> None:
    coefficients, cases = batch([noise(*size)], (5, 75, 100), mode)
    for (index, (image, quality)), huffman in itertools.product(enumerate(cases), HUFFMAN):
        expected = opencv(image, mode, quality=quality, optimize=int(HUFFMAN[huffman]))
        assert to_bytes(coefficients, index, huffman=huffman) == expected


@pytest.mark.slow
@pytest.mark.parametrize("height", range(1, 41))
@pytest.mark.parametrize("mode", PILLOW_MODES)
def test_bytes_equal_pillow_at_every_size(mode: str, height: int) -> None:
    for width in range(1, 41):
        assert_bytes_equal_pillow([noise(height, width, seed=41 * height + width)], (10, 75, 97), mode)


@pytest.mark.slow
@pytest.mark.parametrize("mode", PILLOW_MODES)
def test_bytes_equal_pillow_at_every_quality(mode: str) -> None:
    assert_bytes_equal_pillow([picture(59, 83), noise(59, 83)], range(1, 101), mode)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("equal", [False, True])
def test_bytes_equal_pillow_with_own_tables(count: int, equal: bool) -> None:
    tables = np.random.default_rng(count).integers(1, 256, (count, 64))
    if equal:
        tables[:] = tables[0]
    image = picture(45, 51)
    coefficients = jpegrad.encode(tensor(image), tables=torch.from_numpy(tables).view(-1, 8, 8))
    assert to_bytes(coefficients) == pillow(image, qtables=tables.tolist())
    gray = jpegrad.encode(tensor(image[..., 1]), tables=torch.from_numpy(tables).view(-1, 8, 8))
    assert to_bytes(gray) == pillow(image[..., 1].copy(), qtables=tables.tolist())


def test_metadata_is_carried_through_byte_for_byte() -> None:
    data = pillow(picture(20, 30), exif=EXIF, icc_profile=ICC, comment=COMMENT)
    coefficients = read(data)
    assert [marker for marker, _ in coefficients.metadata] == [0xE1, 0xE2, 0xFE]
    assert to_bytes(coefficients) == data
    assert to_bytes(coefficients, metadata=False) == pillow(picture(20, 30))


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.sampled_from(list(SUBSAMPLING)),
    st.sampled_from(list(HUFFMAN)),
    st.integers(0, 2**32 - 1),
)
def test_what_is_written_is_read_back(
    height: int, width: int, channels: int, mode: str, huffman: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    blank = jpegrad.encode(
        torch.zeros(channels, height, width),
        tables=torch.from_numpy(rng.integers(1, 256, (int(rng.integers(2, 4)), 8, 8))),
        subsampling=mode,
    )
    levels = []
    for level in blank.levels:
        sparse = rng.integers(-1023, 1024, level.shape) * (rng.random(level.shape) < rng.random())
        levels.append(torch.from_numpy(sparse).float())
    tables = blank.tables[:1] if channels == 1 else blank.tables
    coefficients = dataclasses.replace(
        blank, levels=tuple(levels), tables=tables, metadata=((0xFE, bytes(rng.bytes(5))),)
    )
    assert same(read(to_bytes(coefficients, huffman=huffman)), coefficients)


@pytest.mark.parametrize("mode", SUBSAMPLING)
def test_every_viewer_decodes_edited_levels_as_we_do(mode: str) -> None:
    coefficients = jpegrad.encode(tensor(picture(43, 37)), quality=60, subsampling=mode)
    noisy = [
        level + torch.randint(-2, 3, level.shape) * (torch.rand(level.shape) < 0.1)
        for level in coefficients.levels
    ]
    tables = (coefficients.tables * torch.empty(2, 8, 8).uniform_(0.5, 1.5)).round().clamp(1, 255)
    edited = dataclasses.replace(coefficients, levels=tuple(noisy), tables=tables)
    decoded = jpegrad.decode(edited, dtype=torch.uint8).numpy()
    for huffman in HUFFMAN:
        assert np.array_equal(pillow_pixels(to_bytes(edited, huffman=huffman)), decoded)


def test_rgb_is_stored_as_it_is() -> None:
    image = picture(33, 29)
    tables = jpegrad.tables.annex_k(75)[:1].expand(2, 8, 8)
    coefficients = jpegrad.encode(tensor(image), tables=tables, subsampling="4:4:4", color=RGB)
    data = to_bytes(coefficients)
    assert np.array_equal(pillow_pixels(data), jpegrad.decode(coefficients, dtype=torch.uint8).numpy())
    # Pillow codes all three components with the luma tables.
    assert np.array_equal(pillow_pixels(data), pillow_pixels(pillow(image, keep_rgb=True, quality=75)))
    again = read(data)
    assert again.color == RGB
    assert same(again, coefficients)


@pytest.mark.parametrize("color", [JFIF, Color(matrix=RGB.matrix), RGB._replace(inverse=None)])
def test_any_forward_conversion_can_be_written_if_viewers_have_the_inverse(color: Color) -> None:
    coefficients = jpegrad.encode(tensor(picture(16, 16)), quality=75, color=color)
    decoded = jpegrad.decode(coefficients, dtype=torch.uint8).numpy()
    assert np.array_equal(pillow_pixels(to_bytes(coefficients)), decoded)


@pytest.mark.parametrize(
    "color",
    [
        JFIF._replace(inverse=RGB.inverse),
        JFIF._replace(offset=(0.0, 128.0, 127.0)),
        RGB._replace(inverse=JFIF.inverse),
    ],
)
def test_a_conversion_that_no_viewer_has_is_refused(color: Color) -> None:
    coefficients = jpegrad.encode(tensor(picture(16, 16)), quality=75, color=color)
    with pytest.raises(ValueError, match="color: expected"):
        to_bytes(coefficients)


def test_batches_are_indexed_flat() -> None:
    images = torch.stack([tensor(noise(20, 24, seed)) for seed in range(6)]).view(2, 3, 3, 20, 24)
    quality = torch.tensor([[20.0], [90.0]])
    coefficients = jpegrad.encode(images, quality=quality)
    for index in range(6):
        expected = pillow(noise(20, 24, index), quality=(20, 90)[index // 3])
        assert to_bytes(coefficients, index) == to_bytes(coefficients, index - 6) == expected
    for wrong in (6, -7):
        with pytest.raises(ValueError, match="index: expected -6 to 5"):
            to_bytes(coefficients, wrong)
    with pytest.raises(TypeError, match="index"):
        to_bytes(coefficients, 1.0)  # type: ignore[arg-type]


def test_a_batch_needs_an_index_and_a_single_image_none(tmp_path: Path) -> None:
    single = jpegrad.encode(tensor(noise(20, 24)), quality=40)
    expected = pillow(noise(20, 24), quality=40)
    for lead in ((), (1,), (1, 1)):
        one = jpegrad.encode(tensor(noise(20, 24)).reshape(*lead, 3, 20, 24), quality=40)
        assert to_bytes(one) == to_bytes(single) == expected
    for count in (0, 2):
        several = jpegrad.encode(torch.zeros(count, 3, 16, 16), quality=40)
        with pytest.raises(ValueError, match=f"index: expected which image of the batch of {count}"):
            to_bytes(several)
        with pytest.raises(ValueError, match="index"):
            write(tmp_path / "several.jpg", several)
    assert not list(tmp_path.iterdir())


def wide_tables(largest: int, count: int, seed: int = 0) -> list[list[int]]:
    """Tables of which the first has an entry of 16 bits, and the others may."""
    entries = np.random.default_rng(seed).integers(1, largest + 1, (count, 64))
    entries[0, 5] = largest
    return entries.tolist()


@pytest.mark.parametrize("largest", [256, 1000, 2560, 8191])
@pytest.mark.parametrize("mode", ["4:4:4", "4:2:2", "4:2:0", "gray"])
def test_tables_of_16_bits_are_those_of_pillow(mode: str, largest: int) -> None:
    for narrow, make in itertools.product((True, False), (picture, noise)):
        pixels = make(23, 41)[..., 1].copy() if mode == "gray" else make(23, 41)
        options = {} if mode == "gray" else {"subsampling": mode}
        tables = wide_tables(largest, 1 if mode == "gray" else 2)
        if narrow:
            tables[1:] = [[min(entry, 255) for entry in table] for table in tables[1:]]
        data = pillow(pixels, qtables=tables, **options)
        assert b"\xff\xc1" in data
        like = read(data)
        assert to_bytes(like) == data
        assert to_bytes(like, huffman="optimized") == pillow(pixels, qtables=tables, optimize=True, **options)
        progressive = pillow(pixels, qtables=tables, progressive=True, **options)
        assert (
            to_bytes(like, progressive=True) == to_bytes(read(progressive), progressive=True) == progressive
        )
        assert jpegrad.bits(like) == 8 * len(data) == jpegrad.rate.breakdown(like).total
        assert jpegrad.bits(like, progressive=True) == 8 * len(progressive)
        # Another picture like this file: Pillow's quality="keep" of it.
        other = make(23, 41)[::-1].copy() if mode != "gray" else pixels[::-1].copy()
        coded, expected = jpegrad.encode(tensor(other), like=like), pillow(other, qtables=tables, **options)
        assert to_bytes(coded) == expected
        decoded = jpegrad.jpeg(tensor(other), like=like)
        assert np.array_equal(decoded, pillow_pixels(expected))
        assert np.array_equal(jpegrad.decode(coded, dtype=torch.uint8), decoded)


def test_entries_beyond_libjpegs_divisors_leave_no_level() -> None:
    # Above 8191 libjpeg-turbo's 16-bit divisors overflow; T.81's division by them gives 0.
    like = jpegrad.encode(tensor(noise(16, 16)), quality=50, subsampling="4:4:4")
    for entry in (8192, 8193, 32768, 65535):
        wide = dataclasses.replace(like, tables=torch.full((2, 8, 8), float(entry)))
        coded = jpegrad.encode(tensor(noise(16, 16)), like=wide)
        assert not any(level.any() for level in coded.levels)
        again = read(to_bytes(coded))
        assert torch.equal(again.tables[0], wide.tables[0])


def test_like_a_file_whose_tables_exceed_8_bits() -> None:
    wide = read(with_16_bit_tables(pillow(picture(20, 30), quality=10), scale=7))
    assert wide.tables.max() > 255
    image = torch.rand(3, 20, 30, requires_grad=True)
    coded = jpegrad.jpeg(image, like=wide)
    coded.sum().backward()
    assert image.grad is not None and image.grad.isfinite().all()
    plain = image.detach()
    assert torch.equal(torch.func.vmap(lambda x: jpegrad.jpeg(x, like=wide))(plain[None])[0], coded)
    reasons = jpegrad.backends.explain(plain)["native"]
    with pytest.raises(
        ValueError, match=r"backend: 'native' cannot run this call: .*table entries up to 255"
    ):
        jpegrad.jpeg(plain, like=wide, backend="native")
    assert jpegrad.backends.explain(plain)["native"] == reasons
    # Tables as parameters stay those of baseline files.
    learned = wide.tables.clone().requires_grad_()
    clamped = jpegrad.encode(plain, tables=learned).tables
    assert clamped.max() == 255
    # The soft forward, and tables of a transform.
    assert jpegrad.jpeg(plain, like=wide, forward="soft").isfinite().all()

    def largest(tables: torch.Tensor) -> torch.Tensor:
        return jpegrad.encode(
            plain, like=dataclasses.replace(wide, tables=tables), backend="reference"
        ).tables

    assert torch.equal(torch.func.vmap(largest)(wide.tables[None])[0], wide.tables)
    assert jpegrad.tables.legal(7 * wide.tables, largest=65535).max() == 7 * wide.tables.max()
    with pytest.raises(ValueError, match="largest: expected 255 or 65535, got 1000"):
        jpegrad.tables.legal(wide.tables, largest=1000)


@pytest.mark.whole_graph
def test_like_a_file_whose_tables_exceed_8_bits_in_a_compiled_function() -> None:
    like = jpegrad.encode(tensor(picture(20, 30)), quality=10)
    compiled = torch.compile(
        lambda image, like: jpegrad.jpeg(image, like=like), backend="eager", fullgraph=True
    )
    image = tensor(picture(20, 30))
    assert torch.equal(compiled(image, like), jpegrad.jpeg(image, 10))
    with pytest.raises(
        RuntimeError, match="like: expected table entries of at most 255 in a compiled function"
    ):
        compiled(image, dataclasses.replace(like, tables=7 * like.tables))


@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf"), 1e6, 1024.0, -1024.0])
def test_levels_that_no_baseline_file_can_hold(value: float) -> None:
    coefficients = jpegrad.encode(torch.rand(3, 16, 16), quality=75)
    with pytest.raises(ValueError, match=r"levels\[1\]"):
        to_bytes(patched(coefficients, value, component=1))


def test_the_largest_levels_are_written() -> None:
    coefficients = jpegrad.encode(torch.zeros(1, 8, 24), quality=75)
    level = torch.zeros(1, 3, 64)
    level[..., 1:] = 1023 * (-1.0) ** torch.arange(63)
    level[0, :, 0] = torch.tensor([1024.0, -1023.0, 1024.0])
    coefficients = dataclasses.replace(coefficients, levels=(level.view(1, 3, 8, 8),))
    for huffman in HUFFMAN:
        assert torch.equal(read(to_bytes(coefficients, huffman=huffman)).levels[0], coefficients.levels[0])
    level[0, 1, 0] = -1024
    with pytest.raises(ValueError, match="2048"):
        to_bytes(coefficients)


@pytest.mark.parametrize("value", [0.0, 65536.0, 1.5, 300.5, float("nan"), -3.0])
def test_tables_that_no_file_can_hold(value: float) -> None:
    coefficients = jpegrad.encode(torch.rand(3, 16, 16), quality=75)
    tables = coefficients.tables.clone()
    tables[1, 2, 3] = value
    with pytest.raises(
        ValueError, match=rf"tables: expected integers 1 to 65535, got {value} at tables\[1, 2, 3\]"
    ):
        to_bytes(dataclasses.replace(coefficients, tables=tables))


def test_wrong_arguments() -> None:
    coefficients = jpegrad.encode(torch.rand(3, 16, 16), quality=75)
    with pytest.raises(ValueError, match="huffman"):
        to_bytes(coefficients, huffman="best")
    with pytest.raises(TypeError, match="coefficients"):
        to_bytes(b"")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source"):
        read(17)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source"):
        read(io.StringIO("text"))  # type: ignore[arg-type]
    for limit in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="max_pixels"):
            read(b"", max_pixels=limit)  # type: ignore[arg-type]
    for marker in (0xE0, 0xEE, 0xC4, 0x1E1):
        with pytest.raises(ValueError, match="metadata"):
            to_bytes(dataclasses.replace(coefficients, metadata=((marker, b""),)))
    with pytest.raises(ValueError, match="metadata"):
        to_bytes(dataclasses.replace(coefficients, metadata=((0xFE, bytes(65534)),)))
    with pytest.raises(ValueError, match="size"):
        to_bytes(jpegrad.encode(torch.zeros(1, 1, 65501), quality=75))


def test_sources(tmp_path: os.PathLike[str]) -> None:
    data = pillow(picture(20, 30))
    path = os.path.join(tmp_path, "picture.jpg")
    with open(path, "wb") as file:
        file.write(data)
    expected = read(data)
    with open(path, "rb") as file:
        sources = [path, tmp_path / "picture.jpg", bytearray(data), memoryview(data), io.BytesIO(data), file]
        assert all(same(read(source), expected) for source in sources)
    with pytest.raises(FileNotFoundError):
        read(os.path.join(tmp_path, "none.jpg"))


def test_write_takes_file_objects(tmp_path: Path) -> None:
    coefficients = jpegrad.encode(tensor(picture(20, 30)), quality=75)
    buffer = io.BytesIO()
    write(buffer, coefficients, huffman="optimized")
    assert buffer.getvalue() == to_bytes(coefficients, huffman="optimized")
    with open(tmp_path / "any name", "wb") as file:
        write(file, coefficients)
    assert (tmp_path / "any name").read_bytes() == to_bytes(coefficients)
    for wrong in (io.StringIO(), 17, None):
        with pytest.raises(TypeError, match="target: expected a path or a binary file object"):
            write(wrong, coefficients)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x.png", "x", "x.jpg.txt", ".jpg"])
def test_write_refuses_the_name_of_another_kind(tmp_path: Path, name: str) -> None:
    coefficients = jpegrad.encode(tensor(picture(20, 30)), quality=75)
    with pytest.raises(ValueError, match=rf"target: expected a name that ends in .jpg, .* got .*{name}"):
        write(tmp_path / name, coefficients)
    assert not list(tmp_path.iterdir())
    for suffix in (".jpg", ".JPEG", ".jpe", ".jfif"):
        write(tmp_path / f"x{suffix}", coefficients)


def test_density_is_carried(tmp_path: Path) -> None:
    for dpi in ((300, 300), (72, 144)):
        data = pillow(picture(20, 30), dpi=dpi)
        found = read(data)
        assert found.density == (*dpi, "inch")
        assert to_bytes(found) == data
    made = jpegrad.encode(tensor(picture(20, 30)), quality=75)
    assert made.density == (1, 1, "") and to_bytes(made) == pillow(picture(20, 30))
    for density, expected in {
        (118, 118, "cm"): {"jfif_unit": 2, "jfif_density": (118, 118)},
        (4, 3, ""): {"jfif_unit": 0, "jfif_density": (4, 3)},
        (0, 65535, "inch"): {"jfif_unit": 1, "jfif_density": (0, 65535)},
    }.items():
        written = to_bytes(dataclasses.replace(made, density=density))
        with Image.open(io.BytesIO(written)) as opened:
            assert {name: opened.info[name] for name in expected} == expected
        assert read(written).density == density
        assert jpegrad.bits(dataclasses.replace(made, density=density)) == 8 * len(written)
    for wrong in (
        (300, 300),
        (300, 300, "m"),
        (-1, 1, ""),
        (65536, 1, ""),
        (1.5, 1, "inch"),
        300,
        (True, 1, ""),
    ):
        with pytest.raises(ValueError, match="density: expected"):
            dataclasses.replace(made, density=wrong)
    rgb = jpegrad.encode(tensor(picture(20, 30)), quality=75, color=RGB, subsampling="4:4:4")
    with pytest.raises(ValueError, match="density"):
        to_bytes(dataclasses.replace(rgb, density=(300, 300, "inch")))


def test_write_replaces_the_file_and_leaves_nothing_behind(tmp_path: os.PathLike[str]) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"something else")
    coefficients = jpegrad.encode(tensor(picture(20, 30)), quality=75)
    with pytest.raises(ValueError):
        write(path, patched(coefficients, 0.5))
    assert path.read_bytes() == b"something else"
    write(path, coefficients, huffman="optimized")
    assert path.read_bytes() == to_bytes(coefficients, huffman="optimized")
    assert os.listdir(tmp_path) == ["picture.jpg"]
    with Image.open(path) as opened:
        assert opened.size == (30, 20)
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "no folder" / "picture.jpg", coefficients)


def test_levels_carry_a_graph_or_not() -> None:
    image = torch.rand(3, 16, 16, requires_grad=True)
    coefficients = jpegrad.encode(image, quality=75)
    assert to_bytes(coefficients) == to_bytes(coefficients.detach())


def test_an_error_is_a_value_error() -> None:
    assert issubclass(JPEGError, ValueError)
    # Files of other encoders round-trip too, through our own.
    coefficients = read(libjpeg(picture(40, 40), "mozjpeg403", [(2, 2), (1, 1), (1, 1)]))
    assert same(read(to_bytes(coefficients, huffman="optimized")), coefficients)
