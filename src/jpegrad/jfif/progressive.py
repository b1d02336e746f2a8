"""Entropy decoding of progressive scans (ITU-T T.81 Annex G; libjpeg-turbo ``jdphuff.c``).

Scans send the coefficients bit plane by bit plane: first scans all bits above ``low``, refining scans one bit more.
Decoders take note of damage and return how far they came, as in :mod:`~jpegrad.jfif.sequential`.
"""

from array import array
from collections.abc import Sequence
from itertools import cycle

import numpy as np

from jpegrad.jfif.errors import Note
from jpegrad.jfif.sequential import (
    BAD_AC,
    BAD_DC,
    BAD_RUN,
    BAD_SYMBOL,
    END_OF_DATA,
    NO_CODE,
    NOT_A_CODE,
    Bits,
    Done,
    Part,
    wrapped,
)


def decode_dc_first(data: Bits, offsets: Sequence[int], mcu: Sequence[Part], low: int, note: Note) -> Done:
    words, end = data
    position = 0
    predictions = [0] * (1 + max(part.component for part in mcu))
    parts = [(c, coefficients, dc.codes) for c, coefficients, dc, _ in mcu]
    for index, (offset, (component, coefficients, codes)) in enumerate(zip(offsets, cycle(parts)), 1):
        code = codes[words[position >> 3] >> 8 - (position & 7) & 0xFFFF]
        if not code:
            note(END_OF_DATA if position > end else NO_CODE)
            position += NOT_A_CODE
        position += code >> 8
        size = code & 15
        if size:
            amplitude = words[position >> 3] >> 24 - size - (position & 7) & (1 << size) - 1
            position += size
            if not amplitude >> size - 1:
                amplitude -= (1 << size) - 1
            predictions[component] += amplitude
        level = predictions[component] << low
        if position > end or not -0x8000 <= level < 0x8000:
            note(END_OF_DATA if position > end else BAD_DC)
        coefficients[offset] = wrapped(level)
        if position > end:
            position = end + 1
            if index % len(mcu) == 0:
                return index // len(mcu), True
    return len(offsets) // len(mcu), False


def decode_dc_refine(data: Bits, offsets: Sequence[int], mcu: Sequence[Part], low: int, note: Note) -> Done:
    words, end = data
    for position, (offset, part) in enumerate(zip(offsets[:end], cycle(mcu))):
        part.coefficients[offset] |= (words[position >> 3] >> 23 - (position & 7) & 1) << low
    if len(offsets) > end:
        note(END_OF_DATA)
        return end // len(mcu) + 1, True
    return len(offsets) // len(mcu), False


def decode_ac_first(
    data: Bits, offsets: Sequence[int], part: Part, first: int, last: int, low: int, note: Note
) -> Done:
    words, end = data
    coefficients, (codes, values, steps, lengths) = part.coefficients, part.ac
    position = 0
    scale = 1 << low
    index, count = 0, len(offsets)
    while index < count:
        at = offsets[index] + first - 1
        stop, block_end = offsets[index] + last, offsets[index] + 63
        index += 1
        done = index
        while at < stop:
            window = words[position >> 3] >> 8 - (position & 7) & 0xFFFF
            value = values[window]
            if value:
                at += steps[window]
                position += lengths[window]
            else:
                code = codes[window]
                run, size = code >> 4 & 15, code & 15
                position += code >> 8
                if size:
                    value = words[position >> 3] >> 24 - size - (position & 7) & (1 << size) - 1
                    position += size
                    if not value >> size - 1:
                        value -= (1 << size) - 1
                    at += run + 1
                elif not code:
                    note(END_OF_DATA if position > end else NO_CODE)
                    position += NOT_A_CODE
                    break
                elif run == 15:
                    at += 16
                    continue
                else:
                    # The end of this band in 2^run … 2^(run + 1) - 1 blocks, this one included.
                    index += (1 << run) - 1
                    if run:
                        index += words[position >> 3] >> 24 - run - (position & 7) & (1 << run) - 1
                        position += run
                    break
            value *= scale
            if not -0x8000 <= value < 0x8000:
                note(END_OF_DATA if position > end else BAD_AC)
                value = wrapped(value)
            coefficients[at if at < block_end else block_end] = value
        if at > stop or position > end or index > count:
            note(END_OF_DATA if position > end else BAD_RUN)
            if position > end:
                return done, True
    return count, False


