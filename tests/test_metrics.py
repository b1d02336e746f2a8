"""The metrics of the eye: the official figures, the kernels beside plain PyTorch, gradients, identity, errors."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import jpegrad
from jpegrad import notice
from jpegrad.backends import native
from jpegrad.backends.native import metrics as native_metrics
from jpegrad.metrics import SSIMULACRA2, Butteraugli, Perceptual
from jpegrad.metrics import butteraugli as butteraugli_module
from jpegrad.metrics.comparison import halvings
from jpegrad.metrics.filters import Blur, halved, inner, line_energy
from jpegrad.metrics.ssimulacra2 import WEIGHTS
from oracles import judges, ssimulacra2

METRICS = [SSIMULACRA2, Butteraugli, Perceptual]
needs_kernel = pytest.mark.skipif(bool(native.missing()), reason="the native kernel is not built")
by_name = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels)[None] if pixels.ndim == 2 else torch.from_numpy(pixels).permute(2, 0, 1)


def pair(
    height: int, width: int, dtype: torch.dtype = torch.float32, batch: int = 1
) -> tuple[Tensor, Tensor]:
    """Something smooth with some noise, and the same with other noise: no sample is at a kink."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    coarse = torch.rand(batch, 3, 5, 6, generator=generator, dtype=torch.float64)
    original = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0.1, 0.9)
    original = original + 0.03 * torch.rand(original.shape, generator=generator, dtype=torch.float64)
    image = original + 0.1 * (torch.rand(original.shape, generator=generator, dtype=torch.float64) - 0.5)
    return original.to(dtype), image.clamp(0.01, 0.99).to(dtype)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPEGRAD_BACKEND", "reference")


