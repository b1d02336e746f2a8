# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, no-check-untyped-defs
"""What the Triton kernels share: transforms of blocks, and a program's place in the image.

A program codes a few MCUs of one image, eight values of a block row per lane. A block is a tile ``[N, 8, 8]`` of N
blocks. A pass of a transform works on eight tensors ``[N, 8]``, one for each position along the pass, so that it needs
no exchange between lanes; between the two passes lies one transposition. The forward transform takes rows first and the
inverse columns first, as libjpeg-turbo rounds (``jfdctint.c``, ``jidctint.c``): quantisation sits where both meet.

Exact values are 32-bit integers throughout. Nothing overflows: samples have 8 bits, the first pass adds 5, and the
13-bit constants sum to 2^16 in a row, which leaves 2^28. Float arithmetic touches an exact value in two places, both
proven by trial of every input: the quantiser's reciprocal, and the 8-bit rounding of the image.
"""

import triton
import triton.language as tl


@triton.jit
def _odd(d0, d1, d2, d3, REAL: tl.constexpr):
    """The odd half of both transforms: its matrix is symmetric."""
    if REAL:
        x0 = 0.490392640 * d0 + 0.415734806 * d1 + 0.277785117 * d2 + 0.097545161 * d3
        x1 = 0.415734806 * d0 - 0.097545161 * d1 - 0.490392640 * d2 - 0.277785117 * d3
        x2 = 0.277785117 * d0 - 0.490392640 * d1 + 0.097545161 * d2 + 0.415734806 * d3
        x3 = 0.097545161 * d0 - 0.277785117 * d1 + 0.415734806 * d2 - 0.490392640 * d3
    else:
        x0 = 11363 * d0 + 9633 * d1 + 6437 * d2 + 2260 * d3
        x1 = 9633 * d0 - 2259 * d1 - 11362 * d2 - 6436 * d3
        x2 = 6437 * d0 - 11362 * d1 + 2261 * d2 + 9633 * d3
        x3 = 2260 * d0 - 6436 * d1 + 9633 * d2 - 11363 * d3
    return x0, x1, x2, x3


@triton.jit
def _even(a, b, REAL: tl.constexpr):
    if REAL:
        return 0.461939766 * a + 0.191341716 * b, 0.191341716 * a - 0.461939766 * b
    else:
        return 10703 * a + 4433 * b, 4433 * a - 10704 * b


@triton.jit
def _one(x, REAL: tl.constexpr):
    if REAL:
        return 0.353553391 * x
    else:
        return x * 8192


@triton.jit
def _descale(x, SHIFT: tl.constexpr):
    """Right shift with rounding, of integers or of float64; a shift by 0 stands for real arithmetic."""
    if SHIFT == 0:
        return x
    elif x.dtype == tl.float64:
        return tl.floor((x + (1 << (SHIFT - 1))) * (1.0 / (1 << SHIFT)))
    else:
        return (x + (1 << (SHIFT - 1))) >> SHIFT


@triton.jit
def _forward(x0, x1, x2, x3, x4, x5, x6, x7, SHIFT: tl.constexpr):
    """Eight samples to eight frequencies."""
    s0, s1, s2, s3 = x0 + x7, x1 + x6, x2 + x5, x3 + x4
    k2, k6 = _even(s0 - s3, s1 - s2, SHIFT == 0)
    k1, k3, k5, k7 = _odd(x0 - x7, x1 - x6, x2 - x5, x3 - x4, SHIFT == 0)
    k0 = _one(s0 + s1 + s2 + s3, SHIFT == 0)
    k4 = _one(s0 - s1 - s2 + s3, SHIFT == 0)
    return (
        _descale(k0, SHIFT),
        _descale(k1, SHIFT),
        _descale(k2, SHIFT),
        _descale(k3, SHIFT),
        _descale(k4, SHIFT),
        _descale(k5, SHIFT),
        _descale(k6, SHIFT),
        _descale(k7, SHIFT),
    )


@triton.jit
def _inverse(k0, k1, k2, k3, k4, k5, k6, k7, SHIFT: tl.constexpr):
    """Eight frequencies to eight samples."""
    t0, t1 = _one(k0 + k4, SHIFT == 0), _one(k0 - k4, SHIFT == 0)
    a, b = _even(k2, k6, SHIFT == 0)
    o0, o1, o2, o3 = _odd(k1, k3, k5, k7, SHIFT == 0)
    e0, e1, e2, e3 = t0 + a, t1 + b, t1 - b, t0 - a
    return (
        _descale(e0 + o0, SHIFT),
        _descale(e1 + o1, SHIFT),
        _descale(e2 + o2, SHIFT),
        _descale(e3 + o3, SHIFT),
        _descale(e3 - o3, SHIFT),
        _descale(e2 - o2, SHIFT),
        _descale(e1 - o1, SHIFT),
        _descale(e0 - o0, SHIFT),
    )


@triton.jit
def _join(x0, x1, x2, x3, x4, x5, x6, x7, N: tl.constexpr):
    """Eight ``[N, 8]`` to ``[N, 8, 8]``, the eight last."""
    even = tl.join(tl.join(x0, x4), tl.join(x2, x6))
    odd = tl.join(tl.join(x1, x5), tl.join(x3, x7))
    return tl.reshape(tl.join(even, odd), (N, 8, 8))


