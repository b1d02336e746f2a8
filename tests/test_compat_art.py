"""The drop-in for ART: its arrays, and a gradient."""

import numpy as np
import pytest
import torch

import jpegrad
from corpus import noise

pytest.importorskip("art", reason="adversarial-robustness-toolbox is not installed")
from art.defences.preprocessor import JpegCompression

from jpegrad.compat import art as compat


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("frames", [(), (2,)])
@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("highest", [1, 255])
def test_arrays_are_those_of_art(
    highest: int, channels_first: bool, frames: tuple[int, ...], channels: int
) -> None:
    planes = np.stack([noise(24, 20, i)[..., 0] for i in range(2 * channels * (frames or (1,))[0])])
    shape = (2, channels, *frames, 24, 20)
    x = (planes.reshape(shape) + np.float32(0.3)).clip(0, 255) * np.float32(highest / 255)
    x = x if channels_first else np.moveaxis(x, 1, -1)
    arguments = {"clip_values": (0, highest), "quality": 60, "channels_first": channels_first}
    expected, _ = JpegCompression(**arguments)(x)
    out, labels = compat.JpegCompression(**arguments, device_type="cpu")(x, np.arange(2))
    assert out.dtype == expected.dtype and labels.tolist() == [0, 1]
    np.testing.assert_array_equal(out, expected)


def test_the_gradient_is_that_of_the_codec() -> None:
    defence = compat.JpegCompression((0, 1), 40, channels_first=True, device_type="cpu")
    x, weights = (
        np.random.rand(2, 3, 24, 24).astype("float32"),
        np.random.rand(2, 3, 24, 24).astype("float32"),
    )
    image = torch.from_numpy(x).requires_grad_()
    jpegrad.jpeg(image, 40, rounding="truncate").backward(torch.from_numpy(weights))
    np.testing.assert_array_equal(defence.estimate_gradient(x, weights), image.grad.numpy())


def test_wrong_arguments() -> None:
    for wrong in (
        {"clip_values": (-1, 255)},
        {"clip_values": (0, 2)},
        {"clip_values": (0, 1), "quality": -1},
    ):
        with pytest.raises(ValueError):
            compat.JpegCompression(**wrong)
    with pytest.raises(ValueError, match="x: expected 4 or 5 dimensions, got"):
        compat.JpegCompression((0, 1))(np.zeros((2, 3), np.float32))
    with pytest.raises(TypeError, match="subsampling"):
        compat.JpegCompression((0, 1), subsample="4:4:4")
