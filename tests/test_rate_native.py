"""Counting in the native kernel: the bits of the PyTorch path, and of real files."""

import itertools
import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import backends
from jpegrad.backends.native import abi
from jpegrad.backends.native import levels as native_levels
from jpegrad.backends.triton import levels as triton_levels
from jpegrad.entropy import scan
from jpegrad.rate import breakdown, marginal
from jpegrad.sampling import SUBSAMPLING, blocks, ratios

MISSING = abi.load() if isinstance(abi.load(), str) else ""
pytestmark = pytest.mark.skipif(bool(MISSING) and os.environ.get("REQUIRE_NATIVE") != "1", reason=MISSING)

MODES = (*SUBSAMPLING, "gray")


def some_levels(size: tuple[int, int], mode: str, *batch: int, spread: float = 1.0) -> list[Tensor]:
    """Laplace variables that grow smaller along rows and columns, and some blocks of zeros."""
    subsampling, channels = ("4:4:4", 1) if mode == "gray" else (mode, 3)
    decay = 60 * 0.55 ** torch.arange(8.0)
    levels = []
    for ratio in ratios(channels, subsampling):
        shape = (*batch, *blocks(size, ratio), 8, 8)
        laplace = torch.rand(shape).clamp(min=1e-6).log() * torch.rand(shape).sub(0.5).sign()
        kept = torch.rand((*shape[:-2], 1, 1)) < 0.9
        levels.append((spread * laplace * decay * decay[:, None] / 60 * kept).round())
    return levels


def counted(levels: list[Tensor], size: tuple[int, int], mode: str) -> list[Tensor]:
    subsampling = "4:4:4" if mode == "gray" else mode
    found = [scan.scan_bytes(levels, *size, subsampling, kind) for kind in scan.HUFFMAN]
    return [*found, scan.scan_counts(levels, *size, subsampling)]


