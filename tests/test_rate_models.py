"""The slope of the size: marginal costs recounted, models differentiated, files that shrink as predicted."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import jpegrad
from jpegrad.entropy import huffman
from jpegrad.rate import ALL, RateModel, Scan, bits, marginal_costs, models
from jpegrad.rate.marginal import CENTERS, symbol_costs
from oracles import huffman as oracle

DEFAULT = [oracle.codes(*table) for table in huffman.DEFAULT]
Photograph = Callable[[str], torch.Tensor]


def crop(photograph: Photograph, name: str = "tulips", height: int = 64, width: int = 96) -> torch.Tensor:
    return photograph(name)[:, 40 : 40 + height, 60 : 60 + width].float() / 255


def gray_scan_bits(level: torch.Tensor) -> int:
    return len(oracle.scan_bits([level.int().numpy()], DEFAULT[:2], 1, 1))


def dense_and_sparse_levels() -> list[torch.Tensor]:
    """One block each: empty, full, long runs, a last coefficient, sizes about to change."""
    random = np.random.default_rng(1)
    blocks = []
    for kept in (0, 0.02, 0.1, 0.4, 1):
        for largest in (1, 3, 8, 600):
            level = random.integers(-largest, largest + 1, (8, 8)) * (random.random((8, 8)) < kept)
            blocks.append(torch.from_numpy(level).float().view(1, 1, 8, 8))
    blocks[3][..., 7, 7] = -1
    return blocks


def gray(level: torch.Tensor) -> jpegrad.Coefficients:
    """One block."""
    return jpegrad.Coefficients((level,), torch.ones(1, 8, 8), (8, 8), "4:4:4")


def test_marginal_costs_equal_recounts() -> None:
    for level in dense_and_sparse_levels():
        ((up, down),) = marginal_costs(gray(level))
        before = gray_scan_bits(level)
        for i in range(1, 64):
            value = level.flatten()[i].item()
            for change, step in ((up, 1), (down, -1)):
                moved = level.clone().flatten()
                moved[i] = math.copysign(abs(value) + step, value)
                expected = 0 if value == 0 and step < 0 else gray_scan_bits(moved.view(1, 1, 8, 8)) - before
                assert change.flatten()[i] == expected


def test_marginal_costs_of_colour_follow_each_component_and_image() -> None:
    coefficients = jpegrad.encode(torch.rand(2, 3, 24, 40), quality=torch.tensor([5.0, 60.0]))
    costs = marginal_costs(coefficients)
    for component, (up, down) in enumerate(costs):
        table = DEFAULT[2 * min(component, 1) :][:2]
        level = coefficients.levels[component][1, 0, 0]
        before = len(oracle.block_bits(level.int().numpy(), 0, *table))
        moved = level.clone()
        moved[2, 1] += 1 if moved[2, 1] >= 0 else -1
        after = len(oracle.block_bits(moved.int().numpy(), 0, *table))
        assert up[1, 0, 0, 2, 1] == after - before
        assert up.shape == down.shape == coefficients.levels[component].shape


def test_optimized_costs_are_entropies_of_the_present_symbols() -> None:
    coefficients = jpegrad.encode(torch.rand(2, 3, 24, 40), quality=40)
    luma, *_ = symbol_costs(coefficients.levels, coefficients.size, "4:2:0", "optimized")
    symbols = {0x01: (0, 1), 0x12: (1, 2), 0xF1: (15, 1)}
    counts = jpegrad.entropy.scan.scan_counts(list(coefficients.levels), 24, 40, "4:2:0")[:, 1].double()
    for symbol, (run, size) in symbols.items():
        expected = -torch.log2(counts[:, symbol].clamp(min=0.5) / counts.sum(-1)) + size
        assert torch.allclose(luma.ac[:, run, size].double(), expected, rtol=1e-6)


def test_places_not_asked_for_are_zero() -> None:
    level = dense_and_sparse_levels()[10]
    (cost,) = symbol_costs([level], (8, 8), "4:4:4", "default")
    where = torch.rand(level.shape) < 0.3
    ((up, _),) = marginal_costs(gray(level))
    found = jpegrad.rate.marginal.step_costs(level, level.abs(), where, cost)
    assert torch.equal(found, torch.where(where, up, 0.0))
    torch.library.opcheck(torch.ops.jpegrad.step_costs.default, (level, level.abs(), where, cost.ac))


def test_box_slope_adds_up_to_the_exact_cost() -> None:
    """Moving one coefficient from 0 to its size, the slope integrates to the bits that it gains."""
    level = dense_and_sparse_levels()[10]
    steps = 4000
    for place in ((0, 1), (3, 2), (7, 7)):
        level[..., place[0], place[1]] = 0
        levels = level.expand(steps, 1, 1, 8, 8).clone()
        top = 5.3
        path = (torch.arange(steps) + 0.5) / steps * top
        values = levels.clone()
        values[:, 0, 0, place[0], place[1]] = path
        levels[:, 0, 0, place[0], place[1]] = path.round()
        values.requires_grad_()
        scan = Scan((values,), (levels,), (8, 8), "4:4:4", "default", torch.ones(steps))
        (slope,) = torch.autograd.grad(ALL["marginal"].soft(scan).sum(), values)
        gained = gray_scan_bits(levels[-1]) - gray_scan_bits(levels[0])
        integral = slope[:, 0, 0, place[0], place[1]].sum().item() * top / steps
        # The path ends inside the box of the threshold 5½, whose cost is 0: 5 and 6 have the same size.
        assert integral == pytest.approx(gained, abs=8 * top / steps * 4)


def test_dc_slope_is_the_cost_between_the_middles_of_categories() -> None:
    cost = symbol_costs([torch.zeros(1, 1, 8, 8)], (8, 8), "4:4:4", "default")[0]
    for size, (low, high) in enumerate(itertools.pairwise(CENTERS)):
        assert CENTERS[size] == (0 if size == 0 else (2 ** (size - 1) + 2**size - 1) / 2)
        difference = torch.tensor([-(low + high) / 2, (low + high) / 2])
        step = len(DEFAULT[0][size + 1]) - len(DEFAULT[0][size]) + 1 if size < 11 else 0
        slope = jpegrad.rate.marginal.dc_slopes(difference, cost) * torch.tensor([-1, 1])
        assert torch.allclose(slope, torch.tensor(step / (high - low)).float())


@dataclass(frozen=True)
class Uncalibrated(Scan):
    """A scan whose calibration is a constant, so that a model's value is the function that it differentiates."""

    factor: float = 1.0

    def calibrated(self, estimate: torch.Tensor) -> torch.Tensor:
        return estimate * self.factor


