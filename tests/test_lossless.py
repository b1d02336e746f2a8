"""Lossless changes: jpegtran's levels and bytes, and the pictures that they should show."""

import dataclasses
import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

import jpegrad
from corpus import (
    corpus,
    exif,
    exif_with_size_and_thumbnail,
    inks,
    noise,
    picture,
    pillow,
    pillow_pixels,
    tensor,
    with_segments,
)
from jpegrad import Coefficients, lossless
from jpegrad.io import read, read_header, to_bytes
from jpegrad.jfif import segments
from jpegtran import jpegtran, needs_jpegtran

Change = Callable[..., Coefficients]
CHANGES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "rotate 90": (lambda c, **o: lossless.rotate(c, 90, **o), ("-rotate", "90")),
    "rotate 180": (lambda c, **o: lossless.rotate(c, 180, **o), ("-rotate", "180")),
    "rotate 270": (lambda c, **o: lossless.rotate(c, 270, **o), ("-rotate", "270")),
    "flip horizontal": (lambda c, **o: lossless.flip(c, "horizontal", **o), ("-flip", "horizontal")),
    "flip vertical": (lambda c, **o: lossless.flip(c, "vertical", **o), ("-flip", "vertical")),
    "transpose": (lambda c, trim=False: lossless.transpose(c), ("-transpose",)),
    "transverse": (lossless.transverse, ("-transverse",)),
}
ON_PIXELS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "rotate 90": lambda x: x.rot90(-1, (-2, -1)),
    "rotate 180": lambda x: x.rot90(2, (-2, -1)),
    "rotate 270": lambda x: x.rot90(1, (-2, -1)),
    "flip horizontal": lambda x: x.flip(-1),
    "flip vertical": lambda x: x.flip(-2),
    "transpose": lambda x: x.transpose(-2, -1),
    "transverse": lambda x: x.rot90(2, (-2, -1)).transpose(-2, -1),
}
SAMPLINGS = ["4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1", "3x1,1x1,1x1", "1x1,2x2,2x1", "2x1,1x2,1x1"]


def attempt(change: Change, *arguments: object, **options: object) -> Coefficients | None:
    try:
        return change(*arguments, **options)
    except ValueError:
        return None


def assert_equal(found: Coefficients, expected: Coefficients) -> None:
    assert (found.size, found.subsampling, found.space) == (
        expected.size,
        expected.subsampling,
        expected.space,
    )
    assert torch.equal(found.tables, expected.tables)
    for x, y in zip(found.levels, expected.levels, strict=True):
        assert torch.equal(x, y)


def coded(height: int, width: int, subsampling: str, **options: object) -> Coefficients:
    tables = torch.arange(2, 130.0).view(2, 8, 8)
    return jpegrad.encode(tensor(picture(height, width)), tables=tables, subsampling=subsampling, **options)


# Of these the factors in the file have a common divisor, and jpegtran's MCU is larger than need be.
LARGER = ("2x2 1x2 1x2", "2x2 2x1 2x1", "2x2 2x2 2x2", "4x2 2x1 2x1", "4x4 2x2 2x2")
# jpegtran writes one scan, which holds at most 10 blocks of an MCU, and a table for each component.
REFUSED = (
    *("4x2 2x1 2x1", "4x4 2x2 2x2", "2x2 2x2 2x2", "4x4,1x1,1x1", "1x1,3x3,3x1", "separate scans CMYK"),
    "tables redefined",
)


@needs_jpegtran
@pytest.mark.parametrize("name", corpus())
def test_levels_are_those_of_jpegtran(name: str) -> None:
    data = corpus()[name]
    whole = read(data)
    refused = any(x in name for x in REFUSED)
    assert (jpegtran(data) is None) == refused
    if refused:
        return
    for change, options in CHANGES.values():
        ours, theirs = attempt(change, whole), jpegtran(data, "-perfect", *options)
        if theirs is not None:
            assert ours is not None
            assert_equal(ours, read(theirs))
            assert ours.metadata == read(theirs).metadata
        elif not any(x in name for x in LARGER):
            assert ours is None
        ours, theirs = attempt(change, whole, trim=True), jpegtran(data, "-trim", *options)
        assert theirs is not None
        if ours is None:
            # It leaves a picture that is smaller than an MCU as it is at its edges.
            assert min(whole.size) < max(lossless.mcu(whole))
        elif not any(x in name for x in LARGER):
            assert_equal(ours, read(theirs))


