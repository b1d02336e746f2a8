"""Entropy decoding of progressive scans (ITU-T T.81 Annex G; libjpeg-turbo ``jdphuff.c``).

Scans send the coefficients bit plane by bit plane: first scans all bits above ``low``, refining scans one bit more.
"""

from array import array
from collections.abc import Sequence
from itertools import cycle

import numpy as np

from jpegrad.jfif.errors import JPEGError
from jpegrad.jfif.sequential import BAD_DC, BAD_RUN, BAD_SYMBOL, END_OF_DATA, NO_CODE, Bits, Part


def decode_dc_first(data: Bits, offsets: Sequence[int], mcu: Sequence[Part], low: int) -> None:
    words, end = data
    position = 0
    predictions = [0] * (1 + max(part.component for part in mcu))
    parts = [(c, coefficients, dc.codes) for c, coefficients, dc, _ in mcu]
    for offset, (component, coefficients, codes) in zip(offsets, cycle(parts)):
        code = codes[words[position >> 3] >> 8 - (position & 7) & 0xFFFF]
        position += code >> 8
        size = code & 15
        if size:
            amplitude = words[position >> 3] >> 24 - size - (position & 7) & (1 << size) - 1
            position += size
            if not amplitude >> size - 1:
                amplitude -= (1 << size) - 1
            predictions[component] += amplitude
        if not code or position > end:
            raise JPEGError(END_OF_DATA if position > end else NO_CODE)
        try:
            coefficients[offset] = predictions[component] << low
        except OverflowError:
            raise JPEGError(BAD_DC) from None


def decode_dc_refine(data: Bits, offsets: Sequence[int], mcu: Sequence[Part], low: int) -> None:
    words, end = data
    if len(offsets) > end:
        raise JPEGError(END_OF_DATA)
    for position, (offset, part) in enumerate(zip(offsets, cycle(mcu))):
        part.coefficients[offset] |= (words[position >> 3] >> 23 - (position & 7) & 1) << low


def decode_ac_first(data: Bits, offsets: Sequence[int], part: Part, first: int, last: int, low: int) -> None:
    """Raises OverflowError where a level leaves 16 bits, as the refining scans do."""
    words, end = data
    coefficients, (codes, values, steps, lengths) = part.coefficients, part.ac
    position = 0
    scale = 1 << low
    index, count = 0, len(offsets)
    while index < count:
        at = offsets[index] + first - 1
        stop = offsets[index] + last
        index += 1
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
                    raise JPEGError(END_OF_DATA if position > end else NO_CODE)
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
            if at > stop:
                break
            coefficients[at] = value * scale
        if at > stop or position > end or index > count:
            raise JPEGError(END_OF_DATA if position > end else BAD_RUN)


def decode_ac_refine(data: Bits, offsets: Sequence[int], part: Part, first: int, last: int, low: int) -> None:
    words, end = data
    coefficients, codes = part.coefficients, part.ac.codes
    position = 0
    bit = 1 << low
    nonzero = _nonzero_bands(offsets, coefficients, first, last)
    index, count = 0, len(offsets)
    while index < count:
        at, stop = offsets[index] + first, offsets[index] + last + 1
        index += 1
        while at < stop:
            code = codes[words[position >> 3] >> 8 - (position & 7) & 0xFFFF]
            run, size = code >> 4 & 15, code & 15
            position += code >> 8
            value = 0
            if size == 1:
                value = bit if words[position >> 3] >> 23 - (position & 7) & 1 else -bit
                position += 1
            elif size or not code:
                raise JPEGError(END_OF_DATA if position > end else BAD_SYMBOL if code else NO_CODE)
            elif run < 15:
                # The end of this band in 2^run … 2^(run + 1) - 1 blocks, this one included.
                run_end = index - 1 + (1 << run)
                if run:
                    run_end += words[position >> 3] >> 24 - run - (position & 7) & (1 << run) - 1
                    position += run
                if run_end > count:
                    raise JPEGError(END_OF_DATA if position > end else BAD_RUN)
                position = _refine(coefficients, at, stop, bit, words, position)
                # Bands without a nonzero coefficient take no bits.
                while position <= end and (index := nonzero.find(1, index, run_end)) >= 0:
                    at, stop = offsets[index] + first, offsets[index] + last + 1
                    position = _refine(coefficients, at, stop, bit, words, position)
                    index += 1
                index = run_end
                break
            # Skip ``run`` zeros; every nonzero coefficient on the way gets its next bit.
            while at < stop:
                known = coefficients[at]
                if known:
                    if words[position >> 3] >> 23 - (position & 7) & 1:
                        coefficients[at] = known + (bit if known > 0 else -bit)
                    position += 1
                elif run:
                    run -= 1
                else:
                    break
                at += 1
            if at == stop:
                raise JPEGError(END_OF_DATA if position > end else BAD_RUN)
            coefficients[at] = value
            at += 1
        if position > end:
            raise JPEGError(END_OF_DATA)


def _refine(
    coefficients: "array[int]", at: int, stop: int, bit: int, words: "array[int]", position: int
) -> int:
    """Give every nonzero coefficient its next bit; return the bit position after them."""
    for k in range(at, stop):
        known = coefficients[k]
        if known:
            if words[position >> 3] >> 23 - (position & 7) & 1:
                coefficients[k] = known + (bit if known > 0 else -bit)
            position += 1
    return position


def _nonzero_bands(offsets: Sequence[int], coefficients: "array[int]", first: int, last: int) -> bytes:
    """1 for every block with a nonzero coefficient in the band, else 0; blocks in ascending order."""
    blocks = np.asarray(offsets) // 64
    start, stop = int(blocks[0]), int(blocks[-1]) + 1
    values = np.frombuffer(coefficients, np.int16, 64 * (stop - start), 128 * start).reshape(-1, 64)
    bits_set = np.bitwise_or.reduce(values[:, first : last + 1], axis=1)
    return (bits_set[blocks - start] != 0).tobytes()