@pytest.fixture(params=["auto", "reference"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPEGRAD_BACKEND", request.param)


def check_official(picture: str, quality: int) -> None:
    original, image = map(tensor, judges.pair(picture, quality))
    wanted = json.loads(judges.FIGURES.read_text())[f"{picture} {quality}"]
    found = SSIMULACRA2(original).report(image) | Butteraugli(original).report(image)
    assert found.keys() == wanted.keys()
    # The tool's float32 finds errors in smooth areas that are none: tests/oracles/ssimulacra2.py does without.
    assert float(found["ssimulacra2"]) == pytest.approx(
        wanted["ssimulacra2"], abs=0.3 if quality < 98 else 0.6
    )
    for name in ("butteraugli", "butteraugli_max"):
        # The tool takes logarithms by a rational function.
        assert float(found[name]) == pytest.approx(wanted[name], rel=3e-4)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(
    ("picture", "quality"),
    [("coast", 98), ("odd", 40), ("narrow", 75), ("small", 90), ("low", 40), ("smallest", 10)],
)
def test_ssimulacra2_by_its_definition(picture: str, quality: int) -> None:
    original, image = judges.pair(picture, quality)
    wanted = ssimulacra2.score(original, image, WEIGHTS)
    assert float(SSIMULACRA2(tensor(original)).score(tensor(image))) == pytest.approx(wanted, abs=1e-3)
    exact = SSIMULACRA2(tensor(original).double() / 255).score(tensor(image).double() / 255)
    assert float(exact) == pytest.approx(wanted, abs=1e-8)


@needs_kernel
@pytest.mark.parametrize("quality", judges.QUALITIES)
@pytest.mark.parametrize("picture", judges.PICTURES)
def test_the_official_figures(picture: str, quality: int) -> None:
    check_official(picture, quality)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("picture", "quality"), [("odd", 40), ("gray", 75), ("smallest", 10), ("low", 90), ("narrow", 98)]
)
def test_the_official_figures_in_pytorch(picture: str, quality: int) -> None:
    check_official(picture, quality)


@needs_kernel
@by_name
@pytest.mark.parametrize(("height", "width"), [(8, 8), (15, 23), (17, 16), (33, 65), (9, 520), (301, 41)])
def test_the_kernel_is_the_formula(
    metric: Any, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, image = pair(height, width, batch=2)
    anchor = jpegrad.jpeg(original, quality=80)

    def values(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        kwargs = {"anchor": anchor.to(dtype)} if metric is Perceptual else {}
        x = image.to(dtype).requires_grad_()
        losses = metric(original.to(dtype), **kwargs).loss(x)
        return losses.detach(), torch.autograd.grad(losses @ torch.tensor([1.0, 3.0], dtype=dtype), x)[0]

    found, gradient = values(torch.float32)
    monkeypatch.setenv("JPEGRAD_BACKEND", "reference")
    exact, exact_gradient = values(torch.float64)
    assert torch.allclose(found.double(), exact, rtol=1e-4)
    assert (gradient - exact_gradient).norm() < 2e-3 * exact_gradient.norm()
    float32, float32_gradient = values(torch.float32)
    assert torch.allclose(float32.double(), exact, rtol=1e-4)
    assert (float32_gradient - exact_gradient).norm() < 2e-3 * exact_gradient.norm()


@needs_kernel
@needs_kernel
@by_name
@pytest.mark.parametrize(("height", "width"), [(8, 9), (40, 33), (107, 24), (301, 41)])
def test_without_the_planes_of_the_original_nothing_changes(
    metric: Any, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, image = pair(height, width, batch=2)

    def values() -> tuple[Tensor, Tensor]:
        x = image.clone().requires_grad_()
        losses = metric(original).loss(x)
        return losses.detach(), torch.autograd.grad(losses.sum(), x)[0]

    expected, slopes = values()
    monkeypatch.setattr(native_metrics, "KEPT", 0)
    found, again = values()
    assert torch.equal(found, expected)
    assert torch.allclose(again, slopes, rtol=0, atol=1e-6 * float(slopes.abs().max()))


@by_name
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("channels", [1, 3])
def test_slopes_of_bytes(metric: Any, backend: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPEGRAD_BACKEND", backend)
    original, image = ((255 * x[:, :channels]).round().to(torch.uint8) for x in pair(49, 35, batch=2))
    compared = metric(original)
    loss, gradient = compared.slope(image)
    x = (image.float() / 255).requires_grad_()
    expected = compared.loss(x)
    (slopes,) = torch.autograd.grad(expected.sum(), x)
    assert torch.allclose(loss, expected, rtol=1e-6)
    assert gradient.shape == image.shape
    assert torch.allclose(gradient, slopes, rtol=0, atol=1e-6 * float(slopes.abs().max()))
    one = metric(original[0]).slope(image[0])
    assert one[0].shape == () and one[1].shape == image[0].shape
    assert torch.allclose(one[0], loss[0], rtol=1e-6)
    with pytest.raises(TypeError, match="image: expected uint8"):
        compared.slope(x.detach())


def test_threads_and_batches_change_nothing() -> None:
    original, image = pair(96, 131, batch=6)
    for metric in (SSIMULACRA2, Butteraugli):
        alone = [metric(o).loss(i) for o, i in zip(original, image, strict=True)]
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(3)
            together = metric(original).loss(image)
        finally:
            torch.set_num_threads(threads)
        assert torch.equal(torch.stack(alone), together)


@pytest.mark.parametrize("name", ["loss", "score"])
@by_name
def test_gradients_are_those_of_the_value(metric: Any, name: str) -> None:
    if metric is Perceptual and name == "score":
        pytest.skip("it has no scale of its own")
    original, image = pair(17, 19, torch.float64)
    function = getattr(metric(original), name)
    directions = torch.randn(4, *image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x).sum(), x)
    for direction in directions:
        step = 1e-6 * direction
        slope = (function(image + step) - function(image - step)).sum() / 2e-6
        assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-5)


def test_gradients_of_the_map_and_its_maximum() -> None:
    original, image = pair(20, 24, torch.float64)
    metric = Butteraugli(original)
    weight = torch.rand(20, 24, dtype=torch.float64)
    direction = torch.randn(image.shape, dtype=torch.float64)
    for function in (lambda x: (metric.map(x) * weight).sum(), lambda x: metric.maximum(x).sum()):
        x = image.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(x), x)
        slope = (function(image + 1e-6 * direction) - function(image - 1e-6 * direction)) / 2e-6
        assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-5)


@needs_kernel
def test_the_kernel_has_the_gradient_of_any_function_of_the_map() -> None:
    original, image = pair(33, 47)
    weight = torch.rand(1, 33, 47)
    x, y = image.clone().requires_grad_(), image.double().requires_grad_()
    (found,) = torch.autograd.grad((Butteraugli(original).map(x) * weight).sum(), x)
    (exact,) = torch.autograd.grad((Butteraugli(original.double()).map(y) * weight).sum(), y)
    assert (found - exact).norm() < 2e-3 * exact.norm()


@pytest.mark.usefixtures("either")
@by_name
def test_the_original_has_no_error_and_no_slope(metric: Any, photograph: Callable[[str], Tensor]) -> None:
    original = (photograph("tulips")[:, 40:97, 30:101].float() / 255).contiguous()
    compared = metric(original)
    x = original.clone().requires_grad_()
    loss = compared.loss(x)
    assert float(loss.detach()) == 0
    assert not torch.autograd.grad(loss, x)[0].any()
    scores = {"ssimulacra2": 100.0, "butteraugli": 0.0, "butteraugli_max": 0.0}
    assert all(float(value) == scores[name] for name, value in compared.report(x).items())


@by_name
def test_worse_files_have_higher_losses(metric: Any, photograph: Callable[[str], Tensor]) -> None:
    original = photograph("coast")[:, :96, :96]
    compared = metric(original)
    losses = [float(compared(jpegrad.jpeg(original, quality=quality))) for quality in (95, 80, 60, 30, 10)]
    assert all(a < b for a, b in pairwise(losses))
    if metric is Perceptual:
        assert losses[1] == pytest.approx(1, rel=1e-5)


@by_name
def test_a_picture_without_detail_has_a_finite_loss(metric: Any) -> None:
    flat = torch.full((3, 24, 24), 0.5)
    x = (flat + 0.02 * torch.rand(3, 24, 24)).requires_grad_()
    loss = metric(flat).loss(x)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, x)[0].isfinite().all()


