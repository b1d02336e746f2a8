"""Huffman decoding tables: what the next 16 bits of the data mean."""

from array import array
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from jpegrad.entropy.huffman import HuffmanTable
from jpegrad.jfif.errors import JPEGError


class Lookup(NamedTuple):
    """Four arrays over all 16-bit windows.

    Where a symbol with run and size and the bits of its amplitude fit into the window together, ``values`` holds the
    decoded nonzero coefficient, ``steps`` its run + 1 and ``lengths`` the bits used; elsewhere ``values`` is 0.
    ``codes`` always holds code length · 256 + symbol, or 0 where no code begins the window.
    """

    codes: "array[int]"
    values: "array[int]"
    steps: "array[int]"
    lengths: "array[int]"


def _array(typecode: str, values: np.ndarray) -> "array[int]":
    # Python reads single items of an array several times faster than of an ndarray.
    return array(typecode, values.astype(typecode).tobytes())


def check_prefix_code(table: HuffmanTable) -> None:
    """Raise unless the code lengths describe a prefix code without a code of ones only (T.81 C.2)."""
    space = sum(count << 16 - length for length, count in enumerate(table.counts, 1))
    if sum(table.counts) != len(table.symbols) or space >= 1 << 16:
        raise JPEGError("corrupt: the lengths of a Huffman table are no prefix code")


@lru_cache(maxsize=32)
def lookup(table: HuffmanTable) -> Lookup:
    """The decoding table of a Huffman table (T.81 Annex C and F.2.2.3).

    Raises:
        JPEGError: as :func:`check_prefix_code`.
    """
    check_prefix_code(table)
    length = np.repeat(np.arange(1, 17), np.array(table.counts))
    # Canonical codes in ascending order tile the windows from 0 upwards.
    codes = np.repeat(length << 8 | np.array(table.symbols, dtype=np.int64), 1 << (16 - length))
    codes = np.concatenate([codes, np.zeros((1 << 16) - len(codes), dtype=np.int64)])

    size, run = codes & 15, codes >> 4 & 15
    total = (codes >> 8) + size
    direct = (size > 0) & (total <= 16)
    amplitude = np.arange(1 << 16) >> np.where(direct, 16 - total, 0) & (1 << size) - 1
    value = np.where(amplitude >> np.maximum(size - 1, 0), amplitude, amplitude - (1 << size) + 1)
    return Lookup(
        _array("H", codes),
        _array("h", np.where(direct, value, 0)),
        _array("B", np.where(direct, run + 1, 0)),
        _array("B", np.where(direct, total, 0)),
    )


NO_CODES = lookup(HuffmanTable((0,) * 16, ()))
"""For a scan that has no symbols of a class."""
