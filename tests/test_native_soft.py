"""The native kernel's soft forward against the reference in float64: values, gradients, and what it refuses."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import surrogates
from jpegrad.backends import native, reference
from jpegrad.spec import Spec
from kernel_cases import (
    COLORS,
    LAYOUTS,
    MODES,
    NATIVE,
    SOFT_RECORDS,
    channels,
    compare_soft,
    picture,
    sizes,
    soft,
    soft_results,
    tables,
)

pytestmark = NATIVE.marks


def check(image: Tensor, entries: Tensor, chosen: Spec) -> None:
    compare_soft(NATIVE, image, entries, chosen)


@pytest.mark.parametrize("name", SOFT_RECORDS)
@pytest.mark.parametrize("quality", [10.0, 50.0, 90.0])
def test_every_record(name: str, quality: float) -> None:
    # Entries that are no integers: the soft forward takes any.
    for mode, leak in (("4:2:0", 0.0), ("4:4:4", 0.1)):
        chosen = soft(mode, surrogate=SOFT_RECORDS[name], clip_slope=leak)
        check(picture(2, 3, 37, 50), tables(quality) * 1.003, chosen)


@pytest.mark.parametrize("mode", MODES)
def test_every_size(mode: str) -> None:
    for height, width in sizes():
        check(picture(1, channels(mode), height, width), tables(30.0), soft(mode, clip_slope=1e-3))


@pytest.mark.parametrize("sigma", [1.0, 8.0])
@pytest.mark.parametrize("mode", MODES)
def test_black_and_white(mode: str, sigma: float) -> None:
    for height, width in ((37, 50), (9, 130), (1, 1)):
        image = picture(2, channels(mode), height, width)
        image = torch.where(image > 0.4, (image * 1.2).round(), image)
        for leak in (0.0, 0.1):
            check(image, tables(70.0), soft(mode, surrogate=surrogates.gaussian(sigma), clip_slope=leak))


def test_noise_belongs_to_the_soft_function() -> None:
    image = picture(1, 3, 24, 40).round()
    for record, sigma in (
        (replace(surrogates.gaussian(4.0), slope=surrogates.sin.slope), 4.0),
        (replace(surrogates.gaussian(4.0), soft=surrogates.sin.soft), None),
        (replace(surrogates.sin, soft=surrogates.gaussian(1.0).soft), 1.0),
    ):
        assert record.sigma == sigma
        check(image, tables(60.0), soft("4:2:0", surrogate=record))


@pytest.mark.parametrize("mode", MODES)
def test_plain_upsampling(mode: str) -> None:
    for height, width in ((37, 50), (16, 32), (9, 4), (1, 1), (40, 3)):
        plain = soft(mode, clip_slope=1e-3, decoder=jpegrad.Decoder(upsampling="replicate"))
        check(picture(1, channels(mode), height, width), tables(30.0), plain)


@pytest.mark.parametrize("width", [0.04, 0.08, 0.1, 0.17, 0.2, 0.24, 0.26, 0.5, 1.5])
def test_every_threshold_that_matters(width: float) -> None:
    """Flat blocks of all grey levels: their means, in steps of 255, see the smoothed staircase alone."""
    grey = torch.linspace(0.01, 0.99, 1024).repeat_interleave(8).expand(1, 1, 8, -1)
    entries = torch.full((1, 8, 8), 255.0, dtype=torch.float64)
    chosen = soft("gray", surrogate=surrogates.gaussian(255 * width))
    found, expected = (
        soft_results(native, grey, entries, chosen),
        soft_results(reference, grey.double(), entries, chosen),
    )
    # A level is 32 grey levels.
    assert (found[0] - expected[0]).abs().max() < 32 * 8e-6
    assert (found[1] - expected[1]).norm() < 2e-5 * expected[1].norm()


def test_the_papers_soft_variant() -> None:
    image = picture(2, 3, 40, 40)
    found, expected = (
        jpegrad.jpeg(image, 30, surrogate="reich2024", backend=name) for name in ("native", "reference")
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("value_range", [(0.0, 255.0), (-1.0, 1.0), (-17.3, 1.9)])
def test_value_ranges(value_range: tuple[float, float]) -> None:
    low, high = value_range
    image = low + picture(1, 3, 17, 35) * (high - low)
    check(image, tables(60.0), soft("4:2:0", value_range=value_range))


@pytest.mark.parametrize("name", COLORS)
def test_colour_conversions(name: str) -> None:
    check(picture(1, 3, 33, 20), tables(50.0), soft("4:2:0", color=COLORS[name]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(layout: str) -> None:
    image = LAYOUTS[layout](picture(2, 3, 21, 35))
    check(image, tables(50.0, min(2, image.shape[-3])), soft("4:2:0"))


def test_values_that_are_no_numbers() -> None:
    image = picture(1, 3, 16, 16)
    image[0, :, 3, 3:6] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    for leak in (0.0, 0.1):
        check(image, tables(50.0), soft("4:4:4", clip_slope=leak))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16])
def test_other_types(dtype: torch.dtype) -> None:
    image = picture(2, 3, 16, 24).clamp(0, 1)
    image = (image * 255).to(dtype) if dtype is torch.uint8 else image.to(dtype)
    found, expected = (jpegrad.jpeg(image, 50, forward="soft", backend=b) for b in ("native", "reference"))
    assert found.dtype == dtype
    assert (found.float() - expected.float()).abs().max() <= (1 if dtype is torch.uint8 else 2**-7)


def test_leading_dimensions_and_tables_of_their_own() -> None:
    image, quality = picture(2, 3, 3, 16, 24), torch.tensor([[10.0, 40.0, 90.0]])
    found, expected = (
        jpegrad.jpeg(image, quality, forward="soft", backend=b) for b in ("native", "reference")
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_gradient_to_quality() -> None:
    image, slopes = picture(2, 3, 40, 40), []
    for name in ("native", "reference"):
        quality = torch.tensor([20.0, 70.0], requires_grad=True)
        out = jpegrad.jpeg(image, quality, forward="soft", backend=name)
        slopes.append(torch.autograd.grad((out - image).square().sum(), quality)[0])
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-4)


def test_threads_and_repetition_change_nothing() -> None:
    image, chosen = picture(3, 3, 130, 200), soft("4:2:0")
    once = soft_results(native, image, tables(50.0), chosen)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = soft_results(native, image, tables(50.0), chosen)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_without_gradients_it_keeps_nothing_and_says_the_same() -> None:
    image = picture(1, 3, 33, 47)
    with torch.no_grad():
        plain = native.jpeg(image, tables(50.0), soft("4:2:0"))
    assert torch.equal(
        plain, native.jpeg(image.clone().requires_grad_(), tables(50.0), soft("4:2:0")).detach()
    )


@pytest.mark.filterwarnings("ignore:value_range")
def test_numbers_of_an_earlier_call_do_not_reach_the_tables() -> None:
    strange = 1e36 * torch.randn(1, 3, 16, 600).sign()
    for width in (8, 17, 40, 130):
        jpegrad.jpeg(strange, 50, forward="soft", surrogate="sin", clip_slope=1.0, backend="native")
        check(picture(1, 3, 9, width), tables(40.0), soft("4:2:0"))


@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_other_derivatives_are_the_references(forward: str) -> None:
    def loss(x: Tensor, backend: str = "auto") -> Tensor:
        return jpegrad.jpeg(x, 50, forward=forward, backend=backend).square().sum()

    image, direction = picture(1, 3, 16, 16), torch.randn(1, 3, 16, 16)
    _, found = torch.autograd.functional.hvp(loss, image, direction)
    _, curvature = torch.autograd.functional.hvp(lambda x: loss(x, "reference"), image, direction)
    assert (found - curvature).norm() < 1e-3 * curvature.norm()
    tangents = []
    for backend in ("auto", "reference"):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(image, direction)
            tangents.append(torch.autograd.forward_ad.unpack_dual(loss(dual, backend)).tangent)
    assert torch.equal(*tangents)


def test_what_it_leaves_to_the_reference() -> None:
    for other in (
        replace(surrogates.sin, soft=lambda u, step, component: 0 * u),
        surrogates.soft_round(1e-4),
    ):
        assert jpegrad.backends.explain(picture(1, 3, 8, 8), forward="soft", surrogate=other)["native"]
    image = picture(1, 3, 16, 16)
    for options in (
        {"surrogate": "noise"},
        {"surrogate": "table_relative"},
        {"surrogate": surrogates.table_gaussian()},
    ):
        assert jpegrad.backends.explain(image, forward="soft", **options)["native"]
        jpegrad.jpeg(image, 50, forward="soft", **options)
    assert jpegrad.backends.explain(image, "encode", forward="soft")["native"]
    assert jpegrad.backends.explain(image.double(), forward="soft")["native"]
    assert not jpegrad.backends.explain(image, forward="soft")["native"]


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.whole_graph
def test_compiles_without_graph_breaks() -> None:
    def loss(image: Tensor) -> Tensor:
        return jpegrad.jpeg(image, 30, forward="soft", backend="native").square().sum()

    image = picture(2, 3, 24, 33).requires_grad_()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(*(torch.autograd.grad(f(image), image)[0] for f in (compiled, loss)))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["avx2", "baseline"])
def test_the_instruction_sets_of_other_machines(kernel: str) -> None:
    if os.environ.get("JPEGRAD_NATIVE") in ("avx2", "baseline"):
        pytest.skip("this is one")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        __file__,
        "-k",
        "record or size or colour",
    ]
    run = subprocess.run(
        command, env={**os.environ, "JPEGRAD_NATIVE": kernel}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-3000:]


@pytest.mark.parametrize("size", [(16, 264), (40, 136), (33, 257)])
def test_what_was_coded_before_changes_nothing(size: tuple[int, int]) -> None:
    def coded(height: int, width: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(width)
        x = (1.2 * torch.rand(1, 3, height, width, generator=generator) - 0.1).requires_grad_()
        out = jpegrad.jpeg(x, quality=5, subsampling="4:2:2", forward="soft", backend="native")
        return out.detach(), torch.autograd.grad(out.square().sum(), x)[0]

    first = coded(*size)
    for other in ((16, 1000), (48, 700), (64, 2000)):
        coded(*other)
    for found, expected in zip(coded(*size), first, strict=True):
        assert torch.equal(found, expected)
