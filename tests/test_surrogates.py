"""Every surrogate obeys the same laws: its slope is the derivative of its soft function, and its floor is a floor's."""

import warnings
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

import jpegrad
from jpegrad import formulas, surrogates, testing
from jpegrad.surrogates import Component, Surrogate

LUMA = Component("Y", 0.447, 1)
CHROMA = Component("Cb", 0.388, 4)

with warnings.catch_warnings():
    # Narrower than any use, for the formulas' sake.
    warnings.simplefilter("ignore")
    NARROW = surrogates.gaussian(0.1)

EVERY = [
    *surrogates.ALL.values(),
    surrogates.soft_round(0.5),
    surrogates.soft_round(20.0),
    NARROW,
    surrogates.gaussian(8.0),
    surrogates.table_relative(0.03),
    surrogates.table_relative(0.5),
]


def label(record: Surrogate) -> str:
    return " ".join(map(str, (record.name, *record.slope.parameters)))  # type: ignore[attr-defined]


every = pytest.mark.parametrize("record", EVERY, ids=label)
# Rounding in the mean: one step of the staircase per step of the coefficient. The table rules are laws of another kind.
MEAN_ONE = [
    r for r in EVERY if r.name not in ("cubic", "reich2024", "reich2024_ste", "distortion", "dead_zone")
]


def grid(low: float = -4.0, high: float = 4.0, count: int = 1601) -> torch.Tensor:
    """Coefficients in steps, off the kinks at integers and halves."""
    return torch.linspace(low, high, count, dtype=torch.float64)[:-1] + 1.7e-4


def at(record: Surrogate, which: str, u: torch.Tensor, step: float, component: Component) -> torch.Tensor:
    torch.manual_seed(1)
    function: Callable[..., torch.Tensor] = getattr(record, which)
    return function(u, torch.tensor(step, dtype=u.dtype), component)


@every
def test_every_record_obeys_the_laws(record: Surrogate) -> None:
    report = testing.check_surrogate(record)
    assert report.pickles
    if record in MEAN_ONE:
        assert report.mean_slope == pytest.approx((1, 1), abs=2e-6)


@every
def test_soft_stays_near_the_rounding(record: Surrogate) -> None:
    u = grid()
    # Farthest is the dead zone: its cut, 1 + 1/√12, and half a step.
    assert (at(record, "soft", u, 16.0, LUMA) - u.round()).abs().max() < 1.8


def test_every_record_has_a_name_and_a_source() -> None:
    for name, record in surrogates.ALL.items():
        assert record.name == name
        assert len(record.source) > 10
        assert surrogates.get(name).name == name


def test_the_shipped_names() -> None:
    needed = {
        "identity",
        "cubic",
        "sin",
        "fourier",
        "soft_round",
        "gaussian",
        "noise",
        "reich2024",
        "reich2024_ste",
    }
    assert needed <= set(surrogates.ALL)


def test_gaussian_is_the_mean_of_rounding_noisy_coefficients() -> None:
    record, step = surrogates.gaussian(3.0), 8.0
    u = torch.linspace(-1.2, 1.2, 13, dtype=torch.float64)
    width = float(LUMA.noise_variance(3.0)) ** 0.5 / step
    noisy = u + width * torch.randn(400_000, 1, dtype=torch.float64)
    torch.testing.assert_close(at(record, "soft", u, step, LUMA), noisy.round().mean(0), rtol=0, atol=4e-3)


def test_gaussian_narrows_to_the_staircase_and_widens_to_the_identity() -> None:
    u = grid()
    step = torch.tensor(255.0, dtype=torch.float64)
    narrow = formulas.smoothed_round(u, torch.tensor(0.0, dtype=torch.float64))
    away = (u - u.floor() - 0.5).abs() > 0.01
    torch.testing.assert_close(narrow[away], u.round()[away])
    torch.testing.assert_close(surrogates.gaussian(1e6).soft(u, step, LUMA), u, rtol=0, atol=1e-8)


def test_soft_round_has_its_two_limits() -> None:
    u = grid()
    torch.testing.assert_close(at(surrogates.soft_round(1e-3), "soft", u, 1.0, LUMA), u, rtol=0, atol=1e-6)
    away = (u - u.floor() - 0.5).abs() > 0.05
    sharp = at(surrogates.soft_round(300.0), "soft", u, 1.0, LUMA)
    torch.testing.assert_close(sharp[away], u.round()[away], rtol=0, atol=1e-6)


