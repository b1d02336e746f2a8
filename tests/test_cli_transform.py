"""The command for lossless changes: it writes what the library gives, and keeps what the file carries."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import jpegrad
from command import Run
from corpus import COMMENT, ICC, exif_with_size_and_thumbnail, picture, pillow, pillow_pixels, with_segments
from jpegrad import lossless
from jpegtran import jpegtran, needs_jpegtran

CALLS = {
    "rotate": (["--rotate", "90"], ["-rotate", "90"]),
    "flip": (["--flip", "vertical"], ["-flip", "vertical"]),
    "transpose": (["--transpose"], ["-transpose"]),
    "transverse": (["--transverse", "--optimize"], ["-transverse", "-optimize"]),
    "progressive": (["--flip", "horizontal", "--progressive"], ["-flip", "horizontal", "-progressive"]),
    "crop": (["--crop", "40x17+16+32"], ["-crop", "40x17+16+32"]),
    "grow": (["--crop", "40x17+20+33", "--grow"], ["-crop", "40x17+20+33"]),
    "turn and crop": (
        ["--rotate", "270", "--crop", "20x30+16+16"],
        ["-rotate", "270", "-crop", "20x30+16+16"],
    ),
}


@needs_jpegtran
@pytest.mark.parametrize("name", CALLS)
def test_files_are_those_of_jpegtran(run: Run, tmp_path: Path, name: str) -> None:
    ours, theirs = CALLS[name]
    # In the order in which jpegtran writes what it carries.
    data = pillow(picture(64, 96), quality=80, comment=COMMENT, icc_profile=ICC, dpi=(300, 300))
    (tmp_path / "in.jpg").write_bytes(data)
    result = run("transform", "in.jpg", "-o", "out.jpg", *ours)
    assert (result.code, result.error) == (0, "")
    written = (tmp_path / "out.jpg").read_bytes()
    assert written == jpegtran(data, *theirs)
    height, width = jpegrad.read_header(written).size
    assert result.out == f"out.jpg: {width}×{height}, {len(written):,} bytes\n"


def test_trim_cuts_what_does_not_fit(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.jpg").write_bytes(pillow(picture(61, 83)))
    result = run("transform", "in.jpg", "-o", "out.jpg", "--flip", "horizontal")
    assert (result.code, result.error) == (
        1,
        "error: in.jpg: size: expected a width that is a multiple of the MCU, 16, got 83; "
        "--trim leaves out the last 3\n",
    )
    assert run("transform", "in.jpg", "-o", "out.jpg", "--flip", "horizontal", "--trim").code == 0
    assert jpegrad.read("out.jpg").size == (61, 80)
    result = run("transform", "in.jpg", "-o", "part.jpg", "--crop", "8x8+3+0")
    assert "--grow begins at 0 and 0" in result.error


def test_orientation_is_applied(run: Run, tmp_path: Path) -> None:
    exif = exif_with_size_and_thumbnail(">", pillow(picture(12, 16)))
    data = with_segments(pillow(picture(64, 96), quality=80), (0xE1, exif))
    (tmp_path / "in.jpg").write_bytes(data)
    result = run("transform", "in.jpg", "-o", "out.jpg", "--orientation")
    assert result.code == 0
    assert result.error == "note: in.jpg: Exif's thumbnail, which would stay as it was, is left out\n"
    written = (tmp_path / "out.jpg").read_bytes()
    header = jpegrad.read_header(written)
    assert (header.size, header.orientation, header.thumbnail) == ((96, 64), 1, None)
    with Image.open("in.jpg") as opened:
        expected = np.array(ImageOps.exif_transpose(opened)).transpose(2, 0, 1).astype(int)
    assert np.abs(pillow_pixels(written).astype(int) - expected).max() <= 6
    assert lossless.orientation(jpegrad.read(written)) == 1


def test_what_is_lost_is_said(run: Run, tmp_path: Path) -> None:
    progressive = pillow(picture(64, 96), progressive=True)
    (tmp_path / "in.jpg").write_bytes(progressive + b"more")
    result = run("transform", "in.jpg", "-o", "out.jpg", "--transpose")
    assert result.error.splitlines() == [
        "note: in.jpg: 4 bytes behind the picture are left out",
        "note: in.jpg: is progressive, the output is not; --progressive makes it so",
    ]
    (tmp_path / "in.jpg").write_bytes(with_segments(pillow(picture(64, 96)), (0xE2, b"MPF\0")) + progressive)
    result = run("transform", "in.jpg", "-o", "out.jpg", "--transpose", "--force")
    assert result.error == "note: in.jpg: further pictures are left out\n"
