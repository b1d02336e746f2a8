"""The command line for files: what it writes is Pillow's, what it counts is the file's, and errors are one line."""

import io
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import jpegrad
import oracles.pictures
from command import Run
from corpus import (
    COMMENT,
    EXIF,
    ICC,
    exif_with_size_and_thumbnail,
    inks,
    noise,
    picture,
    pillow,
    pillow_pixels,
    with_16_bit_tables,
    with_segments,
    without,
    ycck,
)
from jpegrad.cli import app
from jpegrad.commands import options
from jpegrad.commands.coding import best_quality
from jpegrad.data import published_table_names
from jpegrad.sampling import SUBSAMPLING
from jpegrad.tune.image import STEPS
from jpegrad.tune.metrics import ALL

MODES = ("4:4:4", "4:2:2", "4:2:0")


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.array(opened)


@pytest.mark.parametrize("ways", [(), ("optimize",), ("progressive",), ("optimize", "progressive")])
@pytest.mark.parametrize("mode", MODES)
def test_jpeg_writes_what_pillow_writes(
    run: Run, png: np.ndarray, tmp_path: Path, mode: str, ways: tuple[str, ...]
) -> None:
    flags = [f"--{way}" for way in ways]
    result = run("jpeg", "in.png", "-o", "out.jpg", "--quality", 30, "--subsampling", mode, *flags)
    assert result.code == 0, result.error
    data = pillow(png, quality=30, subsampling=mode, **dict.fromkeys(ways, True))
    assert (tmp_path / "out.jpg").read_bytes() == data
    assert f"out.jpg: 53×37, {len(data):,} bytes" in result.out


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_jpeg_writes_what_pillow_decodes(run: Run, png: np.ndarray, tmp_path: Path, suffix: str) -> None:
    result = run("jpeg", "in.png", "--output", f"out{suffix}", "-q", 10)
    assert result.code == 0, result.error
    data = pillow(png, quality=10)
    assert (pixels_of(tmp_path / f"out{suffix}").transpose(2, 0, 1) == pillow_pixels(data)).all()
    assert f"as .jpg {len(data):,} bytes" in result.out


