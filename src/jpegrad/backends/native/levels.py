"""The native kernel on levels: what a scan of them takes, what a step of one costs, choosing them by it."""

from collections.abc import Callable, Mapping, Sequence
from ctypes import c_int64
from typing import Any

import torch
from torch import Tensor

from jpegrad.backends.native import abi
from jpegrad.backends.native.kernels import table_fields
from jpegrad.backends.native.metrics import Distance, Structure, similarity
from jpegrad.backends.native.scans import decode_scan, encode_scan


def scan_counts(levels: Sequence[Tensor], height: int, width: int, sampling: Sequence[int]) -> Tensor:
    """How often each image uses each Huffman symbol (DC, AC of luma; of chroma): ``[B, 2 or 4, 256]``.

    Levels ``[B, blocks_y, blocks_x, 8, 8]`` count as rounded, NaN as 0, levels beyond ±32767 as clamped.
    """
    tables = 2 if len(levels) == 1 else 4
    counts = levels[0].new_empty((levels[0].shape[0], tables, 256), dtype=torch.int64)
    _scan("scan_counts", levels, height, width, sampling, counts=counts.data_ptr())
    return counts


def scan_bytes(
    levels: Sequence[Tensor], book: Tensor, height: int, width: int, sampling: Sequence[int]
) -> Tensor:
    """Bytes of each image's scan ``[B]``, stuffed zeros included.

    ``book`` ``[B or 1, 2 or 4, 256, 2]`` holds code and length of every symbol (DC, AC of luma; of chroma).
    """
    found = levels[0].new_empty((levels[0].shape[0],), dtype=torch.int64)
    book = book.to(torch.int32).contiguous()
    each = int(book.shape[0] != 1)
    fields = {"counts": found.data_ptr(), "book": book.data_ptr(), "book_stride": each}
    _scan("scan_bytes", levels, height, width, sampling, **fields)
    return found


def _scan(
    name: str, levels: Sequence[Tensor], height: int, width: int, sampling: Sequence[int], **fields: int
) -> None:
    # The kernel rounds; but float32 would move numbers of float64 onto ties.
    levels = [
        (level.round() if level.dtype is torch.float64 else level).float().contiguous() for level in levels
    ]
    h, v = sampling
    k = abi.Codec(height=height, width=width, channels=len(levels), h=h, v=v)
    abi.invoke(name, k, levels[0].shape[0], planes=abi.pointers(levels), **fields)


def trellis(
    unrounded: Sequence[Tensor],
    tables: Tensor,
    weights: Sequence[Tensor],
    ac_prices: Tensor,
    dc_prices: Tensor,
    height: int,
    width: int,
    sampling: Sequence[int],
) -> list[Tensor]:
    """Levels of least weighed error and price.

    ``unrounded`` are ``[B, blocks_y, blocks_x, 8, 8]``, all float32 or all float64, as are ``weights``, none or one
    for each component and broadcastable to it; ``tables`` are ``[n, 8, 8]`` or ``[B, n, 8, 8]``, and prices
    ``[B, 1 or 2, 12, 64]`` by size and run and ``[B, 1 or 2, 12]`` by size, contiguous float64.
    """
    unrounded = [u.contiguous() for u in unrounded]
    levels = [torch.empty_like(u) for u in unrounded]
    choose(unrounded, levels, tables, weights, ac_prices, dc_prices, height, width, sampling)
    return levels


def choose(
    unrounded: Sequence[Tensor],
    levels: Sequence[Tensor],
    tables: Tensor,
    weights: Sequence[Tensor],
    ac_prices: Tensor,
    dc_prices: Tensor,
    height: int,
    width: int,
    sampling: Sequence[int],
) -> None:
    """:func:`trellis` with room for its result."""
    if not levels[0].numel():
        return
    h, v = sampling
    k = abi.Codec(height=height, width=width, channels=len(levels), h=h, v=v, table_count=tables.shape[-3])
    fields: dict[str, Any] = {
        **table_fields(tables if tables.ndim == 4 else tables[None]),
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


def step_costs(levels: Tensor, lower: Tensor, where: Tensor, ac: Tensor) -> Tensor:
    """Bits of |level| = ``lower`` + 1 less bits of |level| = ``lower`` at the AC places ``where``, 0 elsewhere.

    ``levels``, ``lower`` and ``where`` (bool) are ``[..., 8, 8]``; ``ac`` ``[..., 64, 12]``, by run and size, has as
    many blocks in succession for each of its tables.
    """
    out = levels.new_empty(levels.shape, dtype=torch.float32)
    if out.numel():
        levels, lower, ac = (x.float().contiguous() for x in (levels, lower, ac))
        where = where.contiguous()
        abi.step_costs(
            blocks=out.numel() // 64,
            tables=ac.numel() // 768,
            levels=levels.data_ptr(),
            lower=lower.data_ptr(),
            where=where.data_ptr(),
            bits=ac.data_ptr(),
            out=out.data_ptr(),
        )
    return out


def count_band(levels: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Counts ``[256]`` of what the levels of a band send, and how each of the blocks ``[blocks, 64]`` ends.

    0 is a block without levels, 1 one with zeros after the last, 2 one without.
    """
    levels = levels.contiguous()
    counts = torch.zeros(256, dtype=torch.int64)
    ends = torch.empty(len(levels), dtype=torch.uint8)
    pointers = {"levels": levels.data_ptr(), "counts": counts.data_ptr(), "ends": ends.data_ptr()}
    abi.band("count_band", blocks=len(levels), first=first, last=last, **pointers)
    return counts, ends


def band_bits(levels: Tensor, first: int, last: int, prices: Tensor) -> Tensor:
    """Bits ``[blocks]`` of a band of blocks ``[blocks, 64]``, by prices ``[64, 12]``; float64."""
    levels, prices = levels.contiguous(), prices.double().contiguous()
    bits = torch.empty(len(levels), dtype=torch.float64)
    pointers = {"levels": levels.data_ptr(), "prices": prices.data_ptr(), "bits": bits.data_ptr()}
    abi.band("band_bits", blocks=len(levels), first=first, last=last, **pointers)
    return bits


LEVELS: dict[str, Callable[..., Any]] = {
    "scan_counts": scan_counts,
    "scan_bytes": scan_bytes,
    "trellis": trellis,
    "step_costs": step_costs,
    "decode_scan": decode_scan,
    "encode_scan": encode_scan,
    "count_band": count_band,
    "band_bits": band_bits,
    "structure": Structure,
    "distance": Distance,
    "similarity": similarity,
}


def level_kernels(tensor: Tensor) -> Mapping[str, Callable[..., Any]]:
    """The functions that run for levels, or pictures, like this tensor."""
    return LEVELS if tensor.device.type == "cpu" and not isinstance(abi.load(), str) else {}
