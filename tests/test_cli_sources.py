"""Folders, patterns and the standard streams in place of a file; what is said, and what a failure of one means."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import jpegrad
from command import Run, files
from corpus import picture, pillow
from jpegrad.cli import COMMANDS, command, main
from jpegrad.commands import options, terminal
from jpegrad.data import photograph_path
from jpegrad.sampling import SUBSAMPLING


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, one of them in a folder below, and what is none."""
    (tmp_path / "in" / "below").mkdir(parents=True)
    Image.fromarray(picture(24, 32)).save(tmp_path / "in" / "one.png")
    Image.fromarray(picture(16, 40)).save(tmp_path / "in" / "below" / "two.ppm")
    (tmp_path / "in" / "notes.txt").write_text("none")
    (tmp_path / "in" / ".hidden.png").write_bytes(b"none")
    return tmp_path


class Piped(NamedTuple):
    code: int
    out: bytes
    error: str


@pytest.fixture
def pipe(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], folder: Path
) -> Callable[..., Piped]:
    """`jpegrad` with its standard input and output of bytes."""
    monkeypatch.chdir(folder)

    def call(given: bytes, *arguments: str) -> Piped:
        out = io.TextIOWrapper(io.BytesIO(), write_through=True)
        monkeypatch.setattr(sys, "argv", ["jpegrad", *arguments])
        with monkeypatch.context() as streams, pytest.raises(SystemExit) as exit:
            streams.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
            streams.setattr(sys, "stdout", out)
            main()
        return Piped(exit.value.code or 0, out.buffer.getvalue(), capfd.readouterr().err)  # type: ignore[arg-type]

    return call


def test_a_folder_goes_into_a_folder(run: Run, folder: Path) -> None:
    result = run("jpeg", "in", "-o", "out", "-q", 40)
    assert (result.code, result.error) == (0, "")
    assert (folder / "out" / "one.jpg").read_bytes() == pillow(picture(24, 32), quality=40)
    assert (folder / "out" / "below" / "two.jpg").read_bytes() == pillow(picture(16, 40), quality=40)
    assert files(folder / "out") == {"one.jpg", "below"}
    # Its files are there now, and inputs are none of them.
    again = run("jpeg", "in", "-o", "out", "-q", 40)
    assert again.code == 1 and "which exists; --force replaces it" in again.error
    assert run("jpeg", "in", "-o", "out", "-q", 41, "--force").code == 0
    assert (folder / "out" / "one.jpg").read_bytes() == pillow(picture(24, 32), quality=41)
    assert run("decode", "out", "-o", "shown", "--suffix", ".bmp").code == 0
    with Image.open("shown/below/two.bmp") as shown, Image.open("out/below/two.jpg") as coded:
        assert np.array_equal(np.array(shown), np.array(coded))
    turned = run("transform", "out", "-o", "turned", "--transpose", "--json")
    assert [json.loads(line)["width"] for line in turned.out.splitlines()] == [16, 24]
    assert run("optimize", "out", "-o", "out", "--force").code == 0
    assert jpegrad.read("out/one.jpg").size == (24, 32)


def test_pictures_that_a_folder_keeps_to_itself(run: Run, folder: Path) -> None:
    assert run("jpeg", "in/one.png", "-o", "in/one.jpg").code == 0
    left = "warning: in: 2 of 3 pictures do not end in .jpg, .jpeg, .jpe, .jfif and are left out\n"
    for call in (("optimize", "in", "-o", "out"), ("decode", "in", "-o", "shown"), ("inspect", "in")):
        result = run(*call)
        assert (result.code, result.error) == (0, left), call


def test_outputs_below_the_inputs_are_no_inputs(run: Run, folder: Path) -> None:
    for _ in range(2):
        assert run("jpeg", ".", "-o", "out", "--force").code == 0
    assert {path.name for path in (folder / "out").rglob("*.jpg")} == {"one.jpg", "two.jpg"}
    assert not (folder / "out" / "out").exists()


