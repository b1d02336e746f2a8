"""The assertions that ship: they pass what is right, and each fails what it is there to catch."""

import pytest
import torch

import jpegrad
from jpegrad import testing
from oracles import libjpeg


def test_pillow_round_trips_batches() -> None:
    image = torch.randint(0, 256, (2, 1, 3, 13, 9), dtype=torch.uint8)
    for mode in testing.PILLOW_SUBSAMPLING:
        found = testing.pillow(image, 40, subsampling=mode)
        for one, decoded in zip(image.flatten(0, 1), found.flatten(0, 1), strict=True):
            assert (decoded.numpy() == libjpeg.pillow(one.numpy(), 40, mode)).all()
    gray = torch.randint(0, 256, (1, 13, 9), dtype=torch.uint8)
    assert (testing.pillow(gray, 40).numpy() == libjpeg.pillow(gray.numpy(), 40)).all()
    assert testing.pillow(image[:0], 40).shape == (0, 1, 3, 13, 9)


def test_samples_that_differ_is_zero_and_can_be_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8)
    assert testing.samples_that_differ(image, 75) == 0
    monkeypatch.setattr(
        testing.assertions, "jpeg", lambda *arguments, **options: 255 - jpegrad.jpeg(*arguments, **options)
    )
    assert testing.samples_that_differ(image, 75) > 1000


def test_sample_budget() -> None:
    expected = torch.arange(100.0)
    found = expected.clone()
    testing.assert_samples(found, expected)
    found[:4] += torch.tensor([1.0, 1.0, -1.0, 2.0])
    error = testing.sample_error(found, expected)
    assert (error.differing, error.total, error.largest, error.bias) == (4, 100, 2.0, 0.03)
    testing.assert_samples(found, expected, share=0.04, largest=2)
    with pytest.raises(AssertionError, match="4 of 100 differ, by at most 2"):
        testing.assert_samples(found, expected, share=0.03, largest=2)
    with pytest.raises(AssertionError, match="by at most 1"):
        testing.assert_samples(found, expected, share=0.5, largest=1)


def test_nan_is_never_within_the_budget() -> None:
    found = torch.tensor([1.0, float("nan")])
    with pytest.raises(AssertionError):
        testing.assert_samples(found, torch.tensor([1.0, 2.0]), share=1, largest=1e9)
    with pytest.raises(AssertionError):
        testing.assert_gradient(found, torch.tensor([1.0, 2.0]), relative=1e9)


def test_levels_may_flip_at_ties_alone() -> None:
    unrounded = torch.tensor([0.4999, -1.5002, 0.2, 7.0])
    expected = torch.tensor([0.0, -2.0, 0.0, 7.0])
    testing.assert_levels(expected, expected, unrounded, share=0)
    flipped = torch.tensor([1.0, -1.0, 0.0, 7.0])
    testing.assert_levels(flipped, expected, unrounded, share=0.5)
    with pytest.raises(AssertionError, match="2 of 4"):
        testing.assert_levels(flipped, expected, unrounded, share=0.25)
    with pytest.raises(AssertionError, match="away from ties; 1 of 4"):
        testing.assert_levels(expected + torch.tensor([0.0, 0.0, 1.0, 0.0]), expected, unrounded, share=1)
    with pytest.raises(AssertionError, match="away from ties; 1 of 4"):
        testing.assert_levels(expected + torch.tensor([2.0, 0.0, 0.0, 0.0]), expected, unrounded, share=1)
    with pytest.raises(AssertionError, match="away from ties"):
        testing.assert_levels(flipped, expected, unrounded, band=1e-5, share=1)


def test_levels_of_an_encoder_in_low_precision() -> None:
    image = torch.rand(3, 64, 64)
    exact = jpegrad.encode(image, 50, subsampling="4:4:4")
    assert exact.unrounded is not None
    for level, unrounded in zip(exact.levels, exact.unrounded, strict=True):
        perturbed = (unrounded + 1e-4 * torch.randn_like(unrounded)).round()
        testing.assert_levels(perturbed, level, unrounded, share=0.01)
        with pytest.raises(AssertionError):
            testing.assert_levels((unrounded + 0.1).round(), level, unrounded, share=0.01)


def test_gradients_are_compared_as_vectors() -> None:
    expected = torch.randn(1000, dtype=torch.float64)
    testing.assert_gradient(expected * (1 + 1e-6), expected)
    error = testing.gradient_error(2 * expected, expected)
    assert (error.cosine, error.relative) == (pytest.approx(1), pytest.approx(1))
    assert testing.gradient_error(-expected, expected).cosine == pytest.approx(-1)
    assert testing.gradient_error(torch.zeros_like(expected), expected) == testing.GradientError(
        0.0, 1.0, pytest.approx(-(expected.sum() / expected.abs().sum()).item())
    )
    with pytest.raises(AssertionError, match="relative error"):
        testing.assert_gradient(expected + 1e-3 * torch.randn_like(expected), expected)


def test_a_lean_to_one_side_is_caught_when_noise_of_the_same_size_is_not() -> None:
    expected = torch.randn(10_000, dtype=torch.float64)
    noise = 1e-2 * torch.randn_like(expected)
    testing.assert_gradient(expected + noise, expected, relative=0.02, bias=1e-3)
    with pytest.raises(AssertionError, match="bias"):
        testing.assert_gradient(expected + 1e-2, expected, relative=0.02, bias=1e-3)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"expected shape \[3\], got \[2\]"):
        testing.sample_error(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="not zero"):
        testing.gradient_error(torch.ones(2), torch.zeros(2))
    with pytest.raises(TypeError, match=r"torch.uint8.*torch.float32"):
        testing.pillow(torch.zeros(3, 8, 8), 50)
    with pytest.raises(ValueError, match="4:4:0"):
        testing.pillow(torch.zeros(3, 8, 8, dtype=torch.uint8), 50, subsampling="4:4:0")
