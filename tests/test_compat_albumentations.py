"""The drop-in for albumentations, against Pillow and against its draws."""

from typing import Any

import numpy as np
import pytest

from test_nn_codings import opened, pictures, saved

albumentations = pytest.importorskip("albumentations")


def drop_in(**arguments: Any) -> Any:
    from jpegrad.compat.albumentations import ImageCompression

    return ImageCompression(**{"p": 1.0, **arguments})


def array(channels: int) -> np.ndarray:
    return np.ascontiguousarray(pictures(1, channels)[0].movedim(0, -1).numpy())


@pytest.mark.parametrize("mode", ["4:2:0", "4:4:4"])
def test_it_codes_the_picture_as_pillow_does(mode: str) -> None:
    (image,) = pictures(1)
    transform = drop_in(quality_range=(60, 60), subsampling=mode)
    expected = opened(saved(image, quality=60, subsampling=mode)).movedim(0, -1).numpy()
    assert np.array_equal(transform(image=array(3))["image"], expected)
    real = transform(image=array(3).astype(np.float32) / 255)["image"]
    assert real.dtype == np.float32 and np.array_equal((real * 255).round(), expected)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_other_counts_of_channels(channels: int) -> None:
    found = drop_in(quality_range=(60, 60))(image=array(channels))["image"]
    (image,) = pictures(1, channels)
    colour = 3 if channels > 3 else 0
    if colour:
        expected = opened(saved(image[:3], quality=60))
        assert np.array_equal(found[..., :3], expected.movedim(0, -1).numpy())
    for i in range(colour, channels):
        assert np.array_equal(found[..., i], opened(saved(image[i : i + 1], quality=60))[0].numpy())
    flat = drop_in(quality_range=(60, 60))(image=array(1)[..., 0])["image"]
    assert flat.shape == (37, 45)


def test_it_draws_and_passes_as_theirs() -> None:
    def drawn(kind: Any) -> list[int]:
        transform = kind(quality_range=(5, 95), p=0.7)
        transform.set_random_seed(5)
        return [transform(image=array(3))["image"].tobytes() == array(3).tobytes() for _ in range(20)] + [
            transform.get_params()["quality"] for _ in range(20)
        ]

    assert drawn(drop_in) == drawn(albumentations.ImageCompression)
    mask = np.zeros((37, 45), np.uint8)
    out = albumentations.Compose([drop_in(quality_range=(5, 95))])(image=array(3), mask=mask)
    assert np.array_equal(out["mask"], mask) and not np.array_equal(out["image"], array(3))
    webp = drop_in(compression_type="webp", quality_range=(30, 30))(image=array(3))["image"]
    their = albumentations.ImageCompression(compression_type="webp", quality_range=(30, 30), p=1.0)
    assert np.array_equal(webp, their(image=array(3))["image"])


def test_what_is_wrong_is_an_error() -> None:
    for wrong in ({"quality_range": (0, 5)}, {"quality_range": (9, 5)}, {"compression_type": "png"}):
        with pytest.raises(ValueError):
            drop_in(**wrong)
    with pytest.raises(ValueError, match="subsampling"):
        drop_in(subsampling="4:2:1")(image=array(3))
