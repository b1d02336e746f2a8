"""A learned quality or table entry that a step carries outside its range comes back, whatever computes its gradient."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import jpegrad


def picture() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    waves = torch.stack([torch.sin(x / (4 + c)) * torch.cos(y / (5 - c)) for c in range(3)])
    return 0.5 + 0.3 * waves + 0.05 * torch.randn(3, 48, 64, generator=generator)


def finer(image: Tensor, value: Tensor, what: str, forward: str, backend: str) -> Tensor:
    """A loss that wants a higher quality, smaller entries."""
    coded = jpegrad.jpeg(image, **{what: value}, forward=forward, backend=backend)
    return (coded - image).square().mean() * 1e4


def coarser(image: Tensor, value: Tensor, what: str, forward: str, backend: str) -> Tensor:
    """A loss that wants the opposite."""
    # The kernels do not encode in the soft forward.
    backend = "reference" if forward == "soft" else backend
    return jpegrad.bits(jpegrad.encode(image, **{what: value}, forward=forward, backend=backend)).sum()


def flat(value: float) -> Tensor:
    return torch.full((2, 8, 8), value)


CASES = {
    "quality 100.5": ("quality", torch.tensor(100.5), torch.tensor(100.0), coarser),
    "quality 0.5": ("quality", torch.tensor(0.5), torch.tensor(1.0), finer),
    "quality -1e6": ("quality", torch.tensor(-1e6), torch.tensor(1.0), finer),
    "a quality each": ("quality", torch.tensor([0.5, 103.0]), torch.tensor([1.0, 100.0]), finer),
    "tables 300": ("tables", flat(300.0), flat(255.0), finer),
    "tables -3": ("tables", flat(-3.0), flat(1.0), coarser),
}
forwards = pytest.mark.parametrize("forward", ["exact", "soft"])


def gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    at = at.clone().requires_grad_()
    return torch.autograd.grad(loss(at), at)[0]


@pytest.mark.parametrize("backend", ["reference", "auto"])
@forwards
@pytest.mark.parametrize("case", CASES)
def test_outside_the_gradient_is_that_of_the_nearest_bound(case: str, forward: str, backend: str) -> None:
    what, outside, bound, loss = CASES[case]
    image = picture().expand(2, 3, 48, 64) if bound.ndim == 1 else picture()

    def at(value: Tensor) -> Tensor:
        return loss(image, value, what, forward, backend)

    assert torch.equal(at(outside), at(bound))
    expected = gradient(at, bound)
    assert (expected != 0).any()
    assert torch.equal(gradient(at, outside), expected)


@forwards
@pytest.mark.parametrize("case", ["quality 100.5", "quality 0.5", "tables 300", "tables -3"])
def test_adam_brings_it_back(case: str, forward: str) -> None:
    what, outside, bound, loss = CASES[case]
    image = picture()

    def at(value: Tensor) -> Tensor:
        return loss(image, value, what, forward, "auto")

    inward = (bound - outside).sign()
    # A narrow staircase is flat for most entries, at the bound as outside; and Adam adds 1e-8 to a gradient's size.
    moved = -gradient(at, bound) * inward > 1e-6
    assert moved.any()
    parameter = torch.nn.Parameter(outside.clone())
    optimizer = torch.optim.Adam([parameter], lr=(outside - bound).abs().max().item() / 5)
    for _ in range(12):
        optimizer.zero_grad()
        at(parameter).backward()
        optimizer.step()
    assert (((parameter.detach() - bound) * inward)[moved] > 0).all()


# PyTorch's own deprecations inside its forward mode.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning:torch")
@forwards
@pytest.mark.parametrize("start", [0.5, 1.0, 40.0, 100.0, 100.5])
@pytest.mark.whole_graph
@pytest.mark.slow
def test_every_kind_of_derivative_agrees(start: float, forward: str) -> None:
    image = picture().double()

    def loss(quality: Tensor) -> Tensor:
        return finer(image, quality, "quality", forward, "reference")

    quality = torch.tensor(start, dtype=torch.float64)
    expected = gradient(loss, quality)
    assert expected != 0
    torch.testing.assert_close(torch.func.grad(loss)(quality), expected)
    torch.testing.assert_close(torch.func.jacrev(loss)(quality), expected)
    torch.testing.assert_close(torch.func.jacfwd(loss)(quality), expected)
    torch.testing.assert_close(
        gradient(torch.compile(loss, backend="eager", fullgraph=True), quality), expected
    )


def test_quality_first_then_bytes_only() -> None:
    quality = torch.nn.Parameter(torch.tensor(99.0))
    optimizer = torch.optim.Adam([quality], lr=2.0)
    for step in range(60):
        optimizer.zero_grad()
        (finer if step < 5 else coarser)(picture(), quality, "quality", "exact", "auto").backward()
        optimizer.step()
    assert quality < 90


def test_the_papers_presets_are_not_dead_outside_either() -> None:
    for name in ("reich2024", "reich2024_ste"):
        for what, outside in (
            ("quality", torch.tensor(99.5)),
            ("tables", flat(300.0)),
            ("tables", flat(-3.0)),
        ):

            def loss(value: Tensor, name: str = name, what: str = what) -> Tensor:
                return (jpegrad.jpeg(picture(), **{what: value}, surrogate=name) - picture()).square().sum()

            assert (gradient(loss, outside) != 0).any()