def test_gray_and_palette_pictures(run: Run, tmp_path: Path) -> None:
    gray = picture(20, 30)[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    assert run("jpeg", "gray.png", "-o", "gray.jpg").code == 0
    assert (tmp_path / "gray.jpg").read_bytes() == pillow(gray, quality=75)
    palette = Image.fromarray(picture(20, 30)).quantize(16)
    palette.save(tmp_path / "palette.png")
    assert run("jpeg", "palette.png", "-o", "palette.jpg", "-q", 90).code == 0
    assert (tmp_path / "palette.jpg").read_bytes() == pillow(np.array(palette.convert("RGB")), quality=90)


def test_tables_from_a_file(run: Run, png: np.ndarray, tmp_path: Path) -> None:
    tables = torch.randint(1, 256, (2, 8, 8))
    jpegrad.tables.save(tmp_path / "tables.json", tables)
    assert run("jpeg", "in.png", "-o", "out.jpg", "--tables", "tables.json").code == 0
    expected = pillow(png, qtables=tables.flatten(1).tolist(), subsampling="4:2:0")
    assert (tmp_path / "out.jpg").read_bytes() == expected


@pytest.mark.parametrize("mode", MODES)
def test_like_another_file(run: Run, png: np.ndarray, tmp_path: Path, mode: str) -> None:
    (tmp_path / "like.jpg").write_bytes(pillow(noise(9, 9), quality=41, subsampling=mode, progressive=True))
    assert run("jpeg", "in.png", "-o", "out.jpg", "--like", "like.jpg").code == 0
    assert (tmp_path / "out.jpg").read_bytes() == pillow(png, quality=41, subsampling=mode)


def test_a_jpeg_again_like_itself(run: Run, png: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "in.jpg").write_bytes(pillow(png, quality=35, subsampling="4:2:2"))
    assert run("jpeg", "in.jpg", "-o", "out.jpg", "--like", "in.jpg").code == 0
    with Image.open(tmp_path / "in.jpg") as opened:
        buffer = io.BytesIO()
        opened.save(buffer, "JPEG", quality="keep", subsampling="4:2:2")
    assert (tmp_path / "out.jpg").read_bytes() == buffer.getvalue()


def test_sizes_are_those_of_real_files(run: Run, png: np.ndarray) -> None:
    result = run("size", "in.png", "-q", 5, "-q", 50, "-q", 95, "--subsampling", "4:4:4")
    assert result.code == 0, result.error
    rows = [re.findall(r"[\d.,]+", line) for line in result.out.splitlines() if line.endswith(" dB")]
    found = [[int(cell.replace(",", "")) for cell in row[:4]] for row in rows]
    assert found == [
        [
            q,
            *(
                len(pillow(png, quality=q, subsampling="4:4:4", **ways))
                for ways in ({}, {"optimize": True}, {"progressive": True})
            ),
        ]
        for q in (5, 50, 95)
    ]


WAYS = {
    "default": ({}, {}),
    "optimized": ({"huffman": "optimized"}, {"optimize": True}),
    "progressive": ({"progressive": True}, {"progressive": True}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["photo", "noise", "patches", "ramp", "basis"])
def test_target_bytes_finds_the_best_of_all_qualities(kind: str, way: str) -> None:
    ours, theirs = WAYS[way]
    random = np.random.default_rng(7)
    pixels = oracles.pictures.KINDS[kind](random, 3, 24, 32)
    image = torch.from_numpy(pixels)
    sizes = [
        len(pillow(pixels.transpose(1, 2, 0), quality=q, subsampling="4:2:0", **theirs))
        for q in range(1, 101)
    ]
    # Targets met and missed by one byte, where sizes fall as the quality rises too.
    falls = [size for size, following in itertools.pairwise(sizes) if following < size]
    targets = {size + d for size in (*falls[:2], *random.choice(sizes, 3), max(sizes)) for d in (-1, 0)}
    for target in sorted(int(target) for target in targets if target >= min(sizes)):
        best = max(q for q, size in enumerate(sizes, 1) if size <= target)
        assert best_quality(image, target, None, ours) == best


def test_target_bytes_writes_that_file(run: Run, png: np.ndarray, tmp_path: Path) -> None:
    result = run("jpeg", "in.png", "-o", "out.jpg", "--target-bytes", 1200, "--subsampling", "4:4:4")
    assert result.code == 0, result.error
    quality = int(re.findall(r"quality (\d+) is the best", result.out)[0])
    assert (tmp_path / "out.jpg").read_bytes() == pillow(png, quality=quality, subsampling="4:4:4")
    assert len(pillow(png, quality=quality, subsampling="4:4:4")) <= 1200


@pytest.mark.parametrize(
    "decoder", [{}, {"upsampling": "replicate"}, {"dct": "fast"}, {"scale": 2}, {"scale": 8, "dct": "fast"}]
)
def test_decode_writes_what_other_decoders_see(run: Run, tmp_path: Path, decoder: dict[str, Any]) -> None:
    data = pillow(picture(37, 53), quality=60)
    (tmp_path / "in.jpg").write_bytes(data)
    arguments = [f"--{name}={value}" for name, value in decoder.items()]
    result = run("decode", "in.jpg", "-o", "out.png", *arguments)
    expected = jpegrad.decode(jpegrad.read(data), dtype=torch.uint8, decoder=jpegrad.Decoder(**decoder))
    assert np.array_equal(pixels_of(tmp_path / "out.png"), expected.permute(1, 2, 0).numpy())
    assert result == (0, f"out.png: {expected.shape[-1]}×{expected.shape[-2]}\n", "")


def test_decode_gray_and_inks(run: Run, tmp_path: Path) -> None:
    (tmp_path / "gray.jpg").write_bytes(pillow(picture(20, 30)[..., 0]))
    (tmp_path / "inks.jpg").write_bytes(pillow(inks(20, 30)))
    for name, mode in (("gray", "L"), ("inks", "RGB")):
        assert run("decode", f"{name}.jpg", "-o", f"{name}.png").code == 0
        with Image.open(tmp_path / f"{name}.jpg") as image:
            assert np.array_equal(pixels_of(tmp_path / f"{name}.png"), np.array(image.convert(mode)))


def test_decode_says_what_is_wrong(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.jpg").write_bytes(pillow(picture(20, 30)))
    for arguments, words in (
        (["in.jpg", "-o", "out.jpg"], "--output: expected a name that ends in .png"),
        (["in.jpg", "-o", "out.png", "--scale", "3"], "scale: expected 1, 2, 4 or 8, got 3"),
        (
            ["in.jpg", "-o", "out.png", "--upsampling", "fancy"],
            "upsampling: expected one of triangle, replicate",
        ),
    ):
        result = run("decode", *arguments)
        assert result.code == 2 and words in result.error
    (tmp_path / "in.png").write_bytes(b"no .jpg")
    result = run("decode", "in.png", "-o", "out.png")
    assert result.code == 1 and "in.png: not a JPEG file" in result.error


def inspected(run: Run, *arguments: object) -> dict[str, object]:
    result = run("inspect", *arguments, "--json")
    assert result.code == 0, result.error
    return json.loads(result.out)


def total(bits: dict[str, object]) -> int:
    parts = [value for value in bits.values() if isinstance(value, dict)]
    maps = sum(np.sum(part["coefficients"]) + part["end_of_block"] for part in parts)
    return int(maps) + sum(value for value in bits.values() if isinstance(value, int))


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("progressive", [False, True])
def test_inspect_finds_what_pillow_was_told(
    run: Run, tmp_path: Path, progressive: bool, optimize: bool
) -> None:
    exif, comment = EXIF + b"\0" * 10, COMMENT
    options = {"quality": 62, "subsampling": "4:2:2", "exif": exif, "icc_profile": ICC, "comment": comment}
    data = pillow(picture(40, 50), progressive=progressive, **options)
    (tmp_path / "photo.jpg").write_bytes(data)
    facts = inspected(run, "photo.jpg", *(["--optimize"] if optimize else []))
    assert [facts[name] for name in ("bytes", "width", "height")] == [len(data), 50, 40]
    assert facts["coding"] == ("progressive" if progressive else "baseline")
    assert (facts["color"], facts["subsampling"]) == ("YCbCr", "4:2:2")
    assert facts["tables"] == jpegrad.tables.annex_k(62).int().tolist()
    assert facts["quality"] == {"quality": 62, "exact": True, "distance": 0, "base": "Annex K"}
    assert sorted(segment["kind"] for segment in facts["metadata"]) == ["Exif", "ICC profile", "comment"]
    baseline = facts["baseline"]
    # Pillow sorts the metadata in another way; sizes are alike.
    assert baseline["bytes"] == len(pillow(picture(40, 50), optimize=optimize, **options))
    assert total(baseline["bits"]) == 8 * baseline["bytes"]
    assert baseline["bits"]["metadata"] == 8 * sum(segment["bytes"] for segment in facts["metadata"])


def test_inspect_gray_and_rgb(run: Run, tmp_path: Path) -> None:
    (tmp_path / "gray.jpg").write_bytes(pillow(picture(20, 20)[..., 0], quality=75))
    facts = inspected(run, "gray.jpg")
    assert (facts["color"], facts["subsampling"], len(facts["tables"])) == ("gray", None, 1)
    assert set(facts["baseline"]["bits"]) == {"Y", "padding", "stuffing", "headers", "metadata"}
    (tmp_path / "rgb.jpg").write_bytes(pillow(picture(20, 20), quality=75, keep_rgb=True))
    facts = inspected(run, "rgb.jpg")
    assert (facts["color"], facts["subsampling"]) == ("RGB", "4:4:4")
    # All three components have the table of luma.
    assert facts["quality"] == {"quality": 75, "exact": True, "distance": 0, "base": "Annex K"}
    assert facts["quantization_tables"] == 1
    assert {"R", "G", "B"} < set(facts["baseline"]["bits"])


def test_inspect_prints_tables_and_bits(run: Run, tmp_path: Path) -> None:
    data = pillow(picture(40, 50), quality=62)
    (tmp_path / "photo.jpg").write_bytes(data)
    result = run("inspect", "photo.jpg")
    assert result.code == 0, result.error
    lines = result.out.splitlines()
    assert lines[:2] == [
        f"photo.jpg: 50×40, YCbCr 4:2:0, baseline, {len(data):,} bytes",
        "quality 62: libjpeg's tables",
    ]
    facts = inspected(run, "photo.jpg")
    for entries in (
        *facts["tables"],
        *(facts["baseline"]["bits"][name]["coefficients"] for name in ("Y", "Cb", "Cr")),
    ):
        for row in entries:
            assert any(line.split() == [str(entry) for entry in row] for line in lines)
    assert f"{8 * len(data):,}" in result.out


def test_inspect_of_tables_that_are_not_libjpegs(run: Run, tmp_path: Path) -> None:
    data = pillow(picture(20, 20), qtables=[[7] * 64, [9] * 64])
    (tmp_path / "flat.jpg").write_bytes(data)
    assert not inspected(run, "flat.jpg")["quality"]["exact"]
    assert re.search(
        r"quality about \d+: entries differ from libjpeg's by \d+\.\d%", run("inspect", "flat.jpg").out
    )


def test_inspect_knows_published_tables(run: Run, tmp_path: Path) -> None:
    for name in published_table_names():
        # Of the flat ones several qualities are alike.
        tables = jpegrad.tables.scale(jpegrad.tables.load(name), 70)
        coefficients = jpegrad.encode(torch.zeros(3, 8, 8), tables=tables)
        (tmp_path / "known.jpg").write_bytes(jpegrad.to_bytes(coefficients))
        facts = inspected(run, "known.jpg")
        assert facts["quality"]["base"] == name
        assert name == "flat" or facts["quality"]["quality"] == 70
    assert "quality 70 of the published tables watson" in run("inspect", "known.jpg").out


def test_inspect_says_how_the_file_is_made(run: Run, tmp_path: Path) -> None:
    exif = exif_with_size_and_thumbnail("<", thumbnail := pillow(picture(12, 16)))
    plain = pillow(picture(40, 50), progressive=True, restart_marker_blocks=2, quality=80)
    data = with_segments(plain, (0xE1, exif)) + bytes(5)
    (tmp_path / "photo.jpg").write_bytes(data)
    facts = inspected(run, "photo.jpg")
    structure = jpegrad.read_structure(data)
    assert facts["script"] == structure.script
    assert [scan["restart_interval"] for scan in facts["scans"]] == [2] * 10
    assert (facts["restart_interval"], facts["orientation"], facts["precision"]) == (2, 6, 8)
    assert facts["sampling"] == [[2, 2], [1, 1], [1, 1]]
    assert facts["huffman"] == {"kind": "own", "tables": structure.huffman_tables}
    assert facts["thumbnail"] == {"bytes": len(thumbnail), "width": 16, "height": 12}
    assert (facts["trailing_bytes"], facts["fault"], facts["error"]) == (5, None, None)
    lines = run("inspect", "photo.jpg").out.splitlines()
    assert (
        "2 quantization tables, Huffman tables of its own, 10 scans as libjpeg's, restart interval of 2 MCUs, "
        "orientation 6"
    ) in lines
    own = [((0,), 0, 0), ((0,), 1, 63, 0, 1), ((0,), 1, 63, 1, 0)]
    gray = jpegrad.encode(torch.zeros(1, 8, 8), 50)
    (tmp_path / "own.jpg").write_bytes(jpegrad.to_bytes(gray, progressive=own))
    assert "scan 0: 1-63, 1, 0;" in run("inspect", "own.jpg").out.splitlines()
    assert f"thumbnail 16×12, {len(thumbnail)} bytes" in lines
    assert "5 bytes follow the end of the picture" in lines


def test_inspect_of_files_that_are_not_decoded(run: Run, tmp_path: Path) -> None:
    plain = pillow(picture(40, 50), quality=80)
    deep = plain.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c", 1)
    for name, data, error in (
        ("deep", deep, "not supported: 12 bits per sample; expected 8"),
        ("cut", plain[:-200], "truncated"),
        ("lossless", plain.replace(b"\xff\xc0", b"\xff\xc3", 1), "not supported: lossless JPEG"),
        ("no tables", without(plain, 0xDB), "corrupt: quantization table 0 is missing"),
    ):
        (tmp_path / "odd.jpg").write_bytes(data)
        facts = inspected(run, "odd.jpg")
        assert facts["error"].startswith(error), name
        assert facts["baseline"] is None
        assert (facts["width"], facts["height"], len(facts["scans"])) == (50, 40, 1)
        result = run("inspect", "odd.jpg")
        assert result.code == 0
        assert f"not decoded: {error}" in result.out
        result = run("inspect", "odd.jpg", "--plot", "plot.png")
        assert (result.code, result.error.startswith(f"error: odd.jpg: {error}")) == (1, True)
    assert facts["quality"] is facts["tables"] is None


def test_inspect_of_what_no_baseline_file_holds(run: Run, tmp_path: Path) -> None:
    levels = torch.zeros(1, 2, 8, 8)
    levels[0, 1, 4, 4] = 2000
    large = jpegrad.Coefficients((levels,), torch.ones(1, 8, 8), (8, 16), "4:4:4")
    jpegrad.write(tmp_path / "large.jpg", large, progressive=True)
    assert "levels[0]: expected AC levels in ±1023" in inspected(run, "large.jpg")["baseline"]["error"]
    result = run("inspect", "large.jpg", "--plot", "large.svg")
    assert result.code == 0
    assert "no baseline file holds it: levels[0]: expected AC levels in ±1023" in result.out
    assert (tmp_path / "large.svg").read_text().rstrip().endswith("</svg>")


def test_tables_of_16_bits(run: Run, png: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "wide.jpg").write_bytes(with_16_bit_tables(pillow(picture(20, 20), quality=10), scale=7))
    like = jpegrad.read(tmp_path / "wide.jpg")
    expected = pillow(png, qtables=like.tables.flatten(1).int().tolist(), subsampling="4:2:0")
    assert run("jpeg", "in.png", "-o", "out.jpg", "--like", "wide.jpg").code == 0
    assert (tmp_path / "out.jpg").read_bytes() == expected
    assert f"{len(expected):,}" in run("size", "in.png", "--like", "wide.jpg").out
    facts = inspected(run, "wide.jpg")["baseline"]
    assert facts["bytes"] == len(jpegrad.to_bytes(like)) == total(facts["bits"]) // 8


def test_inspect_plots(run: Run, tmp_path: Path) -> None:
    # The name is no formula of matplotlib, nor markup of rich.
    (tmp_path / "a$b_[red].jpg").write_bytes(pillow(picture(40, 50)))
    result = run("inspect", "a$b_[red].jpg", "--plot", "plot.png")
    assert result.code == 0, result.error
    assert result.out.startswith("a$b_[red].jpg: ")
    with Image.open(tmp_path / "plot.png") as opened:
        assert opened.format == "PNG"
        assert min(opened.size) > 500


def test_backends_say_who_reads_and_writes_files(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPEGRAD_BACKEND", "reference")
    out = " ".join(run("backends").out.split())
    assert "Files are read by the entropy decoder in Python, which is far slower." in out
    assert "Files are written by the entropy encoder in Python, which is far slower." in out
    if not jpegrad.backends.BACKENDS["native"].missing():
        monkeypatch.delenv("JPEGRAD_BACKEND")
        out = " ".join(run("backends").out.split())
        assert "Files are read by the native entropy decoder." in out
        assert "Files are written by the native entropy encoder." in out


OPTIONS = {
    "jpeg": [
        "--output",
        "--quality",
        "--subsampling",
        "--tables",
        "--like",
        "--target-bytes",
        "--optimize",
        "--progressive",
        "--background",
        "--metadata",
        "--compare",
        "--suffix",
        "--force",
        "--json",
        "--quiet",
        "--verbose",
    ],
    "size": ["--quality", "--subsampling", "--tables", "--like", "--background", "--compare", "--json"],
    "decode": ["--output", "--upsampling", "--dct", "--scale", "--suffix", "--json"],
    "inspect": ["--optimize", "--plot", "--histogram", "--full", "--json", "--quiet", "--verbose"],
    "compare": ["--difference", "--gain", "--html", "--background", "--lenient", "--json"],
    "optimize": ["--output", "--baseline", "--strip", "--force", "--json"],
    "transform": [
        "--output",
        "--orientation",
        "--rotate",
        "--flip",
        "--transpose",
        "--transverse",
        "--crop",
        "--trim",
        "--grow",
        "--optimize",
    ],
    "tune": [
        "--output",
        "--metric",
        "--target-bytes",
        "--bpp",
        "--like-quality",
        "--target-loss",
        "--choose-levels",
        "--workers",
        "--shard",
        "--csv",
        "--json",
    ],
    "tune-dataset": ["--output", "--metric", "--steps", "--batch", "--crop", "--seed", "--device"],
    "demo": ["--output", "--seed"],
    "surrogates": [],
    "backends": [],
}


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0
    assert all(name in result.output for name in OPTIONS)


@pytest.mark.parametrize("command", OPTIONS)
def test_help_describes_every_option(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "250", "TERM": "dumb"})
    assert result.exit_code == 0
    for option in [*OPTIONS[command], *(["files"] if command == "inspect" else [])]:
        line = next(line for line in result.output.splitlines() if re.search(rf"^│?[\s*]*{option}\b", line))
        words = re.findall(r"[a-z]{2,}", line.replace(option, "", 1))
        assert len(words) >= 3, line


def test_the_installed_command(tmp_path: Path, png: np.ndarray) -> None:
    command = [sys.executable, "-c", "from _jpegrad_command import main; main()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )

    wrong = call("jpeg", "in.png", "-o", "out.jpg", "-q", "101")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert re.fullmatch(r"error: quality: expected 1 to 100, got 101[^\n]*\n", wrong.stderr)
    right = call("jpeg", "in.png", "-o", "out.jpg", "-q", "100")
    assert (right.returncode, right.stderr) == (0, "")
    assert (tmp_path / "out.jpg").read_bytes() == pillow(png, quality=100)


def test_inks_through_the_command_line(run: Run, tmp_path: Path) -> None:
    source = pillow(inks(37, 53), quality=95, icc_profile=ICC, dpi=(300, 300))
    (tmp_path / "in.jpg").write_bytes(source)
    pixels = pillow_pixels(source).transpose(1, 2, 0)
    Image.frombytes("CMYK", (53, 37), pixels.tobytes()).save(tmp_path / "in.tif")
    result = run("jpeg", "in.jpg", "-o", "out.jpg", "-q", 60)
    assert (result.code, result.error) == (0, "")
    data = pillow(pixels, quality=60, icc_profile=ICC, dpi=(300, 300))
    assert (tmp_path / "out.jpg").read_bytes() == data
    assert run("jpeg", "out.jpg", "-o", "again.jpg", "--like", "out.jpg").code == 0
    assert jpegrad.read("again.jpg").space == "CMYK"
    assert f"{len(data):,}" in run("size", "in.jpg", "-q", 60).out
    assert run("jpeg", "in.tif", "-o", "tif.jpg", "-q", 60).code == 0
    assert all(map(torch.equal, jpegrad.read("tif.jpg").levels, jpegrad.read("out.jpg").levels))
    result = run("jpeg", "in.jpg", "-o", "seen.png", "-q", 60)
    assert result.error == "note: seen.png: the ICC profile of CMYK does not fit RGB and is left out\n"
    with Image.open("seen.png") as seen, Image.open("out.jpg") as made:
        assert np.array_equal(np.array(seen), np.array(made.convert("RGB")))
        assert "icc_profile" not in seen.info
    facts = inspected(run, "out.jpg")
    assert (facts["color"], facts["subsampling"]) == ("CMYK", "1x1,1x1,1x1,1x1")
    assert facts["quality"] == {"quality": 60, "exact": True, "distance": 0.0, "base": "Annex K"}
    assert facts["baseline"]["bytes"] == len(data)  # type: ignore[index]
    assert {"C", "M", "Y", "K"} < set(facts["baseline"]["bits"])  # type: ignore[index]
    assert run("inspect", "out.jpg", "--plot", "plot.png").code == 0
    (tmp_path / "ycck.jpg").write_bytes(ycck(data))
    assert inspected(run, "ycck.jpg")["color"] == "YCCK"
    assert run("jpeg", "in.jpg", "-o", "other.jpg", "--like", "ycck.jpg").code == 0
    assert jpegrad.read("other.jpg").space == "YCCK"
    pillow_made = pillow(picture(16, 16))
    (tmp_path / "rgb.jpg").write_bytes(pillow_made)
    assert (
        "expected 4 components as the image has, got 3"
        in run("jpeg", "in.jpg", "-o", "x.jpg", "--like", "rgb.jpg").error
    )


def test_sampling_factors_by_option(run: Run, png: np.ndarray) -> None:
    assert run("jpeg", "in.png", "-o", "out.jpg", "-q", 60, "--subsampling", "3x1,1x1,1x1").code == 0
    coded = jpegrad.encode(torch.from_numpy(png).permute(2, 0, 1), 60, subsampling="3x1,1x1,1x1")
    assert Path("out.jpg").read_bytes() == jpegrad.to_bytes(coded)
    assert inspected(run, "out.jpg")["subsampling"] == "3x1,1x1,1x1"
    result = run("jpeg", "in.png", "-o", "new.jpg", "--subsampling", "3x1")
    assert result.code == 2 and "--subsampling: expected one of 4:4:4" in result.error
    result = run("jpeg", "in.png", "-o", "new.jpg", "--subsampling", "3x1,2x1,1x1")
    assert result.error == (
        "error: in.png: subsampling: fractional sampling factors 3x1, 2x1, 1x1; "
        "expected the largest to be a multiple of each\n"
    )
    result = run("jpeg", "in.png", "-o", "new.jpg", "--subsampling", "4x4,1x1,1x1")
    assert result.error.startswith("error: in.png: subsampling: expected at most 10 blocks")


def test_help_and_completion_need_no_pytorch() -> None:
    script = """
import sys
from jpegrad.cli import COMMANDS, command
for name in COMMANDS:
    try:
        command(name).main(["--help"], prog_name=name)
    except SystemExit as end:
        assert not end.code
print("loaded", *sorted({"torch", "numpy", "matplotlib", "starlette"} & set(sys.modules)))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    call = [sys.executable, "-c", script]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded"


def test_what_options_say_is_what_the_library_has() -> None:
    said = (options.MODES, options.METRICS, options.TUNE_STEPS)
    assert said == (tuple(SUBSAMPLING), tuple(ALL), STEPS)
    assert jpegrad.tune.DatasetSettings(**options.LEARNING) == jpegrad.tune.DatasetSettings()


COMPLETED = {
    "jpegrad co": {"compare"},
    "jpegrad tune --me": {"--metric", "--metadata"},
    "jpegrad tune --metric m": {"mse", "ms-ssim", "mix"},
    "jpegrad tune --subsampling 4:2": {"4:2:2", "4:2:0"},
    "jpegrad app --po": {"--port"},
}


@pytest.mark.parametrize("words", COMPLETED)
def test_completion(run: Run, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setenv("_JPEGRAD_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert set(run().out.split()) == COMPLETED[words]
