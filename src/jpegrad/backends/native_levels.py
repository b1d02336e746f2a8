"""The native kernel's operators on levels: what a scan of them takes, what a step of one costs, choosing them by it."""

from collections.abc import Callable
from ctypes import c_int64
from typing import Any

import torch
from torch import Tensor

from jpegrad.backends import native_abi as abi
from jpegrad.backends.native_ops import LIBRARY, register, table_fields

LIBRARY.define("native_scan_counts(Tensor[] levels, SymInt height, SymInt width, int[] sampling) -> Tensor")


def _fake_counts(levels: list[Tensor], height: int, width: int, sampling: list[int]) -> Tensor:
    return levels[0].new_empty((levels[0].shape[0], 2 if len(levels) == 1 else 4, 256), dtype=torch.int64)


def _scan_counts(levels: list[Tensor], height: int, width: int, sampling: list[int]) -> Tensor:
    """How often each image uses each Huffman symbol (DC, AC of luma; of chroma): ``[B, 2 or 4, 256]``.

    Levels count as rounded, NaN as 0, levels beyond ±32767 as clamped.
    """
    counts = _fake_counts(levels, height, width, sampling)
    _scan("scan_counts", levels, height, width, sampling, counts=counts.data_ptr())
    return counts


LIBRARY.define(
    "native_scan_bytes(Tensor[] levels, Tensor book, SymInt height, SymInt width, int[] sampling) -> Tensor"
)


def _fake_bytes(levels: list[Tensor], book: Tensor, height: int, width: int, sampling: list[int]) -> Tensor:
    return levels[0].new_empty((levels[0].shape[0],), dtype=torch.int64)


def _scan_bytes(levels: list[Tensor], book: Tensor, height: int, width: int, sampling: list[int]) -> Tensor:
    """Bytes of each image's scan ``[B]``, stuffed zeros included.

    ``book`` ``[B or 1, 2 or 4, 256, 2]`` holds code and length of every symbol (DC, AC of luma; of chroma).
    """
    found = _fake_bytes(levels, book, height, width, sampling)
    book = book.to(torch.int32).contiguous()
    each = int(book.shape[0] != 1)
    fields = {"counts": found.data_ptr(), "book": book.data_ptr(), "book_stride": each}
    _scan("scan_bytes", levels, height, width, sampling, **fields)
    return found


def _scan(
    name: str, levels: list[Tensor], height: int, width: int, sampling: list[int], **fields: int
) -> None:
    # The kernel rounds; but float32 would move numbers of float64 onto ties.
    levels = [
        (level.round() if level.dtype is torch.float64 else level).float().contiguous() for level in levels
    ]
    h, v = sampling
    k = abi.Codec(height=height, width=width, channels=len(levels), h=h, v=v)
    abi.invoke(name, k, levels[0].shape[0], planes=abi.pointers(levels), **fields)


LIBRARY.define(
    "native_trellis(Tensor[] unrounded, Tensor tables, Tensor[] weights, Tensor ac_prices, Tensor dc_prices, "
    "SymInt height, SymInt width, int[] sampling) -> Tensor[]"
)


def _fake_trellis(unrounded: list[Tensor], *arguments: Any) -> list[Tensor]:
    return [torch.empty_like(u, memory_format=torch.contiguous_format) for u in unrounded]


def _trellis(
    unrounded: list[Tensor],
    tables: Tensor,
    weights: list[Tensor],
    ac_prices: Tensor,
    dc_prices: Tensor,
    height: int,
    width: int,
    sampling: list[int],
) -> list[Tensor]:
    """Levels of least weighed error and price.

    ``unrounded`` are ``[B, blocks_y, blocks_x, 8, 8]``, all float32 or all float64, as are ``weights``, none or one
    for each component and broadcastable to it; ``tables`` are ``[n, 8, 8]`` or ``[B, n, 8, 8]``, and prices
    ``[B, 1 or 2, 12, 64]`` by size and run and ``[B, 1 or 2, 12]`` by size, contiguous float64.
    """
    unrounded = [u.contiguous() for u in unrounded]
    levels = _fake_trellis(unrounded)
    choose(unrounded, levels, tables, weights, ac_prices, dc_prices, height, width, sampling)
    return levels


def choose(
    unrounded: list[Tensor],
    levels: list[Tensor],
    tables: Tensor,
    weights: list[Tensor],
    ac_prices: Tensor,
    dc_prices: Tensor,
    height: int,
    width: int,
    sampling: list[int],
) -> None:
    """The operator with room for its result."""
    if not levels[0].numel():
        return
    h, v = sampling
    k = abi.Codec(height=height, width=width, channels=len(levels), h=h, v=v, table_count=tables.shape[-3])
    fields: dict[str, Any] = {
        **table_fields(tables),
        "unrounded": abi.pointers(unrounded),
        "levels": abi.pointers(levels),
        "type": 2 if unrounded[0].dtype is torch.float64 else 1,
        "ac_prices": ac_prices.data_ptr(),
        "dc_prices": dc_prices.data_ptr(),
    }
    if weights:
        spread = [w.expand_as(u) for w, u in zip(weights, unrounded, strict=True)]
        strides = [(c_int64 * 5)(*w.stride()) for w in spread]
        fields |= {"weights": abi.pointers(spread), "weight_strides": (c_int64 * 5 * 3)(*strides)}
    abi.choose(k, len(levels[0]), **fields)


LIBRARY.define("native_crossing_costs(Tensor levels, Tensor lower, Tensor where, Tensor ac) -> Tensor")


def _fake_crossing(levels: Tensor, lower: Tensor, where: Tensor, ac: Tensor) -> Tensor:
    return levels.new_empty(levels.shape, dtype=torch.float32)


def _crossing(levels: Tensor, lower: Tensor, where: Tensor, ac: Tensor) -> Tensor:
    """Bits of |level| = ``lower`` + 1 less bits of |level| = ``lower`` at the AC places ``where``, 0 elsewhere.

    ``levels``, ``lower`` and ``where`` (bool) are ``[..., 8, 8]``; ``ac`` ``[..., 64, 12]``, by run and size, has as
    many blocks in succession for each of its tables.
    """
    out = _fake_crossing(levels, lower, where, ac)
    if out.numel():
        levels, lower, ac = (x.float().contiguous() for x in (levels, lower, ac))
        where = where.contiguous()
        abi.cross(
            blocks=out.numel() // 64,
            tables=ac.numel() // 768,
            levels=levels.data_ptr(),
            lower=lower.data_ptr(),
            where=where.data_ptr(),
            bits=ac.data_ptr(),
            out=out.data_ptr(),
        )
    return out


KERNELS: dict[str, Callable[..., Any]] = {}
"""By the name without "native_"."""

for _name, _run, _fake in (
    ("scan_counts", _scan_counts, _fake_counts),
    ("scan_bytes", _scan_bytes, _fake_bytes),
    ("trellis", _trellis, _fake_trellis),
    ("crossing_costs", _crossing, _fake_crossing),
):
    register(f"native_{_name}", _run, _fake)
    KERNELS[_name] = getattr(torch.ops.jpegrad, f"native_{_name}")
