"""RandomJPEG with a generator of its own, where PyTorch copies or repeats work: workers, processes, checkpoints."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

import jpegrad
from jpegrad import randomness
from jpegrad.nn import RandomJPEG

LENGTH, WORKERS = 8, 2
IMAGE = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(4))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Drawing(Dataset[Tensor]):
    """Per item, what two layers of one generator draw, and the image that the second one codes."""

    def __init__(self, source: torch.Generator | None) -> None:
        self.layers = [RandomJPEG((1.0, 100.0), generator=source) for _ in range(2)]

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, i: int) -> tuple[float, float, Tensor]:
        first, second = (layer.draw(IMAGE.shape) for layer in self.layers)
        return float(first.quality), float(second.quality), self.layers[1](IMAGE, second)


def epochs(
    context: str, seed: int, source: torch.Generator | None = None, persistent: bool = False
) -> list[list[tuple[float, float, Tensor]]]:
    """What two epochs deliver, item by item, the workers taking turns."""
    loader = DataLoader(
        Drawing(source),
        batch_size=None,
        num_workers=WORKERS,
        multiprocessing_context=context,
        generator=generator(seed),
        persistent_workers=persistent,
    )
    return [list(loader) for _ in range(2)]


def qualities(delivered: list[list[tuple[float, float, Tensor]]]) -> list[float]:
    return [quality for epoch in delivered for *pair, _ in epoch for quality in pair]


@pytest.mark.parametrize(
    ("context", "persistent"),
    [
        ("fork", False),
        ("fork", True),
        pytest.param("spawn", False, marks=pytest.mark.slow),
        ("forkserver", False),
        pytest.param("spawn", True, marks=pytest.mark.slow),
        pytest.param("forkserver", True, marks=pytest.mark.slow),
    ],
)
def test_workers_and_epochs_draw_each_for_itself(context: str, persistent: bool) -> None:
    delivered = epochs(context, 1, generator(), persistent)
    drawn = qualities(delivered)
    assert len(set(drawn)) == len(drawn) == 2 * 2 * LENGTH
    _, quality, coded = delivered[0][0]
    assert torch.equal(coded, jpegrad.jpeg(IMAGE, quality))


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_draw_the_same_for_the_same_seeds(persistent: bool) -> None:
    run = functools.partial(epochs, "fork", persistent=persistent)
    first = qualities(run(1, generator(0)))
    assert qualities(run(1, generator(0))) == first
    for other in (run(2, generator(0)), run(1, generator(1))):
        assert not {*qualities(other)} & {*first}
    default = qualities(run(1))
    assert qualities(run(1)) == default and len({*default}) == len(default)


def test_a_loader_without_workers_leaves_the_generator_alone() -> None:
    loader = DataLoader(Drawing(generator(5)), batch_size=None)
    layer = RandomJPEG((1.0, 100.0), generator=generator(5))
    assert qualities([list(loader)]) == [float(layer.draw(IMAGE.shape).quality) for _ in range(2 * LENGTH)]


def test_layers_of_one_generator_stay_together() -> None:
    dataset = copy.deepcopy(Drawing(generator(5)))
    first, second = dataset.layers
    assert first.generator is second.generator
    assert len({*qualities([[dataset[i] for i in range(LENGTH)]])}) == 2 * LENGTH


class Network(nn.Module):
    """Two segments, each with a convolution, dropout and a random JPEG in it, used again and again."""

    def __init__(self, source: torch.Generator | None, run: Callable[..., Tensor]) -> None:
        super().__init__()
        self.run = run
        self.segments = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3, 3, 3, padding=1),
                nn.Sigmoid(),
                RandomJPEG((5, 95), subsampling=("4:2:0", "4:4:4"), p=0.7, generator=source),
                nn.Dropout(0.2),
            )
            for _ in range(2)
        )

    def forward(self, image: Tensor) -> Tensor:
        for segment in [*self.segments, *self.segments]:
            image = self.run(segment, image)
        return image


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Equal but for the order in which float32 is added; another quality is off by a third and more."""
    assert (found - expected).norm() <= 1e-6 * expected.norm() and (expected != 0).any()


def plain(function: Callable[..., Tensor], image: Tensor) -> Tensor:
    return function(image)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("own", [True, False])
def test_a_checkpoint_recomputes_what_was_drawn(own: bool, reentrant: bool) -> None:
    def recomputed(function: Callable[..., Tensor], image: Tensor) -> Tensor:
        return checkpoint(function, image, use_reentrant=reentrant)  # type: ignore[no-any-return]

    def run(how: Callable[..., Tensor]) -> tuple[list[Tensor], Tensor]:
        source = generator(1) if own else None
        found = []
        torch.manual_seed(3)
        network = Network(source, how)
        image = IMAGE.expand(4, -1, -1, -1).clone().requires_grad_()
        for _ in range(3):
            loss = network(image).square().sum() + network(1 - image).sum()
            network.zero_grad()
            image.grad = None
            loss.backward()
            found += [x.grad.clone() for x in (image, *network.parameters()) if x.grad is not None]
        # Where the generators are afterwards: a recomputation must not move them.
        return found, torch.cat([torch.rand(3), torch.rand(3, generator=source)])

    (found, place), (expected, expected_place) = run(recomputed), run(plain)
    assert len(found) == len(expected) == 3 * 5
    for a, b in zip(found, expected, strict=True):
        assert_same(a, b)
    assert torch.equal(place, expected_place)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_recomputation_that_cannot_be_right_is_an_error(
    reentrant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = RandomJPEG((5, 95), generator=generator())

    def loss(**options: Any) -> Tensor:
        image = IMAGE.clone().requires_grad_()
        return checkpoint(layer, image, use_reentrant=reentrant, **options).sum()  # type: ignore[no-any-return]

    with pytest.raises(RuntimeError, match=r"nn\.RandomJPEG.*preserve_rng_state"):
        loss(preserve_rng_state=False).backward()
    monkeypatch.setattr(randomness, "REMEMBERED", 2)
    forgotten, kept = loss(), [loss(), loss()]
    for each in kept:
        each.backward()
    with pytest.raises(RuntimeError, match=r"nn\.RandomJPEG.*2 calls"):
        forgotten.backward()


def test_drawn_beforehand_every_checkpoint_is_right() -> None:
    layer = RandomJPEG((5, 95), generator=generator())
    drawn = layer.draw(IMAGE.shape)
    found = []
    for run in (plain, functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False)):
        image = IMAGE.clone().requires_grad_()
        run(lambda x: layer(x, drawn), image).square().sum().backward()
        found.append(image.grad)
    assert found[0] is not None and found[1] is not None
    assert_same(found[1], found[0])


def test_the_generator_alone_decides() -> None:
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        layer = RandomJPEG((5, 95), generator=generator())
        drawn.append(layer(IMAGE.expand(20, -1, -1, -1)))
    assert torch.equal(*drawn)