def test_a_record_of_your_own() -> None:
    own = Surrogate(
        "tenth",
        lambda u, step, component: u / 10,
        lambda u, step, component: torch.full_like(u, 0.1),
        "this test",
    )
    image = torch.rand(3, 16, 16, dtype=torch.float64)
    cotangent = torch.randn_like(image)
    gradients = []
    for surrogate in ("identity", own):
        x = image.clone().requires_grad_()
        jpegrad.jpeg(x, 50, surrogate=surrogate, clip_slope=1.0).backward(cotangent)
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[1], gradients[0] / 10)


def test_the_papers_presets_choose_forward_floors_and_clip_slope() -> None:
    image = torch.rand(3, 16, 16, dtype=torch.float64) * 1.4 - 0.2
    exact = jpegrad.jpeg(image, 30)
    assert torch.equal(jpegrad.jpeg(image, 30, surrogate="reich2024_ste"), exact)
    assert torch.equal(jpegrad.jpeg(image, 30, surrogate="reich2024", forward="exact"), exact)
    soft = jpegrad.jpeg(image, 30, surrogate="reich2024")
    assert not torch.equal(soft, exact)
    assert torch.equal(soft, jpegrad.jpeg(image, 30, surrogate="reich2024", forward="soft", clip_slope=1e-3))

    def quality_gradient(name: str, **options: str) -> float:
        quality = torch.tensor(25.0, dtype=torch.float64, requires_grad=True)
        (jpegrad.jpeg(image, quality, surrogate=name, **options) - image).square().sum().backward()
        assert quality.grad is not None
        return quality.grad.item()

    # The paper's cubic floor has slope 0 where the scaling is an integer: 5000 / 25 = 200.
    assert quality_gradient("reich2024_ste") == 0
    assert quality_gradient("cubic") != 0


def test_table_surrogate_none_is_the_distortion_rule() -> None:
    image = torch.rand(3, 16, 16)
    gradients = []
    for rule in (None, "distortion", surrogates.distortion):
        tables = jpegrad.tables.annex_k(40).requires_grad_()
        (jpegrad.jpeg(image, tables=tables, table_surrogate=rule) - image).square().sum().backward()
        gradients.append(tables.grad)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])


def test_sigma_reaches_the_gaussian() -> None:
    image = torch.rand(3, 16, 16)
    gradients = []
    for options in ({"sigma": 0.5}, {"surrogate": surrogates.gaussian(0.5)}, {"sigma": 6.0}):
        x = image.clone().requires_grad_()
        jpegrad.jpeg(x, 40, **options).square().sum().backward()
        gradients.append(x.grad)
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.equal(gradients[0], gradients[2])


def test_relative_width_is_that_of_a_table_entry_known_to_a_share() -> None:
    """Averaging the true staircase over a table entry with relative noise gives the soft function."""
    generator = torch.Generator().manual_seed(0)
    rho, step = 0.05, torch.tensor(16.0, dtype=torch.float64)
    noise = torch.randn(400_000, generator=generator, dtype=torch.float64)
    for u in (3.2, 3.45, 5.6, 8.3):
        averaged = (u + rho * round(u) * noise).round().mean()
        soft = surrogates.table_relative(rho).soft(torch.tensor(u, dtype=torch.float64), step, LUMA)
        assert soft.item() == pytest.approx(averaged.item(), abs=5e-3)


def test_the_narrowing_width_goes_down_in_a_straight_line() -> None:
    for budget, last in ((2.0, 1.5), (8.0, 2.0)):
        widths = [surrogates.narrowing(budget, progress / 10) for progress in range(11)]
        assert widths[0] == 4 * budget and widths[-1] == pytest.approx(last)
        assert all(b - a == pytest.approx((last - 4 * budget) / 10) for a, b in pairwise(widths))


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_narrowing_refuses_what_is_no_share(progress: float) -> None:
    with pytest.raises(ValueError, match="progress: expected a number from 0 to 1"):
        surrogates.narrowing(2.0, progress)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("inf")])
def test_widths_are_positive(wrong: float) -> None:
    with pytest.raises(ValueError, match="rho: expected a positive number"):
        surrogates.table_relative(wrong)
    with pytest.raises(ValueError, match="budget: expected a positive number"):
        surrogates.narrowing(wrong, 0.0)
