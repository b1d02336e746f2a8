"""The exact size of a baseline .jpg, and its entropy-coded bytes, as array arithmetic.

A cumulative sum of the code lengths says at which bit each code begins; a scatter-add lays the codes over 32-bit words.
Nothing overlaps, so adding is the same as writing.

Sources: ITU-T T.81 B.1.1.5, B.2, F.1.2; libjpeg-turbo ``jchuff.c``, ``jcmarker.c``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from jpegrad import backends
from jpegrad.entropy.huffman import DEFAULT, HuffmanTable, code_book, optimal_table
from jpegrad.entropy.symbols import (
    EOB,
    LUMA_CHROMA,
    ZRL,
    Symbols,
    scan_symbols,
    table_count,
    whole,
)
from jpegrad.sampling import luma_factors

HUFFMAN = ("default", "optimized")
COEFFICIENTS_AT_ONCE = 1 << 22


def check_huffman(huffman: str) -> None:
    """Raise unless ``huffman`` names a kind of Huffman tables."""
    if huffman not in HUFFMAN:
        raise ValueError(f"huffman: expected one of {HUFFMAN}, got {huffman!r}")


def huffman_tables(symbols: Symbols, batch: int, tables: int, huffman: str) -> list[list[HuffmanTable]]:
    """So many tables of each image: DC and AC of slot 0, of slot 1."""
    if huffman == "default":
        return [list(DEFAULT[:tables])] * batch
    return optimal_tables(symbol_counts(symbols, batch, tables))


def optimal_tables(counts: Tensor) -> list[list[HuffmanTable]]:
    """The tables made for each image from how often it uses each symbol, ``[batch, tables, 256]``."""
    return [[optimal_table(row) for row in image] for image in counts.tolist()]


def symbol_counts(symbols: Symbols, batch: int, tables: int) -> Tensor:
    """How often each image uses each symbol of each table: ``[batch, tables, 256]``."""
    first = 256 * (tables * symbols.image + symbols.table)
    counts = torch.bincount(first + symbols.symbol, minlength=256 * tables * batch)
    counts.index_add_(0, first + ZRL, symbols.zrl.to(counts.dtype))
    # An EOB may follow a DC, but is of the AC table.
    counts.index_add_(0, (first | 256) + EOB, symbols.eob.to(counts.dtype))
    return counts.view(batch, tables, 256)


def packed(symbols: Symbols, book: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The coded scans, before zero bytes are stuffed, the last byte of each filled up with ones.

    Args:
        symbols: of a batch of images.
        book: ``[batch, tables, 256, 2]``, code and length of each symbol.

    Returns:
        words of 32 bits, int64, most significant first, of one image after the other, each from a new word on;
        the word where each image begins ``[batch]``; the bytes of each image ``[batch]``.
    """
    batch, tables = book.shape[:2]
    code, bits = book.view(-1, 2).long().unbind(-1)
    first = 256 * (tables * symbols.image + symbols.table)
    row, zrl, eob = first + symbols.symbol, first + ZRL, (first | 256) + EOB

    before = symbols.zrl * bits[zrl]
    own = bits[row] + symbols.size
    length = before + own + symbols.eob * bits[eob]
    total = length.new_zeros(batch).index_add_(0, symbols.image, length)
    # Every window reaches into a second word, that of the padding too.
    room = (total >> 5) + 2
    begin = room.cumsum(0) - room
    start = length.cumsum(0) - length + (32 * begin - total.cumsum(0) + total)[symbols.image]
    words = length.new_zeros(int(room.sum()))

    def write(start: Tensor, length: Tensor, value: Tensor) -> None:
        window = value << 64 - (start & 31) - length
        words.index_add_(0, start >> 5, window >> 32 & 0xFFFFFFFF)
        words.index_add_(0, (start >> 5) + 1, window & 0xFFFFFFFF)

    for n in range(3):
        at = (symbols.zrl > n).nonzero().squeeze(1)
        write(start[at] + n * bits[zrl[at]], bits[zrl[at]], code[zrl[at]])
    write(start + before, own, code[row] << symbols.size | symbols.amplitude)
    at = symbols.eob.nonzero().squeeze(1)
    write((start + before + own)[at], bits[eob[at]], code[eob[at]])
    padding = -total & 7
    write(32 * begin + total, padding, (1 << padding) - 1)
    return words, begin, total + padding >> 3


def stuffed_zeros(words: Tensor, begin: Tensor) -> Tensor:
    """How many bytes of each image are 0xFF: a zero byte follows each in the file (T.81 B.1.1.5)."""
    ones = words & words >> 1
    ones &= ones >> 2
    ones &= ones >> 4 & 0x01010101
    up_to = torch.nn.functional.pad((ones * 0x01010101 >> 24 & 0xFF).cumsum(0), (1, 0))
    end = torch.cat([begin[1:], begin.new_full((1,), len(words))])
    return up_to[end] - up_to[begin]


def scan_bytes(
    levels: Sequence[Tensor],
    height: int,
    width: int,
    subsampling: str,
    huffman: str,
    slots: Sequence[int] = LUMA_CHROMA,
) -> Tensor:
    """Bytes of the scan, stuffed zeros included, and how many symbols the Huffman tables list: ``[..., 2]``, int64.

    Levels that are no integers count as rounded, those that baseline cannot hold as clamped, NaN as 0.
    """
    return torch.ops.jpegrad.scan_bytes(levels, height, width, subsampling, huffman, slots)


