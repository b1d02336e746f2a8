"""What the Triton kernels share: transforms of blocks, and a program's place in the image.

A program codes a few MCUs of one image, eight values of a block row per lane. A tile ``[N, 8, 8]`` is N blocks. A pass
of a transform works on ``rows``: a tuple of eight tensors ``[N, 8]``, one for each position along the pass, so that it
needs no exchange between lanes; between the two passes lies one transposition. The forward transform takes rows first
and the inverse columns first, as libjpeg-turbo rounds (``jfdctint.c``, ``jidctint.c``): quantisation sits where both
meet. A ``place`` is a pair: numbers of N blocks, and which of them there are, both ``[N, 1]``.

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
def _descaled(rows, SHIFT: tl.constexpr):
    found = ()
    for i in tl.static_range(8):
        found += (_descale(rows[i], SHIFT),)
    return found


@triton.jit
def _forward(x, SHIFT: tl.constexpr):
    """Eight samples to eight frequencies."""
    s0, s1, s2, s3 = x[0] + x[7], x[1] + x[6], x[2] + x[5], x[3] + x[4]
    k2, k6 = _even(s0 - s3, s1 - s2, SHIFT == 0)
    k1, k3, k5, k7 = _odd(x[0] - x[7], x[1] - x[6], x[2] - x[5], x[3] - x[4], SHIFT == 0)
    k0 = _one(s0 + s1 + s2 + s3, SHIFT == 0)
    k4 = _one(s0 - s1 - s2 + s3, SHIFT == 0)
    return _descaled((k0, k1, k2, k3, k4, k5, k6, k7), SHIFT)


@triton.jit
def _inverse(k, SHIFT: tl.constexpr):
    """Eight frequencies to eight samples."""
    t0, t1 = _one(k[0] + k[4], SHIFT == 0), _one(k[0] - k[4], SHIFT == 0)
    a, b = _even(k[2], k[6], SHIFT == 0)
    o0, o1, o2, o3 = _odd(k[1], k[3], k[5], k[7], SHIFT == 0)
    e0, e1, e2, e3 = t0 + a, t1 + b, t1 - b, t0 - a
    return _descaled((e0 + o0, e1 + o1, e2 + o2, e3 + o3, e3 - o3, e2 - o2, e1 - o1, e0 - o0), SHIFT)


@triton.jit
def _join(rows):
    """Rows to a tile, the eight last."""
    even = tl.join(tl.join(rows[0], rows[4]), tl.join(rows[2], rows[6]))
    odd = tl.join(tl.join(rows[1], rows[5]), tl.join(rows[3], rows[7]))
    return tl.reshape(tl.join(even, odd), (rows[0].shape[0], 8, 8))


@triton.jit
def _split(tile):
    even, odd = tl.split(tl.reshape(tile, (tile.shape[0], 8, 2, 2, 2)))
    e0, e2 = tl.split(even)
    e1, e3 = tl.split(odd)
    x0, x4 = tl.split(e0)
    x2, x6 = tl.split(e2)
    x1, x5 = tl.split(e1)
    x3, x7 = tl.split(e3)
    return x0, x1, x2, x3, x4, x5, x6, x7


@triton.jit
def _transposed(rows):
    return _split(tl.permute(_join(rows), (0, 2, 1)))


@triton.jit
def fdct(tile, FIRST: tl.constexpr, SECOND: tl.constexpr):
    """Samples ``[N, row, column]`` to frequencies, a row for each vertical frequency."""
    return _forward(_transposed(_forward(_split(tile), FIRST)), SECOND)


@triton.jit
def idct(rows, FIRST: tl.constexpr, SECOND: tl.constexpr):
    """The way back."""
    return _join(_inverse(_transposed(_inverse(rows, FIRST)), SECOND))


@triton.jit
def mcu_places(height, width, H: tl.constexpr, V: tl.constexpr, N: tl.constexpr, LONG: tl.constexpr):
    """This program's image, and its MCUs: their row, their column, and which there are, each ``[N, 1, 1]``.

    Places within a plane have the type of these: 64 bits if they are ``LONG``.
    """
    mcus_y, mcus_x = tl.cdiv(height, 8 * V), tl.cdiv(width, 8 * H)
    programs = tl.cdiv(mcus_x * mcus_y, N)
    image = tl.program_id(0) // programs
    mcu = tl.program_id(0) % programs * N + tl.arange(0, N)[:, None, None]
    if LONG:
        mcu = mcu.to(tl.int64)
    return image.to(tl.int64), (mcu // mcus_x, mcu % mcus_x, mcu < mcus_x * mcus_y)


@triton.jit
def block_rows():
    return tl.arange(0, 8)[None, :, None]


@triton.jit
def block_columns():
    return tl.arange(0, 8)[None, None, :]


@triton.jit
def luma_block(mcu, k, height, width, H: tl.constexpr, V: tl.constexpr):
    """Pixels of the k-th luma block of every MCU, ``[N, 8, 1]`` and ``[N, 1, 8]``, and the blocks' place."""
    my, mx, valid = mcu
    by, bx = my * V + k // H, mx * H + k % H
    blocks_y, blocks_x = tl.cdiv(height, 8), tl.cdiv(width, 8)
    exists = valid & (by < blocks_y) & (bx < blocks_x)
    block = tl.reshape(by * blocks_x + bx, (my.shape[0], 1))
    return 8 * by + block_rows(), 8 * bx + block_columns(), (block, tl.reshape(exists, (my.shape[0], 1)))


