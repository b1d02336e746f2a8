"""The command line: real files, exact sizes, and errors of one line."""

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jpegrad
from jpegrad.cli import main
from jpegrad.data import photograph_path

Run = Callable[..., tuple[int, str, str]]


def pillow(path: Path, **options: object) -> bytes:
    with Image.open(path) as picture:
        file = io.BytesIO()
        picture.save(file, "JPEG", **options)
    return file.getvalue()


def pixels(path: Path | io.BytesIO) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(photograph_path("coast"), "photo.png"))


@pytest.fixture
def run(photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `jpegrad ARGUMENTS`: the exit status and what it printed to both streams."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["jpegrad", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return call


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_a_jpg_is_the_file_that_pillow_writes(run: Run, photo: Path, subsampling: str) -> None:
    status, out, _ = run("jpeg", photo, "-o", "out.jpg", "-q", 60, "--subsampling", subsampling)
    expected = pillow(photo, quality=60, subsampling=subsampling)
    assert status == 0
    assert Path("out.jpg").read_bytes() == expected
    assert f"{len(expected):,} bytes" in out


def test_any_other_picture_is_what_a_viewer_shows(run: Run, photo: Path) -> None:
    assert run("jpeg", photo, "-o", "out.png", "--quality", 20)[0] == 0
    assert np.array_equal(pixels(Path("out.png")), pixels(io.BytesIO(pillow(photo, quality=20))))


def test_a_gray_picture_stays_gray(run: Run, photo: Path) -> None:
    with Image.open(photo) as picture:
        picture.convert("L").save("gray.png")
    assert run("jpeg", "gray.png", "-o", "gray.jpg", "-q", 80)[0] == 0
    assert Path("gray.jpg").read_bytes() == pillow(Path("gray.png"), quality=80)


def test_tables_and_subsampling_of_another_file(run: Run, photo: Path) -> None:
    Path("model.jpg").write_bytes(pillow(photo, quality=33, subsampling="4:2:2"))
    assert run("jpeg", photo, "-o", "out.jpg", "--like", "model.jpg")[0] == 0
    assert Path("out.jpg").read_bytes() == Path("model.jpg").read_bytes()

    jpegrad.tables.save("tables.json", jpegrad.tables.annex_k(33))
    assert run("jpeg", photo, "-o", "out.jpg", "--tables", "tables.json", "--subsampling", "4:2:2")[0] == 0
    assert Path("out.jpg").read_bytes() == Path("model.jpg").read_bytes()


@pytest.mark.parametrize("optimize", [False, True])
def test_target_bytes_takes_the_best_quality_that_fits(run: Run, photo: Path, optimize: bool) -> None:
    sizes = {q: len(pillow(photo, quality=q, optimize=optimize)) for q in range(1, 101)}
    target = sizes[70] + 1
    status, out, _ = run("jpeg", photo, "-o", "out.jpg", "--target-bytes", target, *["--optimize"] * optimize)
    best = max(q for q, size in sizes.items() if size <= target)
    assert status == 0
    assert f"quality {best} " in out
    assert Path("out.jpg").stat().st_size == sizes[best] <= target


def test_size_is_the_length_of_the_file(run: Run, photo: Path) -> None:
    status, out, _ = run("size", photo, "-q", 15, "-q", 92)
    assert status == 0
    for quality in (15, 92):
        for optimize in (False, True):
            assert f"{len(pillow(photo, quality=quality, optimize=optimize)):,}" in out


def test_inspect_tells_size_subsampling_and_tables(run: Run, photo: Path) -> None:
    Path("in.jpg").write_bytes(pillow(photo, quality=50, subsampling="4:2:2"))
    status, out, _ = run("inspect", "in.jpg")
    assert status == 0
    assert "250×250" in out
    assert "4:2:2" in out
    assert all(str(entry) in out for entry in jpegrad.tables.annex_k(50).unique().int().tolist())


def test_the_lists_name_everything(run: Run) -> None:
    status, out, _ = run("surrogates")
    assert status == 0
    assert all(name in out for name in jpegrad.surrogates.ALL)
    status, out, _ = run("backends")
    assert status == 0
    assert all(name in out for name in jpegrad.backends.ORDER)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("jpeg", "photo.png", "-o", "out.jpg", "-q", "0"), "quality"),
        (("jpeg", "photo.png", "-o", "out.jpg", "-q", "101"), "quality"),
        (("jpeg", "photo.png", "-o", "out.jpg", "--subsampling", "4:1:0"), "--subsampling"),
        (("jpeg", "photo.png", "-o", "out.jpg", "--target-bytes", "10"), "--target-bytes"),
        (("jpeg", "photo.png", "-o", "out.jpg", "--target-bytes", "9000", "-q", "5"), "--target-bytes"),
        (("jpeg", "photo.png", "-o", "out.strange"), ".strange"),
        (("jpeg", "photo.png", "-o", "no/such/folder/out.jpg"), "no/such/folder"),
        (("jpeg", "absent.png", "-o", "out.jpg"), "absent.png"),
        (("jpeg", "text.png", "-o", "out.jpg"), "text.png"),
        (("jpeg", "alpha.png", "-o", "out.jpg"), "alpha.png"),
        (("jpeg", "photo.png", "-o", "out.jpg", "--tables", "text.png"), "text.png"),
        (("inspect", "text.png"), "not a JPEG"),
        (("inspect", "absent.jpg"), "absent.jpg"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_error_is_one_line_and_leaves_no_file(
    run: Run, photo: Path, arguments: tuple[str, ...], named: str
) -> None:
    Path("text.png").write_text("no picture")
    Image.new("RGBA", (8, 8)).save("alpha.png")
    before = set(Path().iterdir())
    status, out, err = run(*arguments)
    assert status == 1
    assert out.strip() == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert named in err
    assert set(Path().iterdir()) == before


def test_an_error_leaves_an_existing_file_alone(run: Run, photo: Path) -> None:
    Path("out.jpg").write_bytes(b"precious")
    assert run("jpeg", photo, "-o", "out.jpg", "-q", 0)[0] == 1
    assert Path("out.jpg").read_bytes() == b"precious"


@pytest.mark.parametrize("command", ["demo", "jpeg", "size", "inspect", "surrogates", "backends"])
def test_help_describes_every_option(run: Run, command: str) -> None:
    status, out, _ = run(command, "--help")
    assert status == 0
    assert "Usage: jpegrad" in out


def test_unknown_options_are_told_without_a_traceback(run: Run) -> None:
    status, _, err = run("jpeg", "--no-such-option")
    assert status == 2
    assert "--no-such-option" in err
    assert "Traceback" not in err
