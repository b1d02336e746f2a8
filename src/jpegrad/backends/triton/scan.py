"""The Triton kernels of a baseline scan (T.81 F.1.2): its symbols counted, its length, its bits.

A program takes N places of one component in scan order, a place's 64 values in zigzag order side by side. Which of them
are coded makes a 64-bit number, in which the highest bit below a position ends the run of zeros before it. Nothing
depends on the order of the programs: they add integers, or set bits that no other sets.
"""

import triton
import triton.language as tl

ZRL = tl.constexpr(0xF0)


@triton.jit
def _block(place, blocks_y, blocks_x, mcus_x, H: tl.constexpr, V: tl.constexpr):
    """The block whose DC stands at a place, and whether it is a dummy, which has no more than that."""
    mcu, j = place // (H * V), place % (H * V)
    y, left = mcu // mcus_x * V + j // H, mcu % mcus_x * H
    below = y >= blocks_y
    dummy = below | (left + j % H >= blocks_x)
    # Right of the image a dummy repeats the last of its row, below it the last above it in its MCU.
    x = tl.minimum(tl.where(below, left + H - 1, left + j % H), blocks_x - 1)
    return tl.minimum(y, blocks_y - 1).to(tl.int64) * blocks_x + x, dummy


@triton.jit
def _whole(levels, at, mask):
    """The nearest integers, of ties the even ones, within ±32767; 0 for what is no number."""
    x = tl.load(levels + at, mask=mask, other=0.0)
    x = tl.where(x == x, tl.minimum(tl.maximum(x, -32767.0), 32767.0), 0.0)
    return ((x + 12582912.0) - 12582912.0).to(tl.int32)


@triton.jit
def _within(x, LIMIT: tl.constexpr):
    return tl.minimum(tl.maximum(x, -LIMIT), LIMIT)


@triton.jit
def _highest(x):
    """The position of the highest bit of 1 to 2^63 - 1."""
    # No two bits side by side, so that no rounding carries into the exponent.
    x = x & ~(x >> 1)
    return ((x.to(tl.float64).to(tl.int64, bitcast=True) >> 52) - 1023).to(tl.int32)