@triton.jit
def chroma_block(mcu, width, H: tl.constexpr):
    """Samples of every MCU's block of Cb and of Cr, and the blocks' place."""
    my, mx, valid = mcu
    block = tl.reshape(my * tl.cdiv(width, 8 * H) + mx, (my.shape[0], 1))
    return 8 * my + block_rows(), 8 * mx + block_columns(), (block, tl.reshape(valid, (my.shape[0], 1)))


@triton.jit
def tables_of(tables, C: tl.constexpr, b):
    """Steps of an image's component, and their reciprocals, if there are any; ``tables`` as in ``kernels.py``."""
    if tables is None:
        return None
    else:
        at = b * tables[2]
        if C > 0:
            at += tables[2 + C]
        return tables[0] + at, tables[1] + at


@triton.jit
def table_row(table, row, like):
    """A row of a table for each of N blocks, loaded by the lanes that use it: bringing it there takes a barrier."""
    return tl.load(table + tl.broadcast_to(8 * row + tl.arange(0, 8)[None, :], like.shape))


@triton.jit
def blocks_of(parts, C: tl.constexpr, b, height, width, H: tl.constexpr, V: tl.constexpr):
    """An image's blocks of 64 in a component, if there is room for any."""
    if parts is None:
        return None
    elif C == 0:
        return parts[0] + b * tl.cdiv(height, 8) * tl.cdiv(width, 8) * 64
    else:
        return parts[C] + b * tl.cdiv(height, 8 * V) * tl.cdiv(width, 8 * H) * 64


@triton.jit
def part(parts, C: tl.constexpr, offset):
    """One of several pointers, moved, if there are any."""
    if parts is None:
        return None
    else:
        return parts[C] + offset


@triton.jit
def moved(pointer, offset):
    """A pointer moved, if there is one."""
    if pointer is None:
        return None
    else:
        return pointer + offset


@triton.jit
def row_places(blocks, place, row):
    return blocks + (64 * place[0] + tl.arange(0, 8)[None, :]) + 8 * row


@triton.jit
def store_rows(blocks, place, rows):
    for i in tl.static_range(8):
        tl.store(row_places(blocks, place, i), rows[i], mask=place[1])