def scan_counts(
    levels: Sequence[Tensor],
    height: int,
    width: int,
    subsampling: str,
    slots: Sequence[int] = LUMA_CHROMA,
) -> Tensor:
    """How often each symbol occurs: ``[..., 2 or 4, 256]`` (DC and AC of slot 0, of slot 1), int64."""
    return torch.ops.jpegrad.scan_counts(levels, height, width, subsampling, slots)


def _scan_bytes(
    levels: Sequence[Tensor], height: int, width: int, subsampling: str, huffman: str, slots: Sequence[int]
) -> Tensor:
    if levels[0].numel() == 0:
        return fake_bytes(levels)
    flat = [x.reshape(-1, *x.shape[-4:]) for x in levels]
    sampling = luma_factors(len(levels), subsampling)
    if sampling and (kernel := backends.kernel("scan_bytes", levels[0])):
        tables = [list(DEFAULT[: table_count(len(levels), slots)])]
        if huffman == "optimized":
            tables = optimal_tables(scan_counts(flat, height, width, subsampling, slots))
        book = _book(tables)
        # The kernels tell luma from chroma; where all components use one slot, both have its codes.
        book = torch.cat([book, book], 1) if _is_split(flat, slots) else book
        count = kernel(flat, book, height, width, sampling)
        found = torch.stack([count, _listed(tables).to(count.device).expand_as(count)], -1)
    else:
        found = _packed_bytes(flat, (height, width), subsampling, huffman, slots)
    return found.view(*levels[0].shape[:-4], 2)


def _is_split(levels: Sequence[Tensor], slots: Sequence[int]) -> bool:
    """Whether the kernels count as chroma what is coded with the tables of slot 0."""
    return len(levels) == 3 and max(slots[:3]) == 0


def _packed_bytes(
    levels: list[Tensor], size: tuple[int, int], subsampling: str, huffman: str, slots: Sequence[int]
) -> Tensor:
    at_once = max(1, COEFFICIENTS_AT_ONCE // sum(x.shape[1:].numel() for x in levels))
    parts = []
    for chunk in zip(*(x.split(at_once) for x in levels), strict=True):
        symbols = scan_symbols([whole(x) for x in chunk], size, subsampling, slots)
        tables = huffman_tables(symbols, len(chunk[0]), table_count(len(levels), slots), huffman)
        words, begin, count = packed(symbols, _book(tables).to(levels[0].device))
        listed = _listed(tables).to(count.device)
        parts.append(torch.stack([count + stuffed_zeros(words, begin), listed], -1))
    return torch.cat(parts)


def _scan_counts(
    levels: Sequence[Tensor], height: int, width: int, subsampling: str, slots: Sequence[int]
) -> Tensor:
    if levels[0].numel() == 0:
        return _fake_counts(levels, height, width, subsampling, slots)
    flat = [x.reshape(-1, *x.shape[-4:]) for x in levels]
    sampling = luma_factors(len(levels), subsampling)
    if sampling and (kernel := backends.kernel("scan_counts", levels[0])):
        counts = kernel(flat, height, width, sampling)
        counts = counts[:, :2] + counts[:, 2:] if _is_split(flat, slots) else counts
    else:
        symbols = scan_symbols([whole(x) for x in flat], (height, width), subsampling, slots)
        counts = symbol_counts(symbols, len(flat[0]), table_count(len(levels), slots))
    return counts.view(*levels[0].shape[:-4], *counts.shape[1:])


def fake_bytes(levels: Sequence[Tensor], *arguments: Any) -> Tensor:
    return levels[0].new_empty(*levels[0].shape[:-4], 2, dtype=torch.int64)


def _fake_counts(
    levels: Sequence[Tensor], height: int, width: int, subsampling: str, slots: Sequence[int]
) -> Tensor:
    tables = table_count(len(levels), slots)
    return levels[0].new_empty(*levels[0].shape[:-4], tables, 256, dtype=torch.int64)


def mapped(operator: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, int]]:
    """vmap of an operator that takes any leading dimensions."""

    def over(
        info: Any, in_dims: tuple[Any, ...], levels: Sequence[Tensor], *arguments: Any
    ) -> tuple[Tensor, int]:
        leading = [
            x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(levels, in_dims[0], strict=True)
        ]
        return operator(leading, *arguments), 0

    return over


# Operators, because their inner shapes depend on the levels: compile, export and vmap need not look inside.
LIBRARY = torch.library.Library("jpegrad", "FRAGMENT")
for _name, _arguments, _run, _fake, _operator in (
    ("scan_bytes", ", str huffman", _scan_bytes, fake_bytes, scan_bytes),
    ("scan_counts", "", _scan_counts, _fake_counts, scan_counts),
):
    LIBRARY.define(
        f"{_name}(Tensor[] levels, SymInt height, SymInt width, str subsampling{_arguments}, int[] slots) -> Tensor"
    )
    LIBRARY.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"jpegrad::{_name}", _fake, lib=LIBRARY)
    torch.library.register_vmap(f"jpegrad::{_name}", mapped(_operator), lib=LIBRARY)


def _listed(tables: list[list[HuffmanTable]]) -> Tensor:
    """How many symbols the DHT segments of each image list."""
    return torch.tensor([sum(len(table.symbols) for table in image) for image in tables])


def _book(tables: list[list[HuffmanTable]]) -> Tensor:
    books = {id(image): code_book(image) for image in tables}
    return torch.stack([books[id(image)] for image in tables])