@pytest.mark.parametrize("model", [m for name, m in ALL.items() if name != "marginal"], ids=lambda m: m.name)
def test_smooth_models_have_the_slope_of_their_value(model: RateModel) -> None:
    values = [
        torch.randn(2, 3, 4, 8, 8, dtype=torch.float64) * 2,
        *torch.randn(2, 2, 2, 2, 8, 8, dtype=torch.float64),
    ]

    def soft(*values: torch.Tensor) -> torch.Tensor:
        levels = tuple(x.detach().round() for x in values)
        return model.soft(
            Uncalibrated(values, levels, (24, 32), "4:2:0", "default", torch.ones(2), factor=1.7)
        )

    # Kinks (|u| at 0 and 1, floors at integers) have measure zero; the direction is random.
    leaves = [x.clone().requires_grad_() for x in values]
    gradients = torch.autograd.grad(soft(*leaves).sum(), leaves)
    directions = [torch.randn_like(x) for x in values]
    step = 1e-6
    ahead, behind = (
        soft(*[x + s * d for x, d in zip(values, directions, strict=True)]) for s in (step, -step)
    )
    numeric = ((ahead - behind).sum() / (2 * step)).item()
    analytic = sum((g * d).sum().item() for g, d in zip(gradients, directions, strict=True))
    assert analytic == pytest.approx(numeric, rel=2e-5)


@pytest.mark.parametrize("model", ALL.values(), ids=lambda m: m.name)
@pytest.mark.parametrize("huffman", ["default", "optimized"])
def test_every_model_keeps_the_value_and_reaches_image_quality_and_tables(
    photograph: Photograph, model: RateModel, huffman: str
) -> None:
    image = crop(photograph).requires_grad_()
    quality = torch.tensor([20.0, 70.0], requires_grad=True)
    size = bits(jpegrad.encode(image.expand(2, -1, -1, -1), quality), huffman=huffman, rate=model)
    with torch.no_grad():
        exact = bits(jpegrad.encode(image.expand(2, -1, -1, -1), quality), huffman=huffman)
    assert torch.equal(size.detach(), exact)
    by_image, by_quality = torch.autograd.grad(size.sum(), (image, quality))
    assert by_image.isfinite().all() and by_image.abs().sum() > 0
    assert (by_quality > 0).all()
    tables = jpegrad.tables.annex_k(50).requires_grad_()
    (by_tables,) = torch.autograd.grad(
        bits(jpegrad.encode(image, tables=tables), huffman=huffman, rate=model), tables
    )
    assert by_tables.isfinite().all() and by_tables.sum() < 0


