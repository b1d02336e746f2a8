"""The Triton kernels' gradients against the reference's, in float32."""

import dataclasses

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import surrogates
from jpegrad.backends import reference, triton
from jpegrad.backends.triton import launch
from jpegrad.spec import Color, resolve
from triton_cases import (
    DEVICE,
    MARKS,
    MODES,
    OWN,
    RECORDS,
    channels,
    close,
    compare_gradients,
    interpreted,
    picture,
    spec,
    tables,
)

pytestmark = MARKS
__all__ = ["interpreted"]


COLORS = {
    "no conversion": jpegrad.spec.RGB,
    "another": Color(
        ((2.5, -1.25, 0.7), (0.3, 3.1, -2.0), (1.0, 1.0, 1.0)),
        (10.5, 0.25, -300.0),
        ((1.1, 0.2, 1.402), (0.9, -0.34414, -0.71414), (1.0, 1.772, 0.3)),
    ),
}


@pytest.mark.parametrize("name", COLORS)
def test_colour_conversions(name: str) -> None:
    compare_gradients(picture(1, 3, 18, 33), tables(70), spec("4:2:0", color=COLORS[name], clip_slope=0.2))


def test_several_programs_per_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "MOST_MCUS", 4)
    monkeypatch.setattr(launch, "MOST_INTERPRETED", 4)
    compare_gradients(picture(1, 3, 30, 41), tables(80), spec("4:2:0"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(2, 3), (17, 35)])
def test_gradients(mode: str, size: tuple[int, int]) -> None:
    entries = tables(torch.tensor([30.0, 85.0]), 3) if size[0] > 2 else tables(60)
    compare_gradients(picture(2, channels(mode), *size), entries, spec(mode, clip_slope=0.25 * (size[0] % 2)))


@pytest.mark.parametrize("mode", MODES)
def test_gradients_through_levels(mode: str) -> None:
    # An odd size, a size of whole MCUs; a type that the kernel does not decode to.
    chosen = spec(mode, clip_slope=0.25)
    compare_gradients(picture(2, channels(mode), 17, 35), tables(torch.tensor([30.0, 85.0]), 3), chosen, True)
    whole = picture(1, channels(mode), 16, 32).to(torch.float16 if mode == "4:2:0" else torch.float32)
    compare_gradients(whole, tables(50), chosen, True)


@pytest.mark.parametrize("mode", MODES)
def test_slope_one_is_a_stencil(mode: str) -> None:
    for size, slope in (((17, 35), 0.25), ((16, 64), 0.0), ((1, 1), 0.0), ((2, 5), 0.5)):
        chosen = spec(mode, surrogate=surrogates.identity, clip_slope=slope)
        compare_gradients(picture(2, channels(mode), *size), tables(60), chosen, to_tables=False)


@pytest.mark.parametrize("mode", MODES)
def test_whole_mcus(mode: str) -> None:
    compare_gradients(picture(1, channels(mode), 16, 64), tables(60), spec(mode, clip_slope=0.1))


@pytest.mark.parametrize("clip_slope", [0.0, 0.3])
def test_values_that_are_no_numbers(clip_slope: float) -> None:
    image = picture(1, 3, 18, 24)
    image[0, 0, 3, 3], image[0, 1, 5, 5], image[0, 2, 7, 7] = torch.nan, torch.inf, -torch.inf
    # Beside one that is beyond the range.
    image[0, 1, 3, 3], image[0, 2, 3, 3] = 1.5, -0.5
    for value_range in ((0.0, 1.0), (-1.0, 1.0)):
        chosen = spec("4:2:0", value_range=value_range, clip_slope=clip_slope)
        compare_gradients(image, tables(50), chosen)
        compare_gradients(
            image, tables(50), dataclasses.replace(chosen, surrogate=surrogates.identity), to_tables=False
        )


@pytest.mark.parametrize("name", RECORDS)
def test_gradients_with_every_record(name: str) -> None:
    # As the image sees the rounding and as the tables do.
    chosen = spec("gray", surrogate=RECORDS[name], table_surrogate=RECORDS[name])
    compare_gradients(picture(1, 1, 24, 24), tables(40), chosen)


