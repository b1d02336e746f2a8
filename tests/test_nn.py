"""The modules: state, representation, randomness."""

import copy
import pickle

import pytest
import torch
from torch import nn

import jpegrad
from jpegrad.nn import JPEG, RandomJPEG


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_jpeg_is_the_function() -> None:
    image = torch.rand(2, 3, 17, 19)
    options = {"subsampling": "4:2:2", "surrogate": "cubic", "clip_slope": 0.1}
    assert torch.equal(JPEG(40, **options)(image), jpegrad.jpeg(image, 40, **options))
    tables = jpegrad.tables.annex_k(40)
    assert torch.equal(JPEG(tables=tables)(image), jpegrad.jpeg(image, tables=tables))


def test_jpeg_quality_of_a_call_replaces_its_own() -> None:
    image = torch.rand(3, 16, 16)
    for layer in (JPEG(20), JPEG(tables=jpegrad.tables.annex_k(20))):
        assert torch.equal(layer(image, 90), jpegrad.jpeg(image, 90))
        assert torch.equal(layer(image, torch.tensor(90.0)), jpegrad.jpeg(image, 90))


def test_state_is_buffers_unless_learning_is_asked_for() -> None:
    assert not list(JPEG(50).parameters()) and not list(JPEG(50).buffers())
    fixed = JPEG(torch.tensor([20.0, 30.0]))
    assert [name for name, _ in fixed.named_buffers()] == ["quality"] and not list(fixed.parameters())
    learned = JPEG(tables=nn.Parameter(jpegrad.tables.annex_k(50)))
    assert [name for name, _ in learned.named_parameters()] == ["tables"]
    jpeg = learned(torch.rand(3, 16, 16))
    jpeg.square().sum().backward()
    assert learned.tables.grad is not None and (learned.tables.grad != 0).any()
    quality = JPEG(nn.Parameter(torch.tensor(50.0)))
    quality(torch.rand(3, 16, 16)).square().sum().backward()
    assert quality.quality.grad is not None and quality.quality.grad != 0


def test_state_travels() -> None:
    source, target = JPEG(torch.tensor(12.0)), JPEG(torch.tensor(90.0))
    target.load_state_dict(source.state_dict())
    image = torch.rand(3, 16, 16)
    assert torch.equal(target(image), jpegrad.jpeg(image, 12))
    assert JPEG(torch.tensor(12.0)).double().quality.dtype == torch.float64


def test_representation() -> None:
    assert repr(JPEG(75, subsampling="4:4:4")) == "JPEG(quality=75, subsampling=4:4:4)"
    assert "tables=tensor[2, 8, 8]" in repr(JPEG(tables=jpegrad.tables.annex_k(5)))
    assert "quality=(30, 95)" in repr(RandomJPEG()) and "p=1.0" in repr(RandomJPEG())
    record = jpegrad.surrogates.soft_round(3)
    assert "surrogate=soft_round" in repr(JPEG(5, surrogate=record))


@pytest.mark.parametrize("lead", [(), (1,), (6,), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("modes", ["4:2:0", ("4:4:4", "4:2:0", "4:1:1")], ids=str)
@pytest.mark.parametrize("p", [1.0, 0.5, 0.0])
def test_random_jpeg_keeps_shape_and_type(
    lead: tuple[int, ...], modes: str | tuple[str, ...], p: float
) -> None:
    for image in (torch.rand(*lead, 3, 11, 13), torch.randint(0, 256, (*lead, 1, 11, 13), dtype=torch.uint8)):
        out = RandomJPEG((10, 90), subsampling=modes, p=p)(image)
        assert (out.shape, out.dtype) == (image.shape, image.dtype)
        if p == 0:
            assert torch.equal(out, image)


@pytest.mark.parametrize("modes", ["4:2:0", ("4:4:4", "4:2:0", "4:1:1")], ids=str)
def test_random_jpeg_is_reproducible(modes: str | tuple[str, ...]) -> None:
    image = torch.rand(8, 3, 16, 16)

    def augment(seed: int) -> RandomJPEG:
        return RandomJPEG((5, 95), subsampling=modes, p=0.8, generator=generator(seed))

    first, again, other = augment(1), augment(1), augment(2)
    drawn = first(image)
    assert torch.equal(drawn, again(image))
    assert not torch.equal(drawn, other(image))
    assert not torch.equal(drawn, first(image))
    torch.manual_seed(3)
    default = RandomJPEG((5, 95), subsampling=modes)(image)
    torch.manual_seed(3)
    assert torch.equal(default, RandomJPEG((5, 95), subsampling=modes)(image))


def test_every_image_has_a_quality_and_mode_of_its_own() -> None:
    one = torch.rand(3, 16, 16)
    modes = ("4:4:4", "4:2:0")
    out = RandomJPEG((40, 42), subsampling=modes, generator=generator())(one.expand(60, 3, 16, 16))
    possible = {(q, m): jpegrad.jpeg(one, q, subsampling=m) for q in (40, 41, 42) for m in modes}
    drawn = [next(key for key, coded in possible.items() if torch.equal(coded, x)) for x in out]
    assert set(drawn) == set(possible)


def test_qualities_are_uniform_and_reach_both_ends() -> None:
    drawn = RandomJPEG((1, 4), generator=generator())._draw((4000,))
    counts = torch.stack([(drawn == q).sum() for q in range(1, 5)])
    assert counts.sum() == 4000
    # Five standard deviations of a binomial with p = 1/4.
    assert (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5


def test_p_is_the_share_of_coded_images() -> None:
    image = torch.rand(3, 8, 8).expand(1000, 3, 8, 8)
    untouched = (RandomJPEG((10, 10), p=0.3, generator=generator())(image) == image).flatten(1).all(1).sum()
    assert abs(int(untouched) - 700) < 5 * (1000 * 0.3 * 0.7) ** 0.5


@pytest.mark.parametrize("modes", ["4:2:0", ("4:4:4", "4:2:2")], ids=str)
def test_random_jpeg_is_differentiable(modes: str | tuple[str, ...]) -> None:
    image = torch.rand(4, 3, 16, 16, requires_grad=True)
    RandomJPEG((50, 90), subsampling=modes, p=0.5)(image).square().sum().backward()
    assert image.grad is not None and image.grad.isfinite().all() and (image.grad != 0).any()


def test_random_jpeg_is_pickled_and_copied_with_its_place_in_the_sequence() -> None:
    image = torch.rand(5, 3, 16, 16)
    augment = RandomJPEG((5, 95), subsampling=("4:4:4", "4:2:0"), generator=generator(9))
    augment(image)
    twins = pickle.loads(pickle.dumps(augment)), copy.deepcopy(augment)
    expected = augment(image)
    for twin in twins:
        assert torch.equal(twin(image), expected)
    assert twins[0].generator is not augment.generator


def test_a_worker_may_hold_it() -> None:
    # A data loader sends the module to its workers by pickling, inside other modules too.
    model = nn.Sequential(RandomJPEG((5, 95), generator=generator()), nn.Identity())
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(pickle.loads(pickle.dumps(model))(image), model(image))