@pytest.mark.usefixtures("either")
@by_name
def test_forms_of_pictures(metric: Any) -> None:
    original, image = pair(24, 31, batch=2)
    whole = metric(original).loss(image)
    assert whole.shape == (2,)
    assert whole.dtype is torch.float32
    one = metric(original[0]).loss(image[0])
    assert one.shape == ()
    assert float(one) == pytest.approx(float(whole[0]), rel=1e-5)
    last = metric(original.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(last.loss(image.contiguous(memory_format=torch.channels_last)), whole, rtol=1e-5)
    grey_levels = (original * 255).round(), (image * 255).round()
    in_bytes = metric(grey_levels[0].byte()).loss(grey_levels[1].byte())
    assert torch.allclose(in_bytes, metric(grey_levels[0] / 255).loss(grey_levels[1] / 255), rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(metric(original).loss(image), whole, rtol=1e-6)
    with torch.inference_mode():
        assert torch.allclose(metric(original).loss(image), whole, rtol=1e-6)


@pytest.mark.usefixtures("either")
@by_name
def test_other_ranges(metric: Any) -> None:
    original, image = pair(24, 31)
    wanted = metric(original).loss(image)
    for value_range in ((-1.0, 1.0), ((0.0, -1.0, 0.0), (255.0, 1.0, 2.0))):
        low, high = (torch.tensor(bound).view(-1, 1, 1) for bound in value_range)
        compared = metric(low + original * (high - low), value_range=value_range)
        assert torch.allclose(compared.loss(low + image * (high - low)), wanted, rtol=1e-4)
    with pytest.raises(ValueError, match="value_range: expected finite low < high"):
        metric(original, value_range=(1.0, 0.0))
    with pytest.raises(
        ValueError, match="value_range: expected one bound for each of the image's 3 channels"
    ):
        metric(original, value_range=((0.0, 0.0), (1.0, 2.0)))


@pytest.mark.usefixtures("either")
def test_gray_is_three_equal_channels() -> None:
    original, image = (x[:, :1].contiguous() for x in pair(24, 31))
    for metric in (SSIMULACRA2, Butteraugli):
        x = image.clone().requires_grad_()
        y = image.expand(-1, 3, -1, -1).clone().requires_grad_()
        gray, three = metric(original).loss(x), metric(original.expand(-1, 3, -1, -1)).loss(y)
        assert torch.equal(gray, three)
        (slope,), (slopes,) = torch.autograd.grad(gray.sum(), x), torch.autograd.grad(three.sum(), y)
        assert torch.allclose(slope, slopes.sum(1, keepdim=True), rtol=1e-4, atol=1e-9)


@pytest.mark.usefixtures("either")
def test_what_lies_outside_counts_as_the_bound_and_has_no_slope() -> None:
    original, image = pair(24, 24)
    outside = image.clone()
    outside[0, :, 3, 4], outside[0, :, 9, 9] = 1.1, -0.1
    for metric in (SSIMULACRA2(original), Butteraugli(original)):
        x = outside.clone().requires_grad_()
        loss = metric.loss(x)
        assert torch.allclose(loss, metric.loss(outside.clamp(0, 1)), rtol=1e-6)
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        assert not gradient[0, :, 3, 4].any()
        assert not gradient[0, :, 9, 9].any()
        assert gradient.any()


@pytest.mark.usefixtures("either")
@by_name
def test_nan_stays_nan(metric: Any) -> None:
    original, image = pair(24, 24, batch=2)
    image[1, 0, 5, 5] = math.nan
    losses = metric(original).loss(image)
    assert losses[0].isfinite()
    assert losses[1].isnan()
    assert metric(image).loss(original)[1].isnan()


@pytest.mark.slow
@by_name
def test_transformed(metric: Any) -> None:
    original, image = pair(17, 18, torch.float64)
    original, image = original[0], image[0]
    compared = metric(original)
    x = image.clone().requires_grad_()
    loss = compared.loss(x)
    (gradient,) = torch.autograd.grad(loss, x)
    assert torch.allclose(torch.func.grad(compared.loss)(image), gradient)
    mapped = torch.func.vmap(compared.loss)(torch.stack([image, original]))
    assert torch.allclose(mapped, torch.stack([loss.detach(), torch.zeros_like(loss)]), atol=1e-12)
    direction = torch.randn_like(image)
    _, tangent = torch.func.jvp(compared.loss, (image,), (direction,))
    assert torch.allclose(tangent, (gradient * direction).sum())


@pytest.mark.slow
@pytest.mark.whole_graph
@pytest.mark.parametrize("metric", [SSIMULACRA2, Butteraugli], ids=lambda metric: metric.__name__)
def test_compiled(metric: Any) -> None:
    original, image = pair(17, 18)
    compared = metric(original)
    compiled = torch.compile(compared.loss, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(image), compared.loss(image), rtol=1e-4)


@by_name
@pytest.mark.parametrize(
    ("picture", "error", "text"),
    [
        (torch.rand(3, 7, 20), ValueError, "original: expected sides of at least 8, got [3, 7, 20]"),
        (torch.rand(2, 20, 20), ValueError, "original: expected [C, H, W] or [B, C, H, W], C = 3 or 1"),
        (torch.rand(20, 20), ValueError, "original: expected [C, H, W]"),
        (torch.zeros(3, 20, 20, dtype=torch.int64), TypeError, "original: expected uint8 or floating point"),
        ("picture", TypeError, "original: expected a torch.Tensor, got str"),
    ],
    ids=["small", "channels", "plane", "integers", "text"],
)
def test_what_is_no_picture(metric: Any, picture: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        metric(picture)  # type: ignore[arg-type]
    assert text in str(caught.value)
    with pytest.raises(error) as caught:
        metric(torch.rand(3, 20, 20)).loss(picture)  # type: ignore[arg-type]
    assert text.replace("original", "image") in str(caught.value)


@by_name
def test_another_size_or_range(metric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice, "_told", set())
    compared = metric(torch.rand(3, 20, 20))
    with pytest.raises(
        ValueError, match=r"image: expected \[3, 20, 20\], as the original, got \[3, 20, 21\]"
    ):
        compared.loss(torch.rand(3, 20, 21))
    with pytest.warns(UserWarning, match="value_range: the image has numbers"):
        compared.loss(255 * torch.rand(3, 20, 20))


def test_an_anchor_of_the_callers() -> None:
    original, image = pair(24, 24)
    metric = Perceptual(original, anchor=image)
    assert float(metric.loss(image)) == pytest.approx(1, rel=1e-5)
    with pytest.raises(ValueError, match=r"image: expected \[1, 3, 24, 24\]"):
        Perceptual(original, anchor=image[0])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 31), (33, 18)])
