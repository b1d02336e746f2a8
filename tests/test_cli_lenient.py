"""``--lenient``: the commands take damaged .jpg files as viewers show them, and say what was wrong."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

import jpegrad
from command import Run
from corpus import EXIF, inks, picture, pillow
from tests.fuzz.recover import by_pillow


def test_inspect_says_what_was_wrong(run: Run, tmp_path: Path) -> None:
    whole = pillow(picture(40, 56), quality=75, comment="cut")
    (tmp_path / "cut.jpg").write_bytes(whole[:-300])
    (tmp_path / "whole.jpg").write_bytes(whole)
    refused = run("inspect", "cut.jpg")
    assert "not decoded: truncated" in refused.out and "--lenient reads what is there" in refused.out
    found = run("inspect", "cut.jpg", "--lenient")
    assert found.code == 0, found.error
    assert "damaged, truncated: the file ends before its EOI marker" in found.out
    facts = json.loads(run("inspect", "cut.jpg", "--lenient", "--json").out)
    assert facts["damage"] == list(jpegrad.read(whole[:-300], strict=False).damage)
    assert json.loads(run("inspect", "whole.jpg", "--json").out)["damage"] == []


def test_jpeg_and_size_take_what_is_there(run: Run, tmp_path: Path) -> None:
    gray = picture(40, 56)[..., 1].copy()
    files = {
        "photo.jpg": pillow(picture(40, 56), quality=75, exif=EXIF),
        "gray.jpg": pillow(gray, quality=75, progressive=True),
        "ink.jpg": pillow(inks(40, 56), quality=75),
    }
    for name, whole in files.items():
        cut = whole[:-60]
        (tmp_path / name).write_bytes(cut)
        assert run("jpeg", name, "-o", "refused.png").code == 1
        theirs = by_pillow(cut)
        assert theirs is not None
        result = run("jpeg", name, "-o", f"{name}.out.jpg", "--quality", 90, "--lenient")
        assert result.code == 0, result.error
        assert f"{name}: damaged, truncated: the file ends before its EOI marker" in result.error
        # Coded as what viewers show is.
        mode = {1: "L", 3: "RGB", 4: "CMYK"}[len(theirs)]
        plain = Image.frombytes(mode, (56, 40), theirs.transpose(1, 2, 0).tobytes())
        plain.save(tmp_path / f"{name}.tif")
        expected = run("jpeg", f"{name}.tif", "-o", f"{name}.same.jpg", "--quality", 90)
        assert expected.code == 0, expected.error
        ours, same = (jpegrad.read(tmp_path / f"{name}.{each}.jpg") for each in ("out", "same"))
        assert all(np.array_equal(x, y) for x, y in zip(ours.levels, same.levels, strict=True))
        assert run("size", name, "--lenient").code == 0
        assert run("decode", name, "-o", "refused.png").code == 1
        shown = run("decode", name, "-o", f"{name}.png", "--lenient", "--no-metadata")
        assert shown.code == 0 and f"{name}: damaged, truncated" in shown.error
        if len(theirs) < 4:
            with Image.open(tmp_path / f"{name}.png") as opened:
                assert np.array_equal(np.atleast_3d(np.array(opened)).transpose(2, 0, 1), theirs)
    assert (0xE1, EXIF) in jpegrad.read(tmp_path / "photo.jpg.out.jpg").metadata


def test_whole_files_and_other_pictures_are_taken_as_ever(run: Run, png: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(pillow(picture(40, 56), quality=75, exif=EXIF))
    for name in ("in.png", "photo.jpg"):
        for flags in ([], ["--lenient"]):
            result = run("jpeg", name, "-o", f"out{len(flags)}.jpg", *flags, "--force")
            assert result.code == 0 and "damaged" not in result.error
        assert (tmp_path / "out0.jpg").read_bytes() == (tmp_path / "out1.jpg").read_bytes()
