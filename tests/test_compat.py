"""Drop-ins whose peers need not be installed, and what all of them keep to."""

import builtins
import importlib
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

import jpegrad
from corpus import picture, pillow, pillow_pixels
from jpegrad.compat import basicsr, diff_jpeg, hidden, mbrs, mlomnitz, videoseal


@pytest.fixture
def image() -> Tensor:
    return torch.from_numpy(picture(40, 56)).movedim(-1, 0)[None].contiguous()


@pytest.mark.parametrize(
    ("peer", "package"),
    [
        ("albumentations", "albumentations"),
        ("torchvision", "torchvision"),
        ("kornia", "kornia"),
        ("art", "adversarial-robustness-toolbox"),
    ],
)
def test_a_missing_peer_is_named(peer: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == peer:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, f"jpegrad.compat.{peer}", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=f"jpegrad.compat.{peer} needs {peer}: pip install {package}"):
        importlib.import_module(f"jpegrad.compat.{peer}")
    sys.modules.pop(f"jpegrad.compat.{peer}", None)


@pytest.mark.parametrize("quality", [1, 30, 75, 95])
def test_diff_jpeg_with_ste_is_the_file(quality: int, image: Tensor) -> None:
    real = pillow_pixels(pillow(picture(40, 56), quality=quality))
    out = diff_jpeg.DiffJPEGCoding(ste=True)(image.float(), torch.tensor([quality]))
    assert torch.equal(out, torch.from_numpy(real)[None].float())


@pytest.mark.parametrize("ste", [False, True])
def test_diff_jpeg_is_its_preset_in_0_to_255(ste: bool, image: Tensor) -> None:
    x = image.float().requires_grad_()
    quality = torch.tensor([38.5], requires_grad=True)
    preset: Any = "reich2024_ste" if ste else "reich2024"
    out = diff_jpeg.diff_jpeg_coding(x, quality, ste=ste)
    expected = jpegrad.jpeg(x, quality, surrogate=preset, value_range=(0, 255))
    assert torch.equal(out, expected)
    for a, b in zip(
        *(torch.autograd.grad(y.square().sum(), (x, quality)) for y in (out, expected)), strict=True
    ):
        assert torch.equal(a, b)
    luma, chroma = torch.randint(1, 256, (8, 8)), torch.randint(1, 256, (8, 8), dtype=torch.int16)
    tables = jpegrad.tables.scale(
        torch.stack((luma, chroma)),
        quality.detach(),
        forward="exact" if ste else "soft",
        surrogate=jpegrad.surrogates.get(preset),
    )
    out = diff_jpeg.DiffJPEGCoding(ste)(x, quality, luma, chroma)
    assert torch.equal(out, jpegrad.jpeg(x, tables=tables, surrogate=preset, value_range=(0, 255)))


def test_options_of_the_codec_reach_it(image: Tensor) -> None:
    x, quality = image / 255, torch.tensor([60.0])
    full = jpegrad.jpeg(x, 60, subsampling="4:4:4")
    assert torch.equal(
        diff_jpeg.diff_jpeg_coding(x, quality, ste=True, value_range=(0, 1), subsampling="4:4:4"), full
    )
    assert torch.equal(mlomnitz.DiffJPEG(differentiable=False, quality=60, subsampling="4:4:4")(x), full)
    assert torch.equal(basicsr.DiffJPEG(differentiable=False, subsampling="4:4:4")(x, 60), full)
    for make in (mlomnitz.DiffJPEG, basicsr.DiffJPEG, diff_jpeg.DiffJPEGCoding):
        with pytest.raises(TypeError, match="subsampling"):
            make(subsample="4:4:4")


@pytest.mark.parametrize("differentiable", [True, False])
def test_the_layers_of_shin_and_song_are_soft_or_the_file(differentiable: bool, image: Tensor) -> None:
    x = (image / 255).requires_grad_()
    expected = jpegrad.jpeg(x, 80, surrogate="cubic", forward="soft" if differentiable else "exact")
    for out in (
        mlomnitz.DiffJPEG(40, 56, differentiable=differentiable, quality=80)(x),
        basicsr.DiffJPEG(differentiable)(x, 80),
    ):
        assert torch.equal(out, expected)
        (slope,) = torch.autograd.grad(out.sum(), x)
        assert slope.abs().sum() > 0
    assert not [*mlomnitz.DiffJPEG(40, 56).parameters()]
    with pytest.raises(ValueError, match="quality: expected 1 to 100, got 0"):
        mlomnitz.DiffJPEG(quality=0)