def test_the_chroma_of_areas(height: int, width: int) -> None:
    original, image = pair(height, width, torch.float64, batch=2)
    found = SSIMULACRA2(original).chroma_error(image)
    r, g, b = (image - original).numpy().swapaxes(0, 1)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    for index in range(2):
        squares = [
            plane[index, top : top + 8, left : left + 8].mean() ** 2
            for plane in ((b - y) / 1.772, (r - y) / 1.402)
            for top in range(0, height - 7, 4)
            for left in range(0, width - 7, 4)
        ]
        assert float(found[index]) == pytest.approx(np.mean(squares), rel=1e-4)


def test_gray_has_no_chroma() -> None:
    original = pair(24, 24)[0][0, :1]
    anchor = jpegrad.jpeg(original, quality=80)
    assert float(SSIMULACRA2(original).chroma_error(anchor)) < 1e-15
    assert float(Perceptual(original).loss(anchor)) == pytest.approx(0.95, rel=1e-5)


@pytest.mark.parametrize("border", ["zero", "mirror", "weighted"])
def test_blurs_by_their_definition(border: str) -> None:
    plane = torch.rand(11, 14, dtype=torch.float64)
    taps = (1.0, 0.6, 0.2, 0.05)
    blur = Blur(taps, border)  # type: ignore[arg-type]

    def matrix(size: int) -> Tensor:
        found = torch.zeros(size, size, dtype=torch.float64)
        for y in range(size):
            for step in range(-3, 4):
                x = y + step
                if border == "mirror":
                    x = -1 - x if x < 0 else 2 * size - 1 - x if x >= size else x
                if 0 <= x < size:
                    found[y, x] += taps[abs(step)]
        return found if border == "zero" else found / found.sum(1, keepdim=True)

    down, across = matrix(11), matrix(14)
    x = plane.clone().requires_grad_()
    assert torch.allclose(blur(x), down @ plane @ across.T)
    weight = torch.rand_like(plane)
    (gradient,) = torch.autograd.grad((blur(x) * weight).sum(), x)
    assert torch.allclose(gradient, down.T @ weight @ across)


