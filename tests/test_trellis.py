"""The trellis: no better choice exists, the kernel and PyTorch choose alike, and files get smaller."""

import dataclasses
import io
import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import jpegrad
from jpegrad.backends.native import abi
from jpegrad.entropy.huffman import code_book
from jpegrad.entropy.scan import HUFFMAN, optimal_tables, scan_counts
from jpegrad.rate import breakdown
from jpegrad.sampling import SUBSAMPLING, blocks, ratios
from jpegrad.spec import JFIF, RGB
from jpegrad.tune import rgb_weights, trellis

MISSING = abi.load() if isinstance(abi.load(), str) else ""
needs_native = pytest.mark.skipif(bool(MISSING) and os.environ.get("REQUIRE_NATIVE") != "1", reason=MISSING)
BACKENDS = [pytest.param("native", marks=needs_native), "reference"]
MODES = (*SUBSAMPLING, "gray")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JPEGRAD_BACKEND", request.param)
    return request.param


def subsampling_of(mode: str) -> str:
    return "4:4:4" if mode == "gray" else mode


def some_tables(*batch: int, count: int = 2) -> Tensor:
    return torch.randint(3, 40, (*batch, count, 8, 8)).float()


def some_values(size: tuple[int, int], mode: str, *batch: int, spread: float = 1.0) -> list[Tensor]:
    """Coefficients in steps like those of pictures: Laplace variables, larger at low frequencies; smooth DC."""
    decay = 4 * 0.7 ** torch.arange(8.0)
    values = []
    for ratio in ratios(1 if mode == "gray" else 3, subsampling_of(mode)):
        shape = (*batch, *blocks(size, ratio), 8, 8)
        laplace = -torch.rand(shape).clamp(min=1e-4).log() * torch.rand(shape).sub(0.5).sign()
        u = spread * laplace * decay * decay[:, None]
        u[..., 0, 0] = 10 * torch.randn(shape[:-2]).cumsum(-1)
        values.append(u)
    return values


def choose(
    values: Sequence[Tensor],
    tables: Tensor,
    size: tuple[int, int],
    subsampling: str,
    multiplier: float | Tensor,
    **options: Any,
) -> tuple[Tensor, ...]:
    """The levels that the trellis chooses for coefficients in steps."""
    exact = jpegrad.Coefficients(tuple(values), tables, size, subsampling)
    return trellis(exact, multiplier, **options).levels