def test_patterns(run: Run, folder: Path) -> None:
    assert run("jpeg", "in/**/*.p[np]*", "-o", "out").code == 0
    assert files(folder / "out") == {"one.jpg", "two.jpg"}
    # A name with such signs is a name.
    (folder / "a[1].png").write_bytes((folder / "in" / "one.png").read_bytes())
    assert run("jpeg", "a[1].png", "-o", "a[1].jpg").code == 0
    result = run("size", "*.gif")
    assert (result.code, result.error) == (2, "error: expected a pattern that matches a file, got *.gif\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["jpeg", "in", "-o", "out.jpg"],
            "--output: expected a folder for the files of several, got out.jpg",
        ),
        (["jpeg", "in/one.png", "in", "-o", "-"], "--output: expected one picture for standard output"),
        (
            ["jpeg", "in/one.png", "in/one.png", "-o", "out"],
            "--output: expected names that differ; out/one.jpg",
        ),
        (["jpeg", "in", "-o", "out", "--suffix", ".gif"], "--suffix: expected one of .jpg"),
        (["size", "-", "-"], "expected - once, because standard input is one file"),
        (["inspect", "in"], "expected a folder with files in .jpg"),
        (["inspect", "in/one.png", "in/one.png", "--plot", "p.png"], "--plot: expected one file to draw"),
        (["compare", "in/one.png", "in/one.png", "--gain", "3"], "--gain: expected with --difference"),
        (
            ["compare", "in/one.png", "in/one.png", "-d", "d.png", "--gain", "0"],
            "--gain: expected more than 0 and at most 255, got 0",
        ),
        (
            ["jpeg", "in/one.png", "-o", "o.jpg", "--target-bytes", "9kkB"],
            "expected bytes, such as 60000, 60kB",
        ),
        (
            ["jpeg", "in/one.png", "-o", "o.jpg", "--background", "whiter"],
            "--background: expected a colour, as white",
        ),
    ],
    ids=lambda x: "" if isinstance(x, str) else "-".join(x).replace("/", "."),
)
def test_calls_that_say_nothing_clear(run: Run, folder: Path, arguments: list[str], message: str) -> None:
    before = files(folder)
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.error.startswith("error: ") and result.error.count("\n") == 1
    assert message in result.error
    assert files(folder) == before


def test_one_that_fails_stops_no_other(run: Run, folder: Path) -> None:
    (folder / "in" / "another.png").write_bytes(b"no picture")
    result = run("jpeg", "in", "-o", "out", "--json")
    assert result.code == 1
    assert result.error.splitlines() == [
        "error: in/another.png: expected a picture that Pillow can open",
        "error: 1 of 3 files failed",
    ]
    assert [json.loads(line)["file"] for line in result.out.splitlines()] == [
        "out/below/two.jpg",
        "out/one.jpg",
    ]
    (folder / "out" / "cut.jpg").write_bytes((folder / "out" / "one.jpg").read_bytes()[:-40])
    table = run("inspect", "out")
    assert table.code == 0 and "decoded:" in table.out and "one.jpg" in table.out


def test_standard_streams(pipe: Callable[..., Piped], folder: Path) -> None:
    source = (folder / "in" / "one.png").read_bytes()
    coded = pipe(source, "jpeg", "-", "-o", "-", "-q", "30")
    assert coded.code == 0, coded.error
    assert coded.out == pillow(picture(24, 32), quality=30)
    assert coded.error.startswith(f"standard output: 32×24, {len(coded.out)} bytes")
    decoded = pipe(coded.out, "decode", "-", "-o", "-", "--quiet")
    assert decoded.error == ""
    with Image.open(io.BytesIO(decoded.out)) as shown, Image.open(io.BytesIO(coded.out)) as real:
        assert np.array_equal(np.array(shown), np.array(real))
    smaller = pipe(coded.out, "optimize", "-", "-o", "-", "--json")
    assert json.loads(smaller.error)["bytes"] == len(smaller.out) <= len(coded.out)
    tuned = pipe(source, "tune", "-", "-o", "-", "--steps", "1", "--save-tables", "t.json", "--json")
    assert tuned.code == 0, tuned.error
    said = json.loads(tuned.error.splitlines()[-1])
    assert said["bytes"] == len(tuned.out) and said["file"] == "standard output"
    assert (jpegrad.read(tuned.out).tables == jpegrad.tables.load(folder / "t.json")).all()
    assert json.loads((folder / "t.json").read_text())["picture"] == "standard input"
    wrong = pipe(b"nothing", "inspect", "-")
    assert (wrong.code, wrong.out) == (1, b"")
    assert wrong.error.startswith("error: standard input: not a JPEG file")


