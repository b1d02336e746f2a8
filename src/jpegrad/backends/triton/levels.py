"""The Triton kernels beside the codec's: counting what a scan of levels takes, and tables of qualities."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jpegrad.backends.triton.kernels import installed
from jpegrad.backends.triton.launch import launch
from jpegrad.backends.triton.qualities import scaled
from jpegrad.sampling import ceil_div
from jpegrad.tables import ZIGZAG

PLACES = 16
# The interpreter pays by the operation, whatever its size.
PLACES_INTERPRETED = 128


def _prepared(levels: list[Tensor]) -> list[Tensor]:
    # The kernels round; but float32 would move numbers of float64 onto ties.
    return [(x.round() if x.dtype is torch.float64 else x).float().contiguous() for x in levels]


@functools.cache
def _zigzag(device: torch.device) -> Tensor:
    # Once per device: a copy of a list waits for it, and cannot be captured in a graph.
    return torch.tensor(ZIGZAG, dtype=torch.int32, device=device)


class _Part(NamedTuple):
    """A component in the interleaved scan: its sampling factors, how many places it has, and where in an MCU."""

    h: int
    v: int
    places: int
    first: int


def _parts(levels: list[Tensor], height: int, width: int, sampling: list[int]) -> tuple[list[_Part], int]:
    """The components' parts, and the MCUs of a row."""
    h, v = sampling
    mcus_y, mcus_x = ceil_div(height, 8 * v), ceil_div(width, 8 * h)
    factors = [(h, v), (1, 1), (1, 1)][: len(levels)]
    first = (0, h * v, h * v + 1)
    return [_Part(x, y, mcus_y * mcus_x * x * y, first[i]) for i, (x, y) in enumerate(factors)], mcus_x


def _each(
    kernel: str,
    levels: list[Tensor],
    parts: list[_Part],
    mcus_x: int,
    stride: int,
    *args: Any,
    in_mcu: int = 0,
) -> None:
    """Run a kernel once for each component; ``stride`` is how far apart its images' tables lie."""
    device = levels[0].device
    n = PLACES if device.type == "cuda" else PLACES_INTERPRETED
    for i, (component, part) in enumerate(zip(levels, parts, strict=True)):
        batch, blocks_y, blocks_x = component.shape[:3]
        place = (part.first, in_mcu) if in_mcu else ()
        launch(
            f"scan.{kernel}", batch * ceil_div(part.places, n), component, component, _zigzag(device), *args,
            part.places, blocks_y, blocks_x, mcus_x, stride, 512 * min(i, 1), *place, H=part.h, V=part.v, N=n,
        )  # fmt: skip


def scan_counts(levels: list[Tensor], height: int, width: int, sampling: list[int]) -> Tensor:
    """How often each image uses each Huffman symbol (DC, AC of luma; of chroma): ``[B, 2 or 4, 256]``.

    Levels ``[B, blocks_y, blocks_x, 8, 8]`` count as rounded, NaN as 0, levels beyond ±32767 as clamped.
    """
    tables = 2 if len(levels) == 1 else 4
    counts = levels[0].new_zeros((len(levels[0]), tables, 256), dtype=torch.int64)
    parts, mcus_x = _parts(levels, height, width, sampling)
    _each("count_kernel", _prepared(levels), parts, mcus_x, counts[0:1].numel(), counts)
    return counts


def scan_bytes(levels: list[Tensor], book: Tensor, height: int, width: int, sampling: list[int]) -> Tensor:
    """Bytes of each image's scan ``[B]``, stuffed zeros included.

    ``book`` ``[B or 1, 2 or 4, 256, 2]`` holds code and length of every symbol (DC, AC of luma; of chroma).
    """
    levels, (parts, mcus_x) = _prepared(levels), _parts(levels, height, width, sampling)
    book = book.to(levels[0].device, torch.int32).contiguous()
    stride = book[0].numel() if book.shape[0] != 1 else 0
    batch, in_mcu = len(levels[0]), sum(part.h * part.v for part in parts)
    places = parts[-1].places * in_mcu
    lengths = levels[0].new_empty((batch, places), dtype=torch.int64)
    _each("code_kernel", levels, parts, mcus_x, stride, book, lengths, None, in_mcu=in_mcu)
    end = lengths.cumsum(1)
    words = lengths.new_zeros((batch, 64 * places), dtype=torch.int32)
    _each("code_kernel", levels, parts, mcus_x, stride, book, end - lengths, words, in_mcu=in_mcu)
    total = end[:, -1]
    # The last byte is filled up with ones; a zero byte follows each byte of ones (T.81 B.1.1.5).
    padding = -total & 7
    ones = ((1 << padding) - 1) << (32 - padding - (total & 31))
    words.scatter_add_(1, (total >> 5)[:, None], ones.to(torch.int32)[:, None])
    return (total + padding >> 3) + (words.view(torch.uint8) == 255).sum(1)


LEVELS: dict[str, Callable[..., Any]] = {
    "scan_counts": scan_counts,
    "scan_bytes": scan_bytes,
    "annex_k": scaled,
}


def level_kernels(tensor: Tensor) -> Mapping[str, Callable[..., Any]]:
    """The functions that run for levels like this tensor."""
    return LEVELS if tensor.device.type == "cuda" and installed() else {}
