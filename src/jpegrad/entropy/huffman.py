"""Huffman codes: the tables of Annex K, codes from counts of lengths, optimal lengths from frequencies.

Sources: ITU-T T.81 Annex C, K.2 and K.3; libjpeg-turbo ``jchuff.c`` (``jpeg_gen_optimal_table``).
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MAX_LENGTH = 16


class HuffmanTable(NamedTuple):
    """A DHT segment: how many codes of each length 1…16, and the symbols in the order of their codes."""

    counts: tuple[int, ...]
    symbols: tuple[int, ...]

    def codes(self) -> dict[int, tuple[int, int]]:
        """symbol → (code, length in bits) (T.81 Annex C)."""
        assigned: dict[int, tuple[int, int]] = {}
        remaining = iter(self.symbols)
        code = 0
        for length, count in enumerate(self.counts, 1):
            for _ in range(count):
                assigned[next(remaining)] = code, length
                code += 1
            code <<= 1
        return assigned


def _ac_symbols(frequent_first: str) -> tuple[int, ...]:
    # The rest stand in ascending order and share the longest codes.
    frequent = tuple(bytes.fromhex(frequent_first))
    legal = [0x00, 0xF0] + [run << 4 | size for run in range(16) for size in range(1, 11)]
    return frequent + tuple(sorted(set(legal) - set(frequent)))


DC_LUMA = HuffmanTable((0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0), tuple(range(12)))
DC_CHROMA = HuffmanTable((0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0), tuple(range(12)))
AC_LUMA = HuffmanTable(
    (0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125),
    _ac_symbols("01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282"),
)
AC_CHROMA = HuffmanTable(
    (0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119),
    _ac_symbols("000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f1"),
)
DEFAULT = (DC_LUMA, AC_LUMA, DC_CHROMA, AC_CHROMA)


def optimal_table(frequencies: Sequence[int]) -> HuffmanTable:
    """The table that libjpeg's ``optimize_coding`` makes of the symbol frequencies (T.81 K.2).

    Args:
        frequencies: how often each symbol 0…255 occurs.

    Returns:
        Codes for the symbols that occur, none longer than 16 bits, none of ones only.

    Example:
        >>> optimal_table([5, 1, 1])
        HuffmanTable(counts=(1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), symbols=(0, 1, 2))
    """
    lengths = _tree_depths({symbol: f for symbol, f in enumerate(frequencies) if f} | {256: 1})
    counts = _limited([list(lengths.values()).count(n) for n in range(max(lengths.values()) + 1)])
    # Pseudo-symbol 256 took a code so that the code of ones only stays free; its place is one of the longest.
    longest = max(n for n, count in enumerate(counts) if count)
    counts[longest] -= 1
    symbols = sorted((length, symbol) for symbol, length in lengths.items() if symbol != 256)
    return HuffmanTable(tuple(counts[1:]), tuple(symbol for _, symbol in symbols))


def _tree_depths(frequencies: dict[int, int]) -> dict[int, int]:
    # A tie goes to the larger symbol; a merged node keeps the name of its less frequent part.
    members = {symbol: [symbol] for symbol in frequencies}
    depths = dict.fromkeys(frequencies, 0)
    heap = [(f, -symbol) for symbol, f in frequencies.items()]
    heapq.heapify(heap)
    while len(heap) > 1:
        (f1, first), (f2, second) = heapq.heappop(heap), heapq.heappop(heap)
        members[-first] += members.pop(-second)
        for symbol in members[-first]:
            depths[symbol] += 1
        heapq.heappush(heap, (f1 + f2, first))
    return depths


def _limited(counts: list[int]) -> list[int]:
    # T.81 Figure K.3: a pair of codes that is too long leaves its prefix to one of them; the other
    # joins a leaf from higher up, one level below where that was.
    counts = counts + [0] * (MAX_LENGTH + 1 - len(counts))
    for length in range(len(counts) - 1, MAX_LENGTH, -1):
        while counts[length] > 0:
            leaf = length - 2
            while counts[leaf] == 0:
                leaf -= 1
            counts[length] -= 2
            counts[length - 1] += 1
            counts[leaf + 1] += 2
            counts[leaf] -= 1
    return counts[: MAX_LENGTH + 1]


def code_book(tables: Sequence[HuffmanTable]) -> Tensor:
    """Code and length of every symbol, zeros for one without a code: ``[len(tables), 256, 2]``, int32."""
    book = torch.zeros(len(tables), 256, 2, dtype=torch.int32)
    for entries, table in zip(book, tables, strict=True):
        codes = table.codes()
        entries[list(codes)] = torch.tensor(list(codes.values()), dtype=torch.int32)
    return book
