"""A sequential baseline coder, one bit string after the other, written from ITU-T T.81 Annex F."""

from collections.abc import Mapping, Sequence

import numpy as np

ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, i % 8 if (i // 8 + i % 8) % 2 == 0 else i // 8))
Codes = Mapping[int, str]


def codes(counts: Sequence[int], symbols: Sequence[int]) -> dict[int, str]:
    """symbol → bit string, by counting up (T.81 Annex C)."""
    table, code, following = {}, 0, iter(symbols)
    for length, count in enumerate(counts, 1):
        for _ in range(count):
            table[next(following)] = format(code, f"0{length}b")
            code += 1
        code *= 2
    return table


def amplitude(value: int) -> str:
    size = abs(value).bit_length()
    return format(value if value > 0 else value + 2**size - 1, f"0{size}b") if size else ""


def block_bits(block: np.ndarray, before: int, dc: Codes, ac: Codes) -> str:
    """The bits of one block [8, 8] after a block whose DC was ``before``."""
    difference = int(block[0, 0]) - before
    bits = dc[abs(difference).bit_length()] + amplitude(difference)
    run = 0
    levels = [int(block.flat[i]) for i in ZIGZAG]
    for value in levels[1:]:
        if value == 0:
            run += 1
            continue
        while run > 15:
            bits += ac[0xF0]
            run -= 16
        bits += ac[run << 4 | abs(value).bit_length()] + amplitude(value)
        run = 0
    return bits if run == 0 else bits + ac[0x00]


def scan_bits(levels: Sequence[np.ndarray], tables: Sequence[Codes], h: int, v: int) -> str:
    """The bits of an interleaved scan; ``levels`` [blocks_y, blocks_x, 8, 8], ``tables`` DC, AC of luma and chroma."""
    sampling = [(h, v), (1, 1), (1, 1)] if len(levels) == 3 else [(1, 1)]
    rows = -(-levels[0].shape[0] // sampling[0][1])
    columns = -(-levels[0].shape[1] // sampling[0][0])
    before = [0] * len(levels)
    bits = ""
    for row in range(rows):
        for column in range(columns):
            for c, (component, (h_c, v_c)) in enumerate(zip(levels, sampling, strict=True)):
                for y in range(row * v_c, (row + 1) * v_c):
                    for x in range(column * h_c, (column + 1) * h_c):
                        inside = y < component.shape[0] and x < component.shape[1]
                        # A dummy block repeats the DC coded before it.
                        block = component[y, x] if inside else np.zeros((8, 8), int)
                        if not inside:
                            block[0, 0] = before[c]
                        bits += block_bits(block, before[c], *tables[2 * min(c, 1) :][:2])
                        before[c] = int(block[0, 0])
    return bits


def stuffed(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    return data.replace(b"\xff", b"\xff\x00")
