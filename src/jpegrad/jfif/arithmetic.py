"""Arithmetic decoding of one scan, sequential or progressive (ITU-T T.81 Annex D, F.2.4 and G.2; ``jdarith.c``).

Data that ends early reads as zeros, which is legal: the encoder drops them (D.1.8). So damage is noticed only by
impossible levels.
"""

from array import array
from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

from jpegrad.jfif.errors import JPEGError, Note
from jpegrad.jfif.sequential import BAD_AC, BAD_DC, BAD_RUN, wrapped

# Table D.3, and behind it a state that stays at even chances: the less probable symbol's part of the interval, the next
# states, and the states after which the symbols change places.
# fmt: off
_LESS = (
    0x5A1D, 0x2586, 0x1114, 0x080B, 0x03D8, 0x01DA, 0x00E5, 0x006F, 0x0036, 0x001A, 0x000D, 0x0006, 0x0003,
    0x0001, 0x5A7F, 0x3F25, 0x2CF2, 0x207C, 0x17B9, 0x1182, 0x0CEF, 0x09A1, 0x072F, 0x055C, 0x0406, 0x0303,
    0x0240, 0x01B1, 0x0144, 0x00F5, 0x00B7, 0x008A, 0x0068, 0x004E, 0x003B, 0x002C, 0x5AE1, 0x484C, 0x3A0D,
    0x2EF1, 0x261F, 0x1F33, 0x19A8, 0x1518, 0x1177, 0x0E74, 0x0BFB, 0x09F8, 0x0861, 0x0706, 0x05CD, 0x04DE,
    0x040F, 0x0363, 0x02D4, 0x025C, 0x01F8, 0x01A4, 0x0160, 0x0125, 0x00F6, 0x00CB, 0x00AB, 0x008F, 0x5B12,
    0x4D04, 0x412C, 0x37D8, 0x2FE8, 0x293C, 0x2379, 0x1EDF, 0x1AA9, 0x174E, 0x1424, 0x119C, 0x0F6B, 0x0D51,
    0x0BB6, 0x0A40, 0x5832, 0x4D1C, 0x438E, 0x3BDD, 0x34EE, 0x2EAE, 0x299A, 0x2516, 0x5570, 0x4CA9, 0x44D9,
    0x3E22, 0x3824, 0x32B4, 0x2E17, 0x56A8, 0x4F46, 0x47E5, 0x41CF, 0x3C3D, 0x375E, 0x5231, 0x4C0F, 0x4639,
    0x415E, 0x5627, 0x50E7, 0x4B85, 0x5597, 0x504F, 0x5A10, 0x5522, 0x59EB, 0x5A1D,
)
_AFTER_LESS = (
    1, 14, 16, 18, 20, 23, 25, 28, 30, 33, 35, 9, 10, 12, 15, 36, 38, 39, 40, 42, 43, 45, 46, 48, 49, 51, 52,
    54, 56, 57, 59, 60, 62, 63, 32, 33, 37, 64, 65, 67, 68, 69, 70, 72, 73, 74, 75, 77, 78, 79, 48, 50, 50, 51,
    52, 53, 54, 55, 56, 57, 58, 59, 61, 61, 65, 80, 81, 82, 83, 84, 86, 87, 87, 72, 72, 74, 74, 75, 77, 77, 80,
    88, 89, 90, 91, 92, 93, 86, 88, 95, 96, 97, 99, 99, 93, 95, 101, 102, 103, 104, 99, 105, 106, 107, 103, 105,
    108, 109, 110, 111, 110, 112, 112, 113,
)
_AFTER_MORE = (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
    30, 31, 32, 33, 34, 35, 9, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56,
    57, 58, 59, 60, 61, 62, 63, 32, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 48, 81, 82, 83,
    84, 85, 86, 87, 71, 89, 90, 91, 92, 93, 94, 86, 96, 97, 98, 99, 100, 93, 102, 103, 104, 99, 106, 107, 103,
    109, 107, 111, 109, 111, 113,
)
_SWITCH = (0, 14, 36, 64, 80, 88, 95, 105, 110, 112)
# fmt: on
SWITCH, EVEN = 0x80, 113
STATES = tuple(
    (less, down ^ (SWITCH if i in _SWITCH else 0), up)
    for i, (less, down, up) in enumerate(zip(_LESS, _AFTER_LESS, _AFTER_MORE, strict=True))
)
FIRST_SIZE, LOW_SIZE, HIGH_SIZE, PATTERN, TOO_LARGE = 20, 189, 217, 14, 0x8000
"""Where the bins of Tables F.4 and F.5 begin; a magnitude that no level has."""


class Part(NamedTuple):
    """One block of an MCU: the component's place in the scan, its coefficients, its tables."""

    component: int
    coefficients: "array[int]"
    dc: int
    ac: int


class Lost(JPEGError):
    """The data have no meaning."""


