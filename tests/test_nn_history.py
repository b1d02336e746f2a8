"""RandomHistory: every step against Pillow, against the composition by hand, and its randomness."""

import copy
import functools
import pickle
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

import jpegrad
from jpegrad.nn import Drawn, History, RandomHistory, RandomJPEG, Step
from test_nn_codings import generator, opened, pictures, saved

MODES: Any = ("4:4:4", "4:2:0", "4:2:2")
PILLOW = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def step(
    quality: Sequence[float],
    shift: Sequence[Sequence[int]] | None = None,
    scale: Sequence[float] | None = None,
    filters: Sequence[int] | None = None,
    mode: Sequence[int] | None = None,
) -> Step:
    """A step for as many images as there are qualities."""
    count = len(quality)
    coding = torch.tensor(mode or [0] * count)
    return Step(
        torch.tensor(scale or [1.0] * count, dtype=torch.float64),
        torch.tensor(filters or [0] * count),
        torch.tensor(shift or [[0, 0]] * count),
        Drawn(torch.tensor(quality), coding, torch.ones(count, dtype=torch.bool)),
    )


def cropped_and_saved(image: Tensor, shift: Sequence[int], **options: Any) -> Tensor:
    """A larger picture, saved, opened and cropped."""
    top, left = shift
    if (top, left) != (0, 0):
        larger = np.pad(image.numpy(), ((0, 0), (top, 7 - top), (left, 7 - left)), mode="edge")
    else:
        larger = image.numpy()
    found = opened(saved(torch.from_numpy(larger), **options))
    height, width = image.shape[-2:]
    return found[:, top : top + height, left : left + width]


@pytest.mark.parametrize("size", [(37, 45), (16, 24), (1, 1), (5, 9)], ids=str)
@pytest.mark.parametrize("channels", [3, 1])
def test_a_history_of_crops_is_what_pillow_makes(
    size: tuple[int, int], channels: int, tally: Callable[[np.ndarray, np.ndarray], None]
) -> None:
    images = pictures(12, channels)[..., : size[0], : size[1]]
    layer = RandomHistory(RandomJPEG((10, 95), subsampling=MODES, generator=generator(2)), (0, 3), scaled=0)
    history = layer.draw(images.shape)
    out = layer(images, history)
    assert {*history.rounds.tolist()} == {0, 1, 2, 3}
    for i, image in enumerate(images):
        for each in history.steps[3 - int(history.rounds[i]) :]:
            assert each.coding.quality is not None
            mode = MODES[each.coding.coding[i]]
            way = {"quality": int(each.coding.quality[i])} | (
                {"subsampling": PILLOW[mode]} if channels == 3 else {}
            )
            image = cropped_and_saved(image, each.shift[i].tolist(), **way)
        tally(out[i].numpy(), image.numpy())


@pytest.mark.parametrize("shift", [(r, c) for r in (0, 1, 7) for c in (0, 3, 7)], ids=str)
def test_a_shift_is_a_crop_of_what_was_coded(shift: tuple[int, int]) -> None:
    # What lies outside of the picture decides nothing that a crop keeps whole.
    (image,) = pictures(1)
    layer = RandomHistory(RandomJPEG(), 2)
    history = History(torch.tensor([2]), (step([40], [shift]), step([70])))
    coded = jpegrad.jpeg(cropped_and_saved(image, shift, quality=40), 70)
    assert torch.equal(layer(image[None], history)[0], coded)


