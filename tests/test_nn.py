"""The modules: state, representation, randomness."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import jpegrad
from jpegrad.nn import JPEG, Drawn, RandomJPEG


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


def test_integer_qualities_are_uniform_and_reach_both_ends() -> None:
    drawn = RandomJPEG((1, 4), generator=generator()).draw((4000, 3, 8, 8)).quality
    counts = torch.stack([(drawn == q).sum() for q in range(1, 5)])
    assert counts.sum() == 4000
    # Five standard deviations of a binomial with p = 1/4.
    assert (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("quality", [(20.0, 24), (20, 24.0), [20.0, 24.0], np.array([20.0, 24.0])], ids=repr)
def test_real_qualities_are_uniform(quality: Any) -> None:
    layer = RandomJPEG(quality, generator=generator())
    drawn = layer.draw((4000, 3, 8, 8)).quality
    assert drawn.dtype == torch.float64 and drawn.min() >= 20 and drawn.max() <= 24
    counts = torch.histc(drawn, 4, 20, 24)
    assert (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5
    image = torch.rand(3, 3, 16, 16)
    drawn = layer.draw(image.shape)
    assert torch.equal(layer(image, drawn), jpegrad.jpeg(image, drawn.quality))
    assert torch.equal(
        layer(image[0], layer.draw(image[0].shape)._replace(quality=drawn.quality[0])), layer(image, drawn)[0]
    )


@pytest.mark.parametrize(
    "quality",
    [(30, 95), [30, 95], np.array([30, 95]), (np.int64(30), np.uint8(95)), np.array([30, 95], np.uint8)],
    ids=repr,
)
def test_integers_of_every_kind_are_bounds(quality: Any) -> None:
    assert RandomJPEG(quality).quality == (30, 95)
    assert not RandomJPEG(quality).draw((9, 3, 8, 8)).quality.is_floating_point()


@pytest.mark.parametrize("quality", [40, 40.5, np.float32(40.5), np.int32(40)], ids=repr)
def test_one_number_is_the_quality_of_all(quality: Any) -> None:
    image = torch.rand(3, 3, 16, 16)
    assert torch.equal(RandomJPEG(quality)(image), jpegrad.jpeg(image, quality))
    assert torch.equal(RandomJPEG(quality)(image[0]), jpegrad.jpeg(image[0], quality))


@pytest.mark.parametrize("quality", [[20.0, 90.0], (20, 90), np.array([20, 90])], ids=repr)
def test_a_list_or_array_is_a_quality_per_image(quality: Any) -> None:
    layer = JPEG(quality)
    assert [name for name, _ in layer.named_buffers()] == ["quality"]
    image = torch.rand(2, 3, 16, 16)
    assert torch.equal(layer(image), jpegrad.jpeg(image, torch.tensor([20.0, 90.0])))


def test_jpeg_without_a_quality_takes_it_from_each_call() -> None:
    layer, image = JPEG(subsampling="4:4:4"), torch.rand(2, 3, 16, 16)
    for quality in (30, torch.tensor([30.0, 70.0])):
        assert torch.equal(layer(image, quality), jpegrad.jpeg(image, quality, subsampling="4:4:4"))
    with pytest.raises(ValueError, match=r"quality: .*nn\.JPEG"):
        layer(image)


def drawn_values(layer: RandomJPEG, out: Tensor, still: Tensor) -> list[tuple[int, ...]]:
    """Which of the layer's possible results each image is, by comparison alone."""
    low, high = layer.quality
    possible = [still] + [
        jpegrad.jpeg(still, q, subsampling=m)
        for m in layer.subsampling
        for q in range(int(low), int(high) + 1)
    ]
    return [
        next(i for i, x in enumerate(possible) if torch.equal(x, y)) for y in out.reshape(-1, *still.shape)
    ]


