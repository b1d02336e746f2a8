"""Kernels that let a test call one function of the library's kernels on numbers of its choice."""

import triton
import triton.language as tl

from jpegrad.backends.triton.blocks import level_of


@triton.jit
def level_kernel(steps, reciprocals, out, COUNT: tl.constexpr):
    """Levels of all 16-bit coefficients, COUNT to a program, for the table entry of the program's row."""
    entry, part = tl.program_id(0), tl.program_id(1)
    c = part * COUNT + tl.arange(0, COUNT) - 32768
    found = level_of(c, tl.load(steps + entry), tl.load(reciprocals + entry))
    tl.store(out + entry * 65536 + 32768 + c, found)
