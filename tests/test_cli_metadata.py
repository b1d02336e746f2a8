"""What the command line keeps of a picture besides its pixels: same view, same colours, and a word for the rest."""

import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

import jpegrad
import jpegrad.tune
from command import Run, files
from corpus import COMMENT, noise, picture, pillow, pillow_pixels
from jpegrad import pictures
from jpegrad.jfif.segments import APP2, emit_metadata
from jpegrad.pictures import load

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
COMMANDS = {"jpeg": ["-q", "90"], "tune": ["--like-quality", "90", "--steps", "0"]}
FORMATS = {"jpg": "JPEG", "png": "PNG", "tif": "TIFF", "webp": "WEBP"}


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    made[0x010F] = "a maker of phones"
    made.get_ifd(0x8769)[0x829A] = 0.005
    return made


def uneven() -> np.ndarray:
    """Smooth, and different from each of its turns."""
    return np.asarray(Image.fromarray(noise(3, 4)).resize((64, 48), Image.Resampling.BICUBIC))


def seen(path: Path) -> np.ndarray:
    """As viewers show it."""
    with Image.open(path) as opened:
        return np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.abs(a.astype(int) - b).mean() < 6)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_same_view_and_same_colours(
    run: Run, tmp_path: Path, command: str, suffix: str, orientation: int
) -> None:
    source = tmp_path / f"phone.{suffix}"
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options = {
        "jpg": {"quality": 95, "xmp": XMP},
        "png": {"pnginfo": text},
        "tif": {},
        "webp": {"lossless": True, "xmp": XMP},
    }
    said = exif(orientation)
    if suffix == "tif":
        said[700] = XMP
    Image.fromarray(uneven()).save(source, FORMATS[suffix], exif=said, icc_profile=PROFILE, **options[suffix])
    before = seen(source)
    result = run(command, source, "-o", "out.jpg", *COMMANDS[command])
    assert result.code == 0, result.error
    out = tmp_path / "out.jpg"
    assert alike(seen(out), before)
    with Image.open(out) as made:
        assert made.info["icc_profile"] == PROFILE
        found = made.getexif()
        turned = suffix == "tif"
        assert found.get(0x0112, 1) == (1 if turned else orientation)
        assert found[0x010F] == "a maker of phones"
        assert made.size == ((48, 64) if turned and orientation >= 5 else (64, 48))
        if turned:
            assert b"adobe:ns:meta" in made.info["xmp"] and b'Orientation="6"' not in made.info["xmp"]
        else:
            assert found.get_ifd(0x8769)[0x829A] == 0.005
            assert made.info["xmp"] == XMP
    expected = f"note: {source}: Exif's orientation {orientation} is applied to the pixels\n"
    assert result.error == (expected if turned and orientation > 1 else "")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("scale", [1, 2])