@triton.jit
def _symbols(
    levels, zigzag, places, blocks_y, blocks_x, mcus_x, H: tl.constexpr, V: tl.constexpr, N: tl.constexpr
):
    """This program's image and places ``[N, 1]``; of each value ``[N, 64]`` the run before it, its size, whether it is
    coded; whether an end-of-block follows ``[N, 1]``."""
    programs = tl.cdiv(places, N)
    image = (tl.program_id(0) // programs).to(tl.int64)
    place = tl.program_id(0) % programs * N + tl.arange(0, N)[:, None]
    valid = place < places
    levels += image * blocks_y * blocks_x * 64
    block, dummy = _block(place, blocks_y, blocks_x, mcus_x, H, V)
    before, _dummy = _block(tl.maximum(place - 1, 0), blocks_y, blocks_x, mcus_x, H, V)
    k = tl.arange(0, 64)[None, :]
    inside = valid & (dummy == 0)
    ac = _within(_whole(levels, 64 * block + tl.load(zigzag + k), inside & (k > 0)), 1023)
    difference = _whole(levels, 64 * block, valid) - _whole(levels, 64 * before, valid & (place > 0))
    value = tl.where(k == 0, _within(difference, 2047), ac)
    coded = valid & ((k == 0) | (value != 0))
    bit = tl.full((1, 64), 1, tl.int64) << k
    all_coded = tl.sum(tl.where(coded, bit, 0), axis=1)[:, None]
    run = tl.where(coded & (k > 0), k - _highest(all_coded & (bit - 1)) - 1, 0)
    # A float's exponent is the number of bits of an integer.
    size = tl.maximum((tl.abs(value).to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 126, 0)
    # The last position is the sign.
    return image, place, value, run, size, coded, valid & (all_coded >= 0)


@triton.jit(do_not_specialize=["places", "blocks_y", "blocks_x", "mcus_x", "stride", "table"])
def count_kernel(
    levels, zigzag, counts, places, blocks_y, blocks_x, mcus_x, stride, table,
    H: tl.constexpr, V: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Add a component's symbols to the counts of its DC table and of its AC table, ``stride`` an image."""
    image, _place, _value, run, size, coded, eob = _symbols(
        levels, zigzag, places, blocks_y, blocks_x, mcus_x, H, V, N
    )
    k = tl.arange(0, 64)[None, :]
    symbol = tl.reshape((run & 15) * 16 + size, (N * 64,))
    dc = tl.histogram(symbol, 256, mask=tl.reshape(coded & (k == 0), (N * 64,)))
    ac = tl.histogram(symbol, 256, mask=tl.reshape(coded & (k > 0), (N * 64,)))
    bins = tl.arange(0, 256)
    ac += tl.where(bins == ZRL, tl.sum(run >> 4), 0) + tl.where(bins == 0, tl.sum(eob.to(tl.int32)), 0)
    counts += image * stride + table + bins
    tl.atomic_add(counts, dc.to(tl.int64), mask=dc > 0)
    tl.atomic_add(counts + 256, ac.to(tl.int64), mask=ac > 0)


@triton.jit
def _entry(book, row, mask):
    """Code and length of a symbol."""
    return tl.load(book + 2 * row, mask=mask, other=0), tl.load(book + 2 * row + 1, mask=mask, other=0)


@triton.jit
def _put(words, at, value, length, mask):
    """Set bits from ``at`` on, the most significant of a word first."""
    window = value.to(tl.int64) << (64 - (at & 31) - length)
    tl.atomic_or(words + (at >> 5), (window >> 32).to(tl.int32), mask=mask)
    tl.atomic_or(words + (at >> 5) + 1, window.to(tl.int32), mask=mask & ((at & 31) + length > 32))


@triton.jit(
    do_not_specialize=["places", "blocks_y", "blocks_x", "mcus_x", "stride", "table", "first", "in_mcu"]
)
def code_kernel(
    levels, zigzag, book, lengths, words, places, blocks_y, blocks_x, mcus_x, stride, table, first, in_mcu,
    H: tl.constexpr, V: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Bits that each place of a component takes; or, given room for words, the bits themselves.

    ``lengths`` are ``[images, MCUs · in_mcu]`` in scan order, where the component's places of an MCU begin at
    ``first``; with words they hold where each place begins instead, which leaves 64 words to a place.
    """
    image, place, value, run, size, coded, eob = _symbols(
        levels, zigzag, places, blocks_y, blocks_x, mcus_x, H, V, N
    )
    k = tl.arange(0, 64)[None, :]
    book += image * stride + 2 * table
    code, length = _entry(book, tl.where(k == 0, 0, 256) + (run & 15) * 16 + size, coded)
    zrl_code, zrl_length = _entry(book, 256 + ZRL + 0 * run, coded & (run > 15))
    eob_code, eob_length = _entry(book, 256 + 0 * place, eob)
    zrls = (run >> 4) * zrl_length
    bits = tl.where(coded, zrls + length + size, 0)
    total = tl.sum(bits, axis=1)[:, None]
    all_places = places // (H * V) * in_mcu
    lengths += image * all_places + place // (H * V) * in_mcu + first + place % (H * V)
    if words is None:
        tl.store(lengths, total + eob_length, mask=place < places)
    else:
        words += image * all_places * 64
        start = tl.load(lengths, mask=place < places, other=0)
        at = start + tl.cumsum(bits, axis=1) - bits
        for n in tl.static_range(3):
            _put(words, at + n * zrl_length, zrl_code, zrl_length, coded & (run >> 4 > n))
        amplitude = tl.where(value < 0, value + (1 << size) - 1, value)
        _put(words, at + zrls, (code.to(tl.int64) << size) | amplitude, length + size, coded)
        _put(words, start + total, eob_code, eob_length, eob)
