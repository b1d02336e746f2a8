"""The drop-ins for coefficients: torchjpeg's and jpeglib's calls, against jpeglib and Pillow."""

import io
from pathlib import Path
from typing import Any, cast

import jpeglib
import numpy as np
import pytest
import torch
from PIL import Image

import jpegrad
from jpegrad.compat import jpeglib as ours
from jpegrad.compat import torchjpeg
from test_nn_codings import opened, pictures, saved

WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "4:2:0": (3, {"quality": 30}),
    "4:2:2": (3, {"quality": 75, "subsampling": 1}),
    "4:4:4": (3, {"quality": 95, "subsampling": 0}),
    "gray": (1, {"quality": 50}),
    "progressive": (3, {"quality": 60, "progressive": True}),
    "one table": (3, {"qtables": [[7] * 64]}),
    "three tables": (3, {"qtables": [[7] * 64, [9] * 64, [11] * 64]}),
    "alike": (3, {"qtables": [[7] * 64, [7] * 64]}),
    "ink": (4, {"quality": 40}),
}


@pytest.fixture(params=[name for name in WAYS if name != "ink"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return written(request.param, tmp_path)


def written(name: str, folder: Path) -> Path:
    channels, options = WAYS[name]
    path = folder / "file.jpg"
    path.write_bytes(saved(pictures(1, channels)[0], **options))
    return path


def test_torchjpeg_reads_what_jpeglib_reads(file: Path) -> None:
    dimensions, quantization, y, cbcr = torchjpeg.read_coefficients(file)
    theirs = jpeglib.read_dct(str(file))
    assert (y.dtype, quantization.dtype, dimensions.dtype) == (torch.int16, torch.int16, torch.int32)
    assert np.array_equal(y[0].numpy(), theirs.Y)
    for i, table in enumerate(quantization):
        assert np.array_equal(table.numpy(), theirs.get_component_qt(i))
    if cbcr is None:
        assert not theirs.has_chrominance and dimensions.tolist() == [[37, 45]]
    else:
        assert cbcr.dtype == torch.int16
        assert np.array_equal(cbcr.numpy(), np.stack([theirs.Cb, theirs.Cr]))
        (down, across), *_ = theirs.samp_factor.tolist()
        assert dimensions.tolist() == [[37, 45]] + [[-(-37 // down), -(-45 // across)]] * 2


def test_torchjpeg_writes_and_shows_what_it_read(file: Path, tmp_path: Path) -> None:
    read = torchjpeg.read_coefficients(file)
    torchjpeg.write_coefficients(tmp_path / "again.jpg", *read)
    assert all(
        torch.equal(a, b)
        for a, b in zip(read, torchjpeg.read_coefficients(tmp_path / "again.jpg"), strict=True)
        if a is not None and b is not None
    )
    shown = opened(file.read_bytes())
    assert torch.equal(opened((tmp_path / "again.jpg").read_bytes()), shown)
    dimensions, quantization, y, cbcr = read
    image = torchjpeg.reconstruct_full_image(y, quantization, cbcr, dimensions)
    assert torch.equal((image * 255).round().byte(), shown if cbcr is not None else shown[0])
    whole = torchjpeg.reconstruct_full_image(y, quantization, cbcr)
    assert whole.shape[-2:] == (8 * y.shape[1], 8 * y.shape[2])


@pytest.mark.parametrize("factors", [(1, 1), (2, 2), (1, 2), (2, 1)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_torchjpeg_quantizes_as_a_file(factors: tuple[int, int], channels: int, tmp_path: Path) -> None:
    (image,) = pictures(1, channels)
    down, across = factors
    found = torchjpeg.quantize_at_quality(image / 255, 60, down, across)
    name = {(1, 1): "4:4:4", (2, 2): "4:2:0", (1, 2): "4:2:2", (2, 1): "4:4:0"}[factors]
    jpegrad.write(tmp_path / "a.jpg", jpegrad.encode(image, 60, subsampling=name))
    for a, b in zip(found, torchjpeg.read_coefficients(tmp_path / "a.jpg"), strict=True):
        assert a is b or (a is not None and b is not None and torch.equal(a, b))


def test_torchjpeg_says_what_is_wrong(tmp_path: Path) -> None:
    ink = written("ink", tmp_path)
    with pytest.raises(ValueError, match="path: expected a file that is gray or YCbCr, got CMYK"):
        torchjpeg.read_coefficients(ink)
    levels = torchjpeg.quantize_at_quality(pictures(1)[0] / 255, 60)
    dimensions, quantization, y, cbcr = levels
    out = tmp_path / "out.jpg"
    with pytest.raises(ValueError, match="dimensions: expected those of 1 to 4 samples"):
        torchjpeg.write_coefficients(out, dimensions + 20, quantization, y, cbcr)
    with pytest.raises(ValueError, match=r"quantization: .*\[1, 8, 8"):
        torchjpeg.write_coefficients(out, dimensions[:1], quantization, y)
    with pytest.raises(ValueError, match=r"Y_coefficients: expected 5 dimensions"):
        torchjpeg.write_coefficients(out, dimensions, quantization, y[0], cbcr)
    with pytest.raises(ValueError, match="baseline: expected True below quality 24"):
        torchjpeg.quantize_at_quality(pictures(1)[0] / 255, 10, baseline=False)
    with pytest.raises(ValueError, match="pixels: expected shape"):
        torchjpeg.quantize_at_quality(pictures(2) / 255, 10)
    assert not out.exists()


@pytest.mark.parametrize("name", WAYS)
def test_jpeglib_reads_the_same(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    mine, theirs = ours.read_dct(path), jpeglib.read_dct(str(path))
    for plane in ("Y", "Cb", "Cr", "K"):
        a, b = getattr(mine, plane), getattr(theirs, plane)
        assert (a is None and b is None) or (a.dtype == b.dtype and np.array_equal(a, b)), plane
    for number in (
        "height",
        "width",
        "num_components",
        "has_chrominance",
        "has_black",
        "num_scans",
        "path",
    ):
        assert getattr(mine, number) == getattr(theirs, number), number
    for array in ("block_dims", "samp_factor", "qt"):
        assert np.array_equal(getattr(mine, array), getattr(theirs, array)), array
    for i in range(mine.num_components):
        assert np.array_equal(mine.get_component_qt(i), theirs.get_component_qt(i))
        assert mine.height_in_blocks(i) == theirs.height_in_blocks(i)
        assert mine.width_in_blocks(i) == theirs.width_in_blocks(i)
    assert bool(mine.progressive_mode) == bool(theirs.progressive_mode)
    assert mine.jpeg_color_space == theirs.jpeg_color_space.name
    assert mine.load()[0] is mine.Y


@pytest.mark.parametrize("name", WAYS)
def test_jpeglib_writes_what_was_changed(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    jpeg = ours.read_dct(path)
    changed = jpeg.copy()
    changed.Y[1, 2, 3, 4] += 1
    assert jpeg.Y[1, 2, 3, 4] + 1 == changed.Y[1, 2, 3, 4]
    changed.write_dct(tmp_path / "b.jpg", flags=["+PROGRESSIVE_MODE"])
    theirs = jpeglib.read_dct(str(tmp_path / "b.jpg"))
    assert np.array_equal(theirs.Y, changed.Y) and theirs.progressive_mode
    if changed.Cb is not None:
        assert changed.Cr is not None
        assert np.array_equal(theirs.Cb, changed.Cb) and np.array_equal(theirs.Cr, changed.Cr)
    jpeg.write_dct()
    with Image.open(io.BytesIO(saved(pictures(1, WAYS[name][0])[0], **WAYS[name][1]))) as picture:
        shown = np.array(picture)
    with Image.open(path) as picture:
        assert np.array_equal(np.array(picture), shown)


def test_jpeglib_makes_files_of_levels_alone(tmp_path: Path) -> None:
    def levels(rows: int, columns: int) -> Any:
        return np.random.default_rng(rows).integers(-20, 20, (rows, columns, 8, 8), dtype=np.int16)

    y, cb, cr = levels(7, 10), levels(4, 5), levels(4, 5)
    path = tmp_path / "a.jpg"
    tables = np.random.default_rng(0).integers(1, 200, (2, 8, 8)).astype(np.uint16)
    cases: Any = (((y,), tables[0]), ((y, cb, cr), tables), ((y, cb, cr), 75), ((y,), None))
    for planes, qt in cases:
        made = cast(Any, ours.from_dct)(*planes, qt=qt)
        made.write_dct(path)
        theirs = jpeglib.read_dct(str(path))
        assert (theirs.height, theirs.width) == (56, 80)
        assert np.array_equal(theirs.Y, y) and (len(planes) == 1 or np.array_equal(theirs.Cr, cr))
        asked = qt if isinstance(qt, np.ndarray) else jpegrad.tables.annex_k(75).numpy()
        assert np.array_equal(theirs.get_component_qt(0), asked.reshape(-1, 8, 8)[0])
        made.write_dct(path, quality=30)
        again = jpeglib.read_dct(str(path)).get_component_qt(0)
        assert np.array_equal(again, jpegrad.tables.annex_k(30)[0].numpy())
    with pytest.raises(OSError, match="Cb, Cr: expected both"):
        ours.from_dct(y, cb)
    with pytest.raises(OSError, match="path: expected where to write"):
        ours.from_dct(y).write_dct()
    with pytest.raises(ValueError, match=r"flags: .*got \+DO_FANCY"):
        ours.from_dct(y).write_dct(path, flags=["+DO_FANCY"])
    with pytest.raises(ValueError, match="levels"):
        ours.from_dct(y, levels(6, 5), levels(6, 5))