@triton.jit
def load_level(levels, place, row):
    """A row of levels, of 16 bits; NaN as 0."""
    x = tl.load(row_places(levels, place, row), mask=place[1], other=0.0)
    return tl.where(x == x, tl.minimum(tl.maximum(x, -32768.0), 32767.0), 0.0)


@triton.jit
def level_of(c, step, reciprocal):
    """Round half away from zero of c / (8·step): exact for every |c| < 32768 and step 1…255."""
    half = 4.0 * step.to(tl.float32) + 0.5
    magnitude = ((tl.abs(c).to(tl.float32) + half) * reciprocal).to(tl.int32)
    return tl.where(c < 0, -magnitude, magnitude)


@triton.jit
def pixel_places(height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LONG: tl.constexpr):
    """This program's image and pixels; a division takes as long as two pixels."""
    down = tl.cdiv(height, ROWS)
    b = tl.program_id(0) // down
    y = tl.program_id(0) % down * ROWS + tl.arange(0, ROWS)[:, None]
    x = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    if LONG:
        y, x = y.to(tl.int64), x.to(tl.int64)
    return b.to(tl.int64), y, x, (y < height) & (x < width)


@triton.jit
def wide_product(b, height, width):
    """In 64 bits, as ``b`` has: a side that is 1 is a constant to the compiler and cannot be cast."""
    return (b * 0 + height) * width


@triton.jit
def near(x, count, RATIO: tl.constexpr, FANCY: tl.constexpr):
    """The sample that covers a position and the next nearest, inside the component."""
    near = x // RATIO
    far = near
    if RATIO == 2 and FANCY:
        far = tl.minimum(tl.maximum(near + 2 * (x % 2) - 1, 0), count - 1)
    return near, far


@triton.jit
def color_of(colors, b):
    """An image's colour conversion where tensors give it: nine factors and three offsets in float64."""
    if colors is None:
        return None
    else:
        found = ()
        for i in tl.static_range(12):
            found += (tl.load(colors + 12 * b + i),)
        return found


@triton.jit
def factors_of(color, SCALE: tl.constexpr):
    """The nine factors of a conversion that tensors give, times a number."""
    found = ()
    for i in tl.static_range(9):
        found += ((color[i] * SCALE).to(tl.float32),)
    return found


@triton.jit
def nearest(x):
    """The nearest integer of a float64, half to even: adding 1.5·2^52 leaves it."""
    return (x + 6755399441055744.0) - 6755399441055744.0


@triton.jit
def channel(image, strides, i: tl.constexpr):
    """The i-th channel of an image."""
    return image + tl.cast(i, tl.int64) * strides[1]


@triton.jit
def store_undefined(image, strides, seen, out, at, b, y, x, area, mask, CHANNELS: tl.constexpr):
    """NaN at pixels that have a NaN in the encoder's image; of images without one nothing is loaded."""
    # A loop of one round or none: of a branch the compiler would run both ways.
    for _ in range(tl.load(seen + b)):
        pixels = image + b * strides[0]
        offsets = y * strides[2] + x * strides[3]
        undefined = mask & (y < 0)
        for i in tl.static_range(CHANNELS):
            number = tl.load(channel(pixels, strides, i) + offsets, mask=mask, other=0)
            undefined |= number != number
        for i in tl.static_range(CHANNELS):
            tl.store(out + i * area + at, float("nan"), mask=undefined)


@triton.jit
def store_unconverted(out, at, area, color, mask):
    """NaN at all pixels of an image whose colour conversion has a NaN or is infinite."""
    total = color[0]
    for i in tl.static_range(1, 12):
        total += color[i]
    # It is 0 or NaN.
    lost = tl.zeros(at.shape, tl.float32) + (total * 0.0).to(tl.float32)
    for i in tl.static_range(3):
        tl.store(out + i * area + at, lost, mask=mask & (lost != lost))


@triton.jit
def any_of(mask):
    """Whether it holds anywhere in a tile, for all lanes alike."""
    return tl.max(tl.reshape(mask.to(tl.int32), (mask.numel,)), 0) != 0
