"""Kernels that let a test call one function of the library's kernels on numbers of its choice."""

import triton
import triton.language as tl

from jpegrad.backends.triton.blocks import level_of
from jpegrad.backends.triton.forward import pixels_of, store_pixel


@triton.jit
def level_kernel(steps, reciprocals, out, COUNT: tl.constexpr):
    """Levels of all 16-bit coefficients, COUNT to a program, for the table entry of the program's row."""
    entry, part = tl.program_id(0), tl.program_id(1)
    c = part * COUNT + tl.arange(0, COUNT) - 32768
    found = level_of(c, tl.load(steps + entry), tl.load(reciprocals + entry))
    tl.store(out + entry * 65536 + 32768 + c, found)


@triton.jit
def range_kernel(
    numbers, grey, back, LOW: tl.constexpr, HIGH: tl.constexpr, NAME: tl.constexpr, COUNT: tl.constexpr
):
    """Grey levels of numbers of a range, COUNT to a program; numbers that the grey levels 0 to COUNT - 1 become."""
    at = tl.program_id(0) * COUNT + tl.arange(0, COUNT)
    inside = at >= 0
    samples, _flags, _undefined = pixels_of(
        numbers, (0, 0, 0, 1), 0, at, inside, 1, (NAME, LOW, 255.0 / (HIGH - LOW))
    )
    tl.store(grey + at, samples[0])
    level = tl.arange(0, COUNT)
    store_pixel(back + level, level, level < 256, (NAME, LOW, HIGH - LOW))