def distortion(u: Tensor, levels: Tensor, table: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Weighed squared error of one component, ``[...]``."""
    error = (u.double() - levels.double()) * table.double()[..., None, None, :, :]
    return (weight * error.square()).sum((-4, -3, -2, -1))


def coded_bits(levels: list[Tensor], size: tuple[int, int], mode: str) -> Tensor:
    """Bits of the symbols under the codes of Annex K, ``[...]``."""
    tables = torch.ones(1 if mode == "gray" else 2, 8, 8)
    parts = breakdown(jpegrad.Coefficients(tuple(levels), tables, size, subsampling_of(mode)))
    return parts.coefficients.sum((-3, -2, -1)) + parts.end_of_block.sum(-1)


def check_least(
    u: Tensor, choices: dict[tuple[int, ...], list[int]], size: tuple[int, int], multiplier: float
) -> None:
    """No choice of levels at some places of a gray image, 0 elsewhere, costs less than the trellis's."""
    table = some_tables(count=1)
    weight = torch.rand(8, 8) + 0.5
    options = torch.zeros(int(np.prod([len(values) for values in choices.values()])), *u.shape)
    for place, values in zip(choices, zip(*itertools.product(*choices.values()), strict=True), strict=True):
        options[(slice(None), *place)] = torch.tensor(values, dtype=torch.float32)

    def cost(levels: Tensor) -> Tensor:
        return distortion(u, levels, table[0], weight) + multiplier * coded_bits([levels], size, "gray")

    levels = choose([u], table, size, "4:4:4", multiplier, weights=[weight], huffman="default")[0]
    least = cost(options).min()
    assert abs(cost(levels) - least) <= 1e-12 * (least + distortion(u, 0 * u, table[0], weight))
    assert (options == levels).flatten(1).all(1).any()


@pytest.mark.parametrize("seed", range(8))
def test_no_choice_of_ac_levels_is_cheaper(seed: int, backend: str) -> None:
    torch.manual_seed(seed)
    # Runs of up to 15 zeros, more than 15, more than 47, and a last coefficient with no end of block after it.
    places = [
        [1, 2, 3, 4, 5, 6, 9],
        [1, 18, 20, 37, 63],
        [2, 3, 55, 56, 63],
        [61, 62, 63],
        [17, 33, 50],
        [1, 3, 7, 12, 18, 25],
        [16, 32, 48, 63],
        [5, 6, 7, 8, 40, 41],
    ][seed]
    for multiplier in (0.0, 2.0, 20.0, 100.0, 1000.0):
        u = torch.zeros(1, 1, 8, 8)
        choices = {}
        for k in places:
            at = (0, 0, *divmod(jpegrad.tables.ZIGZAG[k], 8))
            u[at] = torch.randn(()) * 10 ** float(torch.rand(()) * 1.5)
            nearest = int(u[at].abs() + 0.5)
            choices[at] = sorted({n * int(u[at].sign()) for n in (0, max(0, nearest - 1), nearest)})
        check_least(u, choices, (8, 8), multiplier)


@pytest.mark.parametrize("multiplier", [0.5, 10.0, 300.0])
def test_no_choice_of_dc_levels_is_cheaper(multiplier: float, backend: str) -> None:
    for _ in range(5):
        u = torch.zeros(2, 3, 8, 8)
        u[..., 0, 0] = 4 * torch.randn(2, 3)
        places = itertools.product(range(2), range(3))
        near = {
            (y, x, 0, 0): int((u[y, x, 0, 0].abs() + 0.5).floor() * u[y, x, 0, 0].sign()) for y, x in places
        }
        check_least(u, {place: [n - 1, n, n + 1] for place, n in near.items()}, (16, 24), multiplier)


# Sizes with dummy blocks at the right, below, and at both borders.
INTERLEAVED = [
    ("4:4:4", (9, 16)),
    ("4:2:2", (8, 33)),
    ("4:2:0", (9, 24)),
    ("4:2:0", (17, 16)),
    ("4:2:0", (1, 40)),
]
INTERLEAVED += [("4:4:0", (17, 9)), ("4:1:1", (8, 41)), ("4:1:1", (9, 24))]


@pytest.mark.parametrize(("mode", "size"), INTERLEAVED)
def test_no_choice_of_dc_levels_is_cheaper_in_interleaved_scans(
    mode: str, size: tuple[int, int], backend: str
) -> None:
    values = [torch.zeros(*blocks(size, ratio), 8, 8) for ratio in ratios(3, mode)]
    values[0][..., 0, 0] = 6 * torch.randn(values[0].shape[:2])
    tables = some_tables()
    chosen = choose(values, tables, size, mode, 40.0, huffman="default")
    assert not any(x.any() for x in chosen[1:])
    nearest = values[0][..., 0, 0].round().flatten()
    moves = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=len(nearest))))
    options = torch.zeros(len(moves), *values[0].shape)
    options[..., 0, 0] = (nearest + moves).view(options.shape[:-2])

    def cost(luma: Tensor) -> Tensor:
        levels = [luma, *(x.expand(*luma.shape[:-4], *x.shape) for x in chosen[1:])]
        return distortion(values[0], luma, tables[0]) + 40 * coded_bits(levels, size, mode)

    assert torch.isclose(cost(chosen[0]), cost(options).min(), rtol=1e-12)


def lengths_of(levels: list[Tensor], size: tuple[int, int], subsampling: str) -> Tensor:
    """Lengths of the codes made for levels; log2 of twice the total for symbols without one."""
    counts = scan_counts(levels, *size, subsampling)
    made = torch.stack([code_book(image)[..., 1] for image in optimal_tables(counts)])
    return torch.where(counts > 0, made, (2 * counts.sum(-1, keepdim=True)).double().log2())


