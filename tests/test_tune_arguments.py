"""What tuning refuses, and by what words: arguments, targets, pictures and data sets."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jpegrad import tune
from jpegrad.tune import metrics

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"metric": "lpips"},
            "metric: expected one of mse, ms-ssim, mix, ssimulacra2, butteraugli, perceptual or",
        ),
        ({"metric": 3}, "metric: expected a name or a function, got int"),
        ({"metric": "ms-ssim"}, "images: expected sides of at least 176"),
        # Multipliers are at their bound before this is given up.
        ({"target": tune.Loss(1e-9)}, "target: expected one that some file meets"),
        ({"metric": lambda a, b: (a - b).square()}, "metric: expected a tensor of one number"),
        ({"metric": lambda a, b: (a - b).sum() * float("nan")}, "finite"),
        ({"target": 75}, "target: expected LikeQuality, Bytes, BitsPerPixel, Loss or Score, got int"),
        ({"target": tune.Bytes(100)}, "target: expected one that some file meets"),
        ({"target": tune.Loss(-1.0)}, "target: expected one that some file meets"),
        ({"subsampling": "4:2:1"}, "subsampling: expected one of"),
        ({"steps": -1}, "steps: expected an integer, 0 or more, got -1"),
        ({"base": torch.ones(8, 8)}, r"base: expected \[2, 8, 8\]"),
        ({"base": [[1]]}, "base: expected a torch.Tensor, got list"),
        ({"base": torch.ones(2, 8, 8) + 0j}, "base: expected a real tensor, got dtype torch.complex64"),
        ({"base": -torch.ones(2, 8, 8)}, "base: expected finite entries above 0, got -1"),
        ({"base": torch.full((2, 8, 8), torch.nan)}, "base: expected finite entries above 0, got nan"),
        ({"base": torch.full((2, 8, 8), torch.inf)}, "base: expected finite entries above 0, got inf"),
        ({"choose_levels": False, "rate": "entropy"}, "rate: expected one of"),
    ],
)
def test_wrong_arguments(photo: Tensor, options: dict[str, object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        tune.compress(photo[:, :40, :40], **options)  # type: ignore[arg-type]


def test_wrong_images_and_targets(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"image: expected shape \[\.\.\., 1 or 3, H, W\]"):
        tune.compress(torch.zeros(2, 8, 8), metric="mse")
    with pytest.raises(TypeError, match="image: expected a floating-point or uint8 tensor"):
        tune.compress(torch.zeros(3, 8, 8, dtype=torch.int64), metric="mse")
    with pytest.raises(ValueError, match="images: expected at least one"):
        tune.learn_image_tables([])
    with pytest.raises(ValueError, match=r"images: expected \[\.\.\., C, H, W\] without a side of 0"):
        tune.learn_image_tables(torch.rand(2, 3, 0, 8))
    with pytest.raises(ValueError, match="images: expected a folder with pictures"):
        tune.learn_dataset_tables(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png"):
        tune.Folder(tmp_path)[0]
    for wrong in (lambda: tune.Bytes(0), lambda: tune.BitsPerPixel(0.0), lambda: tune.LikeQuality(101)):
        with pytest.raises(ValueError, match="expected"):
            wrong()
    with pytest.raises(TypeError, match="whole number of bytes"):
        tune.Bytes(10.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weight"):
        tune.mix(2.0)
    with pytest.raises(TypeError, match="against: expected a function of the original, got 3"):
        tune.Metric("three", 3, "made up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps: expected at least 1"):
        tune.DatasetSettings(steps=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tune.Bytes(3.5), "target: expected a whole number of bytes, got 3.5"),  # type: ignore[arg-type]
        (lambda: tune.Bytes("9k"), "target: expected a whole number of bytes, got '9k'"),  # type: ignore[arg-type]
        (lambda: tune.Bytes(True), "target: expected a whole number of bytes, got True"),
        (lambda: tune.Bytes(-1), "target: expected at least 1 byte, got -1"),
        (lambda: tune.BitsPerPixel(-0.5), "target: expected more than 0 bits per pixel, got -0.5"),
        (lambda: tune.BitsPerPixel(math.nan), "target: expected more than 0 bits per pixel, got nan"),
        (lambda: tune.BitsPerPixel("1"), "target: expected a number of bits per pixel, got '1'"),  # type: ignore[arg-type]
        (lambda: tune.Loss(math.nan), "target: expected a finite loss, got nan"),
        (lambda: tune.Loss(torch.ones(2)), "target: expected a loss as a number"),  # type: ignore[arg-type]
        (lambda: tune.LikeQuality(0.9), "quality: expected 1 to 100, got 0.9"),
        (lambda: tune.LikeQuality(math.nan), "quality: expected 1 to 100, got nan"),
        (lambda: tune.LikeQuality(torch.ones(2)), "target: expected a quality 1 to 100"),  # type: ignore[arg-type]
        (lambda: tune.DatasetSettings(qualities=75), "qualities: expected a tuple of numbers, got 75"),  # type: ignore[arg-type]
        (lambda: tune.Metric("m", abs, "", "1"), "highest: expected a number, got '1'"),  # type: ignore[arg-type]
    ],
)
def test_numbers_that_are_no_targets(make: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        make()


def test_numbers_of_numpy_are_numbers(photo: Tensor) -> None:
    tuned = [
        tune.compress(photo[:, :32, :32], steps=steps, metric="mse").to_bytes() for steps in (2, np.int64(2))
    ]  # type: ignore[arg-type]
    assert tuned[0] == tuned[1]
    assert tune.DatasetSettings(steps=np.int64(3)) == tune.DatasetSettings(steps=3)  # type: ignore[arg-type]
    assert tune.Bytes(np.int64(3000)) == tune.Bytes(3000)  # type: ignore[arg-type]
    assert tune.BitsPerPixel(np.float32(0.5)) == tune.BitsPerPixel(0.5)  # type: ignore[arg-type]
    assert json.dumps(tune.Loss(np.float64(0.5)).value) == "0.5"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target": tune.BitsPerPixel(800)},
            r"target: expected bits per pixel, no more than the samples .* \(24\) .*, got 800",
        ),
        (
            {"metric": "mse", "target": tune.Loss(30.0)},
            "target: expected a loss of at most 1, .* mse has, got 30",
        ),
        ({"rate": "laplace"}, "rate: expected with choose_levels=False only"),
        (
            {"table_surrogate": "cubic", "rate": "log"},
            "rate, table_surrogate: expected with choose_levels=False",
        ),
        ({"value_range": (1, 0)}, "value_range: expected finite low < high"),
        ({"value_range": 255}, "value_range: expected two numbers"),
        ({"progress": True}, "progress: expected a function, got True"),
        ({"choose_levels": "no"}, "choose_levels: expected True or False, got 'no'"),
        ({"metric": torch.nn.MSELoss}, "metric: expected a name or a function, got the class MSELoss"),
        (
            {"metric": lambda image, original: (image - original).detach().square().mean()},
            "metric: expected a loss with a gradient to the reconstruction",
        ),
        (
            {"target": tune.BitsPerPixel(0.01)},
            r"expected one that some file meets, got 2 bytes; .*; they are BitsPerPixel\(bits=0.01\)",
        ),
    ],
)
def test_arguments_that_go_nowhere(photo: Tensor, options: dict[str, object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        tune.compress(photo[:, :40, :40], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["ssimulacra2", "butteraugli", "perceptual"])
def test_pictures_too_small_for_the_eye(metric: str) -> None:
    with pytest.raises(metrics.Unusable, match=r"images: expected sides of at least 8 for .*, got \[7, 9\]"):
        tune.compress(torch.rand(3, 7, 9), metric=metric, steps=1)
    assert tune.compress(torch.rand(3, 8, 9), metric=metric, steps=1).size > 0


def test_what_cannot_be_measured(photo: Tensor) -> None:
    image = photo[:, :40, :40]
    for wrong in (image.float(), 8 * (image / 255) - 4):
        with pytest.raises(ValueError, match=r"image: expected samples in the value_range \(0, 1\), got "):
            tune.report(wrong, image)
    with pytest.raises(
        TypeError, match=r"image: expected a floating-point or uint8 tensor, got dtype torch.int64"
    ):
        tune.report(image.long(), image)


def test_wrong_data_sets(photo: Tensor, tmp_path: Path) -> None:
    image = photo[:, :40, :40]
    for error, message, images, options in [
        (TypeError, "settings: expected DatasetSettings, got dict", [image], {"settings": {"steps": 1}}),
        (TypeError, "progress: expected a function, got True", [image], {"progress": True}),
        (ValueError, "checkpoint: expected the name of a file", [image], {"checkpoint": tmp_path}),
        (
            TypeError,
            "images: expected a sequence of images or a folder, got generator",
            (x for x in [image]),
            {},
        ),
        (TypeError, r"images\[0\]: expected a torch.Tensor, got tuple", [(image, 1)], {}),
        (ValueError, "value_range: expected finite low < high", [image], {"value_range": (1, 1)}),
    ]:
        with pytest.raises(error, match=message):
            tune.learn_dataset_tables(images, **options)  # type: ignore[arg-type]


def test_a_batch_is_no_image(photo: Tensor) -> None:
    batch = torch.stack([photo[:, :40, :40]] * 2)
    with pytest.raises(
        ValueError, match=r"image: expected one image, .* got \[2, 3, 40, 40\] \(learn_image_tables"
    ):
        tune.compress(batch, metric="mse")
    with pytest.raises(ValueError, match=r"image: expected one image, .* got \[40, 40\]$"):
        tune.compress(batch[0, 0], metric="mse")
    with pytest.raises(ValueError, match=r"images\[1\]: expected one image, .* got \[2, 3, 40, 40\]"):
        tune.learn_image_tables([batch[0], batch])
    with pytest.raises(ValueError, match=r"images\[0\]: expected one image, .* got \[2, 3, 40, 40\]"):
        tune.learn_dataset_tables([batch], settings=tune.DatasetSettings(steps=1, batch=1))
    with pytest.raises(
        TypeError, match=r"images: expected a torch\.Tensor, a list of them or a Folder, got str"
    ):
        tune.learn_image_tables("photos")  # type: ignore[arg-type]
