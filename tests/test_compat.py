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
from jpegrad.compat import basicsr, diff_jpeg, mlomnitz


@pytest.fixture
def image() -> Tensor:
    return torch.from_numpy(picture(40, 56)).movedim(-1, 0)[None].contiguous()


@pytest.mark.parametrize("peer", ["torchvision", "kornia"])
def test_a_missing_peer_is_named(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == peer:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, f"jpegrad.compat.{peer}", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=f"jpegrad.compat.{peer} needs {peer}: pip install {peer}"):
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