@pytest.mark.parametrize("mode", MODES)
def test_never_dearer_than_rounding(mode: str, backend: str) -> None:
    subsampling, size = subsampling_of(mode), (45, 70)
    values = some_values(size, mode, 3)
    count = 1 if mode == "gray" else 2
    tables = some_tables(3, count=count)
    amplitude = torch.stack([torch.arange(256), torch.arange(256) & 15] * count)
    rounded = choose(values, tables, size, subsampling, 0.0)
    lengths = lengths_of(list(rounded), size, subsampling)
    for multiplier in (1.0, 15.0, 200.0):

        def cost(levels: tuple[Tensor, ...], multiplier: float = multiplier) -> Tensor:
            used = scan_counts(levels, *size, subsampling)
            bits = (used * (lengths + amplitude)).sum((1, 2))
            planes = zip(values, levels, strict=True)
            errors = [distortion(u, x, tables[:, min(i, count - 1)]) for i, (u, x) in enumerate(planes)]
            return sum(errors) + multiplier * bits

        chosen = choose(values, tables, size, subsampling, multiplier, passes=1)
        assert (cost(chosen) < cost(rounded)).all()


def test_a_higher_multiplier_buys_fewer_bits(backend: str) -> None:
    size, tables = (40, 56), some_tables()
    values = some_values(size, "4:2:0")
    found = []
    for multiplier in (0.0, 1.0, 5.0, 25.0, 125.0, 1e4, 1e9):
        levels = choose(values, tables, size, "4:2:0", multiplier, huffman="default")
        planes = enumerate(zip(values, levels, strict=True))
        error = sum(distortion(u, x, tables[min(i, 1)]) for i, (u, x) in planes)
        found.append((-int(coded_bits(list(levels), size, "4:2:0")), float(error)))
    assert found == sorted(found) and len(set(found)) == len(found)
    assert not any(x.flatten(-2)[..., 1:].any() for x in levels)


@needs_native
@pytest.mark.parametrize("mode", MODES)
def test_the_kernel_chooses_what_pytorch_chooses(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 1 if mode == "gray" else 3
    sizes = [(1, 1), (8, 16), (17, 33), (40, 9), (25, 70), (9, 130), (64, 48)]
    batches = [(), (2,), (1, 3), (2, 2), (3,), (1,), ()]
    for i, (size, batch) in enumerate(zip(sizes, batches, strict=True)):
        dtype = (torch.float32, torch.float64)[i % 2]
        values = [u.to(dtype) for u in some_values(size, mode, *batch, spread=(0.5, 2.0, 30.0)[i % 3])]
        if i % 3 == 1:  # many ties
            values = [(2 * u).round() / 2 for u in values]
        grids = [u.shape[-4:-2] for u in values]
        shapes = [(8, 8), (), (1, 8, 1)] if i % 4 == 1 else [(*batch, *grid, 1, 8) for grid in grids]
        weights = [torch.rand(shape) for shape in shapes[: len(values)]] if i % 2 else None
        multiplier: float | Tensor = torch.rand(batch) * 40 if i % 3 else 7.0
        tables = some_tables(*(batch if i % 2 else ()), count=max(1, count - i % 2))
        found = []
        for backend in ("native", "reference"):
            monkeypatch.setenv("JPEGRAD_BACKEND", backend)
            found.append(
                choose(
                    values,
                    tables,
                    size,
                    subsampling_of(mode),
                    multiplier,
                    weights=weights,
                    huffman=HUFFMAN[i % 3 > 0],
                    passes=1 + i % 3,
                )
            )
        for u, ours, expected in zip(values, *found, strict=True):
            assert ours.shape == u.shape and ours.dtype == dtype
            assert torch.equal(ours, expected), (size, batch)


@needs_native
def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "PIXELS_PER_THREAD", 1)
    values, tables = some_values((200, 170), "4:2:0", 2), some_tables()
    found = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(choose(values, tables, (200, 170), "4:2:0", 20.0))
    finally:
        torch.set_num_threads(1)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_with_multiplier_0_it_rounds_as_the_encoder(mode: str, backend: str) -> None:
    image = torch.rand(2, 1 if mode == "gray" else 3, 35, 50)
    for quality in (5, 50, 96):
        c = jpegrad.encode(image, quality=quality, subsampling=subsampling_of(mode))
        assert c.unrounded is not None
        for multiplier in (0, torch.tensor([0.0, 3000.0])):
            levels = trellis(c, multiplier).levels
            pairs = list(zip(levels, c.levels, strict=True))
            assert all(torch.equal(ours[:1], theirs[:1]) for ours, theirs in pairs)
            assert all(torch.equal(*pair) for pair in pairs) == (not isinstance(multiplier, Tensor))
            assert not any(ours.requires_grad for ours in levels)


