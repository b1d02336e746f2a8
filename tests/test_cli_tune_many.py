"""`jpegrad tune` over folders: shards, what is there already, failures, the table, metadata."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

import jpegrad
from command import Run
from corpus import picture
from jpegrad.commands import workers

TUNE = ("--steps", 1)
NAMES = {"one.jpg", "below/two.jpg", "three.jpg"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one with metadata, and in a folder below."""
    (tmp_path / "in" / "below").mkdir(parents=True)
    Image.fromarray(picture(24, 32)).save(tmp_path / "in" / "one.png", dpi=(300, 300))
    exif = Image.Exif()
    exif[0x010E] = "a place"
    two = Image.fromarray(picture(16, 40))
    two.save(tmp_path / "in" / "below" / "two.jpeg", quality=98, exif=exif, icc_profile=b"profile" * 9)
    Image.fromarray(picture(40, 24)[..., 0]).save(tmp_path / "in" / "three.pgm")
    return tmp_path


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is done in this process: others take seconds to start."""

    def share(
        items: list[object], work: Callable[[object], object], count: int, lost: object
    ) -> Iterator[object]:
        return map(work, items)

    monkeypatch.setattr(workers, "share", share)


def contents(folder: Path) -> dict[str, bytes]:
    return {x.relative_to(folder).as_posix(): x.read_bytes() for x in folder.rglob("*") if x.is_file()}


def rows(path: str) -> dict[str, dict[str, str]]:
    with open(path, newline="") as lines:
        return {row["file"]: row for row in csv.DictReader(lines)}


def test_processes_make_what_a_single_call_makes(run: Run, folder: Path) -> None:
    three = folder / "in" / "three.pgm"
    Image.open(three).save(three, "GIF", save_all=True, append_images=[Image.new("L", (24, 40))])
    originals = contents(folder / "in")
    result = run("tune", "in", "-o", "out", *TUNE, "--workers", 2)
    # What a process has to say is said once.
    lost = "note: in/three.pgm: 1 further pictures, frames or pages are left out\n"
    assert (result.code, result.error) == (0, lost)
    assert contents(folder / "in") == originals
    made = contents(folder / "out")
    assert set(made) == NAMES
    for name, source in (("one.jpg", "one.png"), ("two.jpg", "below/two.jpeg"), ("three.jpg", "three.pgm")):
        assert run("tune", f"in/{source}", "-o", name, *TUNE, "--no-compare").code == 0
        assert (folder / name).read_bytes() == made["below/two.jpg" if name == "two.jpg" else name]


@pytest.mark.usefixtures("here")
def test_a_file_to_start_from(run: Run, folder: Path) -> None:
    given = jpegrad.encode(torch.from_numpy(picture(40, 56)).permute(2, 0, 1), 90, subsampling="4:4:4")
    jpegrad.write("given.jpg", given)
    how = ("--start", "given.jpg", "--like-quality", 70, "--no-compare", "--progressive")
    assert run("tune", "given.jpg", "-o", "again.jpg", *TUNE, *how).code == 0
    again = jpegrad.read("again.jpg")
    assert again.subsampling == "4:4:4"
    assert jpegrad.read_header("again.jpg").process == "progressive"
    assert Path("again.jpg").stat().st_size < Path("given.jpg").stat().st_size
    for options, message in (
        (("in/one.png", "-o", "x.jpg", "--start", "given.jpg"), "image: expected"),
        (("given.jpg", "-o", "x.jpg", "--start", "in/one.png"), "in/one.png: not a JPEG file"),
        (("in", "-o", "more", "--start", "given.jpg"), "--start: expected with one picture"),
    ):
        result = run("tune", *options, *TUNE)
        assert result.code == 2 if "one picture" in message else result.code == 1
        assert message in result.error


@pytest.mark.usefixtures("here")
def test_shards_together_are_the_whole(run: Run, folder: Path) -> None:
    assert run("tune", "in", "-o", "whole", *TUNE).code == 0
    whole, parts = contents(folder / "whole"), []
    for index in (1, 2):
        assert run("tune", "in", "-o", f"part{index}", *TUNE, "--shard", f"{index}/2").code == 0
        parts.append(contents(folder / f"part{index}"))
    assert [set(part) for part in parts] == [{"below/two.jpg", "three.jpg"}, {"one.jpg"}]
    assert {**parts[0], **parts[1]} == whole and set(whole) == NAMES
    # More parts than pictures leave nothing to do.
    assert run("tune", "in", "-o", "none", *TUNE, "--shard", "4/4").code == 0
    assert not (folder / "none").exists()


@pytest.mark.usefixtures("here")
def test_what_is_there_is_passed_over(run: Run, folder: Path) -> None:
    call = ("tune", "in", "-o", "out", *TUNE, "--csv", "table.csv")
    assert run(*call).code == 0
    made, table = contents(folder / "out"), (folder / "table.csv").read_bytes()
    (folder / "out" / "one.jpg").unlink()
    (folder / "out" / "three.jpg").write_bytes(b"another call's")
    again = run(*call)
    assert again.code == 0 and again.error == ""
    lines = again.out.splitlines()
    assert lines[:2] == ["out/below/two.jpg: is there already", "out/three.jpg: is there already"]
    assert lines[2].startswith(f"out/one.jpg: {(folder / 'in' / 'one.png').stat().st_size:,} → ")
    assert contents(folder / "out") == {**made, "three.jpg": b"another call's"}
    # The table goes on too: what is known of the files that are left stays.
    assert rows("table.csv")["in/three.pgm"]["bytes_after"] == "14"
    assert rows("table.csv")["in/below/two.jpeg"]["loss"] in table.decode()
    assert run(*call, "--force").code == 0
    assert contents(folder / "out") == made


@pytest.mark.usefixtures("here")
def test_a_broken_file_and_the_table(run: Run, folder: Path) -> None:
    (folder / "in" / "another.png").write_bytes(b"no picture")
    result = run("tune", "in", "-o", "out", *TUNE, "--csv", "table.csv", "--json")
    assert result.code == 1
    assert result.error.splitlines() == [
        "error: in/another.png: expected a picture that Pillow can open",
        "error: 1 of 4 files failed",
    ]
    assert set(contents(folder / "out")) == NAMES
    table = rows("table.csv")
    assert list(table) == ["in/another.png", "in/below/two.jpeg", "in/one.png", "in/three.pgm"]
    assert table["in/another.png"].pop("error").endswith("expected a picture that Pillow can open")
    assert set(table["in/another.png"].values()) == {"in/another.png", ""}
    printed = [json.loads(line) for line in result.out.splitlines()]
    assert len(printed) == 3
    for facts in printed:
        row = table[facts["source"]]
        assert int(row["bytes_before"]) == facts["bytes_before"] == Path(facts["source"]).stat().st_size
        assert int(row["bytes_after"]) == facts["bytes"] == Path(facts["file"]).stat().st_size
        assert float(row["loss"]) == facts["loss"] > 0 and float(row["seconds"]) > 0 and not row["error"]
    # Mended, it is made, and its error is gone.
    Image.fromarray(picture(8, 8)).save("in/another.png")
    assert run("tune", "in", "-o", "out", *TUNE, "--csv", "table.csv").code == 0
    assert not any(row["error"] for row in rows("table.csv").values())


@pytest.mark.usefixtures("here")
def test_metadata_of_many(run: Run, folder: Path) -> None:
    assert run("tune", "in", "-o", "out", *TUNE).code == 0
    original, made = jpegrad.read("in/below/two.jpeg"), jpegrad.read("out/below/two.jpg")
    assert len(original.metadata) == 2
    assert (made.metadata, made.density) == (original.metadata, original.density)
    assert jpegrad.read("out/one.jpg").density == (300, 300, "inch")
    assert run("tune", "in", "-o", "bare", *TUNE, "--no-metadata").code == 0
    assert jpegrad.read("bare/below/two.jpg").metadata == ()


WRONG = {
    "the folder itself": (["in", "-o", "in"], "--output: expected another folder than in"),
    "an original": (["in", "-o", "hard", "--force"], "--output: expected another file than in/one.png"),
    "one name of two": (["in", "same", "-o", "out"], "--output: expected names that differ; out/one.jpg"),
    "no folder": (["in", "-o", "out.jpg"], "--output: expected a folder for the files of several"),
    "a stream": (["in", "-", "-o", "out"], "expected names of files and folders, got -"),
    "shard 0": (["in", "-o", "out", "--shard", "0/2"], "--shard: expected K/N, such as 2/8"),
    "shard of words": (["in", "-o", "out", "--shard", "first"], "--shard: expected K/N, such as 2/8"),
    "no worker": (["in", "-o", "out", "--workers", "0"], "--workers: expected 1 or more, got 0"),
    "compared": (["in", "-o", "out", "--compare"], "--compare: expected with one picture"),
    "one in parts": (["in/one.png", "-o", "o.jpg", "--shard", "1/2"], "--shard: expected with several"),
    "table over an input": (
        ["in", "-o", "out", "--csv", "hard/table.csv", "--force"],
        "--csv: expected another file than in/below/two.jpeg",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_calls_that_are_wrong(run: Run, folder: Path, name: str) -> None:
    for other in ("same", "hard"):
        (folder / other).mkdir()
    (folder / "same" / "one.png").write_bytes((folder / "in" / "one.png").read_bytes())
    os.link(folder / "in" / "one.png", folder / "hard" / "one.jpg")
    os.link(folder / "in" / "below" / "two.jpeg", folder / "hard" / "table.csv")
    before = contents(folder)
    arguments, message = WRONG[name]
    result = run("tune", *arguments, *TUNE)
    assert (result.code, result.out) == (2, "")
    assert message in result.error and result.error.count("\n") == 1
    assert contents(folder) == before


def test_another_table_stays(run: Run, folder: Path) -> None:
    (folder / "mine.csv").write_text("name,age\n")
    result = run("tune", "in", "-o", "out", *TUNE, "--csv", "mine.csv")
    assert result.code == 1 and "--csv: expected a new name" in result.error
    assert (folder / "mine.csv").read_text() == "name,age\n" and not (folder / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no such signal")
def test_an_interrupted_call_goes_on(folder: Path) -> None:
    command = "from _jpegrad_command import main; main()"
    call = [sys.executable, "-c", command, "tune", "in", "-o", "out", "--workers", "1", "--csv", "table.csv"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [*call, "--steps", "40"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline().partition(":")[0]
        # As a terminal does: to all processes.
        os.killpg(process.pid, signal.SIGINT)
        error = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert error == "error: interrupted after 1 of 3 files; the same call goes on from there\n"
    assert list(contents(folder / "out")) == [first.removeprefix("out/")]
    assert len(rows(str(folder / "table.csv"))) == 1
    ended = subprocess.run(
        [*call, "--steps", "1"], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"{first}: is there already\n")
    assert set(contents(folder / "out")) == NAMES and len(rows(str(folder / "table.csv"))) == 3


def ends_at_two(item: int) -> int:
    if item == 2:
        os._exit(9)
    return item**2


@pytest.mark.slow
def test_a_process_that_ends_loses_its_item_alone() -> None:
    found = workers.share(list(range(5)), ends_at_two, 2, lambda item: -item)
    assert sorted(found) == [-2, 0, 1, 9, 16]
