"""Slopes at bounds and kinks are the library's own: the same numbers on every PyTorch, whatever its conventions."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from scipy.stats import norm
from torch import Tensor
from torch.overrides import TorchFunctionMode

import jpegrad
from jpegrad import backends, formulas, rate, surrogates, tables
from jpegrad.rate.models import Scan
from jpegrad.surrogates import Component, Surrogate, finite, leaky_clamp, magnitude
from jpegrad.tune import metrics
from jpegrad_studies import baselines

NAN, INF = math.nan, math.inf
PLAIN = jpegrad.spec.Spec()
BACKENDS = [
    name for name in backends.ORDER if not backends.reasons(name, "jpeg", torch.zeros(3, 8, 8), PLAIN)
]
every_backend = pytest.mark.parametrize("backend", BACKENDS)
every_record = pytest.mark.parametrize("record", surrogates.ALL.values(), ids=surrogates.ALL)


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, cotangent: Tensor | None = None) -> Tensor:
    x = x.detach().clone().requires_grad_()
    out = function(x)
    (found,) = torch.autograd.grad(out, x, torch.ones_like(out) if cotangent is None else cotangent)
    return found


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


EDGES = numbers(-INF, -3, -2, 0, 5, 6, INF, NAN)
CLAMPS: tuple[tuple[dict[str, float], list[float], list[float]], ...] = (
    ({}, [-2, -2, -2, 0, 5, 5, 5, NAN], [0, 0, 1, 1, 1, 0, 0, 1]),
    ({"slope": 0.25}, [-2, -2.25, -2, 0, 5, 5.25, 5, NAN], [0, 0.25, 1, 1, 1, 0.25, 0, 1]),
    ({"nan": 1.0}, [-2, -2, -2, 0, 5, 5, 5, 1], [0, 0, 1, 1, 1, 0, 0, 0]),
    ({"slope": 0.25, "nan": 1.0}, [-2, -2.25, -2, 0, 5, 5.25, 5, 1], [0, 0.25, 1, 1, 1, 0.25, 0, 0]),
)


# PyTorch's own, inside its forward mode and its compiler.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("options", "values", "slopes"), CLAMPS, ids=str)
def test_clamp(options: dict[str, float], values: Sequence[float], slopes: Sequence[float]) -> None:
    def clamp(x: Tensor) -> Tensor:
        return leaky_clamp(x, -2.0, 5.0, **options)

    expected = numbers(*slopes)
    torch.testing.assert_close(clamp(EDGES), numbers(*values), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(gradient(clamp, EDGES), expected)
    assert torch.equal(torch.func.vmap(torch.func.grad(clamp))(EDGES), expected)
    _, forward = torch.func.jvp(clamp, (EDGES,), (torch.ones_like(EDGES),))
    assert torch.equal(forward, expected)
    compiled = torch.compile(clamp, fullgraph=True, backend="aot_eager")
    assert torch.equal(gradient(compiled, EDGES), expected)


def test_clamp_on_one_side() -> None:
    x = numbers(-1, 0, 1)
    assert gradient(lambda x: leaky_clamp(x, low=0.0), x).tolist() == [0, 1, 1]
    assert gradient(lambda x: leaky_clamp(x, high=0.0), x).tolist() == [1, 1, 0]


def test_second_derivative_at_a_bound() -> None:
    x = numbers(-1, 0, 0.5, 1, 2).requires_grad_()
    (first,) = torch.autograd.grad(leaky_clamp(x, 0.0, 1.0).pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert first.tolist() == [0, 0, 0.75, 3, 0]
    assert second.tolist() == [0, 0, 3, 6, 0]


def test_magnitude_and_finite() -> None:
    x = numbers(-INF, -2, -0.0, 0, 3, INF)
    assert magnitude(x).tolist() == [INF, 2, 0, 0, 3, INF]
    assert gradient(magnitude, x).tolist() == [-1, -1, 0, 0, 1, 1]
    x = numbers(-INF, 0, 1, INF, NAN)
    assert finite(x, 7.0, -5.0, 5.0).tolist() == [-5, 0, 1, 5, 7]
    assert gradient(lambda x: finite(x, 7.0, -5.0, 5.0), x).tolist() == [0, 1, 1, 0, 0]


@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_tables_at_their_bounds(forward: str) -> None:
    entries = numbers(-INF, 0.5, 1, 2, 254, 255, 256, INF, NAN)
    found = gradient(lambda x: tables.legal(x, forward=forward), entries)
    assert found.tolist() == [0, 1, 1, 1, 1, 1, 1, 0, 0]


def test_scaled_tables_at_the_bounds_of_the_entries() -> None:
    # At quality 50 the scaling is the identity.
    base = numbers(0.5, 1, 2, 254, 255, 256).reshape(1, -1)
    assert gradient(lambda x: tables.scale(x, 50), base).tolist() == [[1, 1, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("quality", "base", "slope"),
    [
        # The chord from 98, where the entry is base / 25, to 100, where it is 1.
        (100, 50, -0.5),
        (100, 100, -1.5),
        (100, 25, 0.0),
        # From 1, where it is 255, to 3, where it is 50 / 3 · base.
        (1, 9, (150 - 255) / 2),
        (1, 16, 0.0),
        # The derivative of 2 − q/50, and at 50 that from above.
        (60, 10, -0.2),
        (50, 10, -0.2),
    ],
)
def test_quality_at_its_bounds(quality: float, base: float, slope: float) -> None:
    found = gradient(lambda q: tables.scale(numbers(base), q), numbers(quality))
    assert found.item() == pytest.approx(slope, abs=1e-12)


@pytest.mark.parametrize(("base", "below", "above"), [(9.0, (150 - 255) / 2, 0.0), (50.0, 0.0, -0.5)])
def test_quality_outside_its_bounds_has_the_slope_of_the_bound(
    base: float, below: float, above: float
) -> None:
    found = gradient(lambda q: tables.scale(numbers(base), q), numbers(-INF, 0.9, 1, 100, 100.1, INF, NAN))
    assert found.tolist() == pytest.approx([0, below, below, above, above, 0, 0], abs=1e-12)


@every_backend
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shade", [0.0, 1.0])
def test_black_and_white_pictures(backend: str, channels: int, shade: float) -> None:
    """Pixels and decoded samples stand at the bounds of their clamps, and levels are whole: slope 1 throughout."""
    step = torch.full((2, 8, 8), 8.0)
    picture = torch.full((channels, 16, 16), shade)

    def coded(image: Tensor) -> Tensor:
        return jpegrad.jpeg(image, tables=step, surrogate="identity", backend=backend)

    assert torch.equal(coded(picture), picture)
    # A grey cotangent meets the means of blocks alone, and every stage keeps them.
    found = gradient(coded, picture)
    torch.testing.assert_close(found, torch.ones_like(found), rtol=0, atol=1e-4)


@every_backend
def test_quality_and_tables_reach_the_finest_and_the_coarsest(backend: str) -> None:
    image = torch.rand(3, 32, 32)

    def error(**how: Any) -> Tensor:
        return (jpegrad.jpeg(image, backend=backend, **how) - image).square().mean() * 255**2

    for quality in (1.0, 100.0):
        assert gradient(lambda q: error(quality=q), torch.tensor(quality)).abs() > 1e-3
    for entry in (1.0, 255.0):
        found = gradient(lambda x: error(tables=x), torch.full((2, 8, 8), entry))
        assert (found != 0).sum() > 100


@every_backend
def test_levels_at_the_ends_of_sixteen_bits(backend: str) -> None:
    dc = torch.tensor([-INF, -32769, -32768, 0, 32767, 32768, INF, NAN])
    levels = torch.zeros(8, 1, 1, 8, 8)
    levels[:, 0, 0, 0, 0] = dc
    coded = jpegrad.encode(torch.zeros(8, 1, 8, 8), tables=torch.ones(2, 8, 8))

    def decoded(levels: Tensor) -> Tensor:
        edited = jpegrad.coefficients.Coefficients(
            (levels,), coded.tables, (8, 8), coded.subsampling, dtype=torch.float32
        )
        return jpegrad.decode(edited, clip_slope=1.0, backend=backend)

    # The DC of 64 samples is 8 times their mean.
    expected = torch.tensor([0, 0, 1, 1, 1, 0, 0, 0]) * 8 / 255
    torch.testing.assert_close(gradient(decoded, levels)[:, 0, 0, 0, 0], expected)


def soft_gradient(record: Surrogate, u: Tensor) -> Tensor:
    torch.manual_seed(0)
    return gradient(lambda u: record.soft(u, numbers(16.0), Component("Y")), u)


@every_record
def test_the_slope_of_soft_is_the_record_s_own_at_every_kink(record: Surrogate) -> None:
    cut = 1 + 1 / math.sqrt(12)
    u = numbers(-2, -1.5, -cut, -1, -0.5, 0, 0.5, 1, cut, 1.5, 2)
    torch.testing.assert_close(
        soft_gradient(record, u), record.slope(u, numbers(16.0), Component("Y")), rtol=1e-12, atol=1e-12
    )


def test_slopes_of_table_rules_at_their_kinks() -> None:
    cut = 1 + 1 / math.sqrt(12)
    u = numbers(-cut, -0.5, 0, 0.5, cut, math.nextafter(cut, 2))
    assert soft_gradient(surrogates.ALL["dead_zone"], u).tolist() == [0, 0, 0, 0, 0, 1]
    assert soft_gradient(surrogates.ALL["distortion"], u).tolist() == [1, 1, 0, 1, 1, 1]


@pytest.mark.parametrize(("width", "inside"), [(1.0, True), (1.1, False), (1e-3, True), (9e-4, False)])
def test_the_width_of_the_gaussian_at_its_bounds(width: float, inside: bool) -> None:
    u = 0.5 + width / 2
    found = gradient(lambda s: formulas.smoothed_round(numbers(u), s), numbers(width))
    z = (u - (torch.arange(-6, 8, dtype=torch.float64) + 0.5)) / width
    expected = float(-(z.numpy() * norm.pdf(z.numpy())).sum() / width) if inside else 0.0
    assert found.item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert width < 0.01 or abs(expected) < 1e-6


def scan(values: Sequence[float], integer: bool = False) -> tuple[Tensor, Callable[[Tensor], Scan]]:
    """One gray block with ``values`` in the row below the DC's; 640 bits."""
    block = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    block[0, 0, 1, : len(values)] = numbers(*values)

    def made(x: Tensor) -> Scan:
        levels = x.detach().round()
        return Scan((x,), (levels,), (8, 8), "4:4:4", "default", numbers(640.0)[0], integer)

    return block, made


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # 640 bits over Σ min(|u|, 1) = 4.5.
        ("nonzeros", [0, -640 / 4.5, -640 / 4.5, 0, 640 / 4.5, 640 / 4.5, 0]),
        ("log", [x / math.log(2) for x in (-1 / 3, -1 / 2, -1 / 1.5, 0, 1 / 2, 1 / 2, 1 / 3)]),
    ],
)
def test_rates_at_zero_and_at_whole_levels(model: str, expected: list[float]) -> None:
    block, made = scan([-2, -1, -0.5, 0, 1, 1, 2] if model == "log" else [-2, -1, -0.25, 0, 0.25, 1, 2])
    found = gradient(lambda x: rate.ALL[model].soft(made(x)), block)[0, 0, 1, :7]
    torch.testing.assert_close(found, numbers(*expected))