def test_levels_as_parameters_get_the_central_difference(photograph: Photograph) -> None:
    coefficients = jpegrad.encode(crop(photograph)[:1], quality=50).detach()
    level = coefficients.levels[0].requires_grad_()
    (slope,) = torch.autograd.grad(bits(coefficients), level)
    ((up, down),) = marginal_costs(coefficients)
    expected = torch.where(level != 0, level.sign() * (up - down) / 2, 0.0)
    assert torch.equal(slope[..., 1:, :], expected[..., 1:, :])
    assert slope[..., 0, 0].abs().sum() > 0


@pytest.mark.parametrize("huffman", ["default", "optimized"])
@pytest.mark.parametrize("quality", [10, 50, 90])
def test_predicted_and_true_change_under_table_scaling(
    photograph: Photograph, quality: int, huffman: str
) -> None:
    image = crop(photograph, height=160, width=192)
    tables = jpegrad.tables.annex_k(quality).requires_grad_()
    size = bits(jpegrad.encode(image, tables=tables), huffman=huffman)
    (slope,) = torch.autograd.grad(size, tables)
    predicted, true = [], []
    for factor in (0.8, 0.9, 1.1, 1.25):
        moved = (tables.detach() * factor).round().clamp(1, 255)
        predicted.append((slope * tables.detach() * torch.log(moved / tables.detach())).sum().item())
        true.append((bits(jpegrad.encode(image, tables=moved), huffman=huffman) - size.detach()).item())
    predicted, true = np.array(predicted), np.array(true)
    assert np.corrcoef(predicted, true)[0, 1] > 0.95
    assert 0.85 < (predicted @ true) / (predicted @ predicted) < 1.15


@pytest.mark.parametrize("name", ["tulips", "coast"])
@pytest.mark.parametrize("quality", [15, 25])
def test_first_step_on_pixels_shrinks_the_real_file_as_predicted(
    photograph: Photograph, name: str, quality: int
) -> None:
    image = crop(photograph, name, 128, 128).requires_grad_()
    size = bits(jpegrad.encode(image, quality), huffman="optimized")
    (slope,) = torch.autograd.grad(size, image)
    # One grey level at the tenth of the samples with the steepest slope.
    steep = slope.abs() > slope.abs().flatten().quantile(0.9)
    moved = (image.detach() - slope.sign() * steep / 255).clamp(0, 1)
    predicted = (slope * (moved - image.detach())).sum().item()
    true = (bits(jpegrad.encode(moved, quality), huffman="optimized") - size).item()
    assert true < -0.02 * size
    assert 0.6 < true / predicted < 1.2


def test_descent_on_pixels_shrinks_the_real_file(photograph: Photograph) -> None:
    """distortion + λ · bits in one backward; the file of every step is a real one."""
    original = crop(photograph)
    image = original.clone()
    sizes, costs = [], []
    for _ in range(9):
        image.requires_grad_()
        coefficients = jpegrad.encode(image, quality=50)
        size = bits(coefficients, huffman="optimized")
        assert size == 8 * len(jpegrad.to_bytes(coefficients, huffman="optimized"))
        cost = (jpegrad.decode(coefficients) - original).square().sum() + 3e-3 * size
        sizes.append(size.item())
        costs.append(cost.item())
        cost.backward()
        step = image.grad / image.grad.square().mean().sqrt()
        image = ((image.detach() - 0.5 / 255 * step).clamp(0, 1) * 255).round() / 255
    assert sizes[-1] < 0.95 * sizes[0]
    assert costs[-1] < 0.97 * costs[0]


