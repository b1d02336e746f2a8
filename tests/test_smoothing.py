"""Progressive files that never send some of the bits: levels as libjpeg's, pixels with its interblock smoothing."""

import dataclasses
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import jpeglib
import numpy as np
import pytest
import torch

import jpegrad
from corpus import join, libjpeg, opencv, picture, pillow, pillow_pixels, split, tensor, with_16_bit_tables
from jpegrad.backends import native
from jpegrad.entropy.huffman import DC_LUMA
from jpegrad.jfif import JPEGError, segments
from jpegrad.jfif.segments import FrameComponent, ScanComponent, ScanHeader

SIZES = [(8, 8), (9, 5), (16, 24), (17, 24), (40, 15), (33, 64), (59, 83)]


@pytest.fixture(autouse=True, params=("native", "reference"))
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test reads with the native decoder and with the one in Python."""
    if request.param == "native" and not native.level_kernels(torch.empty(0)):
        pytest.skip("no native kernel here")
    monkeypatch.setenv("JPEGRAD_BACKEND", request.param)


def pixels(coefficients: jpegrad.Coefficients) -> np.ndarray:
    return jpegrad.decode(coefficients, dtype=torch.uint8, backend="reference").numpy()


def first_scans(data: bytes) -> list[bytes]:
    """The file with its first scan alone, with the first two, and so on."""
    parts = split(data)
    scans = [i for i, (marker, _) in enumerate(parts) if marker == segments.SOS]
    return [join(parts[:end]) + b"\xff\xd9" for end in scans[1:]]


def without_scans(data: bytes, drop: Callable[[ScanHeader], bool]) -> bytes:
    parts = []
    for marker, part in split(data):
        length = int.from_bytes(part[2:4], "big")
        if marker != segments.SOS or not drop(segments.parse_sos(part[4 : 2 + length])):
            parts.append((marker, part))
    return join(parts)


def dc_bits(difference: int) -> str:
    size = abs(difference).bit_length()
    code, length = DC_LUMA.codes()[size]
    amplitude = difference if difference > 0 else difference + (1 << size) - 1
    return f"{code:0{length}b}" + (f"{amplitude:0{size}b}" if size else "")


def dc_alone(levels: list[np.ndarray], size: tuple[int, int], factors: list[tuple[int, int]]) -> bytes:
    """A progressive file that sends the DC levels of each component in a scan of its own, and no more."""
    frame = [FrameComponent(i, h, v, 0) for i, (h, v) in enumerate(factors)]
    parts = [
        segments.marker(segments.SOI),
        segments.emit_dqt(0, [7 + i for i in range(64)]),
        segments.emit_sof(size, frame, segments.SOF2),
        segments.emit_dht(0, 0, DC_LUMA.counts, DC_LUMA.symbols),
    ]
    for i, component in enumerate(levels):
        bits = "".join(dc_bits(int(d)) for d in np.diff(component.ravel(), prepend=0))
        bits += "1" * (-len(bits) % 8)
        data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
        parts += [segments.emit_sos([ScanComponent(i, 0, 0)], last=0), data]
    return b"".join([*parts, segments.marker(segments.EOI)])


def check(data: bytes) -> jpegrad.Coefficients:
    """Read it; pixels as Pillow's, levels as libjpeg's."""
    found = jpegrad.read(data)
    assert np.array_equal(pixels(found), pillow_pixels(data))
    return found


@pytest.mark.parametrize("mode", ["4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1", "gray"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_first_scans_of_a_file(mode: str, size: tuple[int, int], tmp_path: Path) -> None:
    image = picture(*size)
    if mode == "gray":
        files = [pillow(image[..., 1].copy(), quality=50, progressive=True)]
    elif mode in ("4:4:0", "4:1:1"):
        files = [opencv(image, mode, quality=50, progressive=1)]
    else:
        files = [pillow(image, quality=q, subsampling=mode, progressive=True) for q in (20, 90)]
    for data in [cut for file in files for cut in first_scans(file)]:
        found = check(data)
        (tmp_path / "cut.jpg").write_bytes(data)
        with jpeglib.version("turbo210"):
            theirs = jpeglib.read_dct(str(tmp_path / "cut.jpg"))
            theirs.load()
        for component, level in zip((theirs.Y, theirs.Cb, theirs.Cr), found.levels, strict=False):
            assert np.array_equal(component, level.numpy())


@pytest.mark.parametrize("flags", [(), ("+ARITH_CODE",)], ids=str)
@pytest.mark.parametrize(
    "factors", [[(2, 2), (1, 1), (1, 1)], [(2, 2), (1, 2), (1, 2)], [(2, 2), (2, 1), (2, 1)]], ids=str
)
def test_other_factors_and_codings(factors: list[tuple[int, int]], flags: tuple[str, ...]) -> None:
    for size in SIZES[2:]:
        for data in first_scans(libjpeg(picture(*size), "9f", factors, "+PROGRESSIVE_MODE", *flags)):
            check(data)


@pytest.mark.parametrize("component", [1, 2, 3])
def test_a_component_without_ac(component: int) -> None:
    data = without_scans(
        pillow(picture(40, 56), quality=95, progressive=True),
        lambda scan: scan.first > 0 and scan.components[0].identifier == component,
    )
    found = check(data)
    assert found.smoothing is not None
    assert [bool(x.any()) for x in found.smoothing] == [i == component for i in (1, 2, 3)]


def test_low_bits_that_are_never_sent() -> None:
    data = pillow(picture(40, 56), quality=90, progressive=True)
    for drop in (
        lambda scan: scan.first > 0 and scan.low == 0,
        lambda scan: scan.high > 0 and scan.components[0].identifier == 1,
        lambda scan: scan.first == 0 and scan.high > 0,
    ):
        check(without_scans(data, drop))


@pytest.mark.parametrize(
    "factors",
    [
        [(1, 1)],
        [(1, 2)],
        [(1, 4), (1, 4), (1, 4)],
        [(2, 2), (1, 2), (1, 2)],
        [(1, 4), (1, 1), (1, 2)],
        [(1, 3), (1, 1), (1, 1)],
        [(4, 1), (1, 1), (2, 1)],
    ],
    ids=str,
)
def test_scans_that_send_no_padding(factors: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(0)
    h, v = (max(each) for each in zip(*factors, strict=True))
    for height in (3, 9, 15, 20, 31, 41, 52, 70):
        size = (height, 35)
        shapes = [(-(-size[0] * y // (8 * v)), -(-size[1] * x // (8 * h))) for x, y in factors]
        check(dc_alone([rng.integers(-90, 90, shape) for shape in shapes], size, factors))


def test_whole_files_have_no_smoothing() -> None:
    image = picture(24, 40)
    for data in (pillow(image), pillow(image, progressive=True)):
        assert jpegrad.read(data).smoothing is None


@pytest.mark.parametrize("last", range(1, 10))
def test_bands_that_end_early(last: int) -> None:
    """Up to the ninth AC coefficient the smoothing is of use; those that were sent stay as they are."""
    coefficients = jpegrad.encode(tensor(picture(40, 56)), quality=95)
    script = [jpegrad.ProgressiveScan((0, 1, 2), 0, 0)]
    for band in ((1, last), (last + 1, 63)):
        script += [jpegrad.ProgressiveScan((i,), *band) for i in range(3)]
    data = jpegrad.to_bytes(coefficients, progressive=script)
    for several in ((1,), (1, 2, 3)):
        found = check(
            without_scans(
                data,
                lambda scan, ids=several: scan.first == last + 1 and scan.components[0].identifier in ids,
            )
        )
        assert (found.smoothing is None) == (last == 9)


def test_bits_that_the_smoothing_does_not_estimate() -> None:
    data = without_scans(
        pillow(picture(24, 40), quality=60, progressive=True), lambda scan: (scan.first, scan.low) == (0, 0)
    )
    # The lowest bits of DC are missing, but AC is whole.
    assert check(data).smoothing is None


def test_wide_tables() -> None:
    for data in first_scans(pillow(picture(40, 56), quality=10, progressive=True)):
        check(with_16_bit_tables(data, 3))


def cut() -> jpegrad.Coefficients:
    return jpegrad.read(first_scans(pillow(picture(40, 56), quality=60, progressive=True))[2])


def test_the_levels_are_the_files_and_decode_adds_the_smoothing() -> None:
    found = cut()
    assert found.smoothing is not None
    plain = dataclasses.replace(found, smoothing=None)
    assert not torch.equal(jpegrad.decode(plain), jpegrad.decode(found))
    # What is written are the levels, which baseline files send in full.
    written = jpegrad.to_bytes(found)
    assert np.array_equal(pillow_pixels(written), pixels(plain))
    assert jpegrad.bits(found) == 8 * len(written)
    # Whoever wants the smoothed picture in a file writes the smoothed levels.
    seen = dataclasses.replace(found, levels=found.shown, smoothing=None)
    assert np.array_equal(pillow_pixels(jpegrad.to_bytes(seen)), pixels(found))


def test_level_types() -> None:
    data = first_scans(pillow(picture(40, 56), quality=60, progressive=True))[0]
    expected = pixels(jpegrad.read(data))
    for dtype in (torch.int16, torch.float64):
        found = jpegrad.read(data, level_dtype=dtype)
        assert found.smoothing is not None and {x.dtype for x in found.smoothing} == {dtype}
        assert np.array_equal(jpegrad.decode(found, dtype=torch.uint8, backend="reference"), expected)


def test_a_gradient_passes_to_the_levels_as_they_are() -> None:
    found = cut()
    levels = tuple(level.requires_grad_() for level in found.levels)
    jpegrad.decode(dataclasses.replace(found, levels=levels)).square().sum().backward()
    seen = tuple(level.detach().requires_grad_() for level in found.shown)
    jpegrad.decode(dataclasses.replace(found, levels=seen, smoothing=None)).square().sum().backward()
    assert all(torch.equal(x.grad, y.grad) for x, y in zip(levels, seen, strict=True))


def test_records_keep_it() -> None:
    found = cut()
    whole = jpegrad.read(pillow(picture(40, 56), quality=60, progressive=True))
    expected = jpegrad.decode(found)
    for same in (found.to("cpu"), found.detach(), pickle.loads(pickle.dumps(found))):
        assert torch.equal(jpegrad.decode(same), expected)
    batch = jpegrad.Coefficients.stack([whole, found])
    assert torch.equal(jpegrad.decode(batch), torch.stack([jpegrad.decode(whole), expected]))
    assert torch.equal(jpegrad.decode(batch[1]), expected)
    assert jpegrad.Coefficients.stack([whole, whole]).smoothing is None


def test_lossless_changes_take_it_along() -> None:
    found = cut()
    turned = jpegrad.lossless.rotate(found, 180, trim=True)
    whole = jpegrad.lossless.rotate(
        dataclasses.replace(found, levels=found.shown, smoothing=None), 180, trim=True
    )
    assert turned.smoothing is not None and turned.damage == found.damage
    assert np.array_equal(pixels(turned), pixels(whole))


def test_smoothing_of_another_shape_is_refused() -> None:
    found = jpegrad.encode(tensor(picture(16, 16)), quality=50)
    with pytest.raises(ValueError, match="smoothing: expected 3 components"):
        dataclasses.replace(found, smoothing=found.levels[:1])
    with pytest.raises(ValueError, match=r"smoothing\[0\]: expected shape \[2, 2, 8, 8\]"):
        dataclasses.replace(found, smoothing=tuple(x[:1] for x in found.levels))


def test_a_component_that_is_never_sent_is_refused() -> None:
    data = pillow(picture(24, 40), quality=60, progressive=True)
    with pytest.raises(JPEGError, match="truncated: the scans do not send every component"):
        jpegrad.read(without_scans(data, lambda scan: scan.first == 0))
    separate = dc_alone([np.zeros((1, 1), int)] * 3, (8, 8), [(1, 1)] * 3)
    parts = split(separate)
    jpegrad.read(separate)
    with pytest.raises(JPEGError, match="truncated: the scans do not send every component"):
        jpegrad.read(join(parts[:-2]) + b"\xff\xd9")


def test_a_buffer_is_a_source_too() -> None:
    data = first_scans(pillow(picture(24, 40), progressive=True))[0]
    assert np.array_equal(pixels(jpegrad.read(io.BytesIO(data))), pillow_pixels(data))
