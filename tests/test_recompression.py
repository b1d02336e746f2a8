"""JPEG after JPEG: tables and subsampling of a file, and chains with other operations between, equal to real files."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import jpegrad
from corpus import (
    COMMENT,
    adobe,
    noise,
    picture,
    pillow,
    pillow_pixels,
    tensor,
    without,
)
from jpegrad.jfif.segments import APP0
from jpegrad.sampling import SUBSAMPLING

PILLOW_MODES = ("4:4:4", "4:2:2", "4:2:0")
FLAT = [[7] * 64, [12] * 64]


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """Bilinear with antialiasing, rounded to 8 bits."""
    smooth = torch.nn.functional.interpolate(
        image[None].double(), (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    return smooth[0].round().clamp(0, 255).byte()


BETWEEN: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda image: image,
    "shift": lambda image: image.roll((3, 5), (-2, -1)),
    "crop": lambda image: image[..., 3:-2, 1:],
    "flip": lambda image: image.flip(-1),
    "turn": lambda image: image.rot90(1, (-2, -1)),
    "enlarge": lambda image: image.repeat_interleave(2, -1).repeat_interleave(2, -2),
    "reduce": lambda image: resized(image, 23, 31),
}


@pytest.mark.parametrize("quality", [12, 77, 98])
@pytest.mark.parametrize("mode", PILLOW_MODES)
def test_like_a_file(mode: str, quality: int, tally: Callable[..., None]) -> None:
    like = jpegrad.read(pillow(noise(9, 9), quality=quality, subsampling=mode, progressive=True))
    for pixels in (picture(37, 53), noise(24, 17)):
        data = pillow(pixels, quality=quality, subsampling=mode)
        assert jpegrad.to_bytes(jpegrad.encode(tensor(pixels), like=like)) == data
        tally(jpegrad.jpeg(tensor(pixels), like=like).numpy(), pillow_pixels(data))


def test_like_a_file_with_its_own_tables() -> None:
    like = jpegrad.read(pillow(noise(9, 9), qtables=FLAT, subsampling="4:2:2"))
    data = pillow(picture(20, 30), qtables=FLAT, subsampling="4:2:2")
    assert jpegrad.to_bytes(jpegrad.encode(tensor(picture(20, 30)), like=like)) == data


def test_like_gray() -> None:
    pixels = picture(20, 30)[..., 1]
    like = jpegrad.read(pillow(noise(9, 9)[..., 0], quality=33))
    assert jpegrad.to_bytes(jpegrad.encode(tensor(pixels), like=like)) == pillow(pixels, quality=33)


def test_like_rgb_stored_as_it_is(tally: Callable[..., None]) -> None:
    like = jpegrad.read(pillow(noise(9, 9), quality=60, keep_rgb=True))
    data = pillow(picture(20, 30), quality=60, keep_rgb=True)
    tally(jpegrad.jpeg(tensor(picture(20, 30)), like=like).numpy(), pillow_pixels(data))


def test_like_takes_no_metadata_but_they_can_be_given() -> None:
    like = jpegrad.read(pillow(noise(9, 9), quality=60, comment=COMMENT))
    coded = jpegrad.encode(tensor(picture(20, 30)), like=like)
    assert coded.metadata == ()
    again = jpegrad.read(jpegrad.to_bytes(dataclasses.replace(coded, metadata=like.metadata)))
    assert again.metadata == like.metadata != ()


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("mode", PILLOW_MODES)
def test_chains_equal_chains_of_files(between: str, mode: str, tally: Callable[..., None]) -> None:
    operation = BETWEEN[between]
    pixels = picture(41, 60)
    ours = jpegrad.jpeg(tensor(pixels), quality=40, subsampling=mode)
    first = pillow(pixels, quality=40, subsampling=mode)
    file = pillow_pixels(first)
    for _ in range(2):
        ours = jpegrad.jpeg(operation(ours), like=jpegrad.read(first))
        moved = operation(torch.from_numpy(file.copy())).permute(1, 2, 0).contiguous().numpy()
        file = pillow_pixels(pillow(moved, quality=40, subsampling=mode))
        tally(ours.numpy(), file)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_chain_in_floating_point_equals_files(dtype: torch.dtype, tally: Callable[..., None]) -> None:
    # The mean of two neighbours: whole and half numbers, so that no type rounds; the halves go through rounding.
    def blurred(image: Tensor) -> Tensor:
        return (image + image.roll(1, -1)) / 2

    pixels = picture(32, 40)
    ours = jpegrad.jpeg(tensor(pixels).to(dtype), 85, value_range=(0, 255))
    assert ours.dtype == dtype
    file = torch.from_numpy(pillow_pixels(pillow(pixels, quality=85)).copy())
    rounded = blurred(file.double()).round().byte().permute(1, 2, 0).numpy()
    ours = jpegrad.jpeg(blurred(ours), 30, subsampling="4:4:4", value_range=(0, 255))
    tally(ours.numpy().astype(np.uint8), pillow_pixels(pillow(rounded, quality=30, subsampling="4:4:4")))


def test_gradients_flow_through_a_chain() -> None:
    like = jpegrad.read(pillow(noise(9, 9), quality=50, subsampling="4:2:2"))
    image = (tensor(picture(24, 32)) / 255).requires_grad_()
    quality = torch.tensor(70.0, requires_grad=True)

    first = jpegrad.jpeg(image, like=like)
    moved = first.roll((3, 5), (-2, -1))
    last = jpegrad.jpeg(moved, quality)
    weight = torch.randn_like(last)
    found = torch.autograd.grad((weight * last).sum(), (image, quality), retain_graph=True)

    # The same by hand, one link after the other.
    link = moved.detach().requires_grad_()
    q = torch.tensor(70.0, requires_grad=True)
    back, slope = torch.autograd.grad((weight * jpegrad.jpeg(link, q)).sum(), (link, q))
    (expected,) = torch.autograd.grad(first, image, back.roll((-3, -5), (-2, -1)))
    torch.testing.assert_close(found, (expected, slope))
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in found)


def test_gradients_reach_the_tables_of_like() -> None:
    image = tensor(picture(24, 32)) / 255
    tables = jpegrad.tables.annex_k(50).requires_grad_()
    like = dataclasses.replace(jpegrad.read(pillow(noise(9, 9))), tables=tables)

    def error(decoded: Tensor) -> Tensor:
        return (decoded - image).square().mean()

    (found,) = torch.autograd.grad(error(jpegrad.jpeg(image, like=like)), tables)
    (expected,) = torch.autograd.grad(error(jpegrad.jpeg(image, tables=tables)), tables)
    assert found.abs().sum() > 0
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mode", SUBSAMPLING)
def test_a_batch_like_one_file(mode: str) -> None:
    images = torch.stack([tensor(noise(24, 32, seed)) for seed in range(4)]).unflatten(0, (2, 2))
    like = jpegrad.encode(images[0, 0], 35, subsampling=mode)
    together = jpegrad.jpeg(images, like=like)
    assert torch.equal(together, jpegrad.jpeg(images, 35, subsampling=mode))
    assert torch.equal(together[1, 0], jpegrad.jpeg(images[1, 0], like=like))
    coded = jpegrad.encode(images, like=like)
    assert coded.subsampling == mode
    assert jpegrad.to_bytes(coded, 3) == jpegrad.to_bytes(jpegrad.encode(images[1, 1], like=like))


def test_a_batch_like_a_batch() -> None:
    images = torch.stack([tensor(noise(24, 32, seed)) for seed in range(2)])
    like = jpegrad.encode(images, torch.tensor([20.0, 80.0]))
    again = jpegrad.jpeg(images, like=like)
    assert torch.equal(again[0], jpegrad.jpeg(images[0], 20))
    assert torch.equal(again[1], jpegrad.jpeg(images[1], 80))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("quality", 50),
        ("tables", torch.ones(2, 8, 8)),
        ("subsampling", "4:2:0"),
        ("color", (torch.eye(3), torch.zeros(3))),
    ],
)
@pytest.mark.parametrize("function", [jpegrad.jpeg, jpegrad.encode])
def test_like_decides_alone(function: Callable[..., object], argument: str, value: object) -> None:
    image = tensor(picture(16, 16))
    like = jpegrad.encode(image, 50)
    with pytest.raises(ValueError, match=f"like: expected without {argument}, which it decides"):
        function(image, like=like, **{argument: value})


def test_wrong_arguments() -> None:
    image = tensor(picture(16, 16))
    data = pillow(picture(16, 16))
    with pytest.raises(TypeError, match="like: expected Coefficients, got bytes"):
        jpegrad.jpeg(image, like=data)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="like: expected 1 components as the image has, got 3"):
        jpegrad.jpeg(image[:1], like=jpegrad.read(data))
    with pytest.raises(ValueError, match="like: expected 3 components as the image has, got 1"):
        jpegrad.jpeg(image, like=jpegrad.encode(image[:1], 50))
    three = jpegrad.encode(image.expand(3, 3, 16, 16), torch.tensor([10.0, 20.0, 30.0]))
    with pytest.raises(ValueError, match="tables: "):
        jpegrad.jpeg(image.expand(2, 3, 16, 16), like=three)


def test_adobe_ycc_is_like_jfif() -> None:
    data = pillow(picture(20, 30), quality=50)
    bare = without(data, APP0)
    like = jpegrad.read(bare[:2] + adobe(1) + bare[2:])
    assert like.color is None
    assert jpegrad.to_bytes(jpegrad.encode(tensor(picture(20, 30)), like=like)) == data
