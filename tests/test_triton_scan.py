"""The Triton kernels that count a scan, against PyTorch's arithmetic: equal integers."""

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad.backends.triton import levels as triton_levels
from jpegrad.entropy import huffman, scan
from jpegrad.sampling import SUBSAMPLING
from kernel_cases import DEVICE, TRITON

pytestmark = TRITON.marks


@pytest.fixture(autouse=True)
def _without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPEGRAD_BACKEND", "reference")


def compare(levels: list[Tensor], size: tuple[int, int], mode: str) -> None:
    sampling = list(SUBSAMPLING[mode]) if len(levels) == 3 else [1, 1]
    counts = triton_levels.scan_counts(levels, *size, sampling)
    assert torch.equal(counts, scan.scan_counts(levels, *size, mode))
    tables = [list(huffman.DEFAULT[: counts.shape[1]])]
    books = [torch.stack([huffman.code_book(tables[0])]), codes_of(counts)]
    for kind, book in zip(scan.HUFFMAN, books, strict=True):
        found = triton_levels.scan_bytes(levels, book, *size, sampling)
        expected = scan.scan_bytes(levels, *size, mode, kind)[:, 0]
        assert found.tolist() == expected.tolist(), kind


def codes_of(counts: Tensor) -> Tensor:
    return torch.stack([huffman.code_book(tables) for tables in scan.optimal_tables(counts)])


@pytest.mark.parametrize("mode", [*SUBSAMPLING, "gray"])
def test_pictures(mode: str) -> None:
    subsampling = "4:4:4" if mode == "gray" else mode
    for size, quality in (((9, 17), 97.0), ((33, 41), 40.0)):
        image = torch.rand(2, 1 if mode == "gray" else 3, *size).to(DEVICE)
        image[1] = image[1].mean((-2, -1), keepdim=True)
        levels = list(jpegrad.encode(image, quality, subsampling=subsampling).levels)
        compare(levels, size, subsampling)


def test_levels_that_no_picture_has() -> None:
    # Runs of every length, values of every size, numbers that are no levels.
    size = (20, 30)
    levels = [torch.randn(2, y, x, 8, 8) * 400 for y, x in ((3, 4), (2, 2), (2, 2))]
    for level in levels:
        level *= torch.rand_like(level) < torch.rand(level.shape[:3])[..., None, None] ** 3
        level[0, 0, 0, :2, 0] = torch.tensor([torch.nan, torch.inf])
        level[1, 0, 0, 0, :4] = torch.tensor([-40000.0, 0.5, 1.5, -2000.0])
        level[1, 1, 1] = 0
        level[1, 1, 1, 7, 7] = 1
    for dtype in (torch.float32, torch.float64):
        compare([level.to(DEVICE, dtype) for level in levels], size, "4:2:0")


def test_bytes_of_ones_at_every_place() -> None:
    # The longest codes of Annex K's luma are nearly all ones, and the amplitudes of 2^n - 1 are.
    levels = torch.zeros(3, 6, 6, 8, 8)
    levels[0, ..., 1, 1] = 1023
    levels[1, ..., 2, :] = 255
    levels[2] = (1 << torch.randint(1, 10, (6, 6, 8, 8))) - 1
    compare([levels.to(DEVICE)], (48, 48), "4:4:4")


def test_no_image() -> None:
    levels = [torch.zeros(0, 1, 1, 8, 8, device=DEVICE)]
    assert triton_levels.scan_counts(levels, 8, 8, [1, 1]).shape == (0, 2, 256)
    book = torch.stack([huffman.code_book(list(huffman.DEFAULT[:2]))])
    assert triton_levels.scan_bytes(levels, book, 8, 8, [1, 1]).shape == (0,)


@pytest.mark.gpu
def test_large_batches_on_the_device() -> None:
    levels = list(jpegrad.encode(torch.rand(5, 3, 517, 1030, device=DEVICE), 90).levels)
    compare(levels, (517, 1030), "4:2:0")
