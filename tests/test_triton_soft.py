"""The Triton kernels' soft forward against the reference in float64: values, and gradients to image and tables."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import surrogates
from jpegrad.spec import Spec, resolve
from kernel_cases import (
    COLORS,
    LAYOUTS,
    SOFT_GRADIENTS,
    SOFT_RECORDS,
    SOFT_VALUES,
    TRITON,
    channels,
    close,
    compare_soft,
    soft,
    soft_results,
)

pytestmark = TRITON.marks

SIZES = [(1, 1), (23, 40), (8, 1), (1, 33), (16, 16), (39, 3), (2, 17)]


def few(*cases: Any, rest: Sequence[Any]) -> list[Any]:
    """The rest is slow under the interpreter."""
    marks = [pytest.mark.slow] if TRITON.interpreted else []
    return [*cases, *(pytest.param(case, marks=marks) for case in rest)]


def check(image: Tensor, chosen: Spec, quality: float = 50.0, count: int = 2) -> None:
    # Entries that are no integers: the soft forward takes any.
    compare_soft(TRITON, image, TRITON.tables(quality, count) * 1.003, chosen)


@pytest.mark.parametrize("name", SOFT_RECORDS)
def test_every_record(name: str) -> None:
    # Gray is the fastest under the interpreter.
    check(TRITON.picture(1, 1, 17, 30), soft("gray", surrogate=SOFT_RECORDS[name]), 20.0, 1)


@pytest.mark.parametrize("mode", few("4:2:0", "4:1:1", rest=["4:4:4", "4:2:2", "4:4:0"]))
def test_every_mode(mode: str) -> None:
    check(TRITON.picture(1, channels(mode), 17, 33), soft(mode, clip_slope=0.1))


@pytest.mark.parametrize("size", few((17, 5), rest=SIZES))
def test_every_size(size: tuple[int, int]) -> None:
    check(TRITON.picture(1, 3, *size), soft("4:2:0"), 80.0)


def test_plain_upsampling() -> None:
    check(TRITON.picture(1, 3, 9, 20), soft("4:2:0", decoder=jpegrad.Decoder(upsampling="replicate")))


@pytest.mark.parametrize("width", few(0.29, rest=[0.04, 0.08, 0.1, 0.17, 0.24, 0.31, 0.5, 1.5]))
def test_every_threshold_that_matters(width: float) -> None:
    """Flat blocks of all grey levels: their means, in steps of 255, see the smoothed staircase alone."""
    grey = torch.linspace(0.01, 0.99, 512).repeat_interleave(8).expand(1, 1, 8, -1).to(TRITON.device)
    entries = torch.full((1, 8, 8), 255.0, dtype=torch.float64, device=TRITON.device)
    chosen = soft("gray", surrogate=surrogates.gaussian(255 * width))
    found, expected = (
        soft_results(backend, picture, entries, chosen)
        for backend, picture in ((TRITON.backend, grey), (jpegrad.backends.reference, grey.double()))
    )
    # A level is 32 grey levels.
    assert (found[0] - expected[0]).abs().max() < 32 * 8e-6
    assert (found[1] - expected[1]).norm() < 2e-5 * expected[1].norm()


@pytest.mark.parametrize("value_range", [(0.0, 255.0), (-17.3, 1.9)])
def test_value_ranges(value_range: tuple[float, float]) -> None:
    low, high = value_range
    check(low + TRITON.picture(1, 1, 9, 20) * (high - low), soft("gray", value_range=value_range), 60.0, 1)


@pytest.mark.parametrize(
    "name", few("full inverse", rest=[name for name in COLORS if name != "full inverse"])
)
def test_colour_conversions(name: str) -> None:
    check(TRITON.picture(1, 3, 9, 20), soft("4:4:4", color=COLORS[name]))


@pytest.mark.parametrize(
    "layout", few("channels last", rest=[name for name in LAYOUTS if name != "channels last"])
)
def test_any_strides(layout: str) -> None:
    image = LAYOUTS[layout](TRITON.picture(2, 3, 21, 35))
    check(image, soft("4:4:4"), count=min(2, image.shape[-3]))


@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_values_that_are_no_numbers(leak: float) -> None:
    image = TRITON.picture(1, 1, 8, 16)
    image[0, :, 3, 3:6] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    check(image, soft("gray", clip_slope=leak), count=1)


def halves(backend: Any, image: Tensor, entries: Tensor, chosen: Spec) -> list[Tensor]:
    """Levels, ratios and decoded grey levels, in grey levels; gradients of a random linear loss of them and the image.

    Image, tables, and the levels that a decoder gets of its own.
    """
    image, entries = image.clone().requires_grad_(), entries.clone().requires_grad_()
    noise = jpegrad.backends.block_noise(image, chosen)
    levels, ratios = backend.encode(image, entries, chosen)
    assert ratios is not None
    own = tuple(level.detach().clone().requires_grad_() for level in levels)
    size = (image.shape[-2], image.shape[-1])
    out = backend.decode(own, entries, size, image.dtype, chosen, noise)
    generator = torch.Generator().manual_seed(2)
    found = [*levels, *ratios, out]
    loss = sum((x * torch.randn(x.shape, generator=generator).to(x)).sum() for x in found)
    gradients = torch.autograd.grad(loss, (image, entries, *own))
    steps = jpegrad.backends.fused.adjoints.table_of
    scaled = [x.double() * steps(entries, i % len(levels)).double() for i, x in enumerate(found[:-1])]
    low, high = chosen.value_range
    grey = (out.double() - low) * 255 / (high - low)
    return [x.detach() for x in (*scaled, grey, *(g.double() for g in gradients))]


HALVES: dict[str, tuple[str, dict[str, Any]]] = {
    "gray": ("gray", {}),
    "4:2:0": ("4:2:0", {"clip_slope": 0.1}),
    "wide": ("4:2:2", {"surrogate": surrogates.gaussian(30.0)}),
    "sharp": ("4:2:0", {"surrogate": surrogates.cubic}),
    "range": ("4:4:4", {"value_range": (-1.0, 1.0)}),
}


@pytest.mark.parametrize("name", few("gray", rest=[name for name in HALVES if name != "gray"]))
def test_encode_and_decode(name: str) -> None:
    mode, options = HALVES[name]
    image, chosen = TRITON.picture(2, channels(mode), 11, 26), soft(mode, **options)
    low, high = chosen.value_range
    image = low + image * (high - low)
    entries = TRITON.tables(torch.tensor([15.0, 85.0]), min(2, channels(mode))) * 1.003
    found, expected = (
        halves(backend, picture, entries, chosen)
        for backend, picture in ((TRITON.backend, image), (jpegrad.backends.reference, image.double()))
    )
    values = len(found) - 2 - channels(mode)
    for a, b in zip(found[:values], expected[:values], strict=True):
        assert (a - b).abs().max() < SOFT_VALUES
    for a, b in zip(found[values:], expected[values:], strict=True):
        close(a, b, SOFT_GRADIENTS, least=1e-3)


def loss_of_halves(image: Tensor, entries: Tensor) -> Tensor:
    chosen = resolve(subsampling="4:4:4", forward="soft")
    levels, ratios = TRITON.backend.encode(image, entries, chosen)
    noise = jpegrad.backends.block_noise(image, chosen)
    out = TRITON.backend.decode(levels, entries, (8, 16), torch.float32, chosen, noise)
    return out.square().sum() + sum(x.sin().sum() for x in (*levels, *ratios))


@pytest.mark.slow
def test_halves_in_transforms() -> None:
    images, entries = TRITON.picture(2, 1, 1, 8, 16), TRITON.tables(torch.tensor([20.0, 80.0]), 1)
    mapped = torch.func.vmap(torch.func.grad(loss_of_halves, (0, 1)))(images, entries)
    for i, (image, each) in enumerate(zip(images, entries, strict=True)):
        given = image.clone().requires_grad_(), each.clone().requires_grad_()
        for a, b in zip(mapped, torch.autograd.grad(loss_of_halves(*given), given), strict=True):
            close(a[i], b)


@pytest.mark.slow
@pytest.mark.whole_graph
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_halves_compile_to_one_graph() -> None:
    given = TRITON.picture(1, 1, 8, 16).requires_grad_(), TRITON.tables(50.0, 1).requires_grad_()
    compiled = torch.compile(loss_of_halves, fullgraph=True, backend="aot_eager")
    found, expected = (torch.autograd.grad(each(*given), given) for each in (compiled, loss_of_halves))
    for a, b in zip(found, expected, strict=True):
        close(a, b)


@pytest.mark.slow
def test_second_derivatives_of_halves() -> None:
    image, entries = TRITON.picture(1, 1, 8, 16).requires_grad_(), TRITON.tables(50.0, 1)
    (first,) = torch.autograd.grad(loss_of_halves(image, entries), image, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), image)
    assert second.isfinite().all() and second.norm() > 0


def test_several_images_with_tables_of_their_own() -> None:
    image = TRITON.picture(3, 1, 9, 20)
    entries = TRITON.tables(torch.tensor([10.0, 40.0, 90.0]), 1)
    compare_soft(TRITON, image, entries, soft("gray"))


def test_without_gradients_it_keeps_nothing_and_says_the_same() -> None:
    image, entries, chosen = TRITON.picture(1, 1, 17, 20), TRITON.tables(50.0, 1), soft("gray")
    with torch.no_grad():
        plain = TRITON.backend.jpeg(image, entries, chosen)
    assert torch.equal(plain, TRITON.backend.jpeg(image.clone().requires_grad_(), entries, chosen).detach())