def test_decoded_pictures_are_upright_and_as_large_on_paper(
    run: Run, tmp_path: Path, orientation: int, scale: int
) -> None:
    source = tmp_path / "phone.jpg"
    source.write_bytes(
        pillow(uneven(), quality=95, exif=exif(orientation), icc_profile=PROFILE, dpi=(300, 200))
    )
    result = run("decode", source, "-o", "out.png", "--scale", scale)
    assert ("is applied" in result.error) == (orientation > 1)
    with Image.open(source) as opened:
        opened.draft("RGB", (64 // scale, 48 // scale))
        expected = np.asarray(ImageOps.exif_transpose(opened))
    with Image.open(tmp_path / "out.png") as made:
        assert np.array_equal(np.asarray(made), expected)
        assert made.getexif().get(0x0112, 1) == 1 and made.info["icc_profile"] == PROFILE
        wanted = (200, 300) if orientation >= 5 else (300, 200)
        assert np.allclose(made.info["dpi"], np.array(wanted) / scale, atol=0.1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_without_metadata_the_picture_is_upright(run: Run, tmp_path: Path, orientation: int) -> None:
    source = tmp_path / "phone.jpg"
    source.write_bytes(pillow(uneven(), quality=95, exif=exif(orientation), icc_profile=PROFILE))
    for output, options in (("out.jpg", ["--no-metadata"]), ("out.png", [])):
        result = run("jpeg", source, "-o", output, "-q", 90, *options)
        assert result.code == 0, result.error
        assert ("is applied" in result.error) == (orientation > 1)
        with Image.open(output) as made:
            assert made.getexif().get(0x0112, 1) == 1
            assert alike(np.asarray(made), seen(source))
            assert ("icc_profile" in made.info) == (output == "out.png")
    assert jpegrad.read("out.jpg").metadata == ()


@pytest.mark.parametrize("suffix", [".tif", ".bmp", ".ppm"])
def test_pictures_without_loss_are_upright(run: Run, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "phone.jpg").write_bytes(
        pillow(uneven(), quality=95, exif=exif(6), icc_profile=PROFILE, dpi=(300, 200))
    )
    result = run("jpeg", "phone.jpg", "-o", f"out{suffix}", "-q", 90)
    assert result.code == 0, result.error
    assert alike(seen(tmp_path / f"out{suffix}"), seen(tmp_path / "phone.jpg"))
    with Image.open(f"out{suffix}") as made:
        if suffix == ".tif":
            assert made.info["icc_profile"] == PROFILE and made.getexif()[0x010F] == "a maker of phones"
            assert made.info["dpi"] == (200, 300)
        else:
            assert "Exif, the ICC profile" in result.error and "cannot be kept" in result.error


def test_a_jpeg_keeps_every_segment_byte_for_byte(run: Run, tmp_path: Path) -> None:
    data = pillow(
        picture(40, 50), exif=exif(6), icc_profile=bytes(range(256)) * 600, comment=COMMENT, dpi=(300, 300)
    )
    iptc = (0xED, b"Photoshop 3.0\0anything")
    data = data[:20] + emit_metadata(*iptc) + data[20:]
    (tmp_path / "in.jpg").write_bytes(data)
    original = jpegrad.read(data)
    assert iptc in original.metadata and len(original.metadata) == 6
    assert run("jpeg", "in.jpg", "-o", "out.jpg", "-q", 60).error == ""
    made = jpegrad.read("out.jpg")
    assert (made.metadata, made.density) == (original.metadata, (300, 300, "inch"))
    # The bytes that are announced, aimed at and found in the file are the same.
    for command in ("jpeg", "tune"):
        steps = ["--steps", "0"] if command == "tune" else ["--optimize"]
        assert (
            run(command, "in.jpg", "-o", "small.jpg", "--target-bytes", 157_000, *steps, "--force").code == 0
        )
        size = (tmp_path / "small.jpg").stat().st_size
        assert 155_000 < size <= 157_000
    assert run("tune", "in.jpg", "-o", "small.jpg", "--bpp", 630, "--steps", "0", "--force").code == 0
    assert (tmp_path / "small.jpg").stat().st_size <= 630 * 2000 / 8
    too_few = run("tune", "in.jpg", "-o", "other.jpg", "--target-bytes", 5000)
    assert too_few.code == 1 and "--no-metadata" in too_few.error
    sizes = run("size", "in.jpg", "-q", 60).out
    assert f"{(tmp_path / 'out.jpg').stat().st_size:,}" in sizes


def test_density_of_a_scan(run: Run, tmp_path: Path) -> None:
    pixels = picture(30, 40)
    Image.fromarray(pixels).save(tmp_path / "scan.png", dpi=(300, 150))
    assert run("jpeg", "scan.png", "-o", "scan.jpg", "-q", 80).error == ""
    assert (tmp_path / "scan.jpg").read_bytes() == pillow(pixels, quality=80, dpi=(300, 150))
    (tmp_path / "rgb.jpg").write_bytes(pillow(pixels, keep_rgb=True))
    assert "no place for the density" in run("jpeg", "scan.png", "-o", "o.jpg", "--like", "rgb.jpg").error


def test_what_is_left_out_is_said(run: Run, tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(20, 20, seed)) for seed in range(3)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "both.mpo", save_all=True, append_images=frames[1:])
    for name in ("moving.png", "moving.gif", "pages.tif", "both.mpo"):
        result = run("jpeg", name, "-o", "out.jpg", "-q", 75, "--force")
        assert result.error == f"note: {name}: 2 further pictures, frames or pages are left out\n"
    big = Image.Exif()
    big[0x0112], big[0x010E] = 6, "x" * 70_000
    frames[0].save(tmp_path / "big.png", exif=big)
    result = run("jpeg", "big.png", "-o", "out.jpg", "-q", 75, "--force")
    assert "Exif of 70" in result.error and "left out but for the orientation" in result.error
    with Image.open("out.jpg") as made:
        assert made.getexif()[0x0112] == 6
    chunk = b"gAMA" + (100_000).to_bytes(4, "big")
    data = (tmp_path / "big.png").read_bytes()
    linear = data[:33] + (4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[33:]
    (tmp_path / "linear.png").write_bytes(linear)
    assert "gamma 1, which JPEG cannot say" in run("jpeg", "linear.png", "-o", "linear.jpg", "-q", 75).error
    tuned = run("tune", "moving.png", "-o", "tuned.jpg", "--steps", 0, "--json")
    assert json.loads(tuned.out)["changes"] == ["2 further pictures, frames or pages are left out"]
    assert files(tmp_path) >= {"out.jpg"}


def test_pixels_that_would_be_changed_are_refused(run: Run, tmp_path: Path) -> None:
    image = Image.fromarray(noise(16, 16))
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.convert("CMYK").save(tmp_path / "cmyk.tif")
    (tmp_path / "deep.ppm").write_bytes(b"P6\n16 16\n65535\n" + bytes(6 * 256))
    half = image.copy()
    half.putalpha(128)
    half.save(tmp_path / "half.png")
    half.save(tmp_path / "half.webp", lossless=True)
    half.quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(np.zeros((16, 16), np.float32)).save(tmp_path / "float.tif")
    names = sorted(files(tmp_path))
    for name in names:
        for command in ("tune",) if "cmyk" in name else ("jpeg", "tune", "size"):
            result = run(command, name, *([] if command == "size" else ["-o", "out.jpg"]))
            assert result.code == 1 and result.error.startswith(f"error: {name}: expected"), result.error
            assert result.error.count("\n") == 1
    assert files(tmp_path) == set(names)
    # Learning from a folder has the same rule.
    image.save(tmp_path / "good.png")
    with pytest.warns(UserWarning, match=r"left out: ") as caught:
        jpegrad.tune.learn_image_tables(jpegrad.tune.Folder(tmp_path), steps=0)
    learnable = [name for name in names if not name.endswith("webp")]
    assert len(caught) == len(learnable) + 1
    opaque = image.copy()
    opaque.putalpha(255)
    opaque.save(tmp_path / "opaque.png")
    assert run("jpeg", "opaque.png", "-o", "out.jpg", "-q", 75).error == ""
    assert (tmp_path / "out.jpg").read_bytes() == pillow(noise(16, 16), quality=75)


def test_a_profile_of_several_segments(run: Run, tmp_path: Path) -> None:
    profile = np.random.default_rng(0).bytes(2 * 65519 + 1)
    Image.fromarray(picture(16, 16)).save(tmp_path / "in.tif", icc_profile=profile)
    assert run("jpeg", "in.tif", "-o", "out.jpg", "-q", 75).code == 0
    parts = [payload for marker, payload in jpegrad.read("out.jpg").metadata if marker == APP2]
    assert [len(part) for part in parts] == [65533, 65533, 15]
    with Image.open("out.jpg") as made:
        assert made.info["icc_profile"] == profile
    assert np.array_equal(load(tmp_path / "in.tif").pixels, picture(16, 16).transpose(2, 0, 1))


def test_pixels_of_a_jpeg_are_those_stored(run: Run, tmp_path: Path) -> None:
    data = pillow(uneven(), exif=exif(6))
    (tmp_path / "in.jpg").write_bytes(data)
    assert np.array_equal(load(tmp_path / "in.jpg").pixels, pillow_pixels(data))
    with Image.open(io.BytesIO(data)) as opened:
        turned = np.asarray(ImageOps.exif_transpose(opened)).transpose(2, 0, 1)
    assert np.array_equal(load(tmp_path / "in.jpg", upright=True).pixels, turned)


def test_a_jpeg_that_pillow_alone_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise jpegrad.JPEGError("not supported: lossless JPEG")

    data = pillow(uneven(), exif=exif(6), comment=COMMENT)
    (tmp_path / "in.jpg").write_bytes(data)
    ours = load(tmp_path / "in.jpg", upright=True)
    monkeypatch.setattr(pictures, "read", refuse)
    theirs = load(tmp_path / "in.jpg", upright=True)
    assert np.array_equal(ours.pixels, theirs.pixels) and ours[1:] == theirs[1:]
