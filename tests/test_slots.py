"""Tables of each colour space: the slots that libjpeg gives to the components of gray, YCbCr, RGB, CMYK and YCCK."""

import dataclasses
import tempfile

import jpeglib
import numpy as np
import pytest
import torch

import jpegrad
from corpus import inks, noise, picture, pillow, pillow_pixels, tensor, ycck
from jpegrad.backends.native import abi
from jpegrad.rate import breakdown, marginal_costs
from jpegrad.spec import CMYK, JFIF, RGB, Color
from jpegtran import jpegtran, needs_jpegtran

MODES = {
    "baseline": ({}, {}, ()),
    "optimized": ({"optimize": True}, {"huffman": "optimized"}, ("-optimize",)),
    "progressive": ({"progressive": True}, {"progressive": True}, ("-progressive",)),
}
"""What Pillow, ``to_bytes`` and jpegtran are told."""
SPACES = ("gray", "YCbCr", "RGB", "CMYK", "YCCK")
ONE_TABLE = [[3 + i // 4 for i in range(64)]]


def coded(
    space: str, size: tuple[int, int] = (45, 70), quality: float | torch.Tensor = 75
) -> jpegrad.Coefficients:
    if space in ("CMYK", "YCCK"):
        image, color, channels = tensor(inks(*size)), CMYK if space == "CMYK" else JFIF, "CMYK"
    else:
        image, color, channels = tensor(picture(*size)), RGB if space == "RGB" else None, None
        image = image[:1] if space == "gray" else image
    if isinstance(quality, torch.Tensor):
        image = image.expand(*quality.shape, *image.shape)
    found = jpegrad.encode(image, quality, color=color, channels=channels, subsampling="4:4:4")
    assert found.space == space
    return found


def libjpeg_ycck(pixels: np.ndarray, quality: int, *flags: str) -> bytes:
    """YCCK as libjpeg makes it of inks, which files hold inverted."""
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        image = jpeglib.from_spatial(255 - pixels, jpeglib.Colorspace.JCS_CMYK)
        image.jpeg_color_space = jpeglib.Colorspace.JCS_YCCK
        image.samp_factor = [(1, 1)] * 4
        image.write_spatial(file.name, qt=quality, flags=list(flags))
        return file.read()


@pytest.fixture(params=["native", "reference"])
def coder(request, monkeypatch) -> str:
    if request.param == "native" and isinstance(abi.load(), str):
        pytest.skip(abi.load())
    # Named, the native kernels refuse to encode what they don't know.
    monkeypatch.setenv("JPEGRAD_BACKEND", "auto" if request.param == "native" else request.param)
    return request.param


@pytest.mark.parametrize("mode", MODES)
def test_files_of_rgb_are_those_of_pillow(mode: str, coder: str) -> None:
    theirs, ours, _ = MODES[mode]
    for size in ((1, 1), (17, 8), (45, 70)):
        for pixels in (picture(*size), noise(*size)):
            for quality in (1, 25, 50, 75, 92, 100):
                data = pillow(pixels, keep_rgb=True, quality=quality, **theirs)
                own = jpegrad.encode(tensor(pixels), quality, color=RGB, subsampling="4:4:4")
                read = jpegrad.read(data)
                for coefficients in (own, read):
                    assert jpegrad.to_bytes(coefficients, **ours) == data
                    assert jpegrad.bits(coefficients, **ours) == 8 * len(data)
                assert all(map(torch.equal, own.levels, read.levels))


# Below 25 this program's tables have entries above 255.
@pytest.mark.parametrize("quality", [25, 75, 90, 100])
def test_files_of_ycck_are_those_of_libjpeg(quality: int, coder: str) -> None:
    pixels = inks(45, 70)
    flags = {"baseline": (), "optimized": ("+OPTIMIZE_CODING",), "progressive": ("+PROGRESSIVE_MODE",)}
    for mode, (_, ours, _) in MODES.items():
        data = libjpeg_ycck(pixels, quality, *flags[mode])
        coefficients = jpegrad.encode(tensor(pixels), quality, color=JFIF, channels="CMYK")
        for each in (coefficients, jpegrad.read(data)):
            assert jpegrad.to_bytes(each, **ours) == data
            assert jpegrad.bits(each, **ours) == 8 * len(data)


@pytest.mark.parametrize("mode", MODES)
def test_one_table_is_written_once_and_equal_ones_are_not(mode: str) -> None:
    theirs, ours, _ = MODES[mode]
    pixels = picture(45, 70)
    one = torch.tensor(ONE_TABLE, dtype=torch.float32).view(1, 8, 8)
    for count in (1, 2, 3):
        data = pillow(pixels, qtables=ONE_TABLE * count, subsampling="4:2:0", **theirs)
        own = jpegrad.encode(tensor(pixels), tables=one.expand(count, 8, 8))
        for coefficients in (own, jpegrad.read(data)):
            assert len(coefficients.tables) == count
            assert jpegrad.to_bytes(coefficients, **ours) == data
            assert jpegrad.bits(coefficients, **ours) == 8 * len(data)
    data = pillow(pixels, quality=100, subsampling="4:2:0", **theirs)
    assert jpegrad.to_bytes(jpegrad.encode(tensor(pixels), 100), **ours) == data
    assert jpegrad.to_bytes(jpegrad.read(data), **ours) == data
    assert jpegrad.read_header(data).quantization_tables == 2


def read_files() -> dict[str, bytes]:
    photo, four = picture(45, 70), inks(45, 70)
    return {
        "RGB": pillow(photo, keep_rgb=True, quality=60),
        "RGB of two tables": pillow(photo, keep_rgb=True, qtables=[ONE_TABLE[0], [9] * 64]),
        "YCbCr of one table": pillow(photo, qtables=ONE_TABLE),
        "gray": pillow(photo[..., 0], quality=60),
        "CMYK": pillow(four, quality=60),
        "CMYK of two tables": pillow(four, qtables=[ONE_TABLE[0], [9] * 64]),
        "YCCK": libjpeg_ycck(four, 60),
    }


@needs_jpegtran
@pytest.mark.parametrize("mode", MODES)
def test_files_that_were_read_are_written_as_by_jpegtran(mode: str) -> None:
    _, ours, options = MODES[mode]
    for name, data in read_files().items():
        coefficients = jpegrad.read(data)
        written = jpegrad.to_bytes(coefficients, **ours)
        assert written == jpegtran(data, *options), name
        assert jpegrad.bits(coefficients, **ours) == 8 * len(written), name


@needs_jpegtran
@pytest.mark.parametrize("mode", MODES)
def test_ycck_of_one_table(mode: str) -> None:
    _, ours, options = MODES[mode]
    data = ycck(pillow(inks(45, 70), quality=60))
    expected = jpegtran(data, *options)
    assert expected is not None
    # Pillow's components are named C, M, Y and K, and jpegtran keeps the names; ours are 1 to 4 as libjpeg's.
    frame = expected.index(b"\xff\xc2" if mode == "progressive" else b"\xff\xc0")
    written = jpegrad.to_bytes(jpegrad.read(data), **ours)
    assert written[:frame] == expected[:frame] and len(written) == len(expected)
    assert jpegtran(written, *options) == written


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("space", SPACES)
def test_sizes_are_exact_in_every_space(space: str, mode: str, coder: str) -> None:
    _, how, _ = MODES[mode]
    batch = coded(space, quality=torch.tensor([10.0, 75.0, 100.0]))
    if space == "YCCK":
        tables = batch.tables.clone()
        tables[1, 3, 7, 7] += 1
        batch = dataclasses.replace(batch, tables=tables)
    files = jpegrad.io.to_bytes_batch(batch, **how)
    assert jpegrad.bits(batch, **how).tolist() == [8 * len(data) for data in files]
    if mode != "progressive":
        assert breakdown(batch, **how).total.tolist() == [8 * len(data) for data in files]
    for i, data in enumerate(files):
        assert all(map(torch.equal, jpegrad.read(data).levels, batch[i].levels))
        shown = jpegrad.decode(batch[i], dtype=torch.uint8).numpy()
        assert np.array_equal(shown, pillow_pixels(data))
    if space == "YCCK":
        assert [jpegrad.read_header(data).quantization_tables for data in files] == [2, 4, 2]


def alone(coefficients: jpegrad.Coefficients, component: int) -> jpegrad.Coefficients:
    """A component as a gray picture, which has the tables of slot 0."""
    table = coefficients.tables[min(component, len(coefficients.tables) - 1)]
    return jpegrad.Coefficients((coefficients.levels[component],), table[None], coefficients.size, "4:4:4")


@pytest.mark.parametrize(
    ("space", "luma"), [("YCbCr", (0,)), ("RGB", (0, 1, 2)), ("CMYK", (0, 1, 2, 3)), ("YCCK", (0, 3))]
)
def test_what_a_step_costs_and_which_levels_are_worth_it(
    space: str, luma: tuple[int, ...], coder: str
) -> None:
    coefficients = dataclasses.replace(coded(space, (24, 32), 90))
    costs = marginal_costs(coefficients)
    chosen = jpegrad.tune.trellis(coefficients, 20.0, huffman="default")
    for i, level in enumerate(chosen.levels):
        gray = alone(coefficients, i)
        as_gray = jpegrad.tune.trellis(gray, 20.0, huffman="default").levels[0]
        assert torch.equal(level, as_gray) == (i in luma)
        assert all(map(torch.equal, costs[i], marginal_costs(gray)[0])) == (i in luma)


@pytest.mark.parametrize("space", SPACES)
def test_native_and_reference_choose_alike(space: str, monkeypatch) -> None:
    if isinstance(abi.load(), str):
        pytest.skip(abi.load())
    coefficients = dataclasses.replace(coded(space, (24, 32), 90))
    found = []
    for name in ("native", "reference"):
        monkeypatch.setenv("JPEGRAD_BACKEND", name)
        chosen = jpegrad.tune.trellis(coefficients, 20.0)
        costs = marginal_costs(coefficients, huffman="optimized")
        found.append([*chosen.levels, *(x for pair in costs for x in pair)])
    assert all(map(torch.equal, *found))
    assert jpegrad.bits(chosen, huffman="optimized") < jpegrad.bits(coefficients, huffman="optimized")


@pytest.mark.parametrize("huffman", ["default", "optimized"])
@pytest.mark.parametrize("space", ["RGB", "YCCK"])
def test_the_slope_of_the_size_is_what_a_step_costs(space: str, huffman: str) -> None:
    coefficients = dataclasses.replace(coded(space, (24, 32), 90))
    levels = tuple(x.clone().requires_grad_() for x in coefficients.levels)
    size = jpegrad.bits(dataclasses.replace(coefficients, levels=levels), huffman=huffman)
    slopes = torch.autograd.grad(size, levels)
    for slope, level, (up, down) in zip(
        slopes, levels, marginal_costs(coefficients, huffman=huffman), strict=True
    ):
        expected = level.detach().sign() * (up - down) / 2
        expected[..., 0, 0] = slope[..., 0, 0]
        assert torch.allclose(slope, expected)


def test_qualities_of_rgb_scale_the_table_of_luma() -> None:
    luma = jpegrad.tables.annex_k(60)[:1]
    image = tensor(picture(24, 32))
    own = jpegrad.encode(image, 60, color=RGB, subsampling="4:4:4")
    assert torch.equal(own.tables.float(), luma.float())
    expected = jpegrad.jpeg(image, tables=luma.expand(2, 8, 8), color=RGB, subsampling="4:4:4")
    assert torch.equal(jpegrad.jpeg(image, 60, color=RGB, subsampling="4:4:4"), expected)
    listed = Color(*(np.array(part).tolist() for part in RGB))
    assert torch.equal(jpegrad.encode(image, 60, color=listed).tables, own.tables)
    # A conversion that is learned begins and stays with the tables of luma and chroma.
    learned = Color(*(torch.tensor(part) for part in RGB))
    assert len(jpegrad.encode(image, 60, color=learned).tables) == 2
    quality = torch.tensor(60.0, requires_grad=True)
    jpegrad.jpeg(image / 255, quality, color=RGB, subsampling="4:4:4").square().mean().backward()
    assert quality.grad is not None and quality.grad != 0


def test_the_quality_of_a_file_whose_only_table_is_that_of_luma() -> None:
    luma = jpegrad.tables.annex_k(60)[0].int().flatten().tolist()
    photo = picture(24, 32)
    assert jpegrad.read_header(pillow(photo, quality=60, keep_rgb=True)).quality.exact
    # libjpeg would give chroma another table.
    assert not jpegrad.read_header(pillow(photo, qtables=[luma])).quality.exact
