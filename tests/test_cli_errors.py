"""The command line's errors: one line, no file, and nothing lost."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jpegrad
from command import Run, files
from corpus import pillow
from jpegrad.cli import main

ERRORS = {
    "no such picture": (1, "nope.png", ["jpeg", "nope.png", "-o", "out.jpg"]),
    "no picture": (
        1,
        "text.txt: expected a picture that Pillow can open",
        ["jpeg", "text.txt", "-o", "out.jpg"],
    ),
    "cut off": (1, "error: cut.png: image file is truncated", ["jpeg", "cut.png", "-o", "out.jpg"]),
    "transparency": (1, "expected RGB or gray, got RGBA", ["jpeg", "clear.png", "-o", "out.jpg"]),
    "16 bits": (
        1,
        "expected 8-bit RGB or gray, got 16 bits per sample",
        ["jpeg", "deep.png", "-o", "out.jpg"],
    ),
    "suffix": (2, "--output: expected a name that ends in .jpg", ["jpeg", "in.png", "-o", "out.gif"]),
    "no suffix": (2, "--output: expected a name that ends in .jpg", ["jpeg", "in.png", "-o", "out"]),
    "no folder": (1, "nowhere", ["jpeg", "in.png", "-o", "nowhere/out.jpg"]),
    "quality 0": (2, "quality: expected 1 to 100, got 0", ["jpeg", "in.png", "-o", "out.jpg", "-q", "0"]),
    "quality nan": (
        2,
        "quality: expected 1 to 100, got nan",
        ["jpeg", "in.png", "-o", "out.jpg", "-q", "nan"],
    ),
    "quality x": (2, "'--quality'", ["jpeg", "in.png", "-o", "out.jpg", "-q", "high"]),
    "subsampling": (
        2,
        "--subsampling: expected one of",
        ["jpeg", "in.png", "-o", "o.jpg", "--subsampling", "420"],
    ),
    "both": (
        2,
        "--like: expected without --quality",
        ["jpeg", "in.png", "-o", "out.jpg", "-q", "5", "--like", "gray.jpg"],
    ),
    "like and mode": (
        2,
        "--like: expected without --subsampling",
        ["jpeg", "in.png", "-o", "out.jpg", "--like", "gray.jpg", "--subsampling", "4:2:0"],
    ),
    "like gray": (1, "like: expected 3 components", ["jpeg", "in.png", "-o", "o.jpg", "--like", "gray.jpg"]),
    "like no jpeg": (1, "in.png: not a JPEG file", ["jpeg", "in.png", "-o", "out.jpg", "--like", "in.png"]),
    "no tables": (1, "text.txt: expected JSON", ["jpeg", "in.png", "-o", "out.jpg", "--tables", "text.txt"]),
    "no such tables": (
        1,
        "error: flat2: expected a file of tables or one of mix, ms-ssim, mse",
        ["jpeg", "in.png", "-o", "out.jpg", "--tables", "flat2"],
    ),
    "tune target": (
        1,
        "error: --target-bytes: expected one that some file meets, got 99 bytes; the nearest has",
        ["tune", "in.png", "-o", "out.jpg", "--target-bytes", "99", "--steps", "0"],
    ),
    "target 0": (
        2,
        "--target-bytes: expected at least 1",
        ["jpeg", "in.png", "-o", "o.jpg", "--target-bytes", "0"],
    ),
    "tune target 0": (
        2,
        "--target-bytes: expected at least 1",
        ["tune", "in.png", "-o", "o.jpg", "--target-bytes", "0"],
    ),
    "tune nan": (2, "--bpp: expected more than 0", ["tune", "in.png", "-o", "o.jpg", "--bpp", "nan"]),
    "tune quality 0": (
        2,
        "--like-quality: expected 1 to 100",
        ["tune", "in.png", "-o", "o.jpg", "--like-quality", "0"],
    ),
    "tune steps": (2, "--steps: expected", ["tune", "in.png", "-o", "o.jpg", "--steps", "-1"]),
    "tune two targets": (
        2,
        "expected one target, got --target-bytes and --bpp",
        ["tune", "in.png", "-o", "o.jpg", "--target-bytes", "9", "--bpp", "1"],
    ),
    "device": (2, "device: expected cpu or cuda", ["tune-dataset", ".", "-o", "o.json", "--device", "tpu"]),
    "study": (2, "study: expected one of", ["bench", "nope"]),
    "tune bits per pixel": (
        1,
        "error: --bpp: expected one that some file meets, got 2 bytes; the nearest has",
        ["tune", "in.png", "-o", "out.jpg", "--bpp", "0.01", "--steps", "0"],
    ),
    "tune loss": (
        1,
        "error: --target-loss: expected one that some file meets, got a loss of 1e-12; the nearest has a loss of",
        ["tune", "in.png", "-o", "out.jpg", "--target-loss", "1e-12", "--steps", "0"],
    ),
    "target": (
        1,
        "--target-bytes: expected at least",
        ["jpeg", "in.png", "-o", "o.jpg", "--target-bytes", "99"],
    ),
    "target and quality": (
        2,
        "--target-bytes: expected without --quality",
        ["jpeg", "in.png", "-o", "out.jpg", "--target-bytes", "9999", "-q", "50"],
    ),
    "no output": (2, "Missing option '--output'", ["jpeg", "in.png"]),
    "no option": (2, "--qualiti", ["jpeg", "in.png", "-o", "out.jpg", "--qualiti", "3"]),
    "no command": (2, "No such command 'jpg'", ["jpg"]),
    "size of nothing": (2, "Missing argument", ["size"]),
    "inspect no jpeg": (1, "in.png: not a JPEG file", ["inspect", "in.png"]),
    "inspect nothing": (1, "nope.jpg", ["inspect", "nope.jpg"]),
    "transform no jpeg": (
        1,
        "in.png: not a JPEG file",
        ["transform", "in.png", "-o", "out.jpg", "--transpose"],
    ),
    "transform to no jpeg": (
        2,
        "--output: expected a name that ends in .jpg",
        ["transform", "gray.jpg", "-o", "out.png", "--rotate", "90"],
    ),
    "transform degrees": (
        2,
        "--rotate: expected 90, 180 or 270, got 45",
        ["transform", "gray.jpg", "-o", "out.jpg", "--rotate", "45"],
    ),
    "transform flip": (
        2,
        "--flip: expected horizontal or vertical, got up",
        ["transform", "gray.jpg", "-o", "out.jpg", "--flip", "up"],
    ),
    "transform twice": (
        2,
        "--transpose: expected without --rotate",
        ["transform", "gray.jpg", "-o", "out.jpg", "--rotate", "90", "--transpose"],
    ),
    "transform nothing": (
        2,
        "expected a change: --orientation, --rotate, --flip, --transpose, --transverse or --crop",
        ["transform", "gray.jpg", "-o", "out.jpg", "--trim"],
    ),
    "transform crop": (
        2,
        "--crop: expected WxH+X+Y, such as 640x480+16+32, got 8x8",
        ["transform", "gray.jpg", "-o", "out.jpg", "--crop", "8x8"],
    ),
    "transform grow": (
        2,
        "--grow: expected with --crop",
        ["transform", "gray.jpg", "-o", "out.jpg", "--rotate", "90", "--grow"],
    ),
    "transform size": (
        1,
        "gray.jpg: size: expected a width that is a multiple of the MCU, 8, got 53; --trim leaves out the last 5",
        ["transform", "gray.jpg", "-o", "out.jpg", "--flip", "horizontal"],
    ),
    "plot suffix": (2, "--plot: expected a name", ["inspect", "gray.jpg", "--plot", "plot.jpg"]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_line_and_leaves_no_file(
    run: Run, png: np.ndarray, tmp_path: Path, name: str
) -> None:
    (tmp_path / "text.txt").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "in.png").read_bytes()[:2000])
    gray = pillow(png[..., 0])
    (tmp_path / "gray.jpg").write_bytes(gray)
    (tmp_path / "cut.jpg").write_bytes(gray[:-9])
    Image.new("RGBA", (4, 4)).save(tmp_path / "clear.png")
    Image.new("I;16", (4, 4)).save(tmp_path / "deep.png")
    jpegrad.tables.save(tmp_path / "tables.json", jpegrad.tables.annex_k(50))
    before = files(tmp_path)
    code, message, arguments = ERRORS[name]
    result = run(*arguments)
    assert (result.code, result.out) == (code, "")
    assert result.error.startswith("error: ") and result.error.count("\n") == 1, result.error
    assert message in result.error
    assert files(tmp_path) == before


def test_a_picture_too_large_for_pillow_is_an_error_too(
    run: Run, png: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    result = run("size", "in.png")
    assert result.code == 1
    assert re.fullmatch(r"error: in\.png: [^\n]*exceeds limit[^\n]*\n", result.error)


def test_an_error_leaves_the_old_file(run: Run, png: np.ndarray, tmp_path: Path) -> None:
    old = pillow(png[:8])
    (tmp_path / "out.jpg").write_bytes(old)
    (tmp_path / "cut.png").write_bytes((tmp_path / "in.png").read_bytes()[:2000])
    assert run("jpeg", "in.png", "-o", "out.jpg", "-q", 0, "--force").code == 2
    assert run("jpeg", "cut.png", "-o", "out.jpg", "--force").code == 1
    assert (tmp_path / "out.jpg").read_bytes() == old
    (tmp_path / "cut.png").unlink()
    assert run("jpeg", "in.png", "-o", "out.jpg", "-q", 1, "--force").code == 0
    assert (tmp_path / "out.jpg").read_bytes() == pillow(png, quality=1)
    assert files(tmp_path) == {"in.png", "out.jpg"}


def test_a_traceback_for_those_who_ask(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPEGRAD_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["jpegrad", "size", "nope.png"])
    with pytest.raises(FileNotFoundError):
        main()
