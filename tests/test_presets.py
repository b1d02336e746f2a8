"""The paper's presets against its formulas, typed again in numpy: values and gradients to image, quality and tables."""

import numpy as np
import pytest
import torch

import jpegrad
from jpegrad import surrogates, tables
from oracles.published import LUMA, reich_gray, reich_table

QUALITIES = [float(q) for q in range(1, 100)]
QUALITIES += [
    1.3,
    7.7,
    12.25,
    24.6,
    33.3,
    48.9,
    49.99,
    50.5,
    61.25,
    70.4,
    75.75,
    81.3,
    90.1,
    94.9,
    98.5,
    98.9,
]


def plane() -> np.ndarray:
    """Waves and noise that reach both ends of the range, all levels real numbers."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:32, :40]
    return np.clip(128 + 115 * np.sin(x / 5) * np.cos(y / 7) + rng.normal(0, 22, (32, 40)), 0.5, 254.5)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_soft_variant_is_the_papers(backend: str) -> None:
    picture = plane()
    dtype = torch.float64 if backend == "reference" else torch.float32
    weights = np.random.default_rng(4).normal(size=picture.shape)
    options = {"surrogate": "reich2024", "value_range": (0, 255), "backend": backend}
    for q in QUALITIES:
        expected, to_image, to_quality, to_base = reich_gray(picture, q, LUMA, weights)
        image = torch.tensor(picture[None], dtype=dtype, requires_grad=True)
        quality = torch.tensor(q, dtype=torch.float64, requires_grad=True)
        out = jpegrad.jpeg(image, quality, **options)
        found = torch.autograd.grad((out * torch.from_numpy(weights)).sum(), (image, quality))
        assert np.abs(out.detach().numpy()[0] - expected).max() < 0.05
        assert cosine(found[0].numpy()[0], to_image) > 0.9999
        assert np.linalg.norm(found[0].numpy()) == pytest.approx(np.linalg.norm(to_image), rel=1e-3)
        assert found[1].item() == pytest.approx(to_quality, rel=1e-3, abs=1e-3)

        base = torch.tensor(LUMA[None], requires_grad=True)
        entries = tables.scale(base, q, forward="soft", surrogate=surrogates.reich2024)
        same = jpegrad.jpeg(image, tables=entries, **options)
        assert np.abs(same.detach().numpy()[0] - expected).max() < 0.05
        (found_base,) = torch.autograd.grad((same * torch.from_numpy(weights)).sum(), base)
        np.testing.assert_allclose(found_base.numpy()[0], to_base, rtol=2e-3, atol=1e-3)


def test_straight_through_variant_is_the_file_with_the_papers_slopes() -> None:
    picture = plane()
    weights = np.random.default_rng(5).normal(size=picture.shape)
    image = torch.tensor(picture[None])
    options = {"surrogate": "reich2024_ste", "value_range": (0, 255)}
    for q in QUALITIES:
        _, slope, to_base = reich_table(q, LUMA, straight=True)
        quality = torch.tensor(q, dtype=torch.float64, requires_grad=True)
        out = jpegrad.jpeg(image, quality, **options)
        assert torch.equal(out, jpegrad.jpeg(image, q, value_range=(0, 255)))
        (found,) = torch.autograd.grad((out * torch.from_numpy(weights)).sum(), quality)
        entries = tables.annex_k(q, dtype=torch.float64)[:1].requires_grad_()
        again = jpegrad.jpeg(image, tables=entries, **options)
        (at_entries,) = torch.autograd.grad((again * torch.from_numpy(weights)).sum(), entries)
        assert found.item() == pytest.approx((at_entries[0].numpy() * slope).sum(), rel=1e-9, abs=1e-9)

        base = torch.tensor(LUMA, requires_grad=True)
        scaled = tables.scale(base, q, surrogate=surrogates.reich2024_ste)
        assert torch.equal(scaled, tables.annex_k(q, dtype=torch.float64)[0])
        (found_base,) = torch.autograd.grad(scaled.sum(), base)
        np.testing.assert_allclose(found_base.numpy(), to_base, rtol=1e-9)


def test_straight_through_variant_has_the_papers_slope_at_the_quantiser() -> None:
    # Taken at the encoder's integer coefficient, theirs at the real one: they part where steps are fine.
    picture = np.rint(128 + 0.6 * (plane() - 128))
    weights = np.random.default_rng(6).normal(size=picture.shape)
    for q in (5.0, 30.0, 60.0, 75.0, 90.0):
        _, to_image, _, _ = reich_gray(picture, q, LUMA, weights, straight=True)
        image = torch.tensor(picture[None], requires_grad=True)
        out = jpegrad.jpeg(image, q, surrogate="reich2024_ste", value_range=(0, 255))
        (found,) = torch.autograd.grad((out * torch.from_numpy(weights)).sum(), image)
        assert cosine(found.numpy()[0], to_image) > 0.997


def test_tables_that_are_no_divisors_stay_finite_in_the_soft_variant() -> None:
    image = torch.rand(1, 16, 16, dtype=torch.float64)
    for entry in (-999.0, -1e9, 0.0, 1e9):
        entries = torch.full((1, 8, 8), entry, dtype=torch.float64)
        assert jpegrad.jpeg(image, tables=entries, surrogate="reich2024").isfinite().all()
        soft = jpegrad.jpeg(image, tables=entries, forward="soft", clip_slope=1.0)
        assert soft.isfinite().all()
