"""Every adapter against a second computation: numpy, SciPy's DCT, and each paper's formulas typed again."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from jpegrad_studies.baselines import ALL
from jpegrad_studies.baselines.common import (
    ANNEX_K,
    TRANSPOSED,
    expand_quality,
    factor,
    libjpeg_tables,
    pad_symmetric,
)
from jpegrad_studies.baselines.hidden import zigzag_rank
from jpegrad_studies.baselines.rounding import noise
from oracles.published import (
    CHROMA,
    FORMULAS,
    LUMA,
    MBRS_COLOR,
    MBRS_INVERSE,
    correct,
    filtered_down,
    lanczos_up,
    percent,
    round_trip,
    through_masks,
)

RUNNABLE = [name for name, baseline in ALL.items() if baseline.call is not None]
UNKNOWN = [name for name, baseline in ALL.items() if baseline.call is None]
QUALITIES = (3, 10, 50, 77.0, 99)


def picture(height: int = 32, width: int = 48, seed: int = 0) -> np.ndarray:
    """[H, W, 3] in 0 ... 255: smooth, textured and out towards both ends of the range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / (3 + c) + c) * np.cos(y / (4 + c)) for c in range(3)], -1)
    return np.clip(128 + 110 * waves + rng.normal(0, 25, (height, width, 3)), 0, 255)


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("q", QUALITIES)
def test_value_is_the_published_formula(name: str, q: float) -> None:
    image = picture()
    expected = round_trip(image, q, **FORMULAS[name])
    assert np.abs(ALL[name](tensor(image), q)[0].permute(1, 2, 0).numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("q", (10, 77))
def test_sandwich_filters(q: int) -> None:
    def down(plane: np.ndarray) -> np.ndarray:
        # At the border the cut kernel is normalised: the missing eighth is shared out.
        weights = filtered_down(np.ones_like(plane), (1 / 8, 3 / 8, 3 / 8, 1 / 8), "constant")
        return filtered_down(plane, (1 / 8, 3 / 8, 3 / 8, 1 / 8), "constant") / weights

    image = picture()
    expected = round_trip(image, q, correct, down=down, up=lanczos_up)
    assert np.abs(ALL["sandwich"](tensor(image), q)[0].permute(1, 2, 0).numpy() - expected).max() < 1e-6


def test_masks_keep_the_published_frequencies() -> None:
    zigzag = "0 1 5 6 14 15 27 28 2 4 7 13 16 26 29 42 3 8 12 17 25 30 41 43 9 11 18 24 31 40 44 53"
    zigzag += (
        " 10 19 23 32 39 45 52 54 20 22 33 38 46 51 55 60 21 34 37 47 50 56 59 61 35 36 48 49 57 58 62 63"
    )
    order = np.array([int(k) for k in zigzag.split()]).reshape(8, 8)
    assert (zigzag_rank().numpy() == order).all()
    image = picture()
    yuv = np.array([[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]])
    planes = through_masks(image, yuv, [order < 25, order < 9])
    expected = np.clip(planes @ np.linalg.inv(yuv).T, 0, 255)
    assert np.abs(ALL["hidden_mask"](tensor(image), 50)[0].permute(1, 2, 0).numpy() - expected).max() < 1e-9
    row, column = np.mgrid[:8, :8]
    planes = through_masks(image, MBRS_COLOR, [np.maximum(row, column) < 5, np.maximum(row, column) < 3])
    expected = np.clip(planes @ MBRS_INVERSE.T, 0, 255)
    assert np.abs(ALL["mbrs_mask"](tensor(image), 50)[0].permute(1, 2, 0).numpy() - expected).max() < 1e-9


@pytest.mark.parametrize(("name", "half"), [("redmark", 0.55), ("uniform_noise", 0.5)])
def test_noise_takes_the_place_of_rounding(name: str, half: float) -> None:
    x = torch.linspace(-3, 3, 100_001, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    moved = ALL[name].call.round(x)
    shift = (moved - x).detach()
    assert shift.abs().max() <= half and shift.abs().max() > 0.999 * half
    assert abs(shift.mean()) < 0.005 and abs(shift.var() - half**2 / 3) < 0.002
    assert (torch.autograd.grad(moved.sum(), x)[0] == 1).all()


def test_redmark_tables() -> None:
    quality = torch.tensor([70.0, 100.0, 1.0], dtype=torch.float64)
    tables = ALL["redmark"].call.tables(quality, ANNEX_K)
    for row, q in zip(tables.numpy(), quality.tolist(), strict=True):
        expected = np.floor((np.stack([LUMA, CHROMA]) * percent(q) + 50) / 100)
        assert (row == np.where(expected == 0, 1, expected)).all()
    assert tables.max() > 255


def numeric_slope(function: object, x: torch.Tensor) -> torch.Tensor:
    return (function(x + 1e-6) - function(x - 1e-6)) / 2e-6


STRAIGHT_THROUGH = {
    "struempler": lambda r: 3 * r**2,
    "talebi": lambda r: 3 * r**2,
    "reich_ste": lambda r: 3 * r**2,
    "korus_soft": lambda r: 1 - torch.cos(2 * math.pi * r),
    "sandwich": torch.ones_like,
}


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_straight_through_value_is_hard_and_slope_published(name: str) -> None:
    x = torch.linspace(-2.3, 2.4, 401, dtype=torch.float64, requires_grad=True)
    value = ALL[name].call.round(x)
    assert torch.equal(value, x.round())
    slope = torch.autograd.grad(value.sum(), x)[0]
    assert torch.allclose(slope, STRAIGHT_THROUGH[name]((x - x.round()).detach()), atol=1e-12)


@pytest.mark.parametrize("name", ["shin", "shin_zero", "invisp", "korus_sin", "soft_round", "reich_soft"])
def test_soft_slope_is_the_slope_of_the_value(name: str) -> None:
    x = torch.linspace(-2.31, 2.4, 401, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(ALL[name].call.round(x).sum(), x)[0]
    assert torch.allclose(slope, numeric_slope(ALL[name].call.round, x.detach()), atol=1e-6)


def test_reich_straight_through_tables() -> None:
    """Floors and clips; backward 3 (x - 1/2 - round(x - 1/2))^2 at both floors, 10^-3 outside the clip."""
    q = torch.tensor([7.0, 23.0, 64.0], dtype=torch.float64, requires_grad=True)
    base = ANNEX_K.clone().requires_grad_()
    tables = ALL["reich_ste"].call.tables(q, base)
    weights = torch.randn(tables.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    to_quality, to_base = torch.autograd.grad((tables * weights).sum(), (q, base))
    expected_quality, expected_base = np.zeros(3), np.zeros((2, 8, 8))
    for i, quality in enumerate(q.tolist()):
        raw = percent(quality)
        slope = -5000 / quality**2 if quality < 50 else -2.0
        entry = (np.stack([LUMA, CHROMA]) * math.floor(raw) + 50) / 100
        assert (tables[i].detach().numpy() == np.clip(np.floor(entry), 1, 255)).all()

        def floor_slope(x: np.ndarray) -> np.ndarray:
            return 3 * (x - 0.5 - np.round(x - 0.5)) ** 2

        clipped = (np.floor(entry) < 1) | (np.floor(entry) > 255)
        passed = weights[i].numpy() * np.where(clipped, 1e-3, 1.0) * floor_slope(entry) / 100
        expected_base += passed * math.floor(raw)
        expected_quality[i] = (passed * np.stack([LUMA, CHROMA])).sum() * floor_slope(np.array(raw)) * slope
    assert np.allclose(to_quality.numpy(), expected_quality, rtol=1e-9)
    assert np.allclose(to_base.numpy(), expected_base, rtol=1e-9)


def test_reich_chroma_taps() -> None:
    impulse = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    impulse[0, 0, 3, 4] = 1
    response = ALL["reich_soft"].call.down(impulse)[0, 0]
    far, near = 0.0532533, 0.4467467
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[1:3, 1:3] = torch.tensor(
        [[near * far, near * near], [far * far, far * near]], dtype=torch.float64
    )
    assert torch.allclose(response, expected, atol=1e-6)


def test_reich_clips() -> None:
    x = torch.tensor([-5.0, 3.0, 300.0], dtype=torch.float64, requires_grad=True)
    soft = ALL["reich_soft"].call.clip(x)
    hard = ALL["reich_ste"].call.clip(x)
    assert torch.allclose(soft, torch.tensor([-0.005, 3.0, 255.045], dtype=torch.float64))
    assert torch.equal(hard, torch.tensor([0.0, 3.0, 255.0], dtype=torch.float64))
    for value in (soft, hard):
        slope = torch.autograd.grad(value.sum(), x)[0]
        assert torch.allclose(slope, torch.tensor([1e-3, 1.0, 1e-3], dtype=torch.float64))


def pillow_file(image: np.ndarray, q: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image.round().astype(np.uint8)).save(file, "JPEG", quality=q)
    return np.array(Image.open(file)).astype(np.float64)


def test_fsa_is_the_file_with_an_identity_gradient() -> None:
    image = picture()
    x = tensor(image).requires_grad_()
    out = ALL["fsa"](x, 20)
    assert (out[0].detach().permute(1, 2, 0).numpy() == pillow_file(image, 20)).all()
    assert (torch.autograd.grad(out.sum(), x)[0] == 1).all()


def test_mbrs_draws_all_three() -> None:
    image = tensor(picture())
    real, mask = ALL["fsa"](image, 20), ALL["mbrs_mask"](image, 20)
    torch.manual_seed(0)
    draws = [ALL["mbrs"](image, 20) for _ in range(60)]
    counts = [sum(torch.equal(draw, kind) for draw in draws) for kind in (real, mask, image)]
    assert sum(counts) == 60 and min(counts) > 8


def test_kornia_is_the_installed_package() -> None:
    enhance = pytest.importorskip("kornia.enhance")
    image = tensor(picture()).float()
    expected = 255 * enhance.jpeg_codec_differentiable(image / 255, torch.tensor([30.0]))
    assert torch.allclose(ALL["kornia"](image, 30.0), expected, atol=1e-3)


def test_correct_tables_are_those_of_pillow() -> None:
    flat = Image.new("RGB", (16, 16))
    for q in range(1, 101):
        with io.BytesIO() as file:
            flat.save(file, "JPEG", quality=q)
            written = Image.open(file).quantization
        tables = libjpeg_tables(torch.tensor([float(q)], dtype=torch.float64), ANNEX_K)
        assert [t.flatten().tolist() for t in tables[0]] == [list(written[0]), list(written[1])]


def test_transposed_luma_differs_in_54_entries() -> None:
    assert (TRANSPOSED[0] != ANNEX_K[0]).sum() == 54 and torch.equal(TRANSPOSED[1], ANNEX_K[1])
    assert factor(torch.tensor([100.0])).item() == 0


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (1, 1), (5, 33)])
def test_padding_mirrors_the_border(size: tuple[int, int]) -> None:
    image = picture(*size)
    grown = [(0, -n % 16) for n in size]
    expected = np.pad(image, [*grown, (0, 0)], mode="symmetric")
    assert (pad_symmetric(tensor(image))[0].permute(1, 2, 0).numpy() == expected).all()


@pytest.mark.parametrize("name", RUNNABLE)
def test_gradient_reaches_what_the_record_says(name: str) -> None:
    if name == "kornia":
        pytest.importorskip("kornia")
    image = tensor(picture()).expand(2, 3, 32, 48).clone().requires_grad_()
    quality = torch.tensor([23.0, 71.0], dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    out = ALL[name](image, quality)
    assert out.shape == image.shape and out.dtype == image.dtype and out.isfinite().all()
    if not out.requires_grad:
        out = out + 0 * image
    grads = torch.autograd.grad((out**2).sum(), (image, quality), allow_unused=True)
    to_image, to_quality = (grad is not None and bool(grad.any()) for grad in grads)
    assert to_image == ("image" in ALL[name].differentiable)
    assert to_quality or "quality" not in ALL[name].differentiable


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_formulas_are_not_guessed(name: str) -> None:
    assert ALL[name].status.startswith("unknown: ")
    with pytest.raises(ValueError, match="cannot run"):
        ALL[name](tensor(picture()), 50)


def test_every_record_is_covered_here() -> None:
    others = {"sandwich", "hidden_mask", "mbrs_mask", "redmark", "uniform_noise", "fsa", "mbrs", "kornia"}
    assert set(ALL) == set(FORMULAS) | others | set(UNKNOWN)
    for baseline in ALL.values():
        assert baseline.source and baseline.status.split(":")[0] in {"complete", "partial", "unknown"}


def test_one_quality_for_all_or_one_each() -> None:
    image = tensor(picture()).expand(2, 3, 32, 48)
    assert expand_quality(7, image).tolist() == [7.0, 7.0]
    together = ALL["reich_ste"](image, torch.tensor([7.0, 80.0], dtype=torch.float64))
    assert torch.equal(together[1:], ALL["reich_ste"](image[1:], 80))
    assert noise(image).shape == image.shape