@pytest.mark.parametrize("model", rate.ALL)
@pytest.mark.parametrize("integer", [False, True])
def test_rates_have_no_slope_at_zero(model: str, integer: bool) -> None:
    block, made = scan([3, 0, -3], integer)
    found = gradient(lambda x: rate.ALL[model].soft(made(x)), block)[0, 0]
    if model == "soft_histogram":
        # Towards the bin above, as at every whole value: half of the triangular kernel.
        assert (found.flatten()[2:8] == found[1, 1]).all()
    else:
        assert (found[2:] == 0).all()


class _Extra(torch.autograd.Function):
    """0, with a slope of 1 at the marked elements."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, marked: Tensor) -> Tensor:
        ctx.save_for_backward(marked)
        return torch.zeros_like(x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (marked,) = ctx.saved_tensors
        return slope * marked, None


def _at_bounds(x: Tensor, *bounds: Any, **named: Any) -> Tensor:
    marked = torch.zeros_like(x, dtype=torch.bool)
    for bound in (*bounds, *named.values()):
        if bound is not None:
            marked = marked | (x == bound)
    return marked


def _at_zero(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x == 0


def _at_integers(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x == x.floor()


KINKS: dict[str, Callable[..., Tensor]] = {
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max", "clamp_", "maximum", "minimum"), _at_bounds),
    **dict.fromkeys(("max", "min", "fmax", "fmin"), _at_bounds),
    **dict.fromkeys(("abs", "absolute", "sign", "sgn", "relu", "sqrt"), _at_zero),
    **dict.fromkeys(("floor", "ceil", "trunc", "fix"), _at_integers),
    "round": lambda x, *_, **__: (x - x.floor()) == 0.5,
    "nan_to_num": lambda x, *_, **__: ~x.isfinite(),
}


class OtherConventions(TorchFunctionMode):
    """A PyTorch whose slopes at bounds and kinks are larger by 1 than that of the installed one."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        kinks = KINKS.get(getattr(func, "__name__", ""))
        x = args[0] if args else None
        if kinks is None or not isinstance(out, Tensor) or not isinstance(x, Tensor):
            return out
        if not (out.requires_grad and x.requires_grad and x.shape == out.shape):
            return out
        return out + _Extra.apply(x, kinks(x.detach(), *args[1:], **kwargs))  # type: ignore[no-untyped-call]


