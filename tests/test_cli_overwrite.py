"""No command writes over its input, or over any other file, unless it is told to."""

import errno
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jpegrad
from command import Run, files
from corpus import picture, pillow
from jpegrad import cli
from jpegrad import files as writing
from jpegrad.commands import coding

TUNE = ["--steps", "0"]
# What is read, what shall be written, and the call.
INPUTS: dict[str, tuple[str, list[str]]] = {
    "jpeg over its .jpg": ("in.jpg", ["jpeg", "in.jpg", "-o", "in.jpg", "-q", "5"]),
    "jpeg over its .png": ("in.png", ["jpeg", "in.png", "-o", "in.png", "-q", "5"]),
    "jpeg by another path": ("in.png", ["jpeg", "in.png", "-o", "./below/../in.png"]),
    "jpeg by a symbolic link": ("in.jpg", ["jpeg", "in.jpg", "-o", "soft.jpg"]),
    "jpeg from a symbolic link": ("in.jpg", ["jpeg", "soft.jpg", "-o", "in.jpg"]),
    "jpeg by a hard link": ("in.jpg", ["jpeg", "in.jpg", "-o", "hard.jpg"]),
    "jpeg over --like": ("like.jpg", ["jpeg", "in.png", "-o", "like.jpg", "--like", "like.jpg"]),
    "optimize over its .jpg": ("in.jpg", ["optimize", "in.jpg", "-o", "in.jpg"]),
    "compare over its input": ("in.png", ["compare", "in.jpg", "in.png", "-d", "in.png"]),
    "transform over its .jpg": ("in.jpg", ["transform", "in.jpg", "-o", "in.jpg", "--transpose"]),
    "tune over its .jpg": ("in.jpg", ["tune", "in.jpg", "-o", "in.jpg", *TUNE]),
    "tune over --base": (
        "tables.json",
        ["tune", "in.png", "-o", "o.jpg", "--base", "tables.json", "--save-tables", "tables.json", *TUNE],
    ),
}
OTHERS: dict[str, tuple[str, list[str]]] = {
    "jpeg over another .jpg": ("like.jpg", ["jpeg", "in.png", "-o", "like.jpg"]),
    "decode over a picture": ("in.png", ["decode", "in.jpg", "-o", "in.png"]),
    "optimize over another .jpg": ("like.jpg", ["optimize", "in.jpg", "-o", "like.jpg"]),
    "difference over text": ("text.png", ["compare", "in.png", "in.jpg", "-d", "text.png"]),
    "tables over tables": (
        "tables.json",
        ["tune", "in.png", "-o", "o.jpg", "--save-tables", "tables.json", *TUNE],
    ),
    "jpeg over text": ("text.jpg", ["jpeg", "in.png", "-o", "text.jpg"]),
    "jpeg over a picture of another kind": ("png.jpg", ["jpeg", "in.jpg", "-o", "png.jpg"]),
    "transform over text": ("text.jpg", ["transform", "in.jpg", "-o", "text.jpg", "--transpose"]),
    "decoded over text": ("text.png", ["jpeg", "in.jpg", "-o", "text.png"]),
    "tune over text": ("text.jpg", ["tune", "in.png", "-o", "text.jpg", *TUNE]),
    "tables over other JSON": (
        "package.json",
        ["tune", "in.png", "-o", "o.jpg", "--save-tables", "package.json", *TUNE],
    ),
    "tune-dataset over other JSON": (
        "package.json",
        ["tune-dataset", "pictures", "-o", "package.json", "--steps", "1", "--crop", "0"],
    ),
    "plot over text": ("text.png", ["inspect", "in.jpg", "--plot", "text.png"]),
    "demo over text": ("text.html", ["demo", "-o", "text.html"]),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = picture(24, 32)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    (tmp_path / "in.jpg").write_bytes(pillow(pixels))
    (tmp_path / "like.jpg").write_bytes(pillow(picture(9, 9), quality=30))
    (tmp_path / "soft.jpg").symlink_to("in.jpg")
    os.link(tmp_path / "in.jpg", tmp_path / "hard.jpg")
    (tmp_path / "below").mkdir()
    (tmp_path / "pictures").mkdir()
    shutil.copy(tmp_path / "in.png", tmp_path / "pictures")
    shutil.copy(tmp_path / "in.png", tmp_path / "png.jpg")
    jpegrad.tables.save(tmp_path / "tables.json", jpegrad.tables.annex_k(50))
    (tmp_path / "package.json").write_text(json.dumps({"name": "something"}))
    for name in ("text.jpg", "text.png", "text.html"):
        (tmp_path / name).write_text("my notes")
    return tmp_path


@pytest.mark.parametrize("name", {**INPUTS, **OTHERS})
def test_what_should_stay_stays(run: Run, folder: Path, name: str) -> None:
    kept, arguments = {**INPUTS, **OTHERS}[name]
    before, names = (folder / kept).read_bytes(), files(folder)
    result = run(*arguments)
    assert (result.code, result.out) == (1, "")
    assert result.error.startswith(("error: --", "error: output"))
    assert result.error.count("\n") == 1 and "--force" in result.error
    assert (folder / kept).read_bytes() == before and files(folder) == names
    if name.startswith(("demo", "jpeg from")):
        return
    result = run(*arguments, "--force")
    assert result.code == 0, result.error
    assert not files(folder) - names - {"o.jpg"}
    if "hard" not in name:
        assert (folder / kept).read_bytes() != before


def test_two_outputs_of_one_name(run: Run, folder: Path) -> None:
    both = run("tune", "in.png", "-o", "both.jpg", "--save-tables", "both.jpg", *TUNE)
    assert both.code == 2 and not (folder / "both.jpg").exists()


def test_a_link_is_written_through(folder: Path) -> None:
    writing.write_atomically(folder / "soft.jpg", b"new")
    assert (folder / "soft.jpg").is_symlink() and (folder / "in.jpg").read_bytes() == b"new"
    os.mkfifo(folder / "pipe")
    with pytest.raises(OSError, match="pipe: expected a file"):
        writing.write_atomically(folder / "pipe", b"new")
    with pytest.raises(OSError, match="below: expected a file"):
        writing.write_atomically(folder / "below", b"new")


def test_a_full_disk_is_an_error_that_names_the_file(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a temporary name")

    before = files(folder)
    monkeypatch.setattr(writing.os, "replace", full)
    for output in ("out.jpg", "out.png"):
        result = run("jpeg", "in.png", "-o", output)
        assert result.code == 1
        assert result.error == f"error: [Errno 28] No space left on device: '{output}'\n"
    assert files(folder) == before


def test_a_long_name_is_an_error_that_names_the_file(run: Run, folder: Path) -> None:
    # The temporary name is no longer than the file's own may be.
    name = "x" * 251 + ".jpg"
    assert run("jpeg", "in.png", "-o", name).code == 0
    result = run("jpeg", "in.png", "-o", "x" + name)
    assert result.code == 1 and f"'x{name}'" in result.error


def test_a_warning_is_one_line(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object, **__: object) -> None:
        warnings.simplefilter("always")
        warnings.warn("something odd", UserWarning, stacklevel=1)

    monkeypatch.setattr(coding, "best_quality", lambda *_: warn() or 50)
    assert run("jpeg", "in.png", "-o", "o.jpg", "--target-bytes", 10**6).error == "warning: something odd\n"


def test_interrupted_while_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "jpegrad").mkdir()
    (tmp_path / "jpegrad" / "__init__.py").write_text("raise KeyboardInterrupt")
    source = Path(cli.__file__).resolve().parents[1] / "_jpegrad_command.py"
    shutil.copy(source, tmp_path)
    call = [sys.executable, "-c", "from _jpegrad_command import main; main()"]
    ended = subprocess.run(call, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_a_picture_between_once_and_twice_pillows_limit_is_taken(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 32 - 1)
    assert run("jpeg", "in.png", "-o", "o.jpg", "-q", 75).error == ""
    assert np.array_equal((folder / "o.jpg").read_bytes(), pillow(picture(24, 32), quality=75))