@pytest.mark.slow
def test_a_reader_that_leaves_gets_no_error(folder: Path) -> None:
    (folder / "in.jpg").write_bytes(pillow(picture(24, 32)))
    command = f"{sys.executable} -c 'from _jpegrad_command import main; main()' inspect in.jpg"
    ended = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (ended.stdout, ended.stderr) == ("1\n", "")


def test_what_is_said(run: Run, folder: Path) -> None:
    Image.fromarray(picture(24, 32)).save(
        "moving.gif", save_all=True, append_images=[Image.new("RGB", (32, 24))]
    )
    loud = run("jpeg", "moving.gif", "-o", "loud.jpg", "-v")
    assert "moving.gif: read: 0." in loud.error and "note: moving.gif: 1 further" in loud.error
    quiet = run("jpeg", "moving.gif", "-o", "quiet.jpg", "--quiet")
    assert quiet == (0, "", "")
    first = run("--quiet", "jpeg", "moving.gif", "-o", "first.jpg")
    assert first == (0, "", "")
    # What was asked for is printed all the same.
    assert run("-q", "size", "in/one.png").out
    assert not run("jpeg", "in/one.png", "-o", "uncompared.jpg", "--no-compare").out.count("PSNR")
    assert "psnr" not in json.loads(run("size", "in/one.png", "--no-compare", "--json").out)["sizes"][0]


def test_sizes_with_units(run: Run, folder: Path) -> None:
    assert [options.byte_count(x) for x in ("60000", "60kB", "1.5 MB", "2KiB", "3k", "1 gib", "7B")] == [
        60000,
        60000,
        1_500_000,
        2048,
        3000,
        2**30,
        7,
    ]
    assert run("jpeg", "in/one.png", "-o", "o.jpg", "--target-bytes", "1.2kB").code == 0
    assert (folder / "o.jpg").stat().st_size <= 1200


def test_a_background_for_what_is_transparent(run: Run, folder: Path) -> None:
    layered = Image.fromarray(picture(24, 32))
    layered.putalpha(Image.fromarray(np.arange(24 * 32, dtype=np.uint16).astype(np.uint8).reshape(24, 32)))
    layered.save("layered.png")
    refused = run("jpeg", "layered.png", "-o", "o.jpg")
    assert refused.code == 1 and "--background lays a colour behind it" in refused.error
    for name, color in (("white", (255, 255, 255)), ("#306090", (0x30, 0x60, 0x90))):
        assert run("jpeg", "layered.png", "-o", "o.jpg", "--background", name, "-q", 90, "--force").code == 0
        behind = Image.new("RGBA", layered.size, (*color, 255))
        expected = Image.alpha_composite(behind, layered).convert("RGB")
        assert (folder / "o.jpg").read_bytes() == pillow(np.array(expected), quality=90)
    gray = Image.fromarray(picture(24, 32)[..., 0])
    gray.putalpha(100)
    gray.save("gray.png")
    assert run("jpeg", "gray.png", "-o", "gray.jpg", "--background", "black").code == 0
    assert jpegrad.read("gray.jpg").channels == 1


@pytest.fixture
def layers(folder: Path) -> Image.Image:
    """A transparent picture, `layers/layered.png`, and what is seen of it on white."""
    layered = Image.fromarray(picture(24, 32))
    layered.putalpha(100)
    (folder / "layers").mkdir()
    layered.save(folder / "layers" / "layered.png")
    behind = Image.new("RGBA", layered.size, (255, 255, 255, 255))
    return Image.alpha_composite(behind, layered).convert("RGB")


def test_a_background_for_what_is_tuned(run: Run, folder: Path, layers: Image.Image) -> None:
    layers.save("flat.png")
    assert run("tune", "flat.png", "-o", "flat.jpg", "--steps", 1, "--no-compare").code == 0
    call = ("tune", "layers/layered.png", "-o", "o.jpg", "--steps", 1, "--no-compare")
    refused = run(*call)
    assert refused.code == 1 and "--background lays a colour behind it" in refused.error
    assert run(*call, "--background", "white").code == 0
    assert (folder / "o.jpg").read_bytes() == (folder / "flat.jpg").read_bytes()
    assert run("tune", "layers", "-o", "out", "--background", "whiter").code == 2