class Decoder:
    """One restart interval.

    Args:
        data: the interval, unstuffed.
        mcu: the blocks of one MCU.
        conditioning: 16 lower and 16 upper bounds of DC, 16 Kx of AC; files have 4, damaged ones may name more.
        note: is told of corrupt data.
    """

    def __init__(self, data: bytes, mcu: Sequence[Part], conditioning: bytes, note: Note) -> None:
        self.mcu, self.conditioning, self.note = mcu, conditioning, note
        self.bytes = iter(data)
        self.code = next(self.bytes, 0) << 8 | next(self.bytes, 0)
        self.interval, self.ahead = 0x10000, 0
        self.dc, self.ac = [bytearray(64) for _ in range(16)], [bytearray(256) for _ in range(16)]
        self.before, self.context = [0] * 4, [0] * 4

    def decide(self, bins: bytearray, at: int) -> int:
        """The next binary decision (D.2); a bin has the more probable symbol in its highest bit."""
        state = bins[at]
        part, after_less, after_more = STATES[state & 0x7F]
        self.interval -= part
        split = self.interval << self.ahead
        if self.code < split:
            if self.interval >= 0x8000:
                return state >> 7
            # Where the less probable symbol's part is the larger, they change places.
            less = self.interval < part
        else:
            self.code -= split
            less = self.interval >= part
            self.interval = part
        bins[at] = state & SWITCH ^ (after_less if less else after_more)
        while self.interval < 0x8000:
            if not self.ahead:
                self.code = self.code << 8 | next(self.bytes, 0)
                self.ahead = 8
            self.ahead -= 1
            self.interval <<= 1
        return state >> 7 ^ less

    def even(self) -> int:
        return self.decide(bytearray((EVEN,)), 0)

    def magnitude(self, bins: bytearray, at: int, size: int, damage: str) -> int:
        """The magnitude less 1, from its size on."""
        while self.decide(bins, at):
            size <<= 1
            if size == TOO_LARGE:
                raise Lost(damage)
            at += 1
        value = size
        while size := size >> 1:
            if self.decide(bins, at + PATTERN):
                value |= size
        return value

    def fitting(self, level: int, damage: str) -> int:
        if not -0x8000 <= level < 0x8000:
            self.note(damage)
        return wrapped(level)

    def read_dc(self, part: Part) -> int:
        """The next DC level of a component (F.2.4.1)."""
        i, bins, at = part.component, self.dc[part.dc], self.context[part.component]
        if not self.decide(bins, at):
            self.context[i] = 0
            return self.before[i]
        negative = self.decide(bins, at + 1)
        value = self.decide(bins, at + 2 + negative)
        if value:
            value = self.magnitude(bins, FIRST_SIZE, 1, BAD_DC)
        size = 1 << value.bit_length() >> 1
        lower, upper = (1 << self.conditioning[16 * k + part.dc] >> 1 for k in (0, 1))
        self.context[i] = 0 if size < lower else (12 if size > upper else 4) + 4 * negative
        self.before[i] = self.fitting(self.before[i] + (-value - 1 if negative else value + 1), BAD_DC)
        return self.before[i]

    def read_ac(self, part: Part, offset: int, first: int, last: int, low: int) -> None:
        """The AC levels of a band (F.2.4.2)."""
        bins, knee = self.ac[part.ac], self.conditioning[32 + part.ac]
        k = first
        while k <= last:
            at = 3 * (k - 1)
            if self.decide(bins, at):
                break
            while not self.decide(bins, at + 1):
                at, k = at + 3, k + 1
                if k > last:
                    raise Lost(BAD_RUN)
            negative = self.even()
            value = self.decide(bins, at + 2)
            if value and self.decide(bins, at + 2):
                value = self.magnitude(bins, LOW_SIZE if k <= knee else HIGH_SIZE, 2, BAD_AC)
            level = (-value - 1 if negative else value + 1) << low
            part.coefficients[offset + k] = self.fitting(level, BAD_AC)
            k += 1

    def refine_ac(self, part: Part, offset: int, first: int, last: int, low: int) -> None:
        """One more bit of the AC levels of a band (G.1.3.3)."""
        bins, levels, bit = self.ac[part.ac], part.coefficients, 1 << low
        ended = last
        while ended > 0 and not levels[offset + ended]:
            ended -= 1
        k = first
        while k <= last:
            at = 3 * (k - 1)
            if k > ended and self.decide(bins, at):
                break
            while not levels[offset + k] and not self.decide(bins, at + 1):
                at, k = at + 3, k + 1
                if k > last:
                    raise Lost(BAD_RUN)
            known = levels[offset + k]
            if not known:
                levels[offset + k] = -bit if self.even() else bit
            elif self.decide(bins, at + 2):
                levels[offset + k] = self.fitting(known + (bit if known > 0 else -bit), BAD_AC)
            k += 1

    def decode(
        self, offsets: Sequence[int], first: int, last: int, high: int, low: int, progressive: bool
    ) -> None:
        """All blocks, up to where the data lose their meaning."""
        try:
            for offset, part in zip(offsets, cycle(self.mcu)):
                if first == 0 and not high:
                    part.coefficients[offset] = self.fitting(self.read_dc(part) << low, BAD_DC)
                elif first == 0:
                    part.coefficients[offset] |= self.even() << low
                elif high:
                    self.refine_ac(part, offset, first, last, low)
                else:
                    self.read_ac(part, offset, first, last, low)
                if not progressive:
                    self.read_ac(part, offset, 1, 63, 0)
        except Lost as damage:
            self.note(str(damage))