@needs_jpegtran
@pytest.mark.parametrize("subsampling", SAMPLINGS)
@pytest.mark.parametrize("name", CHANGES)
def test_files_are_those_of_jpegtran(name: str, subsampling: str) -> None:
    change, options = CHANGES[name]
    whole = coded(48, 96, subsampling)
    data = to_bytes(whole)
    changed = change(read(data))
    assert to_bytes(changed) == jpegtran(data, "-perfect", *options)
    assert to_bytes(changed, huffman="optimized") == jpegtran(data, "-perfect", "-optimize", *options)
    odd = to_bytes(coded(61, 83, subsampling))
    assert to_bytes(change(read(odd), trim=True)) == jpegtran(odd, "-trim", *options)


@needs_jpegtran
@pytest.mark.parametrize("subsampling", ["gray", "CMYK", *SAMPLINGS])
def test_crops_are_those_of_jpegtran(subsampling: str) -> None:
    if subsampling == "CMYK":
        data = pillow(inks(61, 83))
    else:
        image = picture(61, 83)
        whole = jpegrad.encode(
            tensor(image[..., :1] if subsampling == "gray" else image),
            80,
            subsampling=None if subsampling == "gray" else subsampling,
        )
        data = to_bytes(whole)
    whole = read(data)
    rows, columns = lossless.mcu(whole)
    for top, left, height, width in (
        (0, 0, 61, 83),
        (0, 0, 1, 1),
        (rows, columns, 17, 19),
        (5, 9, 30, 40),
        (60, 82, 1, 1),
        (2 * rows - 1, 2 * columns - 1, 61 - 2 * rows + 1, 83 - 2 * columns + 1),
    ):
        found = lossless.crop(whole, top, left, height, width, grow=True)
        expected = jpegtran(data, "-crop", f"{width}x{height}+{left}+{top}")
        assert expected is not None
        assert_equal(found, read(expected))
        if subsampling != "CMYK":
            assert to_bytes(found) == expected


@pytest.mark.parametrize("subsampling", ["gray", *SAMPLINGS])
@pytest.mark.parametrize("name", CHANGES)
def test_the_real_picture_is_changed_exactly(name: str, subsampling: str) -> None:
    image = tensor(picture(48, 96)) / 255.0
    image = image[:1] if subsampling == "gray" else image
    whole = jpegrad.encode(
        image.double(), 60, subsampling=None if subsampling == "gray" else subsampling, forward="soft"
    )
    changed = CHANGES[name][0](whole)
    error = jpegrad.decode(changed) - ON_PIXELS[name](jpegrad.decode(whole))
    assert error.abs().max() < 1e-12


@pytest.mark.parametrize("name", CHANGES)
def test_viewers_show_the_changed_picture(name: str) -> None:
    whole = jpegrad.encode(tensor(picture(48, 96)), 80, subsampling="4:4:4")
    before, after = (
        torch.from_numpy(pillow_pixels(to_bytes(c)).copy()).int() for c in (whole, CHANGES[name][0](whole))
    )
    # The integer inverse DCT rounds its two passes in another order; the colour conversion enlarges that.
    assert (after - ON_PIXELS[name](before)).abs().max() <= 4


@pytest.mark.parametrize("subsampling", SAMPLINGS)
def test_the_changes_are_a_group(subsampling: str) -> None:
    whole = coded(48, 96, subsampling)
    turned = whole
    for _ in range(4):
        turned = lossless.rotate(turned, 90)
    assert_equal(turned, whole)
    assert lossless.rotate(whole, 0) is whole
    assert_equal(lossless.rotate(lossless.rotate(whole, 90), 180), lossless.rotate(whole, 270))
    for name in ("flip horizontal", "flip vertical", "transpose", "transverse", "rotate 180"):
        change = CHANGES[name][0]
        assert_equal(change(change(whole)), whole)
    assert_equal(
        lossless.flip(lossless.transpose(whole), "horizontal"),
        lossless.rotate(whole, 90),
    )


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("dtype", [torch.int16, torch.float32, torch.float64])
def test_batches_and_types_stay(name: str, dtype: torch.dtype) -> None:
    change = CHANGES[name][0]
    items = [jpegrad.encode(tensor(noise(32, 48, seed)), 30 + 20 * seed) for seed in range(3)]
    batch = Coefficients.stack(items)
    batch = dataclasses.replace(batch, levels=tuple(x.to(dtype) for x in batch.levels))
    changed = change(batch)
    assert all(x.dtype is dtype for x in changed.levels)
    for one, item in zip(changed, items, strict=True):
        expected = change(item)
        assert torch.equal(one.tables, expected.tables)
        assert all(
            torch.equal(x.double(), y.double()) for x, y in zip(one.levels, expected.levels, strict=True)
        )