@pytest.mark.slow
# Where nothing lies behind it, the picture is left out with a warning.
@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.usefixtures("layers")
def test_a_background_for_what_is_learned_from(run: Run) -> None:
    learn = ("tune-dataset", "layers", "--steps", 1, "--batch", 1, "--crop", 0)
    assert "expected a picture that can be used" in run(*learn, "-o", "none.json").error
    learned = run(*learn, "-o", "t.json", "--background", "white", "--json")
    facts = json.loads(learned.out)
    assert (learned.code, facts["pictures"], facts["metric"]) == (0, 1, "mse") and facts["cost"] > 0
    assert jpegrad.tables.load("t.json").tolist() == facts["tables"]


def test_damage_that_pillow_passes_over_is_an_error(run: Run, tmp_path: Path) -> None:
    whole = pillow(picture(64, 96), quality=90)
    # The scan is hit where Pillow decodes on.
    broken = bytearray(whole)
    middle = len(whole) // 2
    broken[middle : middle + 8] = b"\xff\x00\xff\x00\xff\x00\xff\x00"
    with Image.open(io.BytesIO(bytes(broken))) as opened:
        opened.load()
    with pytest.raises(jpegrad.JPEGError):
        jpegrad.read(bytes(broken))
    (tmp_path / "broken.jpg").write_bytes(broken)
    for arguments in (["jpeg", "broken.jpg", "-o", "o.jpg"], ["size", "broken.jpg"]):
        result = run(*arguments)
        assert result.code == 1
        assert result.error.startswith("error: broken.jpg: corrupt") and "--lenient" in result.error
        assert run(*arguments, "--lenient").code == 0


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_no_number_or_word_is_cut(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    (folder / "a-name-that-is-rather-long-for-a-table.jpg").write_bytes(pillow(picture(240, 320), quality=95))
    assert run("jpeg", "in/one.png", "-o", "o.jpg").code == 0
    for arguments in (
        ["size", "in/one.png", "-q", 1, "-q", 100],
        ["inspect", "a-name-that-is-rather-long-for-a-table.jpg", "--histogram"],
        ["inspect", "."],
        ["backends"],
        ["surrogates"],
    ):
        out = run(*arguments).out
        assert out and "…" not in out
    words = run("inspect", ".").out.split()
    assert {"a-name-that-is-rather-long-for-a-table.jpg", "baseline"} <= set(words)


def test_the_histogram_counts_every_level(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.jpg").write_bytes(pillow(picture(40, 56), quality=90))
    found = json.loads(run("inspect", "in.jpg", "--json").out)["levels"]
    for name, levels in zip(("Y", "Cb", "Cr"), jpegrad.read("in.jpg").levels, strict=True):
        for part, some in (
            ("DC", levels[..., 0, 0].flatten()),
            ("AC", levels.flatten(-2)[..., 1:].flatten()),
        ):
            counted = {int(level): count for level, count in found[name][part].items()}
            assert sum(counted.values()) == some.numel()
            assert all(count == int((some == level).sum()) for level, count in counted.items())
    table = run("inspect", "in.jpg", "--histogram").out
    row = next(line.split() for line in table.splitlines() if line.split()[:1] == ["-1"])
    assert row[2].replace(",", "") == str(found["Y"]["AC"]["-1"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_name_it(name: str) -> None:
    entry = COMMANDS[name]
    assert entry.examples and all(line.startswith(f"jpegrad {name}") for line in entry.examples)
    made = command(name)
    assert made.help and all(line.replace("[", "") in made.epilog for line in entry.examples)
    assert len(entry.purpose) <= 70


def test_examples_of_help_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("photo.png", "pictures/one.png"):
        shutil.copy(photograph_path("tulips"), tmp_path / name)
    Image.new("RGBA", (16, 16), (9, 9, 9, 99)).save(tmp_path / "logo.png")
    for name in ("jpeg", "decode", "size", "inspect", "compare", "transform", "optimize"):
        for line in COMMANDS[name].examples:
            if "<" in line:
                continue
            result = run(*line.split()[1:], *([] if name in ("size", "compare") else ["--force"]))
            assert result.code == 0, f"{line}: {result.error}"


def test_options_name_what_there_is() -> None:
    assert tuple(SUBSAMPLING) == options.MODES


def test_a_call_leaves_nothing_to_the_next(run: Run, folder: Path) -> None:
    run("jpeg", "in/one.png", "-o", "o.jpg", "--quiet")
    run("backends")
    assert terminal.state == terminal.State()
    assert torch.is_grad_enabled()
