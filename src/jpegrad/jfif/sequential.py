"""Entropy decoding of sequential scans (ITU-T T.81 F.2.2; libjpeg-turbo ``jdhuff.c``).

The loops are plain Python over arrays: at a bit position, ``words`` gives the next 16 bits and a :class:`Lookup` what
they mean, mostly a whole coefficient at once. Data that ends early reads as zeros and is noticed after each block.
Of damage a decoder takes note, and then does what libjpeg does.
"""

from array import array
from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np

from jpegrad.jfif.errors import Note
from jpegrad.jfif.lookup import Lookup

# More than any block can read past the end: 64 symbols of 16 bits with 15 bits of amplitude, and correction bits.
_PADDING = bytes(512)
END_OF_DATA = "truncated: the entropy-coded data ends before the picture is complete"
NO_CODE = "corrupt: no Huffman code fits the entropy-coded data"
BAD_RUN = "corrupt: a run of coefficients leaves its block"
BAD_DC = "corrupt: a DC level leaves 16 bits"
BAD_AC = "corrupt: an AC level leaves 16 bits"
BAD_SYMBOL = "corrupt: a Huffman symbol that has no meaning here"
NOT_A_CODE = 17
"""Bits that libjpeg reads before it finds that they are none."""


def wrapped(level: int) -> int:
    """What 16 bits keep of a level."""
    return (level + 0x8000 & 0xFFFF) - 0x8000


class Bits(NamedTuple):
    """Unstuffed data: ``words[p >> 3] >> 8 - (p & 7) & 0xFFFF`` are the 16 bits at bit position p; ``end`` in bits."""

    words: "array[int]"
    end: int


def bits(interval: bytes) -> Bits:
    octets = np.frombuffer(interval + _PADDING, np.uint8).astype(np.uint32)
    words = octets[:-2] << 16 | octets[1:-1] << 8 | octets[2:]
    return Bits(array("I", words.tobytes()), 8 * len(interval))


Done = tuple[int, bool]
"""MCUs that were decoded, and whether the data ended in the last of them."""


class Part(NamedTuple):
    """One block of an MCU: the component's place in the scan, its coefficients, its Huffman tables."""

    component: int
    coefficients: "array[int]"
    dc: Lookup
    ac: Lookup


def decode_sequential(data: Bits, offsets: Sequence[int], mcu: Sequence[Part], note: Note) -> Done:
    """Decode one restart interval of a sequential scan.

    Args:
        data: the interval.
        offsets: where its blocks begin in their component's coefficients.
        mcu: the blocks of one MCU, each with both tables.
        note: is told of truncated and corrupt data.

    Returns:
        How far it came.
    """
    words, end = data
    position = 0
    predictions = [0] * (1 + max(part.component for part in mcu))
    parts = [(c, coefficients, dc.codes, *ac) for c, coefficients, dc, ac in mcu]
    for index, (offset, (component, coefficients, dc_codes, codes, values, steps, lengths)) in enumerate(
        zip(offsets, cycle(parts)), 1
    ):
        code = dc_codes[words[position >> 3] >> 8 - (position & 7) & 0xFFFF]
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
        try:
            coefficients[offset] = predictions[component]
        except OverflowError:
            note(END_OF_DATA if position > end else BAD_DC)
            coefficients[offset] = wrapped(predictions[component])

        last = offset
        block_end = offset + 63
        while last < block_end:
            window = words[position >> 3] >> 8 - (position & 7) & 0xFFFF
            value = values[window]
            if value:
                last += steps[window]
                coefficients[last if last < block_end else block_end] = value
                position += lengths[window]
                continue
            code = codes[window]
            symbol = code & 255
            position += code >> 8
            size = symbol & 15
            if size:
                amplitude = words[position >> 3] >> 24 - size - (position & 7) & (1 << size) - 1
                position += size
                last += (symbol >> 4) + 1
                value = amplitude if amplitude >> size - 1 else amplitude - (1 << size) + 1
                coefficients[last if last < block_end else block_end] = value
            elif symbol == 0xF0:
                last += 16
            else:
                if symbol or not code:
                    note(END_OF_DATA if position > end else BAD_SYMBOL if code else NO_CODE)
                    position += 0 if code else NOT_A_CODE
                break
        if last > block_end or position > end:
            note(END_OF_DATA if position > end else BAD_RUN)
            if position > end:
                # All that follows is zeros.
                position = end + 1
                if index % len(mcu) == 0:
                    return index // len(mcu), True
    return len(offsets) // len(mcu), False
