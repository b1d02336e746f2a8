"""The native kernel against the reference: 0 differing samples, and its gradients in float32."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor

import jpegrad
from jpegrad import surrogates
from jpegrad.backends import native, reference
from jpegrad.backends.fused.settings import settings_of
from jpegrad.backends.native import abi, kernels
from jpegrad.spec import SUBSAMPLING, Color, Spec
from jpegrad.surrogates import Surrogate

MISSING = abi.load() if isinstance(abi.load(), str) else ""
pytestmark = pytest.mark.skipif(bool(MISSING) and os.environ.get("REQUIRE_NATIVE") != "1", reason=MISSING)

MODES = (*SUBSAMPLING, "gray")
# A residual is known to 2^-25 steps in float32. The steepest slope here, of a staircase smoothed by s = 0.005 steps,
# turns that into 2^-25 · 4/s = 2e-5 of its value; sums of a hundred terms add 1e-5.
TOLERANCE = 5e-5


def channels(mode: str) -> int:
    return 1 if mode == "gray" else 3


def spec(mode: str, **settings: object) -> Spec:
    return Spec(subsampling="4:4:4" if mode == "gray" else mode, **settings)  # type: ignore[arg-type]


def tables(quality: float | Tensor, count: int = 2) -> Tensor:
    found = jpegrad.tables.annex_k(quality, dtype=torch.float64)
    more = (found[..., 1:, :, :] + 3).clamp(max=255)
    return torch.cat([found, more], -3)[..., :count, :, :]


def picture(*shape: int) -> Tensor:
    """Smooth shapes and noise, a part of them beyond 0…1."""
    *lead, height, width = shape
    coarse = torch.rand(1, torch.Size(lead).numel(), height // 8 + 2, width // 8 + 2)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").reshape(shape)
    return (smooth + 0.3 * torch.rand(shape)) * 1.1 - 0.2


def sizes() -> Iterator[tuple[int, int]]:
    """Every width and every height up to 40, in pairs that mix small with large."""
    for width in range(1, 41):
        yield (7 * width + 3) % 40 + 1, width
    yield from itertools.product((1, 2, 17), (1, 2, 3, 4, 5))
    yield from ((17, 130), (33, 263), (130, 9))


@pytest.mark.parametrize("mode", MODES)
def test_equals_the_reference_at_every_size(mode: str) -> None:
    for i, (height, width) in enumerate(sizes()):
        image = picture(1, channels(mode), height, width)
        if i % 3 == 0:
            image = (255 * image.clamp(0, 1)).to(torch.uint8)
        entries = tables(float(i * 37 % 100 + 1))
        expected = reference.jpeg(image, entries, spec(mode))
        assert torch.equal(native.jpeg(image, entries, spec(mode)), expected), (height, width)


@pytest.mark.parametrize("mode", MODES)
def test_equals_the_reference_at_every_quality(mode: str) -> None:
    quality = torch.arange(1.0, 101.0)
    image = picture(100, channels(mode), 19, 21)
    found, expected = (backend.jpeg(image, tables(quality), spec(mode)) for backend in (native, reference))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("value_range", [(0.0, 255.0), (-1.0, 1.0), (0.0, 3.0), (-17.3, 1.9), (0.1, 0.2)])
def test_value_ranges(value_range: tuple[float, float]) -> None:
    low, high = value_range
    image = low + picture(2, 3, 20, 37) * (high - low)
    chosen = spec("4:2:0", value_range=value_range)
    assert torch.equal(native.jpeg(image, tables(80), chosen), reference.jpeg(image, tables(80), chosen))


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_rounding_of_values_next_to_a_tie(value_range: tuple[float, float]) -> None:
    low, high = value_range
    ties = low + (torch.arange(255, dtype=torch.float64) + 0.5) / 255 * (high - low)
    around = ties.float()
    below, above = around.nextafter(torch.tensor(-10.0)), around.nextafter(torch.tensor(1e3))
    image = torch.stack([below, around, above]).reshape(1, 1, 3, 255).tile(1, 1, 8, 1)
    chosen, entries = spec("gray", value_range=value_range), torch.ones(1, 8, 8, dtype=torch.float64)
    found, expected = (backend.encode(image, entries, chosen)[0][0] for backend in (native, reference))
    assert torch.equal(found, expected)


def test_values_that_are_no_numbers() -> None:
    image = picture(1, 3, 24, 24)
    image[0, 0, 3, 3], image[0, 1, 5, 5], image[0, 2, 7, 7] = torch.nan, torch.inf, -torch.inf
    for value_range in ((0.0, 1.0), (-1.0, 1.0)):
        chosen = spec("4:2:0", value_range=value_range)
        found, expected = (gradients(backend, image, tables(50), chosen) for backend in (native, reference))
        same_numbers(found[0], expected[0])
        undefined = image.isnan().any(1, keepdim=True).expand_as(image)
        for gradient in (found[1], expected[1]):
            assert torch.equal(gradient.isnan(), undefined)
        close(found[1].nan_to_num(0), expected[1].nan_to_num(0))


def same_numbers(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def strided() -> Iterator[tuple[str, Tensor]]:
    image = picture(2, 3, 21, 35)
    yield "channels last", image.to(memory_format=torch.channels_last)
    yield "one image, expanded", image[:1].expand(4, -1, -1, -1)
    yield "one channel, expanded", image[:, :1].expand(-1, 3, -1, -1)
    yield "one column, expanded", image[..., :1].expand(-1, -1, -1, 30)
    yield "transposed", image.transpose(-1, -2)
    yield "every second column", image[..., ::2]
    yield "inner window", image[:, :, 3:-2, 5:-1]
    yield "rows apart", picture(2, 3, 42, 35)[:, :, ::2]
    yield "channels first", image.transpose(0, 1)[:3, :, :, :].transpose(0, 1)


@pytest.mark.parametrize("layout", [name for name, _ in strided()])
def test_any_strides(layout: str) -> None:
    for image in (dict(strided())[layout], (dict(strided())[layout].clamp(0, 1) * 255).to(torch.uint8)):
        expected = native.jpeg(image.contiguous(), tables(60), spec("4:2:0"))
        assert torch.equal(native.jpeg(image, tables(60), spec("4:2:0")), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    image = picture(2, 3, 20, 20).to(dtype)
    assert not native.unsupported("jpeg", image, spec("4:2:0"))
    found, expected = (backend.jpeg(image, tables(50), spec("4:2:0")) for backend in (native, reference))
    assert found.dtype is dtype and torch.equal(found, expected)


def test_float64_is_left_to_the_reference() -> None:
    image = picture(1, 3, 9, 9).double()
    with pytest.raises(ValueError, match="float64"):
        jpegrad.jpeg(image, 50, backend="native")
    assert jpegrad.jpeg(image, 50).dtype is torch.float64


def test_leading_dimensions_and_tables_of_their_own() -> None:
    image = picture(2, 3, 3, 17, 24)
    for entries in (tables(torch.tensor([10.0, 50.0, 90.0]), 3), tables(torch.rand(2, 1) * 99 + 1)):
        found, expected = (backend.jpeg(image, entries, spec("4:2:2")) for backend in (native, reference))
        assert torch.equal(found, expected)


def test_every_table_entry() -> None:
    entries = torch.arange(1.0, 256.0, dtype=torch.float64).reshape(255, 1, 1, 1).expand(-1, 1, 8, 8)
    image = torch.randint(0, 256, (255, 1, 16, 24), dtype=torch.uint8)
    found, expected = (backend.jpeg(image, entries, spec("gray")) for backend in (native, reference))
    assert torch.equal(found, expected)


COLORS = {
    "no conversion": jpegrad.spec.RGB,
    "swapped, viewed as JFIF": Color(jpegrad.spec.JFIF.matrix[::-1], (128.0, 128.0, 0.0)),
    "beyond 24 bits": Color(((2.5, -1.25, 0.7), (0.3, 3.1, -2.0), (1.0, 1.0, 1.0)), (10.5, 0.25, -300.0)),
    "full inverse": Color(
        jpegrad.spec.JFIF.matrix,
        (1.0, 128.0, 127.5),
        ((1.1, 0.2, 1.402), (0.9, -0.34414, -0.71414), (1.0, 1.772, 0.3)),
    ),
}


@pytest.mark.parametrize("name", COLORS)
def test_colour_conversions(name: str) -> None:
    image, chosen = picture(1, 3, 18, 33), spec("4:2:0", color=COLORS[name], clip_slope=0.2)
    found, expected = (gradients(backend, image, tables(70), chosen) for backend in (native, reference))
    assert torch.equal(found[0], expected[0])
    for a, b in zip(found[1:], expected[1:], strict=True):
        close(a, b)


def test_colour_conversions_that_overflow_are_refused() -> None:
    color = Color(((500.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    assert "32-bit" in native.unsupported("jpeg", picture(1, 3, 8, 8), spec("4:2:0", color=color))[0]


@pytest.mark.parametrize("mode", MODES)
def test_levels_and_decoding(mode: str) -> None:
    image = picture(2, channels(mode), 37, 50)
    entries = tables(torch.tensor([20.0, 95.0]), 3)
    (levels, ratios), (expected, expected_ratios) = (
        backend.encode(image, entries, spec(mode)) for backend in (native, reference)
    )
    assert ratios is not None and expected_ratios is not None
    for a, b in zip((*levels, *ratios), (*expected, *expected_ratios), strict=True):
        assert a.dtype is torch.float32 and torch.equal(a, b)
    for dtype in (torch.uint8, torch.float16, torch.float32, torch.float64):
        found, wanted = (
            backend.decode(levels, entries, (37, 50), dtype, spec(mode)) for backend in (native, reference)
        )
        assert found.dtype is dtype and torch.equal(found, wanted)


@pytest.mark.parametrize(("scale", "largest"), [(1, 255), (40, 255), (3000, 255), (3000, 65535)])
def test_decoding_levels_that_no_picture_has(scale: int, largest: int) -> None:
    levels = tuple((torch.randn(1, 3, 4, 8, 8) * scale).round() for _ in range(3))
    levels[0][0, 0, 0] += 0.25
    entries = torch.randint(1, largest + 1, (2, 8, 8)).double()
    found, expected = (
        backend.decode(levels, entries, (20, 31), torch.uint8, spec("4:4:4"))
        for backend in (native, reference)
    )
    assert torch.equal(found, expected)


def gradients(
    backend: object, image: Tensor, entries: Tensor, chosen: Spec, split: bool = False
) -> list[Tensor]:
    """The decoded image, and the gradients to image and tables of a random linear loss."""
    image, entries = image.clone().requires_grad_(), entries.clone().requires_grad_()
    weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    if split:
        levels, _ = backend.encode(image, entries, chosen)  # type: ignore[attr-defined]
        size = (image.shape[-2], image.shape[-1])
        out = backend.decode(levels, entries, size, image.dtype, chosen)  # type: ignore[attr-defined]
    else:
        out = backend.jpeg(image, entries, chosen)  # type: ignore[attr-defined]
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), (image, entries))]


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    error = (found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-6)
    assert error < TOLERANCE, f"relative error {error:.2e}"


RECORDS = {
    **surrogates.ALL,
    "narrow": surrogates.gaussian(0.3),
    "medium": surrogates.gaussian(5.0),
    "wide": surrogates.gaussian(20.0),
    "soft": surrogates.soft_round(2.0),
    "own": Surrogate(
        "own", lambda u, step, component: u, lambda u, step, component: 0.5 + torch.cos(u) / step, "a test"
    ),
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("quality", [10.0, 90.0])
def test_gradients_with_every_record(name: str, quality: float) -> None:
    image = picture(2, 3, 21, 37)
    for chosen in (
        spec("4:2:0", surrogate=RECORDS[name]),
        spec("4:4:4", table_surrogate=RECORDS[name], clip_slope=0.1),
    ):
        found, expected = (gradients(b, image, tables(quality), chosen) for b in (native, reference))
        assert torch.equal(found[0], expected[0])
        close(found[1], expected[1])
        close(found[2], expected[2])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("split", [False, True])
def test_gradients_at_odd_sizes(mode: str, split: bool) -> None:
    for i, (height, width) in enumerate(
        [(1, 1), (1, 9), (9, 1), (2, 3), (3, 4), (15, 5), (17, 33), (31, 65), (8, 130)]
    ):
        image = picture(2, channels(mode), height, width)
        entries = tables(torch.tensor([30.0, 85.0])) if i % 2 else tables(60, 3)
        chosen = spec(
            mode, clip_slope=0.25 * (i % 3), surrogate=(surrogates.gaussian(), surrogates.identity)[i % 2]
        )
        found, expected = (gradients(b, image, entries, chosen, split) for b in (native, reference))
        assert torch.equal(found[0], expected[0])
        close(found[1], expected[1])
        close(found[2], expected[2])


@pytest.mark.parametrize("width", range(1, 20))
def test_chroma_clamped_up_to_the_border(width: int) -> None:
    """Pure red beside pure blue: the coarse coefficients of chroma overshoot 0…255 in every column."""
    generator = torch.Generator().manual_seed(width)
    red = (torch.rand(4, 24, width, generator=generator) < 0.5).float()
    image, chosen = torch.stack([red, torch.zeros_like(red), 1 - red], 1), spec("4:4:4")
    settings = settings_of(chosen, 3, kernels)
    _, (_, clamped, _) = torch.ops.jpegrad.native_jpeg(image, tables(10)[None], settings, True, False)
    assert clamped.any(1).any(0).any(0).all()
    found, expected = (gradients(b, image, tables(10), chosen) for b in (native, reference))
    assert torch.equal(found[0], expected[0])
    close(found[1], expected[1])


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("horizontal", [True, False])
def test_few_columns_up_to_the_border_have_a_slope(sigma: float, horizontal: bool) -> None:
    """Without a gradient to tables, columns of coefficients far from every threshold are left out."""
    wave = torch.cos(torch.arange(40.0)[:, None] * torch.linspace(0.1, 3.0, 24)).mul(0.4).add(0.5)
    plane = wave.T if horizontal else wave
    chosen = spec("4:2:0", surrogate=surrogates.gaussian(sigma))
    found, expected = [], []
    for backend, to in ((native, found), (reference, expected)):
        image = plane.expand(1, 3, *plane.shape).clone().requires_grad_()
        weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
        to += torch.autograd.grad((backend.jpeg(image, tables(10), chosen) * weight).sum(), image)
    close(found[0], expected[0])


def test_slope_one_needs_no_transform() -> None:
    image, entries = picture(1, 3, 40, 50).requires_grad_(), tables(50)
    chosen = spec("4:2:0", surrogate=surrogates.identity)
    weight = torch.randn(image.shape)
    (stencil,) = torch.autograd.grad((native.jpeg(image, entries, chosen) * weight).sum(), image)
    with_tables = native.jpeg(image, entries.requires_grad_(), chosen)
    (transformed,) = torch.autograd.grad((with_tables * weight).sum(), image)
    close(stencil, transformed)


@pytest.mark.parametrize("subsampling", SUBSAMPLING)
@pytest.mark.parametrize("surrogate", ["identity", "gaussian"])
def test_memory_kept_for_the_backward_pass(subsampling: str, surrogate: str) -> None:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    image = picture(1, 3, 128, 512).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        native.jpeg(image, tables(50), spec(subsampling, surrogate=surrogates.get(surrogate)))
    # 2 bytes per coefficient, unless the slope is 1, and a byte per pixel and chroma sample for the clamps.
    samples = 1 + 2 / (SUBSAMPLING[subsampling][0] * SUBSAMPLING[subsampling][1])
    expected = 65536 * (samples + (2 * samples if surrogate == "gaussian" else 0)) + tables(50).nbytes
    assert sum(kept.values()) == expected
    with torch.no_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept.clear()
        native.jpeg(image, tables(50), spec(subsampling))
    assert not kept


def test_checkpoint() -> None:
    image = picture(1, 3, 33, 33).requires_grad_()
    through = torch.utils.checkpoint.checkpoint(
        lambda x: native.jpeg(x, tables(50), spec("4:2:0")), image, use_reentrant=False
    )
    (found,) = torch.autograd.grad(through.square().sum(), image)
    (expected,) = torch.autograd.grad(native.jpeg(image, tables(50), spec("4:2:0")).square().sum(), image)
    assert torch.equal(found, expected)


# The compiler instantiates the function that it traces.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.whole_graph
def test_compiles_without_graph_breaks() -> None:
    def loss(image: Tensor, quality: Tensor) -> Tensor:
        return jpegrad.jpeg(image, quality, backend="native").square().sum()

    image, quality = picture(2, 3, 24, 33).requires_grad_(), torch.tensor([30.0, 70.0], requires_grad=True)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(loss(image, quality), (image, quality))
    for a, b in zip(torch.autograd.grad(compiled(image, quality), (image, quality)), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_the_reason_if_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "load", lambda: "the native kernel is not built")
    with pytest.raises(ValueError, match="not built"):
        jpegrad.jpeg(picture(1, 3, 8, 8), 50, backend="native")
    assert jpegrad.jpeg(picture(1, 3, 8, 8), 50).shape == (1, 3, 8, 8)


def test_the_instruction_set_of_every_machine() -> None:
    if os.environ.get("JPEGRAD_NATIVE") == "baseline":
        pytest.skip("this is it")
    selected = "every_size or odd_sizes or value_ranges or levels_and_decoding or no_picture or colour"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", selected]
    run = subprocess.run(
        command, env={**os.environ, "JPEGRAD_NATIVE": "baseline"}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-3000:]