@pytest.mark.parametrize("quality", [30, 60, 85])
def test_files_get_smaller_at_equal_quality(quality: int, backend: str, photograph) -> None:
    picture = photograph("tulips")[:, 40:185, 60:241]
    image = picture / 255

    def measured(c: jpegrad.Coefficients) -> tuple[int, float]:
        data = jpegrad.to_bytes(c, huffman="optimized")
        seen = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        decoded = jpegrad.decode(c, dtype=torch.uint8)
        assert (torch.from_numpy(seen).permute(2, 0, 1) == decoded).all()
        return len(data), float((decoded.double() - picture.double()).square().sum())

    plain = jpegrad.encode(image, quality=quality)
    bytes_plain, error_plain = measured(plain)
    # What a bit is worth along the scale of the tables.
    (more, less), (fewer, greater) = (
        measured(jpegrad.encode(image, quality=quality + step)) for step in (5, -5)
    )
    multiplier = (greater - less) / (8 * (more - fewer))
    weights = rgb_weights("4:2:0")
    smaller, error = measured(trellis(plain, multiplier, weights=weights))
    assert smaller < 0.95 * bytes_plain
    assert error + 8 * multiplier * smaller < 0.985 * (error_plain + 8 * multiplier * bytes_plain)


def test_passes_make_lengths_and_levels_agree(backend: str, photograph) -> None:
    coefficients = jpegrad.encode(photograph("portrait")[:, :200, :200] / 255, quality=40)
    unrounded = [u.detach() for u in coefficients.unrounded or ()]
    costs = []
    for passes in (1, 2, 3):
        coded = trellis(coefficients, 60.0, passes=passes)
        planes = enumerate(zip(unrounded, coded.levels, strict=True))
        error = sum(distortion(u, x, coefficients.tables[min(i, 1)]) for i, (u, x) in planes)
        costs.append(float(error + 60 * jpegrad.bits(coded, huffman="optimized")))
    assert costs[2] < costs[0] and costs[1] < costs[0]


def test_levels_stay_in_a_file_s_range(backend: str) -> None:
    for value in (1023.4, 1024.6, 3e4, 1e9, 1e30):
        values = [torch.full((2, 3, 8, 8), value) * torch.tensor([1.0, -1.0]).repeat(4)]
        for multiplier in (0.0, 1.0):
            levels = choose(values, torch.ones(1, 8, 8), (16, 24), "4:4:4", multiplier)
            coefficients = jpegrad.Coefficients(levels, torch.ones(1, 8, 8), (16, 24), "4:4:4")
            assert jpegrad.read(jpegrad.to_bytes(coefficients)).levels[0].equal(levels[0])
            assert levels[0].max() == 1023 and levels[0].min() == -1023


def test_no_images(backend: str) -> None:
    values = some_values((8, 24), "4:2:2", 0)
    assert [x.shape for x in choose(values, some_tables(), (8, 24), "4:2:2", 3.0)] == [
        u.shape for u in values
    ]


def test_weights_choose_where_errors_go(backend: str) -> None:
    size, tables = (32, 32), some_tables()
    values = some_values(size, "4:4:4")
    free = torch.zeros(8, 8)
    levels = choose(values, tables, size, "4:4:4", 5.0, weights=[torch.tensor(1e6), free, free])
    assert torch.equal(levels[0], choose(values, tables, size, "4:4:4", 0.0)[0])
    assert not any(x.flatten(-2)[..., 1:].any() for x in levels[1:])


@pytest.mark.parametrize("mode", SUBSAMPLING)
def test_rgb_weights_are_the_error_in_rgb(mode: str) -> None:
    h, v = SUBSAMPLING[mode]
    for color in (None, RGB):
        inverse = torch.tensor((color or JFIF).inverse, dtype=torch.float64)
        for i, weight in enumerate(rgb_weights(mode, color)):
            error = torch.randn(3, 5, dtype=torch.float64)
            pixels = error.repeat_interleave(v, 0).repeat_interleave(h, 1) if i else error
            rgb = inverse[:, i, None, None] * pixels
            assert torch.isclose(rgb.square().sum(), weight * error.square().sum())