@pytest.mark.parametrize(
    "lines", [butteraugli_module.DENSE, butteraugli_module.SPARSE], ids=["dense", "sparse"]
)
def test_energy_along_lines_by_its_definition(
    lines: tuple[tuple[float, tuple[tuple[int, int], ...]], ...],
) -> None:
    plane = torch.rand(1, 1, 13, 12, dtype=torch.float64)
    wanted = torch.zeros_like(plane)
    for weight, places in lines:
        window = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
        for y, x in ((0, 0), *places, *((-y, -x) for y, x in places)):
            window[0, 0, 4 + y, 4 + x] = 1
        assert window.sum() == 1 + 2 * len(places)
        wanted += weight * F.conv2d(plane, window, padding=4).square()
    assert torch.allclose(line_energy(plane, lines), wanted)
    assert sum(weight for weight, _ in lines) == 16
    assert torch.autograd.gradcheck(
        lambda x: line_energy(x, lines), plane[..., :5, :6].clone().requires_grad_()
    )


def test_halving() -> None:
    found = halved(torch.arange(15.0).view(1, 1, 3, 5))
    assert found.tolist() == [[[[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]]]
    assert halvings((8, 40), 6) == [(8, 40), (4, 20)]
    assert halvings((7, 40), 6) == [(7, 40)]
    assert len(halvings((1000, 1000), 6)) == 6


@pytest.mark.slow
@needs_kernel
def test_the_instruction_set_of_every_machine() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    run = subprocess.run(
        [*command, "-k", "the_kernel_is"],
        env={**os.environ, "JPEGRAD_NATIVE": "baseline"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout


def test_an_inner_filter_is_the_convolution() -> None:
    planes = torch.rand(2, 3, 50, 41, dtype=torch.float64, requires_grad=True)
    window = (0.1, 0.2, 0.4, 0.2, 0.1)
    taps = torch.tensor(window, dtype=torch.float64)
    kernel = (taps[:, None] * taps).expand(3, 1, 5, 5)
    expected = torch.nn.functional.conv2d(planes, kernel, groups=3)
    found = inner(planes, window)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weight = torch.rand_like(found)
    slopes = [torch.autograd.grad((weight * x).sum(), planes)[0] for x in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)
    # Under a transform PyTorch's own convolution stands for it.
    mapped = torch.func.vmap(lambda x: inner(x[None], window)[0])(planes.detach())
    torch.testing.assert_close(mapped, expected.detach(), rtol=1e-12, atol=1e-12)
