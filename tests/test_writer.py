"""The entropy coders: native and Python alike, and files equal to those of Pillow and libjpeg."""

import itertools

import pytest
import torch

from jpegrad.backends.native import abi
from jpegrad.entropy.coder import coded_scans
from jpegrad.spec import SUBSAMPLING, blocks, ratios

MODES = (*SUBSAMPLING, "gray")
CODERS = ("native", "reference")


def random_levels(
    size: tuple[int, int], mode: str, density: float, spread: float, seed: int = 0
) -> list[torch.Tensor]:
    """Levels of which so many are not 0, of all sizes up to the largest that a file holds."""
    generator = torch.Generator().manual_seed(seed)
    channels, subsampling = (1, "4:4:4") if mode == "gray" else (3, mode)
    planes = []
    for ratio in ratios(channels, subsampling):
        shape = (*blocks(size, ratio), 8, 8)
        plane = (torch.randn(shape, generator=generator) * spread).round().clamp(-1023, 1023)
        planes.append(plane * (torch.rand(shape, generator=generator) < density))
    return planes


@pytest.fixture
def coders(monkeypatch):
    """``coded_scans`` of both coders, which must agree: of the same arguments, their common result."""

    def both(*arguments):
        found = []
        for name in CODERS:
            monkeypatch.setenv("JPEGRAD_BACKEND", name)
            scans = coded_scans(*arguments)
            found.append(
                [
                    (scan, [(*t[:2], tuple(t[2]), tuple(t[3])) for t in tables], data)
                    for scan, tables, data in scans
                ]
            )
        assert found[0] == found[1]
        return found[0]

    if isinstance(abi.load(), str):
        pytest.skip(abi.load())
    return both


@pytest.mark.parametrize("mode", MODES)
def test_the_coders_agree_on_every_small_size(mode: str, coders) -> None:
    subsampling = "4:4:4" if mode == "gray" else mode
    for seed, size in enumerate(itertools.product((1, 8, 9, 17, 40), (1, 16, 24, 33, 41))):
        for density, spread in ((0.0, 1.0), (0.05, 2.0), (0.4, 30.0), (1.0, 2000.0)):
            levels = random_levels(size, mode, density, spread, seed)
            for huffman in ("default", "optimized"):
                coders(levels, size, subsampling, huffman)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int16, torch.int32, torch.int8, torch.bfloat16])
def test_levels_of_any_type(dtype: torch.dtype, coders) -> None:
    levels = [x.clamp(-100, 100) for x in random_levels((33, 41), "4:2:0", 0.4, 30.0)]
    expected = coders(levels, (33, 41), "4:2:0", "optimized")
    assert coders([x.to(dtype) for x in levels], (33, 41), "4:2:0", "optimized") == expected
    turned = [x.to(dtype).transpose(-1, -2).contiguous().transpose(-1, -2) for x in levels]
    assert coders(turned, (33, 41), "4:2:0", "optimized") == expected


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.5, -1e-3, 2.0**15, -(2.0**15), 1e9, -1e30, torch.nan, torch.inf])
def test_what_is_no_level_is_refused_wherever_it_stands(
    value: float, dtype: torch.dtype, coder: str, monkeypatch
) -> None:
    monkeypatch.setenv("JPEGRAD_BACKEND", coder)
    for place in range(64):
        levels = random_levels((9, 17), "4:2:0", 0.4, 30.0)
        levels[1] = levels[1].to(dtype)
        levels[1][0, 1].view(-1)[place] = value
        where = rf"levels\[1\]: expected integers of at most 15 bits, got .* at \[0, 1, {place // 8}, {place % 8}\]"
        with pytest.raises(ValueError, match=where):
            coded_scans(levels, (9, 17), "4:2:0")