@triton.jit
def _split(x, N: tl.constexpr):
    even, odd = tl.split(tl.reshape(x, (N, 8, 2, 2, 2)))
    e0, e2 = tl.split(even)
    e1, e3 = tl.split(odd)
    x0, x4 = tl.split(e0)
    x2, x6 = tl.split(e2)
    x1, x5 = tl.split(e1)
    x3, x7 = tl.split(e3)
    return x0, x1, x2, x3, x4, x5, x6, x7


@triton.jit
def _transposed(x0, x1, x2, x3, x4, x5, x6, x7, N: tl.constexpr):
    return _split(tl.permute(_join(x0, x1, x2, x3, x4, x5, x6, x7, N), (0, 2, 1)), N)


@triton.jit
def fdct(tile, FIRST: tl.constexpr, SECOND: tl.constexpr, N: tl.constexpr):
    """Samples ``[N, row, column]`` to frequencies, one ``[N, 8]`` for each vertical frequency."""
    x0, x1, x2, x3, x4, x5, x6, x7 = _split(tile, N)
    x0, x1, x2, x3, x4, x5, x6, x7 = _forward(x0, x1, x2, x3, x4, x5, x6, x7, FIRST)
    x0, x1, x2, x3, x4, x5, x6, x7 = _transposed(x0, x1, x2, x3, x4, x5, x6, x7, N)
    return _forward(x0, x1, x2, x3, x4, x5, x6, x7, SECOND)


@triton.jit
def idct(x0, x1, x2, x3, x4, x5, x6, x7, FIRST: tl.constexpr, SECOND: tl.constexpr, N: tl.constexpr):
    """The way back."""
    x0, x1, x2, x3, x4, x5, x6, x7 = _inverse(x0, x1, x2, x3, x4, x5, x6, x7, FIRST)
    x0, x1, x2, x3, x4, x5, x6, x7 = _transposed(x0, x1, x2, x3, x4, x5, x6, x7, N)
    x0, x1, x2, x3, x4, x5, x6, x7 = _inverse(x0, x1, x2, x3, x4, x5, x6, x7, SECOND)
    return _join(x0, x1, x2, x3, x4, x5, x6, x7, N)


@triton.jit
def mcu_places(mcus_x, mcus_y, N: tl.constexpr):
    """This program's image, its index in the image, and the place of its MCUs: ``[N, 1, 1]``."""
    programs = tl.cdiv(mcus_x * mcus_y, N)
    image = tl.program_id(0) // programs
    index = tl.program_id(0) % programs
    mcu = index * N + tl.arange(0, N)[:, None, None]
    return image.to(tl.int64), index, mcu // mcus_x, mcu % mcus_x, mcu < mcus_x * mcus_y


@triton.jit
def block_rows():
    return tl.arange(0, 8)[None, :, None]


@triton.jit
def block_columns():
    return tl.arange(0, 8)[None, None, :]


@triton.jit
def table_row(tables, row, N: tl.constexpr):
    """A row of a table for each of N blocks, loaded by the lanes that use it: bringing it there takes a barrier."""
    return tl.load(tables + tl.broadcast_to(8 * row + tl.arange(0, 8)[None, :], (N, 8)))


@triton.jit
def level_of(c, step, reciprocal):
    """Round half away from zero of c / (8·step): exact for every |c| < 32768 and step 1…255."""
    half = 4.0 * step.to(tl.float32) + 0.5
    magnitude = ((tl.abs(c).to(tl.float32) + half) * reciprocal).to(tl.int32)
    return tl.where(c < 0, -magnitude, magnitude)


@triton.jit
def store_rows(pointer, blocks, mask, x0, x1, x2, x3, x4, x5, x6, x7):
    """Eight ``[N, 8]``, one for each row, to blocks of 64."""
    to = pointer + 64 * blocks.to(tl.int64) + tl.arange(0, 8)[None, :]
    tl.store(to, x0, mask=mask)
    tl.store(to + 8, x1, mask=mask)
    tl.store(to + 16, x2, mask=mask)
    tl.store(to + 24, x3, mask=mask)
    tl.store(to + 32, x4, mask=mask)
    tl.store(to + 40, x5, mask=mask)
    tl.store(to + 48, x6, mask=mask)
    tl.store(to + 56, x7, mask=mask)


@triton.jit
def pixel_places(height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """This program's image and pixels."""
    down, across = tl.cdiv(height, ROWS), tl.cdiv(width, COLUMNS)
    b = tl.program_id(0) // (down * across)
    rest = tl.program_id(0) % (down * across)
    y = rest // across * ROWS + tl.arange(0, ROWS)[:, None]
    x = rest % across * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    return b.to(tl.int64), y, x, (y < height) & (x < width)


@triton.jit
def wide_product(b, height, width):
    """In 64 bits, as ``b`` has: a side that is 1 is a constant to the compiler and cannot be cast."""
    return (b * 0 + height) * width