def check(levels: list[Tensor], size: tuple[int, int], mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same from the kernel and from PyTorch."""
    monkeypatch.setenv("JPEGRAD_BACKEND", "native")
    assert backends.kernel("scan_bytes", levels[0]) is not None
    found = counted(levels, size, mode)
    monkeypatch.setenv("JPEGRAD_BACKEND", "reference")
    assert backends.kernel("scan_bytes", levels[0]) is None
    for ours, expected in zip(found, counted(levels, size, mode), strict=True):
        assert ours.dtype == expected.dtype and torch.equal(ours, expected)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_size_and_batch(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(1, 1), (8, 8), (17, 33), (40, 9), (25, 70), (64, 64), (9, 130)]
    for i, (size, batch) in enumerate(zip(sizes, [(), (1,), (3,), (2, 3), (1, 2), (4,), ()], strict=True)):
        check(some_levels(size, mode, *batch, spread=10.0 ** (i % 3 - 1)), size, mode, monkeypatch)


EXTREMES = [1023, 1024, 2047, 2048, 4095, 32767, 32768, 40000, 1e6, 1e30, torch.inf, torch.nan]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_levels_that_no_file_holds(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in EXTREMES:
        levels = some_levels((24, 40), "4:2:0", 2)
        for plane in levels:
            at = torch.rand(plane.shape) < 0.05
            plane[at] = value * torch.randn(plane.shape)[at].sign()
        check([plane.to(dtype) for plane in levels], (24, 40), "4:2:0", monkeypatch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_between_integers_count_as_rounded(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    ties = torch.arange(-64, 64).to(dtype) + 0.5
    up, down = torch.tensor(torch.inf, dtype=dtype), torch.tensor(-torch.inf, dtype=dtype)
    between = torch.cat([ties, ties.nextafter(up), ties.nextafter(down)])
    levels = [between.roll(i).view(2, 3, 8, 8) for i in range(3)]
    check(levels, (16, 24), "4:4:4", monkeypatch)
    monkeypatch.delenv("JPEGRAD_BACKEND")
    rounded = [plane.round() for plane in levels]
    for ours, expected in zip(
        counted(levels, (16, 24), "4:4:4"), counted(rounded, (16, 24), "4:4:4"), strict=True
    ):
        assert torch.equal(ours, expected)


def test_other_layouts_and_integer_types(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = some_levels((33, 20), "4:2:2", 2, spread=5)
    check([plane.to(torch.int32) for plane in levels], (33, 20), "4:2:2", monkeypatch)
    check([plane[:1].expand(3, -1, -1, -1, -1) for plane in levels], (33, 20), "4:2:2", monkeypatch)
    turned = [plane.transpose(-1, -2) for plane in levels]
    check(turned, (33, 20), "4:2:2", monkeypatch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_a_step_of_a_level_costs(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    for batch, kind in itertools.product([(), (3,), (2, 2), (0,)], scan.HUFFMAN):
        levels = [plane.to(dtype) for plane in some_levels((24, 40), "4:2:0", *batch, spread=3)]
        for plane in levels:
            plane[torch.rand(plane.shape) < 0.01] = 1500
            plane[torch.rand(plane.shape[:-2]) < 0.2] = 0
        costs = marginal.symbol_costs(levels, (24, 40), "4:2:0", kind)
        for plane, cost in zip(levels, costs, strict=True):
            lower = plane.abs() - (torch.rand(plane.shape) < 0.5).to(dtype)
            wanted = (torch.rand(plane.shape) < 0.7) & (lower >= 0)
            found = []
            for backend in ("native", "reference"):
                monkeypatch.setenv("JPEGRAD_BACKEND", backend)
                assert (backends.kernel("step_costs", plane) is None) == (backend == "reference")
                found.append(marginal.step_costs(plane, lower, wanted, cost))
                found.append(marginal.step_costs(plane.mT, lower.mT, wanted.mT, cost))
            assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[3])


@pytest.mark.parametrize("kind", scan.HUFFMAN)
def test_slopes_of_the_size(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image, quality = torch.rand(2, 3, 40, 30), torch.tensor([40.0, 80.0])
    found = []
    for backend in ("native", "reference"):
        tables = jpegrad.tables.annex_k(quality).requires_grad_()
        leaf = image.clone().requires_grad_()
        monkeypatch.delenv("JPEGRAD_BACKEND", raising=False)
        coefficients = jpegrad.encode(leaf, tables=tables)
        monkeypatch.setenv("JPEGRAD_BACKEND", backend)
        found.append(torch.autograd.grad(jpegrad.bits(coefficients, huffman=kind).sum(), (leaf, tables)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def files() -> Iterator[tuple[str, jpegrad.Coefficients]]:
    for mode in MODES:
        channels, subsampling = (1, "4:4:4") if mode == "gray" else (3, mode)
        for height, width in ((1, 1), (19, 45), (70, 33)):
            image = torch.rand(2, channels, height, width)
            yield mode, jpegrad.encode(image, quality=torch.tensor([20.0, 98.0]), subsampling=subsampling)


def test_bits_are_those_of_real_files() -> None:
    for mode, coefficients in files():
        for kind in scan.HUFFMAN:
            expected = [8 * len(jpegrad.to_bytes(coefficients, i, huffman=kind)) for i in range(2)]
            assert jpegrad.bits(coefficients, huffman=kind).tolist() == expected, mode


def test_breakdown_takes_the_same_liberties() -> None:
    levels = some_levels((24, 40), "4:2:0", 2)
    levels[0][0, 0, 0, 0, 3], levels[1][1, 0, 0, 2, 0], levels[2][0, 0, 1, 0, 0] = torch.nan, 3e5, -1e9
    levels[0] = levels[0] + 0.3
    coefficients = jpegrad.Coefficients(tuple(levels), torch.ones(2, 8, 8), (24, 40), "4:2:0")
    for kind in scan.HUFFMAN:
        total = breakdown(coefficients, huffman=kind).total
        assert torch.equal(total.double(), jpegrad.bits(coefficients, huffman=kind))


def test_each_device_has_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    class On:
        def __init__(self, device: str) -> None:
            self.device = torch.device(device)

    def name(device: str) -> str | None:
        found = backends.kernel("scan_bytes", On(device))  # type: ignore[arg-type]
        return None if found is None else found.__module__

    monkeypatch.setattr(triton_levels, "installed", lambda: True)
    expected = {
        "auto": (native_levels.__name__, triton_levels.__name__),
        "native": (native_levels.__name__, None),
        "triton": (None, triton_levels.__name__),
        "reference": (None, None),
    }
    for chosen, (on_cpu, on_cuda) in expected.items():
        monkeypatch.setenv("JPEGRAD_BACKEND", chosen)
        assert (name("cpu"), name("cuda")) == (on_cpu, on_cuda)
        assert name("meta") is None
    monkeypatch.setenv("JPEGRAD_BACKEND", "auto")
    assert backends.kernel("trellis", On("cuda")) is None  # type: ignore[arg-type]
    monkeypatch.setattr(triton_levels, "installed", lambda: False)
    assert name("cuda") is None


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_bits_counted_by_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        monkeypatch.setattr(backends, "kernel", lambda name, tensor: triton_levels.LEVELS.get(name))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    coefficients = jpegrad.encode(torch.rand(2, 3, 17, 30), quality=75)
    for kind in scan.HUFFMAN:
        expected = [8 * len(jpegrad.to_bytes(coefficients, i, huffman=kind)) for i in range(2)]
        assert jpegrad.bits(coefficients.to(device), huffman=kind).tolist() == expected


def test_a_backend_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPEGRAD_BACKEND", "fastest")
    with pytest.raises(ValueError, match=r"backend: expected one of auto, .*; got 'fastest'"):
        jpegrad.bits(jpegrad.Coefficients((torch.zeros(1, 1, 8, 8),), torch.ones(1, 8, 8), (8, 8), "4:4:4"))