def decode_ac_refine(
    data: Bits, offsets: Sequence[int], part: Part, first: int, last: int, low: int, note: Note
) -> Done:
    words, end = data
    coefficients, codes = part.coefficients, part.ac.codes
    position = 0
    bit = 1 << low
    nonzero = _nonzero_bands(offsets, coefficients, first, last)
    index, count = 0, len(offsets)
    while index < count:
        at, stop, block_end = offsets[index] + first, offsets[index] + last + 1, offsets[index] + 63
        run_end = index = index + 1
        while at < stop:
            code = codes[words[position >> 3] >> 8 - (position & 7) & 0xFFFF]
            run, size = code >> 4 & 15, code & 15
            position += code >> 8
            value = 0
            if size:
                # libjpeg reads one bit of a number, whatever its size.
                value = bit if words[position >> 3] >> 23 - (position & 7) & 1 else -bit
                position += 1
                if size > 1:
                    note(END_OF_DATA if position > end else BAD_SYMBOL)
            elif run < 15:
                if not code:
                    note(END_OF_DATA if position > end else NO_CODE)
                    position += NOT_A_CODE
                # The end of this band in 2^run … 2^(run + 1) - 1 blocks, this one included.
                run_end = index - 1 + (1 << run)
                if run:
                    run_end += words[position >> 3] >> 24 - run - (position & 7) & (1 << run) - 1
                    position += run
                position = _refine(coefficients, at, stop, bit, words, position, note)
                # Bands without a nonzero coefficient take no bits.
                while position <= end and (found := nonzero.find(1, index, run_end)) >= 0:
                    at, stop = offsets[found] + first, offsets[found] + last + 1
                    position = _refine(coefficients, at, stop, bit, words, position, note)
                    index = found + 1
                break
            # Skip ``run`` zeros; every nonzero coefficient on the way gets its next bit.
            while at < stop:
                known = coefficients[at]
                if known:
                    if words[position >> 3] >> 23 - (position & 7) & 1:
                        coefficients[at] = _grown(known, bit, note)
                    position += 1
                elif run:
                    run -= 1
                else:
                    break
                at += 1
            if at == stop:
                note(END_OF_DATA if position > end else BAD_RUN)
            if value:
                # A run that leaves the band ends at the place behind it.
                coefficients[at if at < block_end else block_end] = value
            at += 1
        if position > end:
            note(END_OF_DATA)
            return index, True
        index = run_end
    if index > count:
        note(BAD_RUN)
    return count, False


def _refine(
    coefficients: "array[int]", at: int, stop: int, bit: int, words: "array[int]", position: int, note: Note
) -> int:
    """Give every nonzero coefficient its next bit; return the bit position after them."""
    for k in range(at, stop):
        known = coefficients[k]
        if known:
            if words[position >> 3] >> 23 - (position & 7) & 1:
                coefficients[k] = _grown(known, bit, note)
            position += 1
    return position


def _grown(known: int, bit: int, note: Note) -> int:
    """A level with one bit more; a scan that repeats another changes nothing."""
    if known & bit:
        return known
    grown = known + (bit if known > 0 else -bit)
    if not -0x8000 <= grown < 0x8000:
        note(BAD_AC)
    return wrapped(grown)


def _nonzero_bands(offsets: Sequence[int], coefficients: "array[int]", first: int, last: int) -> bytes:
    """1 for every block with a nonzero coefficient in the band, else 0; blocks in ascending order."""
    blocks = np.asarray(offsets) // 64
    start, stop = int(blocks[0]), int(blocks[-1]) + 1
    values = np.frombuffer(coefficients, np.int16, 64 * (stop - start), 128 * start).reshape(-1, 64)
    bits_set = np.bitwise_or.reduce(values[:, first : last + 1], axis=1)
    return (bits_set[blocks - start] != 0).tobytes()
