"""What users bring: numbers in other ranges, NaN, other roundings."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import inputs, notice
from jpegrad.backends.native import abi
from oracles import libjpeg

BACKENDS = [
    "reference",
    pytest.param("plain", marks=pytest.mark.slow),
    pytest.param("native", marks=pytest.mark.skipif(isinstance(abi.load(), str), reason="no native kernel")),
]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True)
def nobody_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice, "_told", set())
    monkeypatch.setattr(inputs, "_calls", {})


@pytest.fixture
def pixels(photo: Tensor) -> Tensor:
    return photo[:, 40:101, 30:117]


# Ranges.

OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "0 to 255": lambda x: x,
    "-1 to 1": lambda x: x / 127.5 - 1,
    "-128 to 127": lambda x: x - 128,
    "-0.5 to 0.5": lambda x: x / 255 - 0.5,
    "16 bits": lambda x: x * 257,
    "normalised": lambda x: (x / 255 - 0.45) / 0.225,
}
HINTS = {
    "0 to 255": "value_range=(0.0, 255.0)",
    "-1 to 1": "value_range=(-1.0, 1.0)",
    "normalised": "normalized",
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_range_that_cannot_be_is_named(name: str, forward: str, backend: str, photographs: Any) -> None:
    for picture in photographs.values():
        image = OTHERS[name](torch.tensor(picture).permute(2, 0, 1)[None, :, ::2, ::2].float())
        notice._told.clear()
        with pytest.warns(UserWarning, match="value_range") as caught:
            jpegrad.jpeg(image, 50, forward=forward, backend=backend)
        (warning,) = caught
        assert warning.filename == __file__
        lowest, highest = f"{image.min():.4g}", f"{image.max():.4g}"
        assert f"from {lowest} to {highest}" in str(warning.message)
        assert HINTS.get(name, "value_range=(") in str(warning.message)


@pytest.mark.parametrize("backend", BACKENDS)
def test_encode_and_modules_tell_it_too(backend: str, pixels: Tensor) -> None:
    with pytest.warns(UserWarning, match="value_range"):
        jpegrad.encode(pixels.float(), 50, backend=backend)
    with pytest.warns(UserWarning, match="value_range") as caught:
        torch.nn.Sequential(jpegrad.nn.JPEG(50, backend=backend))(pixels.float().requires_grad_())
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"range \(\(-2"):
        jpegrad.jpeg(pixels.float(), 50, value_range=inputs.normalized(MEAN, STD), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_once_per_place(backend: str, pixels: Tensor) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            jpegrad.jpeg(pixels.float(), 50, backend=backend)
        assert len(caught) == 1
        jpegrad.jpeg(pixels.float(), 50, backend=backend)
        assert len(caught) == 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_ordinary_pictures_are_no_reason(forward: str, backend: str, pixels: Tensor) -> None:
    unit = pixels / 255
    few = unit.clone()
    few[0, 0, :20] = 9.0
    for image in (
        unit,
        unit + 16 / 255 * torch.randn_like(unit).sign(),
        1.4 * (unit - 0.5) + 0.5,
        unit + 0.05 * torch.randn_like(unit),
        few,
        torch.zeros_like(unit),
        unit.masked_fill(unit < 0.2, torch.nan),
    ):
        jpegrad.jpeg(image.requires_grad_(), 50, forward=forward, backend=backend)
        jpegrad.jpeg(4 * image.detach() - 2, 50, forward=forward, backend=backend, value_range=(-2, 2))
        # A row's end is filled up, with numbers that must not count.
        jpegrad.jpeg(image.detach() + 9, 50, forward=forward, backend=backend, value_range=(9, 10))


def test_elsewhere_the_first_calls_are_looked_at(monkeypatch: pytest.MonkeyPatch, pixels: Tensor) -> None:
    seen = []
    monkeypatch.setattr(inputs, "report_range", lambda image, far, value_range: seen.append(far))
    # The CPU in the place of a device that must not be waited for.
    monkeypatch.setattr(inputs, "_waits_for_nothing", lambda image: False)
    for _ in range(inputs.FIRST_CALLS + 2):
        jpegrad.jpeg(pixels / 255, 50, backend="reference")
    assert len(seen) == inputs.FIRST_CALLS
    jpegrad.jpeg(pixels / 255, 50, backend="reference")
    assert len(seen) == inputs.FIRST_CALLS + 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_range_per_channel(backend: str, pixels: Tensor) -> None:
    mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, STD))
    value_range = inputs.normalized(MEAN, STD)
    image = ((pixels / 255 - mean) / std).requires_grad_()
    out = jpegrad.jpeg(image, 50, value_range=value_range, backend=backend)
    file = torch.from_numpy(libjpeg.pillow(pixels.numpy(), 50))
    found = ((out.detach() * std + mean) * 255).double()
    assert torch.equal(found.round().to(torch.uint8), file)
    coefficients = jpegrad.encode(image, 50, value_range=value_range, backend=backend)
    assert torch.equal(jpegrad.decode(coefficients, backend=backend), out)
    assert torch.equal(jpegrad.decode(coefficients, dtype=torch.uint8, backend=backend), file)
    # The same gradient as behind a conversion by hand.
    weight = torch.randn_like(image)
    (gradient,) = torch.autograd.grad(out, image, weight)
    other = image.detach().clone().requires_grad_()
    by_hand = (
        jpegrad.jpeg((other * std + mean) * 255, 50, value_range=(0, 255), backend=backend) / 255 - mean
    ) / std
    (expected,) = torch.autograd.grad(by_hand, other, weight)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)
    for form in (
        tuple(np.array(x) for x in value_range),
        tuple(torch.tensor(x, dtype=torch.float64)[:, None, None] for x in value_range),
        [list(x) for x in value_range],
    ):
        assert torch.equal(jpegrad.jpeg(image, 50, value_range=form, backend=backend), out)


def test_per_channel_and_as_one_number_it_is_the_same(pixels: Tensor) -> None:
    image = pixels.double() / 255
    image[0, :3, :3] = torch.tensor([-0.1, 1.1, float("inf")])
    slow = ((-0.5, -0.5, -0.5 - 1e-300), (1.5, 1.5, 1.5))
    found, expected = (
        jpegrad.jpeg(image, 50, value_range=each, backend="reference") for each in (slow, (-0.5, 1.5))
    )
    assert torch.equal(found, expected)


def test_the_range_of_equal_channels_is_two_numbers() -> None:
    assert jpegrad.spec.check_value_range(((-1, -1, -1), 1)) == (-1.0, 1.0)
    assert inputs.normalized((0.5,) * 3, (0.5,) * 3) == (-1.0, 1.0)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("clip_slope", [0.0, 0.1])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_range_per_channel_beyond_its_bounds(backend: str, clip_slope: float, soft: bool) -> None:
    low, high = ((0.0, -1.0, 2.0), (1.0, 1.0, 2.5))
    a, b = (torch.tensor(x)[:, None, None] for x in (low, high))
    unit = 1.1 * torch.rand(3, 18, 21, dtype=torch.float64) - 0.05
    image = (a + unit * (b - a)).float().requires_grad_()
    same = (255 * (image.detach().double() - a) / (b - a)).requires_grad_()
    options: dict[str, Any] = {"clip_slope": clip_slope, "forward": "soft" if soft else "exact"}
    out = jpegrad.jpeg(image, 60, value_range=(low, high), backend=backend, **options)
    expected = jpegrad.jpeg(same, 60, value_range=(0, 255), backend="reference", **options)
    tolerance = 1e-5 if soft else 1e-6
    torch.testing.assert_close(out.double(), a + expected / 255 * (b - a), rtol=tolerance, atol=tolerance)
    weight = torch.randn_like(same)
    (gradient,) = torch.autograd.grad(out, image, weight.float())
    (there,) = torch.autograd.grad(expected, same, weight * (b - a) / 255)
    torch.testing.assert_close(gradient.double(), there * 255 / (b - a), rtol=1e-3, atol=1e-3)


# NaN.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_pixel_that_is_no_number(channels: int, forward: str, backend: str) -> None:
    image = torch.rand(2, channels, 19, 26)
    clean = image.clone()
    image[0, 0, 3, 4] = image[1, -1, 18, 25] = torch.nan
    clean[0, 0, 3, 4] = clean[1, -1, 18, 25] = 0
    # All channels of a pixel depend on each.
    undefined = image.isnan().any(1, keepdim=True).expand_as(image)
    options: dict[str, Any] = {"forward": forward, "backend": backend}
    outcomes = []
    for x in (image, clean):
        x, quality = x.clone().requires_grad_(), torch.tensor([30.0, 80.0], requires_grad=True)
        out = jpegrad.jpeg(x, quality, **options)
        weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
        outcomes.append((out.detach(), *torch.autograd.grad(out, (x, quality), weight)))
        assert torch.equal(jpegrad.jpeg(x.detach(), quality, **options).isnan(), out.isnan())
    for found, expected in zip(*(each[:2] for each in outcomes), strict=True):
        assert torch.equal(found.isnan(), undefined)
        assert torch.equal(found[~undefined], expected[~undefined])
    assert torch.equal(outcomes[0][2], outcomes[1][2])
    # A loss that meets it is undefined, and so are the gradients that come from it.
    x = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(jpegrad.jpeg(x, 50, **options).square().sum(), x)
    assert gradient[undefined].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_levels_have_no_nan_but_their_gradient_has(backend: str) -> None:
    image = torch.rand(3, 16, 24)
    image[1, 5, 7] = torch.nan
    x = image.clone().requires_grad_()
    levels = jpegrad.encode(x, 50, subsampling="4:4:4", backend=backend).levels
    expected = jpegrad.encode(image.nan_to_num(0), 50, subsampling="4:4:4", backend=backend).levels
    assert all(torch.equal(a, b) for a, b in zip(levels, expected, strict=True))
    (gradient,) = torch.autograd.grad(sum((level**2).sum() for level in levels), x)
    assert torch.equal(gradient.isnan(), image.isnan().any(0).expand(3, -1, -1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.parametrize("what", ["quality", "tables"])
def test_a_quality_or_table_that_is_no_number(what: str, forward: str, backend: str) -> None:
    image = torch.rand(2, 3, 16, 16, requires_grad=True)
    value = torch.tensor([40.0, 70.0])
    if what == "tables":
        value = jpegrad.tables.annex_k(value)
    broken = value.clone()
    broken.view(2, -1)[1, -1] = torch.nan
    broken.requires_grad_()
    options: dict[str, Any] = {"forward": forward, "backend": backend}
    out = jpegrad.jpeg(image, **{what: broken}, **options)
    expected = jpegrad.jpeg(image, **{what: value}, **options)
    assert torch.equal(out[0], expected[0]) and out[1].isnan().all()
    to_image, to_value = torch.autograd.grad(out.sum(), (image, broken))
    (there,) = torch.autograd.grad(expected[0].sum(), image)
    assert torch.equal(to_image[0], there[0]) and to_image[1].isnan().all()
    assert torch.equal(to_value.isnan(), broken.isnan())
    assert jpegrad.jpeg((image * 255).byte(), **{what: broken}, **options).dtype is torch.uint8
    levels = jpegrad.encode(image, **{what: broken}, backend=backend).levels
    assert all(level.isfinite().all() for level in levels)


def test_under_vmap_a_quality_that_is_no_number_is_seen() -> None:
    image, quality = torch.rand(2, 3, 16, 16), torch.tensor([40.0, torch.nan])
    out = torch.func.vmap(jpegrad.jpeg)(image, quality)
    assert out[0].isfinite().all() and out[1].isnan().all()


# Rounding.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_truncation_is_what_saving_through_bytes_does(dtype: torch.dtype, backend: str) -> None:
    if backend != "reference" and dtype is torch.float64:
        pytest.skip("float64 is the reference's")
    image = torch.rand(3, 40, 56).to(dtype)
    image[0, 0] = torch.linspace(0, 1, 56)
    as_bytes = (image if dtype is torch.float64 else image.float()).mul(255).byte()
    assert (as_bytes != (image.double() * 255).round().byte()).any()
    out = jpegrad.jpeg(image, 60, rounding="truncate", backend=backend)
    expected = jpegrad.jpeg(as_bytes, 60, backend=backend)
    assert torch.equal((out.double() * 255).round().byte(), expected)
    levels = jpegrad.encode(image, 60, rounding="truncate", backend=backend).levels
    others = jpegrad.encode(as_bytes, 60, backend=backend).levels
    assert all(torch.equal(a, b.to(a.dtype)) for a, b in zip(levels, others, strict=True))


def test_truncation_has_slope_1() -> None:
    picture = torch.randint(0, 256, (3, 24, 24)) / 255
    gradients = []
    for image, rounding in ((picture + 0.3 / 255, "truncate"), (picture, "nearest")):
        x = image.clone().requires_grad_()
        jpegrad.jpeg(x, 40, rounding=rounding).square().sum().backward()
        gradients.append(x.grad)
    inside = picture < 1
    torch.testing.assert_close(gradients[0][inside], gradients[1][inside])


def test_no_sample_is_counted_twice() -> None:
    """A kernel reads rows between two threads twice; the message says the share of the picture."""
    picture, threads = torch.full((1, 3, 256, 512), 200.0), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.warns(UserWarning, match=" 100% of them far outside"):
            jpegrad.jpeg(picture, 50)
    finally:
        torch.set_num_threads(threads)


def _odd_numbers() -> Tensor:
    """Around the ends of the range and of its levels, far outside, and such whose rounding looks like one inside."""
    ends = torch.tensor([0.0, -0.0, 1.0, -0.5 / 255, 255.5 / 255])
    near = torch.cat([ends, ends.nextafter(torch.tensor(-9.0)), ends.nextafter(torch.tensor(9.0))])
    far = torch.tensor([256 / 255, 511 / 255, 1e-45, -1e-45, 3e38, -3e38, torch.inf, -torch.inf, torch.nan])
    raised = 1.5 * 2.0**23
    patterns = torch.tensor([0x4B400000 & ~(1 << bit) for bit in (30, 27, 25, 24, 22)] + [0x42000000])
    hidden = (patterns.int().view(torch.float32).double() - raised) / 255
    return torch.cat([near, far, hidden.float()])


@pytest.mark.skipif(isinstance(abi.load(), str), reason="no native kernel")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (0.1, 0.9)])
def test_one_odd_number_in_a_picture(value_range: tuple[float, float], channels: int, pixels: Tensor) -> None:
    low, high = value_range
    odd = _odd_numbers() * (high - low) + low
    images = low + (pixels[:channels, :9, :21] / 255 * (high - low)).repeat(len(odd), 1, 1, 1)
    images[:, channels // 2, 4, 7] = odd
    options: dict[str, Any] = {"value_range": value_range, "subsampling": "4:4:4"}
    for clip_slope in (0.0, 0.25):
        results = []
        for backend in ("native", "reference"):
            plain = jpegrad.jpeg(images, 90, backend=backend, **options)
            x = images.clone().requires_grad_()
            out = jpegrad.jpeg(x, 90, backend=backend, clip_slope=clip_slope, **options)
            assert torch.equal(plain.nan_to_num(7), out.detach().nan_to_num(7))
            out.nan_to_num(0).sum().backward()
            results.append((plain, x.grad))
        (native, slopes), (reference, expected) = results
        torch.testing.assert_close(native, reference, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(slopes, expected, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
@pytest.mark.parametrize(
    "value_range", [(-1.0, 1.0), ((-2.0, -1.5, -1.0), (2.0, 3.0, 1.0))], ids=["one", "each"]
)
@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_images_without_a_gradient_are_converted_to_the_same_numbers(
    forward: str, value_range: Any, rounding: str
) -> None:
    image = 2 * torch.randn(2, 3, 40, 50)
    image[0, 0, 0, :4] = torch.tensor([torch.nan, torch.inf, -torch.inf, 1.0])
    kept = image.clone()
    found = []
    for x in (image, image.clone().requires_grad_()):
        grey = inputs.to_grey(x, value_range, rounding, forward)
        found.append(
            (grey.detach().clamp(0, 255), inputs.from_grey(grey, value_range, torch.float32).detach())
        )
        assert forward == "soft" or (grey.nan_to_num(7).detach() % 1 == 0).all()
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=0, equal_nan=True)
    inside = (found[0][0] > 0) & (found[0][0] < 255)
    assert torch.equal(found[0][1][inside], found[1][1][inside])
    torch.testing.assert_close(image, kept, rtol=0, atol=0, equal_nan=True)