def resized(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """By hand, of floating-point images in 0…1."""
    real = interpolate(image[None], size, mode=mode, antialias=True)[0]
    inside = torch.where((real < 0) | (real > 1), real.detach().clamp(0, 1), real)
    whole = ((inside.detach().double() * 255).round() / 255).to(image.dtype)
    return whole + (inside - inside.detach())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("aligned", [True, False])
def test_sizes_in_between_are_those_of_the_composition(dtype: torch.dtype, aligned: bool) -> None:
    images = pictures(5)
    images = images if dtype == torch.uint8 else (images.double() / 255).to(dtype)
    coding = RandomJPEG((10, 95), subsampling=MODES[:2], generator=generator(5))
    layer = RandomHistory(coding, 3, scale=(0.3, 2.1), aligned=aligned)
    history = layer.draw(images.shape)
    x = images if dtype == torch.uint8 else images.clone().requires_grad_()
    out, expected = layer(x, history), []
    sizes = set()
    y = images.clone() if dtype == torch.uint8 else images.clone().requires_grad_()
    for i, image in enumerate(y):
        for at, each in enumerate(history.steps):
            assert each.coding.quality is not None
            scale, mode = float(each.scale[i]), layer.filters[each.filter[i]]
            assert at < 2 or not aligned or scale == 1
            size = round(37 * scale), round(45 * scale)
            sizes.add(size)
            if image.shape[-2:] != size:
                if dtype == torch.uint8:
                    real = interpolate(image[None].float(), size, mode=mode, antialias=True)[0]
                    image = real.round().clamp(0, 255).byte()
                else:
                    image = resized(image, size, mode)
            (top, left), inner = each.shift[i].tolist(), image
            if (top, left) != (0, 0):
                rows = (torch.arange(size[0] + 7) - top).clamp(0, size[0] - 1)
                columns = (torch.arange(size[1] + 7) - left).clamp(0, size[1] - 1)
                inner = image[:, rows][:, :, columns]
            coded = jpegrad.jpeg(
                inner, each.coding.quality[i].item(), subsampling=MODES[int(each.coding.coding[i])]
            )
            image = coded[:, top : top + size[0], left : left + size[1]]
        if image.shape[-2:] != (37, 45):
            if dtype == torch.uint8:
                real = interpolate(image[None].float(), (37, 45), mode=mode, antialias=True)[0]
                image = real.round().clamp(0, 255).byte()
            else:
                image = resized(image, (37, 45), mode)
        expected.append(image)
    assert len(sizes) > 3
    together = torch.stack(expected)
    if dtype == torch.uint8:
        assert torch.equal(out, together)
        return
    # k / 255 by another division.
    assert ((out - together).abs() * 255).max() < 1e-4
    weights = torch.rand(out.shape, dtype=dtype)
    (out * weights).sum().backward()
    (together * weights).sum().backward()
    assert x.grad is not None and y.grad is not None
    assert (x.grad - y.grad).norm() < 1e-5 * y.grad.norm() and (y.grad.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [0.5, 0.37, 1.6])
def test_a_size_in_between_is_that_of_a_program(mode: str, scale: float) -> None:
    (image,) = pictures(1)
    layer = RandomHistory(RandomJPEG(subsampling="4:4:4"), 2, filters=mode)
    # At quality 100 a coding changes next to nothing.
    height, width = round(37 * scale), round(45 * scale)
    way = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[mode]
    found = layer(image[None], History(torch.tensor(2), (step([100], scale=[scale]), step([100]))))[0]
    small = Image.fromarray(image.movedim(0, -1).numpy()).resize((width, height), way)
    back = np.array(small.resize((45, 37), way)).astype(int)
    # Pillow rounds between rows and columns; each coding rounds twice.
    assert np.abs(found.movedim(0, -1).numpy() - back).mean() < 1.5


def test_gradients_of_crops_and_repeats_are_those_of_the_composition() -> None:
    images = pictures(3).double() / 255
    layer = RandomHistory(RandomJPEG(subsampling=MODES), 2)
    first, second = step([30, 60, 80], [[3, 5], [0, 0], [7, 1]], mode=[0, 1, 2]), step([50, 40, 90])
    x, y = images.clone().requires_grad_(), images.clone().requires_grad_()
    out = layer(x, History(torch.tensor([2, 1, 2]), (first, second)))
    rows, parts = [30, 60, 80], []
    for i, (image, (top, left)) in enumerate(zip(y, first.shift.tolist(), strict=True)):
        if i != 1:
            larger = torch.nn.functional.pad(
                image[None], (left, 7 - left, top, 7 - top) if i != 1 else (0,) * 4, mode="replicate"
            )[0]
            coded = jpegrad.jpeg(larger, rows[i], subsampling=MODES[i])
            image = coded[:, top : top + 37, left : left + 45]
        parts.append(jpegrad.jpeg(image, [50, 40, 90][i], subsampling="4:4:4"))
    expected = torch.stack(parts)
    assert torch.equal(out, expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    assert x.grad is not None and y.grad is not None
    assert (x.grad - y.grad).norm() < 1e-12 * y.grad.norm()


def test_layers_follow_one_another_in_time() -> None:
    images = pictures(6)
    source = generator()
    camera = RandomJPEG(like="web_very_high", generator=source)
    program = RandomJPEG(80, tables="robidoux", generator=source)
    messenger = RandomJPEG((30, 40), subsampling="4:2:0", generator=source)
    layer = RandomHistory([camera, program, messenger], (1, 3), shifted=0, scaled=0)
    history = layer.draw(images.shape)
    assert {*history.rounds.tolist()} == {1, 2, 3}
    out = layer(images, history)
    last = history.steps[2].coding
    assert last.quality is not None
    for i, (image, count) in enumerate(zip(images, history.rounds.tolist(), strict=True)):
        if count > 2:
            image = camera(image)
        if count > 1:
            image = program(image)
        assert torch.equal(out[i], jpegrad.jpeg(image, last.quality[i].item()))
    assert len(RandomHistory([camera, messenger]).draw(images.shape).steps) == 2


def augment(seed: int | None = 0, **options: Any) -> RandomHistory:
    source = None if seed is None else generator(seed)
    coding = RandomJPEG((10, 95), subsampling=MODES, generator=source, per=options.pop("per", "image"))
    return RandomHistory(coding, **options)


def test_it_is_reproducible_and_may_be_replayed() -> None:
    images = pictures(6)
    out = augment(1)(images)
    assert torch.equal(augment(1)(images), out) and not torch.equal(augment(2)(images), out)
    torch.manual_seed(4)
    first = augment(None)(images)
    torch.manual_seed(4)
    assert torch.equal(augment(None)(images), first)
    layer = augment(1)
    history = layer.draw(images.shape)
    assert torch.equal(layer(images, history), out)
    twins = pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)
    expected = layer(images)
    for twin in twins:
        assert torch.equal(twin(images), expected) and twin.generator is not layer.generator
    layer.eval()
    assert layer(images) is images and torch.equal(layer(images, history), out)


class Drawing(Dataset[Tensor]):
    def __init__(self, layer: RandomHistory) -> None:
        self.layer = layer

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> Tensor:
        return self.layer.draw((3, 8, 8)).steps[0].scale


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_and_epochs_draw_each_for_itself(context: str) -> None:
    def delivered() -> list[float]:
        layer = augment(5, scaled=1)
        loader = DataLoader(
            Drawing(layer),
            batch_size=None,
            num_workers=2,
            multiprocessing_context=context,
            generator=generator(1),
        )
        return [float(scale) for _ in range(2) for scale in loader]

    first = delivered()
    assert len({*first}) == 12 and delivered() == first


def test_what_is_drawn_is_as_described() -> None:
    layer = augment(rounds=(0, 3), shifted=0.7, scaled=0.4, scale=(0.5, 3.0))
    history = layer.draw((4000, 3, 8, 8))

    def near(found: Tensor, p: float) -> bool:
        # Five standard deviations of a binomial.
        return bool(abs(int(found.sum()) - 4000 * p) < 5 * (4000 * p * (1 - p)) ** 0.5)

    assert all(near(history.rounds == n, 1 / 4) for n in range(4))
    first, second, last = history.steps
    for each in (first, second):
        assert near(each.shift.any(-1), 0.7) and near(each.scale != 1, 0.4) and near(each.filter == 0, 0.5)
        assert near(each.shift[:, 0] == 0, 0.3 + 0.7 * 7 / 63) and near(each.shift[:, 1] == 7, 0.7 * 8 / 63)
        changed = each.scale[each.scale != 1]
        assert changed.min() >= 0.5 and changed.max() < 3 and abs(changed.mean() - 1.75) < 0.1
    assert (last.scale == 1).all() and not last.shift.any()
    loose = augment(rounds=1, shifted=1, scaled=1, aligned=False).draw((50, 3, 8, 8)).steps[0]
    assert loose.shift.any(-1).all() and (loose.scale != 1).all()


@pytest.mark.parametrize(("per", "shape"), [("image", (2, 4)), ("clip", (2, 1)), ("batch", (1, 1))])
def test_who_shares_a_history(per: str, shape: tuple[int, int]) -> None:
    layer = augment(per=per, aligned=False, rounds=(1, 2))
    still = pictures(2)[:, None].expand(2, 4, 3, 37, 45)
    history = layer.draw(still.shape)
    assert history.rounds.shape == shape and history.steps[0].shift.shape == (*shape, 2)
    out = layer(still, history)
    if per != "image":
        assert torch.equal(out, out[:, :1].expand_as(out))
    one = RandomHistory(RandomJPEG(50, per="batch"), 1)(still[0, 0])
    assert torch.equal(one, jpegrad.jpeg(still[0, 0], 50))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("own", [True, False])
def test_a_checkpoint_recomputes_the_history(own: bool, reentrant: bool) -> None:
    found = []
    for recomputed in (True, False):
        layer = augment(3 if own else None, aligned=False)
        torch.manual_seed(2)
        run = functools.partial(checkpoint, layer, use_reentrant=reentrant) if recomputed else layer
        image = (pictures(4) / 255).requires_grad_()
        x = image * 1.0
        for _ in range(2):
            x = run(x)
        x.square().sum().backward()
        found.append(image.grad)
    assert found[0] is not None and found[1] is not None
    assert (found[0] - found[1]).norm() <= 1e-6 * found[1].norm() and found[1].any()


def test_images_of_every_kind_keep_theirs() -> None:
    images = pictures(6)
    layer = augment(aligned=False, rounds=(0, 2))
    history = layer.draw(images.shape)
    for dtype in (torch.float16, torch.bfloat16):
        half = (images / 255).to(dtype)
        out = layer(half, history)
        # As if in float32, rounded once.
        assert out.dtype is dtype and torch.equal(out, layer(half.float(), history).to(dtype))
    last = layer(images.contiguous(memory_format=torch.channels_last), history)
    assert last.is_contiguous(memory_format=torch.channels_last) and torch.equal(last, layer(images, history))
    assert layer(images[:0]).shape == images[:0].shape
    none = history._replace(rounds=torch.tensor(0))
    assert layer(images, none) is images
    kinds: Any = (("alpha", 4), ("alpha", 2), ("planes", 5), ("CMYK", 4))
    for kind, count in kinds:
        many = pictures(6, count)
        special = RandomHistory(
            RandomJPEG((10, 95), channels=kind, subsampling="4:4:4", generator=generator(1)), 2
        )
        drawn = special.draw(many.shape)
        out = special(many, drawn)
        if kind == "alpha":
            assert torch.equal(out[:, -1], many[:, -1])
            plain = RandomHistory(RandomJPEG((10, 95), subsampling="4:4:4"), 2)
            assert torch.equal(out[:, :-1], plain(many[:, :-1], drawn))
        elif kind == "planes":
            plain = RandomHistory(RandomJPEG((10, 95)), 2)
            assert torch.equal(out[:, 3:4], plain(many[:, 3:4], drawn))
    soft = RandomHistory(RandomJPEG((10, 95), forward="soft"), 2, scaled=1, aligned=False)
    smooth = soft(images / 255)
    assert smooth.min() >= 0 and smooth.max() <= 1 and (smooth * 255 != (smooth * 255).round()).any()


def test_a_range_of_its_own_and_values_outside() -> None:
    images = pictures(4).double() / 255
    mean, std = (0.5, 0.4, 0.3), (0.5, 0.25, 1.0)
    layer = RandomHistory(RandomJPEG((50, 90), generator=generator(7)), 2, scaled=1, aligned=False)
    history = layer.draw(images.shape)
    plain = layer(images, history)
    a, b = (torch.tensor(x, dtype=torch.float64)[:, None, None] for x in (mean, std))
    ranges: dict[Any, Tensor] = {
        (-1, 1): 2 * images - 1,
        jpegrad.inputs.normalized(mean, std): (images - a) / b,
    }
    for value_range, shown in ranges.items():
        other = RandomHistory(RandomJPEG((50, 90), value_range=value_range), 2)(shown, history)
        back = other / 2 + 0.5 if value_range == (-1, 1) else other * b + a
        # Halves between two levels, as of bytes there are some, fall to either side; a later coding spreads that.
        assert ((back - plain).abs() > 1e-9).double().mean() < 0.02
        assert back.min() >= -1e-9 and back.max() <= 1 + 1e-9
    wild = 255 * torch.rand(2, 3, 20, 20, generator=generator())
    first = RandomHistory(RandomJPEG(100, subsampling="4:4:4"), 1, aligned=False)
    scaled = History(torch.tensor(1), (step([100], scale=[0.5]),))
    with pytest.warns(UserWarning, match="value_range"):
        out = first(wild, scaled)
    assert out.min() >= 0 and out.max() <= 1


def test_what_cannot_be_read_is_an_error() -> None:
    images = pictures(2)
    layer = augment(None)
    with pytest.raises(RuntimeError, match=r"nn\.RandomHistory: expected draws that can be read"):
        torch.func.vmap(layer, randomness="different")(images)
    history = layer.draw(images[0].shape)
    mapped = torch.func.vmap(lambda x: layer(x, history))(images / 255)
    assert torch.equal(mapped, torch.stack([layer(x, history) for x in images / 255]))


@pytest.mark.slow
def test_around_it_a_function_is_compiled() -> None:
    images, layer = pictures(4), augment(None)
    torch.manual_seed(1)
    expected = layer(images)
    torch.manual_seed(1)
    assert torch.equal(torch.compile(layer, backend="eager")(images), expected)


LAYER = RandomJPEG()
VALUE, TYPE = ValueError, TypeError
WRONG: dict[str, tuple[Any, dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "no layer": ([], {}, VALUE, ("coding", "none")),
    "another layer": ([jpegrad.nn.JPEG(5)], {}, TYPE, ("coding", "RandomJPEG", "JPEG")),
    "p": (RandomJPEG(p=0.5), {}, VALUE, ("coding", "p=1", "0.5")),
    "per": ([LAYER, RandomJPEG(per="batch")], {}, VALUE, ("one per", "image and batch")),
    "generator": ([LAYER, RandomJPEG(generator=generator())], {}, VALUE, ("one generator",)),
    "value_range": ([LAYER, RandomJPEG(value_range=(0, 255))], {}, VALUE, ("one value_range", "255.0")),
    "channels": ([LAYER, RandomJPEG(channels="planes")], {}, VALUE, ("one channels", "planes")),
    "rounds": (LAYER, {"rounds": 1.5}, TYPE, ("rounds", "integer", "1.5")),
    "rounds below 0": (LAYER, {"rounds": (-1, 2)}, VALUE, ("rounds", "(-1, 2)")),
    "rounds upside down": (LAYER, {"rounds": (3, 2)}, VALUE, ("rounds", "(3, 2)")),
    "rounds: bool": (LAYER, {"rounds": True}, TYPE, ("rounds", "True")),
    "too many rounds": ([LAYER, LAYER], {"rounds": 3}, VALUE, ("rounds", "at most 2", "3")),
    "shifted": (LAYER, {"shifted": 2}, VALUE, ("shifted", "2")),
    "scaled": (LAYER, {"scaled": "x"}, TYPE, ("scaled", "str")),
    "scale": (LAYER, {"scale": (0, 1)}, VALUE, ("scale", "(0, 1)")),
    "scale NaN": (LAYER, {"scale": float("nan")}, VALUE, ("scale", "nan")),
    "scale: three": (LAYER, {"scale": (1, 2, 3)}, TYPE, ("scale", "(1, 2, 3)")),
    "filters": (LAYER, {"filters": "nearest"}, VALUE, ("filters", "bicubic", "'nearest'")),
    "no filter": (LAYER, {"filters": ()}, VALUE, ("filters", "none")),
    "aligned": (LAYER, {"aligned": 1}, TYPE, ("aligned", "int")),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_an_error(case: str) -> None:
    coding, options, error, words = WRONG[case]
    with pytest.raises(error) as caught:
        RandomHistory(coding, **options)
    for word in words:
        assert word in str(caught.value)


def test_what_is_given_as_history_is_checked() -> None:
    layer, images = augment(rounds=2), pictures(2)
    good, two = layer.draw(images.shape), cast(Any, 2)
    first, last = good.steps

    def changed(**fields: Any) -> History:
        return good._replace(steps=(first._replace(**fields), last))

    for wrong, error, words in (
        (tuple(good), TYPE, "history: expected a History"),
        (good._replace(steps=(last,)), VALUE, r"history\.steps: expected 2, got 1"),
        (good._replace(rounds=torch.tensor(3)), VALUE, r"history\.rounds: expected 0 to 2, got 3"),
        (good._replace(rounds=torch.tensor(1.0)), TYPE, r"history\.rounds: expected integers"),
        (History(two, good.steps), TYPE, r"history\.rounds: .*int"),
        (changed(scale=torch.tensor(0.0)), VALUE, r"history\.steps\[0\]\.scale: expected more than 0"),
        (changed(scale=torch.tensor(1)), TYPE, r"history\.steps\[0\]\.scale: expected floating-point"),
        (changed(filter=torch.tensor(2)), VALUE, r"history\.steps\[0\]\.filter: expected 0 to 1, got 2"),
        (changed(shift=torch.tensor([0, 8])), VALUE, r"history\.steps\[0\]\.shift: expected 0 to 7, got 8"),
        (changed(shift=torch.tensor([0, 1, 2])), VALUE, r"history\.steps\[0\]\.shift"),
        (changed(coding=None), TYPE, "drawn: expected a Drawn"),
    ):
        with pytest.raises(error, match=words):
            layer(images, wrong)