def test_what_a_file_holds_can_be_thinned_out(backend: str) -> None:
    coefficients = jpegrad.encode(torch.rand(2, 3, 33, 40), quality=80)
    file = jpegrad.read(jpegrad.to_bytes(coefficients, 0))
    fewer = trellis(file, 500.0)
    assert (fewer.size, fewer.subsampling, fewer.color) == (file.size, file.subsampling, file.color)
    assert torch.equal(fewer.tables, file.tables)
    assert jpegrad.bits(fewer) < 0.9 * jpegrad.bits(file)
    assert all(torch.equal(*pair) for pair in zip(trellis(file, 0.0).levels, file.levels, strict=True))
    whole = dataclasses.replace(file, levels=tuple(x.int() for x in file.levels))
    assert all(torch.equal(*pair) for pair in zip(trellis(whole, 500.0).levels, fewer.levels, strict=True))


def test_the_error_is_that_to_the_unrounded_coefficients(backend: str) -> None:
    coefficients = jpegrad.encode(torch.rand(3, 33, 40), quality=80)
    assert coefficients.unrounded is not None
    exact = dataclasses.replace(coefficients, levels=tuple(u.detach() for u in coefficients.unrounded))
    found = zip(trellis(coefficients, 90.0).levels, trellis(exact, 90.0).levels, strict=True)
    assert all(torch.equal(*pair) for pair in found)


def test_wrong_arguments() -> None:
    values, tables = some_values((16, 16), "4:2:0", 2), some_tables()
    coefficients = jpegrad.Coefficients(tuple(values), tables, (16, 16), "4:2:0")
    undefined = [values[0].clone(), *values[1:]]
    undefined[0][0, 0, 0, 0, 0] = torch.nan

    def edited(**fields: object) -> jpegrad.Coefficients:
        return dataclasses.replace(coefficients, **fields)  # type: ignore[arg-type]

    for error, message, arguments, options in [
        (TypeError, "coefficients: expected Coefficients, got list", (values, 1.0), {}),
        (
            ValueError,
            r"coefficients.levels\[0\]: expected finite",
            (edited(levels=tuple(undefined)), 1.0),
            {},
        ),
        (
            ValueError,
            "coefficients.tables: expected leading dimensions",
            (edited(tables=torch.ones(3, 2, 8, 8)), 1.0),
            {},
        ),
        (
            ValueError,
            "coefficients.tables: expected finite entries > 0",
            (edited(tables=0 * tables), 1.0),
            {},
        ),
        (TypeError, "multiplier: expected a number or a tensor, got str", (coefficients, "1"), {}),
        (ValueError, "multiplier: expected finite numbers ≥ 0", (coefficients, -1.0), {}),
        (ValueError, "multiplier: expected finite numbers ≥ 0", (coefficients, np.nan), {}),
        (TypeError, "multiplier: expected a real tensor", (coefficients, torch.tensor(1j)), {}),
        (ValueError, "multiplier: expected leading", (coefficients, torch.ones(3)), {}),
        (ValueError, "huffman: expected one of", (), {"huffman": "best"}),
        (ValueError, "passes: expected a positive integer, got 0", (), {"passes": 0}),
        (ValueError, "weights: expected a sequence of 3", (), {"weights": [tables]}),
        (TypeError, "weights: expected a sequence of 3 tensors.* got int", (), {"weights": 3}),
        (TypeError, r"weights\[0\]: expected a real tensor", (), {"weights": [torch.tensor(1j)] * 3}),
        (TypeError, r"weights\[0\]: expected a torch.Tensor, got float", (), {"weights": [1.0] * 3}),
        (ValueError, r"weights\[0\]: expected a shape that", (), {"weights": [torch.ones(3, 1)] * 3}),
        (ValueError, r"weights\[0\]: expected finite numbers ≥ 0", (), {"weights": [-torch.ones(())] * 3}),
    ]:
        with pytest.raises(error, match=message):
            trellis(*(arguments or (coefficients, 1.0)), **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="color: expected None, a Color or a tuple"):
        rgb_weights("4:2:0", "jfif")  # type: ignore[arg-type]
