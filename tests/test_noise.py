"""What clamps do to noise: against integrals over the noise, and against what the codec's own stages do to it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import lossless
from jpegrad.backends import reference
from jpegrad.spec import components
from jpegrad.stages import noise
from kernel_cases import MODES, channels, spec

LEVELS = torch.tensor(
    [-30.0, -3.0, 0.0, 0.4, 5.0, 40.0, 128.0, 250.0, 254.9, 255.0, 263.0, 300.0], dtype=torch.float64
)


def moments(deviation: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of clamp(level + noise), by the midpoint rule."""
    z = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 100_000 - 1
    z = 9 * z
    weights = torch.exp(-0.5 * z**2)
    weights /= weights.sum()
    clamped = (LEVELS[:, None] + deviation * z).clamp(0, 255)
    mean = clamped @ weights
    return mean, (clamped - mean[:, None]).square() @ weights


@pytest.mark.parametrize("deviation", [0.2, 2.0, 60.0])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_a_clamp_of_noise_is_its_mean_and_its_own_gradient(deviation: float, slope: float) -> None:
    mean, variance = moments(deviation)
    found = noise.clamped(LEVELS, deviation**2, slope)
    torch.testing.assert_close(found, mean + slope * (LEVELS - mean), atol=1e-6, rtol=0)
    torch.testing.assert_close(noise.clamped_variance(LEVELS, deviation**2), variance, atol=1e-6, rtol=1e-5)
    x = LEVELS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: noise.clamped(x, deviation**2, slope), x)


def test_what_is_no_number() -> None:
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e36, -1e36], requires_grad=True)
    found = noise.clamped(x, 4.0, 0.0)
    torch.testing.assert_close(found, torch.tensor([2 * 0.39894228, 255.0, 0.0, 255.0, 0.0]))
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert slope.tolist() == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("mode", [*MODES, "gray"])
def test_noise_of_blocks_with_clamped_pixels(mode: str) -> None:
    """Its variance in the coefficients of noisy pictures, on average over a block."""
    generator, count, sigma = torch.Generator().manual_seed(3), 600, 4.0
    picture = (torch.rand(channels(mode), 21, 37, generator=generator) * 300 - 20).clamp(0, 255)
    picture[..., 12:] = 255
    noisy = picture + sigma * torch.randn(count, *picture.shape, generator=generator)
    subsampling = "4:2:0" if mode == "gray" else mode
    ones = torch.ones(2, 8, 8)
    coded = jpegrad.encode(noisy, tables=ones, subsampling=subsampling, value_range=(0, 255))
    assert coded.unrounded is not None
    soft = spec(mode, forward="soft", value_range=(0.0, 255.0), surrogate=jpegrad.surrogates.gaussian(sigma))
    known = reference.block_noise(picture.double(), soft)
    assert known is not None
    for u, found, role in zip(coded.unrounded, known, components(len(picture), subsampling), strict=True):
        measured = u.detach().double().var(0).mean((-2, -1))
        # What padding repeats is not white.
        inner = measured[:-1, :-1], found[:-1, :-1, 0, 0]
        torch.testing.assert_close(*inner, rtol=0.06, atol=0.02)
        assert found.max() <= role.noise_variance(sigma) * (1 + 1e-9)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 8.0])
def test_variance_of_decoded_samples(sigma: float) -> None:
    generator = torch.Generator().manual_seed(4)
    mean = 30 * torch.randn(20, 1, 8, 8, generator=generator, dtype=torch.float64)
    table = jpegrad.tables.annex_k(75)[0].double()
    levels = (
        (mean + sigma * torch.randn(4000, 20, 1, 8, 8, generator=generator, dtype=torch.float64)) / table
    ).round()
    measured = (levels * table).var(0).mean((-2, -1))
    found = noise.sample_variance(
        levels.mean(0), table, torch.full((20, 1, 1, 1), sigma**2, dtype=torch.float64)
    )
    ratio = found[..., 0, 0] / measured
    assert ratio.min() > 0.85 and ratio.max() < 1.2


def saturated() -> Tensor:
    picture = torch.zeros(2, 3, 24, 48, dtype=torch.float64)
    picture[..., 7:19] = 1
    picture[1, 0] = 0.99
    return picture


def test_levels_carry_their_noise() -> None:
    image = saturated()
    coded = jpegrad.encode(image, 60, forward="soft", sigma=4.0)
    whole = jpegrad.jpeg(image, 60, forward="soft", sigma=4.0)
    assert torch.equal(jpegrad.decode(coded), whole)
    stacked = jpegrad.Coefficients.stack([coded[0], coded[1]])
    for same in (stacked, coded.to("cpu"), coded.detach()):
        assert torch.equal(jpegrad.decode(same), whole)
    for turned, back in ((lossless.transpose(coded), (-1, -2)), (lossless.flip(coded, "horizontal"), None)):
        decoded = jpegrad.decode(turned)
        torch.testing.assert_close(decoded.flip(-1) if back is None else decoded.transpose(*back), whole)
    assert jpegrad.encode(image, 60).noise is None
    assert jpegrad.encode(image, 60, forward="soft", surrogate="cubic").noise is None


def test_a_function_of_ones_own_has_no_noise() -> None:
    image, smooth = saturated(), jpegrad.surrogates.gaussian(4.0)
    sharp = replace(smooth, soft=lambda *arguments: smooth.soft(*arguments))
    assert jpegrad.jpeg(image, 60, forward="soft", surrogate=sharp)[0].max() == 1
    assert jpegrad.jpeg(image, 60, forward="soft", surrogate=smooth)[0].max() < 0.999
    assert (sharp.sigma, smooth.sigma) == (None, 4.0)
