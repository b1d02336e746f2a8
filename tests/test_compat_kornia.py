"""The drop-ins for kornia: its numbers where it is the paper's codec, its draws, parameters and containers."""

from typing import Any

import numpy as np
import pytest
import torch

import jpegrad
from corpus import picture

kornia = pytest.importorskip("kornia", reason="kornia is not installed")
compat = pytest.importorskip("jpegrad.compat.kornia", reason="kornia is not installed")


def images(count: int, size: int = 32) -> torch.Tensor:
    pixels = [picture(size, size, name) for name in ("facades", "tulips", "portrait", "coast")[:count]]
    return torch.from_numpy(np.stack(pixels)).movedim(-1, 1) / 255


@pytest.mark.parametrize("quality", [10.0, 37.5, 50.0, 75.0, 92.25])
def test_a_gray_picture_has_the_luma_of_kornia(quality: float) -> None:
    # Luma, because kornia's chroma lies about 127.5.
    # Clipped entries are 254.875 there, which counts at lower qualities.
    gray = images(2).double().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None]
    q = torch.full((2,), quality, dtype=torch.float64)
    found = []
    for call in (compat.jpeg_codec_differentiable, kornia.enhance.jpeg_codec_differentiable):
        x = gray.clone().requires_grad_()
        luma = (weights * call(x, q)).sum(1)
        (slope,) = torch.autograd.grad((luma - gray[:, 0]).square().sum(), x)
        found.append((luma.detach(), slope.sum(1)))
    (ours, our_slope), (theirs, their_slope) = found
    assert (ours - theirs).abs().max() < 0.05 / 255
    assert torch.cosine_similarity(our_slope.flatten(), their_slope.flatten(), dim=0) > 0.999


def test_tables_are_scaled_each_with_its_quality() -> None:
    image, generator = images(3), torch.Generator().manual_seed(0)
    luma, chroma = (torch.randint(1, 256, (3, 8, 8), generator=generator).float() for _ in range(2))
    quality = torch.tensor([10.0, 60.0, 95.0])
    for options in ({}, {"surrogate": "gaussian"}):
        out = compat.jpeg_codec_differentiable(image, quality, luma, chroma, **options)
        for i in range(3):
            one = compat.jpeg_codec_differentiable(
                image[i], quality[i : i + 1], luma[i], chroma[i], **options
            )
            assert torch.equal(out[i], one)
        bases = torch.stack((luma, chroma), 1)
        tables = torch.stack([jpegrad.tables.scale(b, q) for b, q in zip(bases, quality, strict=True)])
    assert torch.equal(out, jpegrad.jpeg(image, tables=tables))


def test_shapes_that_kornia_takes() -> None:
    batch = torch.rand(4, 2, 3, 17, 20)
    call = compat.jpeg_codec_differentiable
    many = torch.randint(1, 256, (8, 8, 8)).float()
    assert call(batch, torch.tensor([50.0]), many, many).shape == batch.shape
    assert call(batch, torch.rand(8) * 100).shape == batch.shape
    assert call(batch[0, 0], torch.tensor([50.0]), many[0], many[1]).shape == (3, 17, 20)
    assert call(input=batch.bfloat16(), jpeg_quality=torch.tensor([50])).dtype is torch.bfloat16
    assert torch.equal(
        call(batch, torch.tensor([50.0]), many[0]), call(batch, torch.tensor([50.0]), many[:1])
    )


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"input": 1904.0}, TypeError, "image: expected a torch.Tensor, got float"),
        ({"input": torch.zeros(2, 1, 16, 16)}, ValueError, "image: expected shape"),
        ({"jpeg_quality": None}, TypeError, "jpeg_quality: expected a torch.Tensor, got NoneType"),
        ({"jpeg_quality": torch.ones(2, 3)}, ValueError, r"jpeg_quality: expected shape \[1\] or \[2\]"),
        ({"jpeg_quality": torch.ones(3)}, ValueError, r"jpeg_quality: expected shape \[1\] or \[2\]"),
        ({"quantization_table_y": torch.ones(2, 7, 8)}, ValueError, "quantization_table_y: expected shape"),
        ({"quantization_table_c": torch.ones(4, 8, 8)}, ValueError, "quantization_table_c: expected shape"),
        ({"quantization_table_c": 3}, TypeError, "quantization_table_c: expected a torch.Tensor, got int"),
    ],
)
def test_wrong_arguments_are_named(changed: dict[str, Any], error: Any, text: str) -> None:
    arguments: dict[str, Any] = {"input": torch.rand(2, 3, 16, 16), "jpeg_quality": torch.ones(2)}
    with pytest.raises(error, match=text):
        compat.jpeg_codec_differentiable(**{**arguments, **changed})


def test_the_module_learns_parameters_and_holds_buffers() -> None:
    luma = torch.nn.Parameter(torch.full((8, 8), 30.0))
    module = compat.JPEGCodecDifferentiable(luma, torch.full((8, 8), 40.0))
    assert [*dict(module.named_parameters())] == ["quantization_table_y"]
    assert [*dict(module.named_buffers())] == ["quantization_table_c"]
    module(images(2), torch.tensor([60.0])).square().mean().backward()
    assert luma.grad is not None and luma.grad.abs().sum() > 0
    plain = compat.JPEGCodecDifferentiable()
    expected = compat.jpeg_codec_differentiable(images(2), torch.tensor([60.0]))
    assert torch.equal(plain(images(2), torch.tensor([60.0])), expected)


def test_random_jpeg_draws_as_kornia_and_codes_as_a_file() -> None:
    image = images(4)
    ours = compat.RandomJPEG((20.0, 90.0), p=0.5)
    theirs = kornia.augmentation.RandomJPEG((20.0, 90.0), p=0.5)
    coded = []
    for augment in (ours, theirs):
        torch.manual_seed(1)
        coded.append(augment(image))
    for name, value in theirs._params.items():
        assert torch.equal(ours._params[name], value)
    chosen = ours._params["batch_prob"] > 0.5
    assert 0 < chosen.sum() < 4
    assert torch.equal(coded[0][~chosen], image[~chosen])
    expected = jpegrad.jpeg(image[chosen], ours._params["jpeg_quality"][chosen])
    assert torch.equal(coded[0][chosen], expected)
    assert torch.equal(ours(image, params=ours._params), coded[0])
    with pytest.raises(TypeError, match=r"RandomJPEG"):
        compat.RandomJPEG(50.0, qualty=3)


def test_random_jpeg_in_containers() -> None:
    image = images(2)[:1].expand(2, -1, -1, -1)
    same = compat.RandomJPEG((20.0, 90.0), same_on_batch=True)(image)
    assert torch.equal(same[0], same[1])
    assert compat.RandomJPEG((20.0, 90.0), keepdim=True)(image[0]).shape == image[0].shape
    assert compat.RandomJPEG((20.0, 90.0))(image[:0]).shape == image[:0].shape
    mask = torch.rand(2, 1, 32, 32)
    both = kornia.augmentation.AugmentationSequential(
        compat.RandomJPEG((20.0, 90.0)), data_keys=["input", "mask"]
    )
    coded, kept = both(image, mask)
    assert torch.equal(kept, mask) and not torch.equal(coded, image)
