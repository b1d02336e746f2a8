"""The drop-in for torchvision: its draws, its bytes, its samples; and what it adds."""

import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import jpegrad
from corpus import inks, noise, picture

tv_tensors = pytest.importorskip("torchvision.tv_tensors", reason="torchvision is not installed")
v2 = pytest.importorskip("torchvision.transforms.v2", reason="torchvision is not installed")
compat = pytest.importorskip("jpegrad.compat.torchvision", reason="torchvision is not installed")


def theirs(transform: Any, *sample: Any) -> Any:
    with warnings.catch_warnings():
        # The encoders of torchvision are deprecated.
        warnings.simplefilter("ignore")
        return transform(*sample)


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).movedim(-1, -3).contiguous()


@pytest.mark.parametrize("seed", range(20))
def test_draws_and_bytes_are_those_of_torchvision(seed: int) -> None:
    height, width = 17 + 3 * seed, 40 - seed
    image = tensor(picture(height, width) if seed % 2 else noise(height, width, seed))
    torch.manual_seed(seed)
    expected, next_draw = theirs(v2.JPEG((1, 100)), image), torch.rand(())
    torch.manual_seed(seed)
    assert torch.equal(compat.JPEG((1, 100))(image), expected)
    assert torch.rand(()) == next_draw


@pytest.mark.parametrize("kind", ["Image", "Video"])
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_and_videos_are_those_of_torchvision(kind: str, channels: int) -> None:
    frames = getattr(tv_tensors, kind)(tensor(np.stack([noise(20, 19, i) for i in range(4)]))[:, :channels])
    expected = theirs(v2.JPEG(60), frames)
    out = compat.JPEG(60)(frames)
    assert type(out) is type(frames) and out.dtype is torch.uint8
    assert torch.equal(out, expected)
    assert torch.equal(compat.jpeg(frames, 60), expected)
    assert compat.JPEG(60)(frames[:0]).shape == (0, channels, 20, 19)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_pictures_of_pillow_are_saved_and_opened(mode: str) -> None:
    pixels = {"L": noise(33, 20)[..., 0], "RGB": noise(33, 20), "CMYK": inks(33, 20)}[mode]
    image = Image.frombytes(mode, (20, 33), pixels.tobytes())
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    out = compat.JPEG(40)(image)
    assert type(out) is Image.Image and out.mode == mode
    assert np.array_equal(np.array(out), np.array(Image.open(file)))


def test_one_draw_serves_a_sample_and_all_but_images_passes() -> None:
    pixels = tensor(picture(24, 24))
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[1, 2, 9, 9]]), format="XYXY", canvas_size=(24, 24))
    sample = {
        "image": tv_tensors.Image(pixels),
        "clip": [tv_tensors.Video(pixels.expand(2, 3, 24, 24) / 255)],
        "pil": Image.fromarray(picture(24, 24)),
        "mask": tv_tensors.Mask(torch.zeros(24, 24, dtype=torch.uint8)),
        "targets": (boxes, torch.tensor(3), "name", None),
    }
    torch.manual_seed(5)
    quality = int(torch.randint(10, 91, ()))
    torch.manual_seed(5)
    out = compat.JPEG((10, 90))(sample)
    expected = jpegrad.jpeg(pixels, quality)
    assert type(out["image"]) is tv_tensors.Image and torch.equal(out["image"].as_subclass(Tensor), expected)
    assert type(out["clip"][0]) is tv_tensors.Video and out["clip"][0].dtype is torch.float32
    assert torch.equal((out["clip"][0][1] * 255).round().byte().as_subclass(Tensor), expected)
    assert torch.equal(tensor(np.array(out["pil"])), expected)
    assert out["mask"] is sample["mask"]
    assert all(a is b for a, b in zip(out["targets"], sample["targets"], strict=True))
    image, same = v2.Compose([compat.JPEG(50)])(pixels, boxes)
    assert same is boxes and torch.equal(image, jpegrad.jpeg(pixels, 50))


def test_a_sample_without_images_passes() -> None:
    mask = tv_tensors.Mask(torch.ones(3, 8, 8, dtype=torch.uint8))
    assert compat.JPEG(50)(mask) is mask


def test_floats_have_gradients_and_options_are_those_of_the_codec() -> None:
    image = tv_tensors.Image(torch.rand(2, 3, 24, 24))
    plain = image.as_subclass(Tensor).clone().requires_grad_()
    transform = compat.JPEG(30, subsampling="4:4:4", surrogate="cubic")
    out = transform(plain)
    assert torch.equal(out, jpegrad.jpeg(plain, 30, subsampling="4:4:4", surrogate="cubic"))
    out.sum().backward()
    assert plain.grad is not None and plain.grad.abs().sum() > 0
    again = pickle.loads(pickle.dumps(transform))
    assert torch.equal(again(image).as_subclass(Tensor), out.detach())


@pytest.mark.parametrize(
    ("quality", "error", "text"),
    [
        (True, TypeError, "quality should be"),
        (50.0, TypeError, "quality should be"),
        ([50], ValueError, "quality should be a sequence of length 2"),
        ((1, 2, 3), ValueError, "quality should be a sequence of length 2"),
        (0, ValueError, "quality must be an integer from 1 to 100"),
        ((60, 101), ValueError, "quality must be an integer from 1 to 100"),
        ((60, 50), ValueError, "quality must be an integer from 1 to 100"),
        ((1.5, 50), ValueError, "quality must be an integer from 1 to 100"),
        ((True, 50), ValueError, "quality must be an integer from 1 to 100"),
    ],
    ids=str,
)
def test_wrong_qualities_have_the_errors_of_torchvision(quality: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        compat.JPEG(quality)


def test_other_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"JPEG.*subsampling"):
        compat.JPEG(50, subsample="4:4:4")
    with pytest.raises(TypeError, match=r"image: expected .* mode L, RGB, CMYK, got RGBA"):
        compat.JPEG(50)(Image.new("RGBA", (8, 8)))
    with pytest.raises(TypeError, match=r"image: expected .* got Mask"):
        compat.jpeg(tv_tensors.Mask(torch.zeros(8, 8)), 50)
    with pytest.raises(TypeError, match=r"image: expected .* got str"):
        compat.jpeg("photo.jpg", 50)