def test_descent_on_tables_lowers_the_cost(photograph: Photograph) -> None:
    image = crop(photograph, height=128, width=128)
    tables = jpegrad.tables.annex_k(60)
    logarithm = tables.log().requires_grad_()
    optimizer = torch.optim.Adam([logarithm], lr=0.06)
    costs = []
    for _ in range(9):
        coefficients = jpegrad.encode(image, tables=logarithm.exp())
        size = bits(coefficients, huffman="optimized")
        cost = (jpegrad.decode(coefficients) - image).square().sum() + 1e-3 * size
        costs.append(cost.item())
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    assert costs[-1] < 0.98 * costs[0]


def functional(
    x: torch.Tensor, q: torch.Tensor, huffman: str = "default", rate: str = "marginal"
) -> torch.Tensor:
    return bits(jpegrad.encode(x, q, backend="reference"), huffman=huffman, rate=rate).sum()


@pytest.mark.parametrize("huffman", ["default", "optimized"])
@pytest.mark.parametrize("rate", ["marginal", "laplace", "soft_histogram"])
def test_function_transforms(rate: str, huffman: str) -> None:
    x, q = torch.rand(3, 3, 24, 40), torch.tensor([10.0, 50.0, 90.0])
    leaf = x.clone().requires_grad_()
    functional(leaf, q, huffman, rate).backward()
    gradient = torch.func.grad(functional)(x, q, huffman, rate)
    assert torch.equal(gradient, leaf.grad)
    mapped = torch.func.vmap(torch.func.grad(functional), in_dims=(0, 0, None, None))(x, q, huffman, rate)
    assert torch.equal(mapped, leaf.grad)
    shared = torch.func.vmap(lambda q: functional(x[0], q, huffman, rate))(q)
    assert torch.equal(shared, torch.stack([functional(x[0], one, huffman, rate) for one in q]))


@pytest.mark.parametrize("huffman", ["default", "optimized"])
def test_vmap_over_batches(huffman: str) -> None:
    x, q = torch.rand(3, 2, 3, 16, 24), torch.tensor([[10.0, 90.0], [30.0, 40.0], [60.0, 5.0]])
    leaf = x.clone().requires_grad_()
    functional(leaf, q, huffman).backward()
    assert torch.equal(torch.func.vmap(torch.func.grad(functional), (0, 0, None))(x, q, huffman), leaf.grad)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("huffman", ["default", "optimized"])
@pytest.mark.whole_graph
def test_compiles_as_one_graph(huffman: str, channels: int) -> None:
    x, q = torch.rand(2, channels, 24, 40), torch.tensor(50.0)
    eager, compiled = (x.clone().requires_grad_() for _ in range(2))
    size = functional(eager, q, huffman)
    size.backward()
    graph = torch.compile(functional, fullgraph=True, backend="aot_eager")
    assert graph(compiled, q, huffman) == size
    graph(compiled, q, huffman).backward()
    assert torch.equal(compiled.grad, eager.grad)


@pytest.mark.parametrize("huffman", ["default", "optimized"])
def test_empty_batch(huffman: str) -> None:
    image = torch.rand(0, 3, 16, 24, requires_grad=True)
    size = bits(jpegrad.encode(image, 50), huffman=huffman)
    assert size.shape == (0,)
    size.sum().backward()
    assert image.grad.shape == image.shape


def test_no_gradient_is_asked_for_and_none_computed() -> None:
    def fail(scan: Scan) -> torch.Tensor:
        raise AssertionError("not needed")

    model = RateModel("fail", fail, "test")
    image = torch.rand(3, 16, 16, requires_grad=True)
    with torch.no_grad():
        assert not bits(jpegrad.encode(image, 50), rate=model).requires_grad
    assert not bits(jpegrad.encode(image.detach(), 50), rate=model).requires_grad
    with pytest.raises(AssertionError, match="not needed"):
        bits(jpegrad.encode(image, 50), rate=model)


def test_laplace_entropy_is_that_of_the_rounded_variable() -> None:
    k = torch.arange(-4000, 4001, dtype=torch.float64)
    for scale in (0.05, 0.3, 1.0, 7.0, 100.0):
        upper, lower = (
            torch.where(x < 0, 0.5 * torch.exp(x / scale), 1 - 0.5 * torch.exp(-x / scale))
            for x in (k + 0.5, k - 0.5)
        )
        expected = -torch.special.xlogy(upper - lower, upper - lower).sum().item() / math.log(2)
        assert models.laplace_entropy(torch.tensor(scale, dtype=torch.float64)).item() == pytest.approx(
            expected, rel=1e-6
        )
