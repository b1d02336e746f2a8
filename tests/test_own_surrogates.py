"""Tools for surrogates of your own: the laws, each broken once; the derivative of real files, where it is known."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import surrogates
from jpegrad.surrogates import Component, Formula, Surrogate
from jpegrad.testing import SampledGradient, check_surrogate, real_gradient

Rounding = Callable[[Tensor, Tensor, Component], Tensor]


def bent(bend: float, u: Tensor, *_: object) -> Tensor:
    return u + bend * torch.sin(u)


def bent_slope(bend: float, u: Tensor, *_: object) -> Tensor:
    return 1 + bend * torch.cos(u)


OWN = Surrogate("own", Formula(bent, (0.3,)), Formula(bent_slope, (0.3,)), "this test")


def test_a_lawful_record_passes_and_says_what_it_is() -> None:
    report = check_surrogate(OWN)
    assert report.pickles
    low, high = report.mean_slope
    assert (
        low == high == pytest.approx(1 + 0.3 * (torch.tensor([4.0, 3.0]).sin().diff().item() * -1), abs=1e-5)
    )
    assert not check_surrogate(replace(OWN, slope=lambda u, *_: bent_slope(0.3, u))).pickles


def in_place(u: Tensor, *_: object) -> Tensor:
    return u.mul_(1.0).add_(0.0).neg_().neg_().add_(1e-3)


def only_a_table(u: Tensor, step: Tensor, _: object) -> Tensor:
    return u / 2 * step.reshape(8, 8) / step


# What is broken, how, and words of the message.
BROKEN: dict[str, tuple[dict[str, Rounding], tuple[str, ...]]] = {
    "another slope": (
        {"slope": surrogates.identity.slope},
        (
            "slope is the derivative of soft",
            "u = -3.99983, step 1, Y",
            "it is 1, the difference quotient 0.80",
        ),
    ),
    "one law for one plane": (
        {"slope": lambda u, s, c: bent_slope(0.3, u) + (c.name == "Cb") * (s > 90) * (u > 2)},
        ("derivative", "step 99, Cb"),
    ),
    "no graph": ({"soft": lambda u, *_: bent(0.3, u.detach())}, ("derivative by autograd 0",)),
    "NaN": ({"slope": lambda u, *_: bent_slope(0.3, u) + 0 / u}, ("slope is finite", "u = 0", "nan")),
    "overflow": ({"soft": lambda u, *_: u.exp()}, ("soft is finite", "u = 1024", "inf")),
    "None": ({"slope": lambda u, *_: None}, ("expected a tensor from slope, got NoneType",)),
    "a number": ({"slope": lambda u, *_: 1.0}, ("expected a tensor from slope, got float",)),
    "a scalar": (
        {"slope": lambda u, *_: u.mean()},
        ("slope of a step of shape []", "the shape of u, [2, 3, 8, 8], got []"),
    ),
    "another type": ({"slope": lambda u, *_: u > 0}, ("the shape and type", "torch.bool")),
    "another precision": ({"soft": lambda u, *_: u.float()}, ("torch.float64 is torch.float32",)),
    "in place": ({"soft": in_place}, ("soft writes into u or step",)),
    "steps of one shape": ({"soft": only_a_table}, ("soft of a step of shape []",)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_every_law_is_held(case: str) -> None:
    fields, words = BROKEN[case]
    with pytest.raises(AssertionError) as caught:
        check_surrogate(replace(OWN, **fields))
    assert str(caught.value).startswith("surrogate 'own': ")
    for word in words:
        assert word in str(caught.value)


def test_random_functions_leave_the_users_stream_alone() -> None:
    state = torch.get_rng_state()
    check_surrogate(surrogates.noise)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("backend", jpegrad.backends.ORDER[1:])
@pytest.mark.parametrize("which", ["surrogate", "table_surrogate"])
def test_wrong_shapes_are_errors_when_they_come(which: str, backend: str) -> None:
    image = torch.rand(3, 16, 16)
    if jpegrad.backends.explain(image)[backend]:
        pytest.skip("it cannot run here")
    for slope, error, words in (
        (lambda u, *_: u.mean(), ValueError, "surrogate 'own': expected slope of the shape of u"),
        (lambda u, *_: None, TypeError, "surrogate 'own': expected a tensor from slope, got NoneType"),
    ):
        with pytest.raises(error, match=words):
            tables = jpegrad.tables.annex_k(50).requires_grad_()
            x = image.clone().requires_grad_()
            options = {which: replace(OWN, slope=slope)}
            jpegrad.jpeg(x, tables=tables, backend=backend, **options).sum().backward()
    with pytest.raises(ValueError, match="surrogate 'own': expected soft of the shape of u"):
        jpegrad.jpeg(image, 50, forward="soft", surrogate=replace(OWN, soft=lambda u, *_: u[..., 0]))


def test_a_record_holds_functions() -> None:
    with pytest.raises(TypeError, match=r"slope: expected a function \(u, step, component\), got 1.0"):
        Surrogate("mine", lambda u, *_: u, 1.0, "a mistake")  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"soft: expected a function \(u, step, component\), got one of \(u\)"
    ):
        Surrogate("mine", lambda u: u, torch.cos, "a mistake")  # type: ignore[misc, arg-type]
    assert Surrogate("mine", lambda u, *_: u, torch.cos, "a builtin does not say").slope is torch.cos
    with pytest.raises(TypeError, match="table: expected a Surrogate or None, got str"):
        replace(OWN, table="cubic")
    with pytest.raises(TypeError, match="record: expected a Surrogate, got str"):
        check_surrogate("cubic")  # type: ignore[arg-type]


GENERATOR = torch.Generator().manual_seed(0)
# At quality 100 and 4:4:4 the codec is nearly the identity, so a linear loss has its own weights as gradient.
FINE = 0.5 + 0.04 * torch.randn(3, 16, 16, generator=GENERATOR)
WEIGHTS = torch.randn(2, 3, 16, 16, generator=GENERATOR)


def sampled(
    image: Tensor = FINE, quality: int = 100, sigma: float = 4.0, **options: object
) -> SampledGradient:
    chosen = {"subsampling": "4:4:4", "pairs": 1500, **options}
    # In float64: how float32 adds up a product is the machine's matter.
    weights = WEIGHTS[0].flatten().double()
    return real_gradient(image, quality, sigma, lambda x: x.double().flatten(1) @ weights, **chosen)


def test_the_gradient_of_a_fine_file_is_the_weights_within_the_error() -> None:
    found = sampled()
    assert found.parts.shape == (10, 3, 16, 16) and found.parts.dtype is torch.float64
    deviations = (found.mean - WEIGHTS[0]) / found.error
    # Student's t of nine degrees of freedom: variance 9/7.
    assert deviations.square().mean().item() == pytest.approx(9 / 7, abs=0.35)
    slope, error = found.along(WEIGHTS[0])
    assert abs(slope - WEIGHTS[0].square().sum().item()) < 4 * error
    agreement = found.agreement(WEIGHTS[0])
    assert abs(agreement.cosine - 1) < 0.03 + 3 * agreement.cosine_error < 0.2
    assert abs(agreement.size - 1) < 0.03 + 3 * agreement.size_error < 0.2


def test_files_that_pillow_wrote_say_the_same() -> None:
    options = {"quality": 40, "sigma": 2.0, "pairs": 60, "parts": 3, "subsampling": "4:2:0"}
    assert torch.equal(sampled(**options).parts, sampled(**options, files=True).parts)


def test_units_and_seeds() -> None:
    few = {"pairs": 60, "parts": 3}
    # The noise is the same in grey levels, the image and its gradient in units of their own.
    unit, grey = sampled(**few), sampled(255 * FINE, value_range=(0, 255), **few)
    torch.testing.assert_close(unit.parts, grey.parts, rtol=1e-4, atol=1e-4)
    signed = sampled(2 * FINE - 1, value_range=(-1, 1), **few)
    torch.testing.assert_close(unit.parts, signed.parts, rtol=1e-4, atol=1e-4)
    assert torch.equal(unit.parts, sampled(**few).parts)
    assert not torch.equal(unit.parts, sampled(**few, seed=1).parts)


def test_several_losses_share_the_noise() -> None:
    both = real_gradient(
        FINE, 100, 4.0, lambda x: x.flatten(1) @ WEIGHTS.flatten(1).T, subsampling="4:4:4", pairs=60, parts=3
    )
    assert both.parts.shape == (3, 2, 3, 16, 16)
    # The losses are added up in float32, in another order.
    torch.testing.assert_close(both.parts[:, 0], sampled(pairs=60, parts=3).parts, rtol=1e-3, atol=1e-3)


def test_agreement_recognises_the_truth_and_its_double() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(3, 16, 16, generator=generator)
    noisy = truth + 3 * torch.randn(10, 3, 16, 16, generator=generator)
    estimate = SampledGradient(noisy.double())
    exact = estimate.agreement(2 * truth)
    assert abs(exact.cosine - 1) < 3 * exact.cosine_error + 0.05
    assert abs(exact.size - 0.5) < 3 * exact.size_error + 0.02
    stranger = estimate.agreement(torch.randn(3, 16, 16, generator=generator))
    assert abs(stranger.cosine) < 0.2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"image": FINE[None]}, "image: expected \\[C, H, W\\]"),
        ({"image": (255 * FINE).byte()}, "image: expected \\[C, H, W\\] in floating point"),
        ({"sigma": 0.0}, "sigma: expected a positive number"),
        ({"quality": 0}, "quality: expected 1 to 100"),
        ({"parts": 1}, "parts: expected 2 to pairs"),
        ({"pairs": 3}, "parts: expected 2 to pairs \\(3\\), got 10"),
        ({"subsampling": "4:2:1"}, "subsampling: expected one of"),
        ({"value_range": (1, 0)}, "value_range: expected finite low < high"),
    ],
)
def test_wrong_arguments(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sampled(**wrong)  # type: ignore[arg-type]


def test_a_loss_gives_a_number_per_image() -> None:
    with pytest.raises(ValueError, match=r"loss: expected \[6\] or \[6, L\], got \[\]"):
        real_gradient(FINE, 50, 2.0, lambda x: x.sum(), pairs=12, parts=2)
    with pytest.raises(ValueError, match="gradient: expected shape"):
        SampledGradient(torch.zeros(4, 3, 2, 2)).agreement(torch.zeros(3, 2, 1))
