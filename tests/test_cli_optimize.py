"""``jpegrad optimize`` and ``jpegrad compare``: smaller files of the same levels, and what two pictures differ in."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import jpegrad
from command import Run, files
from corpus import COMMENT, ICC, corpus, exif, inks, picture, pillow, pillow_pixels, with_segments
from jpegrad.commands.smallest import smallest
from jpegtran import jpegtran, needs_jpegtran


def equal(a: bytes, b: bytes) -> bool:
    """The same levels and tables."""
    x, y = jpegrad.read(a), jpegrad.read(b)
    return torch.equal(x.tables, y.tables) and all(map(torch.equal, x.levels, y.levels))


@needs_jpegtran
@pytest.mark.parametrize("size", [(24, 32), (200, 300)])
@pytest.mark.parametrize("quality", [40, 95])
def test_no_file_is_larger_than_jpegtrans(
    run: Run, tmp_path: Path, size: tuple[int, int], quality: int
) -> None:
    data = pillow(picture(*size), quality=quality)
    (tmp_path / "in.jpg").write_bytes(data)
    assert run("optimize", "in.jpg", "-o", "out.jpg").code == 0
    made = (tmp_path / "out.jpg").read_bytes()
    theirs = [jpegtran(data, *options) for options in (["-optimize"], ["-progressive"])]
    assert len(made) <= min(len(x) for x in theirs if x)
    assert equal(data, made) and (pillow_pixels(made) == pillow_pixels(data)).all()
    result = run("optimize", "in.jpg", "-o", "baseline.jpg", "--baseline")
    assert (tmp_path / "baseline.jpg").read_bytes() == theirs[0]
    assert result.out.endswith("baseline)\n")


def test_a_file_that_is_the_smallest_is_copied(run: Run, tmp_path: Path) -> None:
    data = smallest(jpegrad.read(pillow(picture(40, 56))))
    (tmp_path / "in.jpg").write_bytes(data)
    result = run("optimize", "in.jpg", "-o", "out.jpg")
    assert result.out == f"out.jpg: {len(data):,} → {len(data):,} bytes (as small as it gets)\n"
    assert (tmp_path / "out.jpg").read_bytes() == data
    progressive = pillow(picture(40, 56), progressive=True)
    (tmp_path / "in.jpg").write_bytes(progressive)
    assert run("optimize", "in.jpg", "-o", "out.jpg", "--baseline", "--force").code == 0
    assert jpegrad.read_header("out.jpg").process == "baseline"


def test_metadata_stay_or_what_the_view_needs(run: Run, tmp_path: Path) -> None:
    data = pillow(picture(40, 56), comment=COMMENT, icc_profile=ICC, exif=exif(6), dpi=(300, 300))
    (tmp_path / "in.jpg").write_bytes(data)
    assert run("optimize", "in.jpg", "-o", "kept.jpg").code == 0
    assert jpegrad.read("kept.jpg").metadata == jpegrad.read(data).metadata
    assert run("optimize", "in.jpg", "-o", "bare.jpg", "--strip").code == 0
    header = jpegrad.read_header("bare.jpg")
    assert (header.orientation, [each.kind for each in header.metadata]) == (6, ["Exif", "ICC profile"])
    with Image.open("bare.jpg") as made:
        assert made.info["icc_profile"] == ICC and made.info["dpi"] == (300, 300)
    plain = pillow(picture(40, 56), exif=exif(1), comment=COMMENT)
    (tmp_path / "plain.jpg").write_bytes(plain)
    assert run("optimize", "plain.jpg", "-o", "plainer.jpg", "--strip").code == 0
    assert jpegrad.read("plainer.jpg").metadata == ()


def test_what_would_be_lost_is_an_error(run: Run, tmp_path: Path) -> None:
    plain = pillow(picture(40, 56))
    odd = {
        "behind": (plain + b"more", "4 bytes behind the picture"),
        "further": (with_segments(plain, (0xE2, b"MPF\0")) + plain, "further pictures"),
        "cut": (plain[:-30], "truncated"),
        "unsent": (corpus_without_refinement(), "viewers smooth what this one lacks"),
    }
    for name, (data, words) in odd.items():
        (tmp_path / "in.jpg").write_bytes(data)
        result = run("optimize", "in.jpg", "-o", "out.jpg")
        assert result.code == 1 and result.error.startswith("error: in.jpg: ") and words in result.error, name
        assert files(tmp_path) == {"in.jpg"}
    (tmp_path / "in.jpg").write_bytes(odd["further"][0])
    assert run("optimize", "in.jpg", "-o", "out.jpg", "--strip").code == 0
    assert equal((tmp_path / "out.jpg").read_bytes(), plain)


def corpus_without_refinement() -> bytes:
    """A progressive file without its last scans, which viewers smooth."""
    whole = pillow(picture(40, 56), progressive=True)
    scans = jpegrad.read_structure(whole).scans
    return whole[: scans[1].offset + scans[1].length] + b"\xff\xd9"


@pytest.mark.slow
@pytest.mark.parametrize("name", corpus())
def test_every_file_keeps_its_levels(run: Run, tmp_path: Path, name: str) -> None:
    data = corpus()[name]
    (tmp_path / "in.jpg").write_bytes(data)
    result = run("optimize", "in.jpg", "-o", "out.jpg", "--strip")
    if result.code:
        assert result.error.startswith("error: in.jpg: "), result.error
        return
    made = (tmp_path / "out.jpg").read_bytes()
    assert equal(data, made)


def compared(run: Run, *arguments: object) -> dict[str, Any]:
    result = run("compare", *arguments, "--json")
    assert result.code == 0, result.error
    return json.loads(result.out)


def test_what_differs_is_measured(run: Run, tmp_path: Path) -> None:
    original = picture(200, 300)
    data = pillow(original, quality=50)
    coded = pillow_pixels(data).transpose(1, 2, 0)
    Image.fromarray(original).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(data)
    facts = compared(run, "a.png", "b.jpg", "-d", "apart.png")
    apart = np.abs(original.astype(int) - coded)
    assert facts["max_difference"] == apart.max()
    assert facts["differing_samples"] == np.count_nonzero(apart)
    assert facts["differing_pixels"] == np.count_nonzero(apart.any(-1))
    assert math.isclose(facts["mean_difference"], apart.mean())
    assert math.isclose(facts["psnr"], peak_signal_noise_ratio(original, coded), rel_tol=1e-5)
    weights = np.array([0.299, 0.587, 0.114])
    ssim = structural_similarity(
        original @ weights,
        coded @ weights,
        gaussian_weights=True,
        use_sample_covariance=False,
        data_range=255,
    )
    assert math.isclose(facts["ssim"], ssim, abs_tol=2e-3)
    with Image.open(tmp_path / "apart.png") as drawn:
        assert np.array_equal(np.array(drawn), np.round(apart * (255 / apart.max())))
    assert compared(run, "a.png", "b.jpg", "-d", "dim.bmp", "--gain", 2)["gain"] == 2
    with Image.open(tmp_path / "dim.bmp") as drawn:
        assert np.array_equal(np.array(drawn), np.minimum(255, 2 * apart))
    line = f"by {apart.max()} at most and {apart.mean():.3f} on average"
    assert line in run("compare", "a.png", "b.jpg").out


def test_equal_pictures(run: Run, png: np.ndarray) -> None:
    assert "equal in every sample" in run("compare", "in.png", "in.png").out
    facts = compared(run, "in.png", "in.png")
    assert (facts["max_difference"], facts["psnr"], facts["ssim"]) == (0, None, 1)
    assert "ms_ssim" not in facts


def test_pictures_are_compared_as_they_are_seen(run: Run, tmp_path: Path) -> None:
    pixels = picture(32, 48)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    turned = Image.fromarray(np.rot90(pixels))
    turned.save(tmp_path / "turned.png", exif=exif(6))
    assert compared(run, "a.png", "turned.png")["max_difference"] == 0
    gray = Image.fromarray(pixels[..., 0])
    gray.save(tmp_path / "gray.png")
    gray.convert("RGB").save(tmp_path / "three.png")
    assert compared(run, "gray.png", "three.png")["max_difference"] == 0
    assert compared(run, "gray.png", "gray.png")["channels"] == 1
    cmyk = Image.frombytes("CMYK", (48, 32), inks(32, 48).tobytes())
    cmyk.save(tmp_path / "inks.tif")
    cmyk.convert("RGB").save(tmp_path / "rgb.png")
    assert compared(run, "inks.tif", "rgb.png")["max_difference"] == 0
    Image.fromarray(pixels[:, 1:]).save(tmp_path / "narrow.png")
    result = run("compare", "a.png", "narrow.png")
    assert (result.code, result.error) == (
        1,
        "error: expected pictures of one size, got a.png of 48×32 and narrow.png of 47×32\n",
    )