# The exact forward sees slopes alone: a name says nothing, a parameter belongs to its function.
SIN, WIDE, NOISE = surrogates.sin, surrogates.gaussian(8.0), surrogates.noise
MIXED = {
    "cubic with the sine's": dataclasses.replace(surrogates.cubic, slope=SIN.slope),
    "own with the cubic's name": dataclasses.replace(OWN, name="cubic"),
    "gaussian with another's width": dataclasses.replace(surrogates.gaussian(2.0), slope=WIDE.slope),
    "own with a width": dataclasses.replace(OWN, slope=surrogates.table_gaussian(0.3).slope),
    "noise with a function": dataclasses.replace(NOISE, slope=surrogates.soft_round(2.0).slope),
    "a soft function for a slope": dataclasses.replace(SIN, slope=surrogates.cubic.soft),
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_records(name: str) -> None:
    # Beside the next one, as the tables see it.
    names = list(MIXED)
    other = MIXED[names[(names.index(name) + 1) % len(names)]]
    compare_gradients(
        picture(1, 1, 16, 16), tables(40), spec("gray", surrogate=MIXED[name], table_surrogate=other)
    )


def test_a_record_of_your_own_in_colour() -> None:
    compare_gradients(picture(2, 3, 13, 21), tables(70, 3), spec("4:2:2", surrogate=OWN))


@pytest.mark.parametrize("surrogate", ["identity", "gaussian"])
def test_memory_kept_for_the_backward_pass(surrogate: str) -> None:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    image, entries = picture(1, 3, 32, 32).requires_grad_(), tables(50)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        triton.jpeg(image, entries, spec("4:2:0", surrogate=surrogates.get(surrogate)))
    # A byte per pixel and chroma sample for the clamps; 2 bytes per coefficient, unless the slope is 1.
    assert sum(kept.values()) == 1024 * (1.5 + (3 if surrogate == "gaussian" else 0)) + entries.nbytes
    with torch.no_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept.clear()
        triton.jpeg(image, entries, spec("4:2:0"))
    assert not kept


def test_gradients_of_ratios_and_of_odd_levels() -> None:
    image, entries = picture(1, 3, 9, 20), tables(50)
    odd = [torch.randn(1, 2, 3, 8, 8), torch.randn(1, 1, 2, 8, 8), torch.randn(1, 1, 2, 8, 8)]
    odd[0][0, 0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, 1e6])
    results = []
    for backend in (triton, reference):
        x, t = image.clone().requires_grad_(), entries.clone().requires_grad_()
        ratios = backend.encode(x, t, spec("4:2:0"))[1]
        assert ratios is not None
        results.append(torch.autograd.grad(sum(u.cos().sum() for u in ratios), (x, t)))
        levels = tuple(level.to(DEVICE, copy=True).requires_grad_() for level in odd)
        out = backend.decode(levels, t, (9, 20), torch.float32, spec("4:2:0", clip_slope=0.5))
        results[-1] += torch.autograd.grad(out.cos().sum(), (*levels, t))
    for a, b in zip(*results, strict=True):
        close(a, b)


def test_checkpoint() -> None:
    image = picture(1, 3, 9, 17).requires_grad_()
    through = torch.utils.checkpoint.checkpoint(
        lambda x: triton.jpeg(x, tables(50), spec("4:2:0")), image, use_reentrant=False
    )
    (found,) = torch.autograd.grad(through.square().sum(), image)
    (expected,) = torch.autograd.grad(triton.jpeg(image, tables(50), spec("4:2:0")).square().sum(), image)
    assert torch.equal(found, expected)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.whole_graph
def test_compiles_to_one_graph_for_every_size() -> None:
    def loss(image: Tensor, entries: Tensor) -> Tensor:
        return triton.jpeg(image, entries, resolve(subsampling="4:4:4")).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    # Sizes that the compiler does not take for those of the tables.
    for size in ((4, 3, 9, 14), (5, 3, 14, 10)):
        image, entries = picture(*size).requires_grad_(), tables(50).requires_grad_()
        expected = torch.autograd.grad(loss(image, entries), (image, entries))
        with torch._dynamo.config.patch(error_on_recompile=True):
            found = torch.autograd.grad(compiled(image, entries), (image, entries))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.whole_graph
def test_compiles_levels_and_decoding() -> None:
    def loss(image: Tensor, entries: Tensor) -> Tensor:
        chosen = resolve(subsampling="4:4:4")
        levels, _ = triton.encode(image, entries, chosen)
        return triton.decode(levels, entries, (9, 14), torch.float32, chosen).square().sum()

    torch._dynamo.reset()
    image, entries = picture(1, 3, 9, 14).requires_grad_(), tables(50).requires_grad_()
    found, expected = (
        torch.autograd.grad(function(image, entries), (image, entries))
        for function in (torch.compile(loss, fullgraph=True, backend="eager"), loss)
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    torch._dynamo.reset()