@pytest.mark.parametrize("name", CHANGES)
def test_gradients_pass(name: str) -> None:
    image = (tensor(picture(32, 48)) / 255.0).double().requires_grad_()
    tables = jpegrad.tables.annex_k(80).double().requires_grad_()
    weight = torch.rand(3, *ON_PIXELS[name](image).shape[-2:], dtype=torch.float64)
    whole = jpegrad.encode(image, tables=tables, forward="soft")
    (jpegrad.decode(CHANGES[name][0](whole)) * weight).sum().backward()
    found = image.grad, tables.grad
    image.grad = tables.grad = None
    whole = jpegrad.encode(image, tables=tables, forward="soft")
    (ON_PIXELS[name](jpegrad.decode(whole)) * weight).sum().backward()
    for x, y in zip(found, (image.grad, tables.grad), strict=True):
        assert x is not None and y is not None
        assert (x - y).abs().max() <= 1e-10 * y.abs().max()


def test_the_unrounded_levels_go_along() -> None:
    image = (tensor(picture(40, 48)) / 255.0).requires_grad_()
    whole = jpegrad.encode(image, 75)
    for changed in (
        lossless.rotate(whole, 90, trim=True),
        lossless.crop(whole, 16, 32, 20, 10),
        lossless.roll(whole, 0, 16),
    ):
        assert changed.unrounded is not None
        for level, real in zip(changed.levels, changed.unrounded, strict=True):
            assert level.shape == real.shape
            assert (level - real).abs().max() <= 0.5 + 1e-4
        (gradient,) = torch.autograd.grad(jpegrad.bits(changed), image, retain_graph=True)
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0", "4:1:1"])
def test_roll_moves_whole_mcus(subsampling: str) -> None:
    whole = coded(64, 96, subsampling)
    rows, columns = lossless.mcu(whole)
    rolled = lossless.roll(whole, rows, -2 * columns)
    found, expected = (jpegrad.decode(c, dtype=torch.uint8) for c in (rolled, whole))
    expected = expected.roll((rows, -2 * columns), (-2, -1))
    # Upsampling looks a sample beyond the edges that are joined and torn.
    inner = torch.ones(64, 96, dtype=torch.bool)
    if subsampling != "4:4:4":
        for row in (0, rows):
            inner[[row - 2, row - 1, row, row + 1]] = False
        for column in (0, -2 * columns):
            inner[:, range(column - 4, column + 4)] = False
    assert torch.equal(found[:, inner], expected[:, inner])
    back = lossless.roll(rolled, -rows, 2 * columns)
    assert_equal(back, whole)
    odd = coded(69, 96, subsampling)
    assert lossless.roll(odd, 0, columns).size == (69, 96)
    assert lossless.roll(odd, rows, 0, trim=True).size == (64, 96)