@pytest.mark.parametrize(("per", "groups"), [("image", 60), ("clip", 12), ("batch", 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
def test_who_shares_a_draw(per: str, groups: int, dtype: torch.dtype) -> None:
    still = (
        torch.rand(3, 16, 16) if dtype.is_floating_point else torch.randint(0, 256, (3, 16, 16), dtype=dtype)
    )
    video = still.expand(3, 4, 5, -1, -1, -1)
    seen = set()
    for seed in range(120 if per == "batch" else 4):
        layer = RandomJPEG(
            (10, 14), per=per, p=0.7, subsampling=("4:2:0", "4:4:4"), generator=generator(seed)
        )
        found = drawn_values(layer, layer(video), still)
        shared = [found[i : i + 60 // groups] for i in range(0, 60, 60 // groups)]
        assert all(len({*group}) == 1 for group in shared)
        seen |= {*found}
    # Not coded, and five qualities in each of two modes.
    assert seen == {*range(11)}


def test_a_clip_has_frames() -> None:
    layer = RandomJPEG(per="clip")
    assert layer.draw((7, 3, 8, 8)).quality.shape == (1,)
    assert layer.draw((2, 7, 3, 8, 8)).quality.shape == (2, 1)
    with pytest.raises(ValueError, match=r"image: .*T, C, H, W"):
        layer(torch.rand(3, 8, 8))
    assert RandomJPEG(per="batch")(torch.rand(3, 8, 8)).shape == (3, 8, 8)


@pytest.mark.parametrize("per", ["image", "clip", "batch"])
@pytest.mark.parametrize("modes", ["4:2:0", ("4:4:4", "4:2:0")], ids=str)
@pytest.mark.parametrize("own", [True, False])
def test_what_was_drawn_can_be_read_and_used_again(per: str, modes: Any, own: bool) -> None:
    image = torch.rand(2, 4, 3, 16, 16)
    first, again = (
        RandomJPEG((5, 95), per=per, subsampling=modes, p=0.6, generator=generator(2) if own else None)
        for _ in range(2)
    )
    # With a generator of one's own a call takes a number of the default one besides, and nothing else.
    torch.manual_seed(1)
    drawn = first.draw(image.shape)
    torch.manual_seed(1)
    out = again(image)
    assert torch.equal(first(image, drawn), out)
    mode = [first.codings[i].subsampling for i in drawn.coding.expand(2, 4).reshape(-1).tolist()]
    quality, coded = (x.expand(2, 4).reshape(-1) for x in (drawn.quality, drawn.coded))
    for i, (x, y) in enumerate(zip(image.reshape(-1, 3, 16, 16), out.reshape(-1, 3, 16, 16), strict=True)):
        assert torch.equal(y, jpegrad.jpeg(x, quality[i], subsampling=mode[i]) if coded[i] else x)


def test_what_is_given_as_drawn_is_checked() -> None:
    layer, image = RandomJPEG(), torch.rand(2, 3, 8, 8)
    drawn = layer.draw(image.shape)
    for wrong, error, words in (
        ((50, 0, True), TypeError, "drawn: expected a Drawn"),
        (drawn._replace(quality=50), TypeError, r"drawn\.quality: .*int"),
        (drawn._replace(quality=torch.rand(3)), ValueError, r"drawn\.quality: .*\[2\]"),
        (drawn._replace(coded=torch.ones(2)), TypeError, r"drawn\.coded: .*bool"),
        (drawn._replace(coding=torch.zeros(2)), TypeError, r"drawn\.coding: .*integers"),
        (
            drawn._replace(coding=torch.tensor(1)),
            ValueError,
            r"drawn\.coding: expected 0 to 0, got 1",
        ),
    ):
        with pytest.raises(error, match=words):
            layer(image, wrong)


def test_a_drawn_quality_may_be_learned() -> None:
    layer, image = (
        RandomJPEG(subsampling=("4:2:0", "4:4:4"), p=0.5, generator=generator()),
        torch.rand(6, 3, 16, 16),
    )
    drawn = layer.draw(image.shape)
    quality = drawn.quality.double().requires_grad_()
    layer(image, drawn._replace(quality=quality)).square().sum().backward()
    assert quality.grad is not None
    assert torch.equal(quality.grad != 0, drawn.coded)


def test_evaluation_leaves_images_alone() -> None:
    layer, image = RandomJPEG((10, 20)), torch.rand(2, 3, 16, 16)
    drawn = layer.draw(image.shape)
    coded = layer(image, drawn)
    model = nn.Sequential(layer).eval()
    assert torch.equal(model(image), image)
    assert torch.equal(layer(image, drawn), coded) and not torch.equal(coded, image)
    assert not torch.equal(model.train()(image), image)
    assert not torch.equal(JPEG(10).eval()(image), image)


@pytest.fixture
def coded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that are coded from now on."""
    shapes = []

    def counted(image: Tensor, *args: Any, **options: Any) -> Tensor:
        shapes.append(tuple(image.shape))
        return jpegrad.jpeg(image, *args, **options)

    monkeypatch.setattr(jpegrad.nn.augmentation, "jpeg", counted)
    return shapes


def test_only_what_is_drawn_is_coded(coded: list[tuple[int, ...]]) -> None:
    image = torch.rand(4, 5, 3, 8, 8)
    layer = RandomJPEG(p=0.4, subsampling=("4:2:0", "4:4:4"), generator=generator())
    drawn = layer.draw(image.shape)
    layer(image, drawn)
    counts = [int((drawn.coded & (drawn.coding == i)).sum()) for i in range(2)]
    assert coded == [(n, 3, 8, 8) for n in counts] and 0 < sum(counts) < 20
    coded.clear()
    assert RandomJPEG(p=0)(image) is image and not coded
    assert layer(image, drawn._replace(coded=torch.tensor(False))) is image and not coded
    RandomJPEG()(image)
    assert coded == [tuple(image.shape)]


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


def test_it_is_pickled_inside_other_modules() -> None:
    model = nn.Sequential(RandomJPEG((5, 95), generator=generator()), nn.Identity())
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(pickle.loads(pickle.dumps(model))(image), model(image))


class Named(Tensor):
    """A tensor with a type of its own, as torchvision's."""


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_images_of_another_type_keep_it(p: float) -> None:
    image = torch.rand(6, 3, 16, 16)
    layer = RandomJPEG((5, 95), subsampling=("4:2:0", "4:4:4"), p=p, generator=generator())
    drawn = layer.draw(image.shape)
    named = layer(image.as_subclass(Named), drawn)
    assert type(named) is Named and torch.equal(named.as_subclass(Tensor), layer(image, drawn))


MODES = [("4:2:0",), ("4:4:4", "4:2:0")]


@pytest.mark.parametrize("modes", MODES, ids=str)
@pytest.mark.parametrize("p", [1.0, 0.5])
@pytest.mark.whole_graph
def test_compiled_exported_and_mapped_it_draws_the_same(modes: tuple[str, ...], p: float) -> None:
    image = torch.rand(4, 3, 16, 16)
    layer = RandomJPEG((5, 95), subsampling=modes, p=p)
    ways = {
        "eager": layer,
        "compiled": torch.compile(layer, fullgraph=True, backend="eager"),
        "exported": torch.export.export(layer, (image,)).module(),
        "mapped": torch.func.vmap(layer, randomness="same", in_dims=1, out_dims=1),
    }
    found = {}
    for name, way in ways.items():
        torch.manual_seed(6)
        found[name] = way(image[:, None])[:, 0] if name == "mapped" else way(image)
    for name, out in found.items():
        assert torch.equal(out, found["eager"]), name
    torch.func.vmap(layer, randomness="different")(image)
    own = RandomJPEG((5, 95), subsampling=modes, p=p, generator=generator())
    assert torch.compile(own, backend="eager")(image).shape == image.shape


@pytest.mark.gpu
def test_on_a_device_it_codes_as_on_the_cpu() -> None:
    image = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    for quality in ((5, 95), (5.0, 95.0)):
        layer = RandomJPEG(quality, subsampling=("4:2:0", "4:4:4"), p=0.6, generator=generator())
        drawn = layer.draw(image.shape)
        expected = layer(image, drawn)
        assert torch.equal(layer(image.cuda(), drawn).cpu(), expected)
        # A draw that lies there is not read.
        there = Drawn(*(x.cuda() for x in drawn))
        assert torch.equal(layer(image.cuda(), there).cpu(), expected)
    with pytest.raises(ValueError, match="generator: expected one of the CPU"):
        RandomJPEG(generator=torch.Generator("cuda"))