def test_basicsr_takes_a_quality_per_image_and_leaves_it(image: Tensor) -> None:
    x, quality = (image / 255).expand(3, -1, -1, -1), torch.tensor([30.5, 60.0, 90.0])
    kept = quality.clone()
    out = basicsr.DiffJPEG(differentiable=False)(x, quality)
    assert torch.equal(quality, kept)
    for i, q in enumerate(quality.tolist()):
        assert torch.equal(out[i], jpegrad.jpeg(x[i], q))


def test_videoseal_draws_one_quality_and_keeps_the_mask(image: Tensor) -> None:
    x, mask = (image / 255).expand(2, -1, -1, -1).clone().requires_grad_(), torch.ones(2, 1, 40, 56)
    torch.manual_seed(4)
    quality = torch.randint(20, 81, size=(1,)).item()
    torch.manual_seed(4)
    out, kept = videoseal.JPEG(20, 80)(x, mask)
    assert kept is mask and torch.equal(out, jpegrad.jpeg(x, quality)) and out.requires_grad
    out, _ = videoseal.JPEG(passthrough=False, rounding="truncate")(x[0], mask, quality=33)
    assert not out.requires_grad and torch.equal(out, jpegrad.jpeg(x[0], 33, rounding="truncate"))
    assert repr(videoseal.JPEG()) == "JPEG"
    with pytest.raises(ValueError, match=r"quality: expected a number, in JPEG\(min_quality, max_quality\)"):
        videoseal.JPEG()(x, mask)
    with pytest.raises(ValueError, match="quality: expected 1 to 100, got 0"):
        videoseal.JPEG(20, 80)(x, mask, 0)
    for bounds in ((20, None), (80, 20), (0, 20), (20, 101)):
        with pytest.raises(ValueError, match="quality: "):
            videoseal.JPEG(*bounds)


def test_watermark_anything_codes_normalised_images(image: Tensor) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    a, b = (torch.tensor(x)[:, None, None] for x in (mean, std))
    layer = videoseal.JPEG(value_range=jpegrad.inputs.normalized(mean, std))
    out, _ = layer((image / 255 - a) / b, image, 50)
    assert torch.equal(((out * b + a) * 255).round().byte(), jpegrad.jpeg(image, 50))


@pytest.mark.parametrize("subsample", [0, 1, 2])
def test_mbrs_saves_with_the_numbers_of_pillow_and_cuts_off(subsample: int) -> None:
    pixels = picture(40, 56)
    real = torch.from_numpy(pillow_pixels(pillow(pixels, quality=50, subsampling=subsample)))[None]
    # The middle of what truncation makes these bytes of.
    x = ((torch.from_numpy(pixels).movedim(-1, 0)[None] + 0.5) / 255 * 2 - 1).clamp(-1, 1).requires_grad_()
    out = mbrs.JpegTest(50, subsample, path="temp/")((x, x))
    assert torch.equal(((out + 1) / 2 * 255).round().byte(), real)
    (slope,) = torch.autograd.grad(out.sum(), x)
    assert slope.abs().sum() > 0
    bytes_ = torch.from_numpy(pixels).movedim(-1, 0)[None]
    out = mbrs.Jpeg(50, subsample)([bytes_ / 255 * 2 - 1, bytes_])
    assert torch.equal(((out + 1) / 2 * 255).round().byte(), real)


def test_mbrs_and_hidden_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="subsample: expected 0, 1 or 2, got 3"):
        mbrs.Jpeg(50, 3)
    for make in (mbrs.Jpeg, mbrs.JpegSS, mbrs.JpegMask, mbrs.JpegTest):
        with pytest.raises(ValueError, match="quality: expected 1 to 100, got 0"):
            make(0)
    with pytest.raises(TypeError, match="yuv_keep_weights"):
        hidden.JpegCompression("cpu", yuv_keep_weights=(25, 9, 9))


def test_hidden_replaces_the_image_in_the_list(image: Tensor) -> None:
    x = image / 127.5 - 1
    pair = [x, x]
    out = hidden.JpegCompression(torch.device("cpu"), quality=30)(pair)
    assert out is pair and out[1] is x
    assert torch.equal(((out[0] + 1) * 127.5).round().byte(), jpegrad.jpeg(image, 30))