def photograph(orientation: int, order: str = "<") -> bytes:
    return with_segments(
        pillow(picture(64, 96), quality=80, subsampling="4:2:0"),
        (0xE1, exif(orientation, order)),
        (0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="%d"/>' % orientation),
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation: int, order: str) -> None:
    data = photograph(orientation, order)
    whole = read(data)
    assert lossless.orientation(whole) == orientation
    upright = lossless.apply_orientation(whole)
    assert lossless.orientation(upright) == 1
    assert b'Orientation="1"' in upright.metadata[1][1]
    assert lossless.apply_orientation(upright) is upright
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.array(ImageOps.exif_transpose(opened)).astype(int)
    found = pillow_pixels(to_bytes(upright)).transpose(1, 2, 0).astype(int)
    assert found.shape == expected.shape
    # Rounding of the inverse DCT and of upsampling, both of which depend on the direction.
    assert np.abs(found - expected).max() <= 6


def test_an_orientation_that_says_nothing_changes_nothing() -> None:
    for metadata in ((), ((0xE1, exif(9)),), ((0xE1, b"Exif\0\0II"),), ((0xFE, exif(6)),)):
        whole = dataclasses.replace(coded(16, 16, "4:4:4"), metadata=metadata)
        assert lossless.apply_orientation(whole) is whole


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_follows_the_size(order: str) -> None:
    thumbnail = pillow(picture(24, 16))
    payload = exif_with_size_and_thumbnail(order, thumbnail)
    plain = pillow(picture(64, 96), subsampling="4:2:0")
    data = plain[:2] + segments.segment(0xE1, payload) + plain[20:]
    whole = read(data)
    upright = lossless.apply_orientation(whole)
    with Image.open(io.BytesIO(to_bytes(upright))) as opened:
        found = opened.getexif()
        assert found[0x0112] == 1
        assert {0xA002: 64, 0xA003: 96}.items() <= found.get_ifd(0x8769).items()
        assert not found.get_ifd(ExifTags.IFD.IFD1)
    turned = lossless.rotate(whole, 90)
    with Image.open(io.BytesIO(to_bytes(turned))) as opened:
        found = opened.getexif()
        assert found[0x0112] == 6
        assert found.get_ifd(ExifTags.IFD.IFD1)[0x0202] == len(thumbnail)
    cut = lossless.crop(whole, 16, 0, 10, 20)
    with Image.open(io.BytesIO(to_bytes(cut))) as opened:
        assert {0xA002: 20, 0xA003: 10}.items() <= opened.getexif().get_ifd(0x8769).items()
    assert lossless.rotate(whole, 180).metadata == whole.metadata
    # No truncated Exif is an error, and none grows.
    for end in range(6, len(payload)):
        short = dataclasses.replace(whole, metadata=((0xE1, payload[:end]),))
        for changed in (lossless.rotate(short, 90), lossless.apply_orientation(short)):
            assert len(changed.metadata[0][1]) == end


@needs_jpegtran
def test_exif_is_that_of_jpegtran() -> None:
    payload = exif_with_size_and_thumbnail("<", pillow(picture(24, 16)))
    plain = pillow(picture(64, 96), subsampling="4:2:0")
    data = plain[:2] + segments.segment(0xE1, payload) + plain[20:]
    for change, options in CHANGES.values():
        theirs = jpegtran(data, *options)
        assert theirs is not None
        assert change(read(data)).metadata == read(theirs).metadata


def test_the_density_turns_with_the_picture() -> None:
    whole = dataclasses.replace(coded(16, 32, "4:4:4"), density=(300, 150, "inch"))
    assert lossless.rotate(whole, 90).density == (150, 300, "inch")
    assert lossless.rotate(whole, 180).density == (300, 150, "inch")
    assert read_header(to_bytes(lossless.transpose(whole))).density == (150, 300, "inch")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: lossless.rotate(c, 45), "degrees: expected one of 0, 90, 180, 270; got 45"),
        (lambda c: lossless.rotate(c, -90), "degrees: expected one of"),
        (lambda c: lossless.flip(c, "left"), "direction: expected horizontal or vertical, got 'left'"),
        (
            lambda c: lossless.rotate(c, 90),
            "size: expected a height that is a multiple of the MCU, 16, got 40; trim=True leaves out the last 8",
        ),
        (
            lambda c: lossless.flip(c, "horizontal"),
            "size: expected a width that is a multiple of the MCU, 16, got 9, of which|trim=True",
        ),
        (
            lambda c: lossless.rotate(c, 270, trim=True),
            "size: expected a width that is a multiple of the MCU, 16, got 9, of which trim=True would leave nothing",
        ),
        (lambda c: lossless.crop(c, 0, 0, 41, 9), "expected a part of the picture of 40×9, got 0, 0, 41, 9"),
        (lambda c: lossless.crop(c, -16, 0, 1, 1), "expected a part of the picture"),
        (lambda c: lossless.crop(c, 0, 0, 0, 1), "expected a part of the picture"),
        (
            lambda c: lossless.crop(c, 17, 3, 1, 1),
            "top, left: expected multiples of the MCU, 16 and 16, got 17 and 3; grow=True begins at 16 and 0",
        ),
        (
            lambda c: lossless.roll(c, 8, 0),
            "down, right: expected multiples of the MCU, 16 and 16, got 8 and 0",
        ),
        (lambda c: lossless.roll(c, 16, 0), "size: expected a height"),
    ],
)
def test_errors_say_what_fits(call: Callable[[Coefficients], object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        call(coded(40, 9, "4:2:0"))


def test_types_are_checked() -> None:
    for function in (lossless.mcu, lossless.transpose, lossless.apply_orientation, lossless.orientation):
        with pytest.raises(TypeError, match="coefficients: expected Coefficients, got Tensor"):
            function(torch.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="left: expected an integer, got float"):
        lossless.crop(coded(16, 16, "4:4:4"), 0, 0.0, 8, 8)  # type: ignore[arg-type]


def test_transforms_and_the_compiler_see_plain_pytorch() -> None:
    batch = Coefficients.stack([jpegrad.encode(tensor(noise(32, 48, seed)), 50) for seed in range(3)])
    expected = lossless.rotate(batch, 90).levels[0]

    def turned(*levels: torch.Tensor) -> torch.Tensor:
        return lossless.rotate(dataclasses.replace(batch[0], levels=levels), 90).levels[0]

    assert torch.equal(torch.func.vmap(turned)(*batch.levels), expected)
    compiled = torch.compile(turned, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*batch[1].levels), expected[1])
    slope = torch.func.grad(lambda *levels: turned(*levels).square().sum())(*batch[0].levels)
    assert torch.equal(slope, 2 * batch[0].levels[0])