def check_no_convention_matters(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    torch.manual_seed(0)
    expected = gradient(function, x)
    torch.manual_seed(0)
    with OtherConventions():
        found = gradient(function, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True)
    return found


@pytest.mark.parametrize(
    ("name", "convention"),
    [
        ("clamp", lambda x: x.clamp(-1, 1)),
        ("maximum", lambda x: torch.maximum(x, torch.ones_like(x))),
        ("abs", torch.abs),
        ("relu", torch.relu),
        ("round", lambda x: (x / 2).round()),
        ("nan_to_num", lambda x: torch.nan_to_num(x, 0.0)),
    ],
)
def test_the_emulation_finds_a_convention(name: str, convention: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(AssertionError, match="not close"):
        check_no_convention_matters(convention, numbers(-INF, -1, 0, 0.5, 1, NAN))


def kinky() -> Tensor:
    """Black, white, and a quarter beyond: pixels at the bounds, samples at the bounds after decoding, flat blocks."""
    picture = torch.zeros(1, 3, 16, 24, dtype=torch.float64)
    picture[..., 8:, :] = 1.0
    picture[..., :8, 8:16] = torch.tensor([-0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 0.1], dtype=torch.float64)
    picture[..., 12:, 12:] = 0.5
    return picture


@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.parametrize("name", surrogates.ALL)
def test_no_convention_reaches_the_image_the_quality_or_the_tables(forward: str, name: str) -> None:
    image, options = kinky(), {"forward": forward, "backend": "reference"}
    if forward == "exact":
        options["table_surrogate"] = name
    cotangent = torch.linspace(-1, 1, image.numel(), dtype=torch.float64).view_as(image)

    def weighted(image: Tensor, **how: Any) -> Tensor:
        return (jpegrad.jpeg(image, surrogate=name, **how, **options) * cotangent).sum()

    check_no_convention_matters(lambda x: weighted(x, quality=50.0), image)
    check_no_convention_matters(lambda x: weighted(x, tables=torch.full((2, 8, 8), 8.0)), image)
    for quality in (1.0, 50.0, 100.0):
        check_no_convention_matters(lambda q: weighted(image, quality=q), numbers(quality)[0])
    for entry in (1.0, 16.0, 255.0):
        entries = torch.full((2, 8, 8), entry, dtype=torch.float64)
        check_no_convention_matters(lambda x: weighted(image, tables=x), entries)
        check_no_convention_matters(lambda x: tables.scale(x, 50), entries)


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("name", rate.ALL)
def test_no_convention_reaches_the_rate(name: str, integer: bool) -> None:
    values = (-254, -3, -1, 0, 1, 2, 254) if integer else (-254, -1.5, -1, -0.5, 0.5, 1, 254)
    block, made = scan(values, integer)
    check_no_convention_matters(lambda x: rate.ALL[name].soft(made(x)), block)


def test_no_convention_reaches_a_metric() -> None:
    original = torch.zeros(1, 1, 176, 176)
    original[..., 40:90, 40:90] = 1.0
    for metric in metrics.ALL.values():
        check_no_convention_matters(metric.against(original), 1 - original)


@pytest.mark.parametrize(
    "baseline",
    [b for b in baselines.ALL.values() if b.call is not None and b.name not in ("kornia", "fsa", "mbrs")],
    ids=lambda b: b.name,
)
def test_no_convention_reaches_a_published_approach(baseline: Any) -> None:
    image = kinky() * 255
    cotangent = torch.linspace(-1, 1, image.numel(), dtype=torch.float64).view_as(image)
    check_no_convention_matters(lambda x: (baseline(x, 50.0) * cotangent).sum(), image)
    if "quality" in baseline.differentiable:
        for quality in (1.0, 50.0, 99.0):
            check_no_convention_matters(lambda q: (baseline(image, q) * cotangent).sum(), numbers(quality)[0])
