"""The CUDA kernels, in Triton: one program codes a few MCUs of one image, eight values of a block row per lane.

A block is a tile ``[N, 8, 8]`` of N blocks. A pass of a transform works on eight tensors ``[N, 8]``, one for each
position along the pass, so that it needs no exchange between lanes; between the two passes lies one transposition.
The forward transform takes rows first and the inverse columns first, as libjpeg-turbo rounds (``jfdctint.c``,
``jidctint.c``): quantisation sits where both meet.

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
def _fdct(tile, FIRST: tl.constexpr, SECOND: tl.constexpr, N: tl.constexpr):
    """Samples ``[N, row, column]`` to frequencies, one ``[N, 8]`` for each vertical frequency."""
    x0, x1, x2, x3, x4, x5, x6, x7 = _split(tile, N)
    x0, x1, x2, x3, x4, x5, x6, x7 = _forward(x0, x1, x2, x3, x4, x5, x6, x7, FIRST)
    x0, x1, x2, x3, x4, x5, x6, x7 = _transposed(x0, x1, x2, x3, x4, x5, x6, x7, N)
    return _forward(x0, x1, x2, x3, x4, x5, x6, x7, SECOND)


@triton.jit
def _idct(x0, x1, x2, x3, x4, x5, x6, x7, FIRST: tl.constexpr, SECOND: tl.constexpr, N: tl.constexpr):
    """The way back."""
    x0, x1, x2, x3, x4, x5, x6, x7 = _inverse(x0, x1, x2, x3, x4, x5, x6, x7, FIRST)
    x0, x1, x2, x3, x4, x5, x6, x7 = _transposed(x0, x1, x2, x3, x4, x5, x6, x7, N)
    x0, x1, x2, x3, x4, x5, x6, x7 = _inverse(x0, x1, x2, x3, x4, x5, x6, x7, SECOND)
    return _join(x0, x1, x2, x3, x4, x5, x6, x7, N)


@triton.jit
def _level(c, step, reciprocals, row):
    """Round half away from zero of c / (8·step): exact for every |c| < 32768 and step 1…255."""
    reciprocal = tl.load(reciprocals + 8 * row + tl.arange(0, 8))[None, :]
    half = 4.0 * step.to(tl.float32) + 0.5
    magnitude = ((tl.abs(c).to(tl.float32) + half) * reciprocal).to(tl.int32)
    return tl.where(c < 0, -magnitude, magnitude)


@triton.jit
def _mcus(mcus_x, mcus_y, N: tl.constexpr):
    """This program's image, its index in the image, and the place of its MCUs: ``[N, 1, 1]``."""
    programs = tl.cdiv(mcus_x * mcus_y, N)
    image = tl.program_id(0) // programs
    index = tl.program_id(0) % programs
    mcu = index * N + tl.arange(0, N)[:, None, None]
    return image.to(tl.int64), index, mcu // mcus_x, mcu % mcus_x, mcu < mcus_x * mcus_y


@triton.jit
def _rows():
    return tl.arange(0, 8)[None, :, None]


@triton.jit
def _columns():
    return tl.arange(0, 8)[None, None, :]


@triton.jit
def _sample(pointer, offsets, mask, RANGE: tl.constexpr, LOW: tl.constexpr, SCALE: tl.constexpr):
    """Grey levels 0…255 as saving the image would round them, and whether the clamp acted."""
    x = tl.load(pointer + offsets, mask=mask, other=0)
    if RANGE == "bytes":
        return x.to(tl.int32), x != x
    elif RANGE == "real":
        p = (x.to(tl.float64) - LOW) * SCALE
        inside = (p >= 0.0) & (p <= 255.0)
        p = tl.where(p >= 0.0, tl.where(p <= 255.0, p, 255.0), 0.0)
        # Adding 1.5·2^52 leaves the integer nearest, half to even.
        return ((p + 6755399441055744.0) - 6755399441055744.0).to(tl.int32), inside == 0
    else:
        x = x.to(tl.float32)
        top: tl.constexpr = 1.0 if RANGE == "unit" else 255.0
        inside = (x >= 0.0) & (x <= top)
        x = tl.where(x >= 0.0, tl.where(x <= top, x, top), 0.0)
        if RANGE == "grey":
            return ((x + 12582912.0) - 12582912.0).to(tl.int32), inside == 0
        else:
            # 255·x = p + lost exactly, so that a tie of p is decided by what p lost.
            big = 256.0 * x
            p = big - x
            lost = (big - p) - x
            nearest = (p + 12582912.0) - 12582912.0
            d = p - nearest
            up = ((d == 0.5) & (lost > 0.0)).to(tl.int32)
            down = ((d == -0.5) & (lost < 0.0)).to(tl.int32)
            return nearest.to(tl.int32) + up - down, inside == 0


@triton.jit
def _mixed(a, b, c, COLOR: tl.constexpr, ROW: tl.constexpr):
    """A row of a colour conversion: three 16-bit fixed-point factors and a bias."""
    x = COLOR[4 * ROW] * a + COLOR[4 * ROW + 1] * b + COLOR[4 * ROW + 2] * c + COLOR[4 * ROW + 3]
    return tl.minimum(tl.maximum(x >> 16, 0), 255)


@triton.jit
def _steps(tables, row, N: tl.constexpr):
    """A row of an image's table, for each of N blocks."""
    return tl.broadcast_to(tl.load(tables + 8 * row + tl.arange(0, 8))[None, :], (N, 8))


@triton.jit
def _store_rows(pointer, blocks, mask, x0, x1, x2, x3, x4, x5, x6, x7):
    """Eight ``[N, 8]``, one for each row, to blocks of 64."""
    to = pointer + 64 * blocks + tl.arange(0, 8)[None, :]
    tl.store(to, x0, mask=mask)
    tl.store(to + 8, x1, mask=mask)
    tl.store(to + 16, x2, mask=mask)
    tl.store(to + 24, x3, mask=mask)
    tl.store(to + 32, x4, mask=mask)
    tl.store(to + 40, x5, mask=mask)
    tl.store(to + 48, x6, mask=mask)
    tl.store(to + 56, x7, mask=mask)


@triton.jit
def _restored(x0, x1, x2, x3, x4, x5, x6, x7, t0, t1, t2, t3, t4, t5, t6, t7, N: tl.constexpr):
    """Levels and steps to samples around 128, before the clamp."""
    return 128 + _idct(x0 * t0, x1 * t1, x2 * t2, x3 * t3, x4 * t4, x5 * t5, x6 * t6, x7 * t7, 11, 18, N)


@triton.jit
def _code(
    tile, tables, reciprocals, coefficients, levels, blocks, mask, real,
    KEEP: tl.constexpr, LEVELS: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Encode and decode samples −128…127 ``[N, 8, 8]``; to samples before the clamp."""
    x0, x1, x2, x3, x4, x5, x6, x7 = _fdct(tile, 11, 15, N)
    if KEEP:
        _store_rows(coefficients, blocks, mask, x0, x1, x2, x3, x4, x5, x6, x7)
    t0, t1, t2, t3 = _steps(tables, 0, N), _steps(tables, 1, N), _steps(tables, 2, N), _steps(tables, 3, N)
    t4, t5, t6, t7 = _steps(tables, 4, N), _steps(tables, 5, N), _steps(tables, 6, N), _steps(tables, 7, N)
    x0, x1 = _level(x0, t0, reciprocals, 0), _level(x1, t1, reciprocals, 1)
    x2, x3 = _level(x2, t2, reciprocals, 2), _level(x3, t3, reciprocals, 3)
    x4, x5 = _level(x4, t4, reciprocals, 4), _level(x5, t5, reciprocals, 5)
    x6, x7 = _level(x6, t6, reciprocals, 6), _level(x7, t7, reciprocals, 7)
    if LEVELS:
        _store_rows(levels, real, mask, x0, x1, x2, x3, x4, x5, x6, x7)
        return tile
    else:
        return _restored(x0, x1, x2, x3, x4, x5, x6, x7, t0, t1, t2, t3, t4, t5, t6, t7, N)


@triton.jit
def _clamped(x):
    return tl.minimum(tl.maximum(x, 0), 255)


@triton.jit
def encode_kernel(
    image, tables, reciprocals, luma, chroma, coefficients, flags, chroma_flags, levels,
    height, width, mcus_y, mcus_x, stride_b, stride_c, stride_y, stride_x, table_stride, chroma_table, red_table,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, COLOR: tl.constexpr,
    RANGE: tl.constexpr, LOW: tl.constexpr, SCALE: tl.constexpr,
    KEEP: tl.constexpr, LEVELS: tl.constexpr, ALIGNED: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """An image to its decoded 8-bit planes, padded to whole MCUs; or to its levels.

    ``coefficients`` (int16, 8 times the orthonormal) hold the blocks of Y, Cb, Cr of one image after another.
    """
    b, _program, my, mx, valid = _mcus(mcus_x, mcus_y, N)
    image += b * stride_b
    tables += b * table_stride
    reciprocals += b * table_stride
    mcus = mcus_x * mcus_y
    per_image: tl.constexpr = H * V + CHANNELS - 1
    blocks_x, blocks_y = tl.cdiv(width, 8), tl.cdiv(height, 8)
    if KEEP:
        coefficients += b * mcus * (per_image * 64)
    if LEVELS:
        levels += b * (blocks_x * blocks_y + (CHANNELS - 1) * mcus) * 64
    for k in range(H * V):
        by, bx = my * V + k // H, mx * H + k % H
        y, x = 8 * by + _rows(), 8 * bx + _columns()
        column = x if ALIGNED else tl.minimum(x, width - 1)
        offsets = tl.minimum(y, height - 1).to(tl.int64) * stride_y + column.to(tl.int64) * stride_x
        sample, clipped = _sample(image, offsets, valid, RANGE, LOW, SCALE)
        flag = clipped.to(tl.int32)
        if CHANNELS == 3:
            green, clipped = _sample(image + stride_c, offsets, valid, RANGE, LOW, SCALE)
            flag += 2 * clipped.to(tl.int32)
            blue, clipped = _sample(image + 2 * stride_c, offsets, valid, RANGE, LOW, SCALE)
            flag += 4 * clipped.to(tl.int32)
            sample = _mixed(sample, green, blue, COLOR, 0)
        block = tl.reshape(by * (mcus_x * H) + bx, (N, 1))
        mask = tl.reshape(valid, (N, 1))
        real = block
        if LEVELS:
            real = tl.reshape(by * blocks_x + bx, (N, 1))
            mask = tl.reshape(valid & (by < blocks_y) & (bx < blocks_x), (N, 1))
        out = _code(
            sample - 128, tables, reciprocals, coefficients, levels, block, mask, real, KEEP, LEVELS, N
        )
        if not LEVELS:
            at = (b * (mcus_y * (8 * V)) + y) * (mcus_x * (8 * H)) + x
            tl.store(luma + at, _clamped(out).to(tl.uint8), mask=valid)
        if KEEP:
            flag += 8 * ((out < 0) | (out > 255)).to(tl.int32)
            at = (b * height + y) * width + x
            tl.store(flags + at, flag.to(tl.uint8), mask=valid & (y < height) & (x < width))
    if CHANNELS == 3:
        y, x = 8 * my + _rows(), 8 * mx + _columns()
        cb = tl.zeros((N, 8, 8), tl.int32)
        cr = tl.zeros((N, 8, 8), tl.int32)
        for k in range(H * V):
            # Below the image, libjpeg replicates the last downsampled row, not the last row of pixels.
            row = tl.minimum(tl.minimum(y, tl.cdiv(height, V) - 1) * V + k // H, height - 1)
            column = x * H + k % H
            column = column if ALIGNED else tl.minimum(column, width - 1)
            offsets = row.to(tl.int64) * stride_y + column.to(tl.int64) * stride_x
            red, _clip = _sample(image, offsets, valid, RANGE, LOW, SCALE)
            green, _clip = _sample(image + stride_c, offsets, valid, RANGE, LOW, SCALE)
            blue, _clip = _sample(image + 2 * stride_c, offsets, valid, RANGE, LOW, SCALE)
            cb += _mixed(red, green, blue, COLOR, 1)
            cr += _mixed(red, green, blue, COLOR, 2)
        # An alternating bias keeps the mean of pairs and squares unbiased.
        bias = x % 2 + (V - 1) if H == 2 else H * V // 2
        cb, cr = (cb + bias) // (H * V), (cr + bias) // (H * V)
        block = tl.reshape(my * mcus_x + mx, (N, 1)) + mcus * (H * V)
        mask = tl.reshape(valid, (N, 1))
        real = block
        if LEVELS:
            real = tl.reshape(my * mcus_x + mx, (N, 1)) + blocks_x * blocks_y
        at = (b * (2 * mcus_y * 8) + y) * (mcus_x * 8) + x
        out = _code(
            cb - 128, tables + chroma_table, reciprocals + chroma_table, coefficients, levels,
            block, mask, real, KEEP, LEVELS, N,
        )  # fmt: skip
        if not LEVELS:
            tl.store(chroma + at, _clamped(out).to(tl.uint8), mask=valid)
        if KEEP:
            tl.store(chroma_flags + at, ((out < 0) | (out > 255)).to(tl.uint8), mask=valid)
        at += mcus * 64
        out = _code(
            cr - 128, tables + red_table, reciprocals + red_table, coefficients, levels,
            block + mcus, mask, real + mcus, KEEP, LEVELS, N,
        )  # fmt: skip
        if not LEVELS:
            tl.store(chroma + at, _clamped(out).to(tl.uint8), mask=valid)
        if KEEP:
            tl.store(chroma_flags + at, ((out < 0) | (out > 255)).to(tl.uint8), mask=valid)


@triton.jit
def _dequantized(levels, tables, row, blocks, mask, N: tl.constexpr):
    """A row of coefficients in float64: levels from anywhere have up to 16 bits, or are no numbers at all."""
    x = tl.load(levels + 64 * blocks + 8 * row + tl.arange(0, 8)[None, :], mask=mask, other=0.0)
    x = tl.where(x == x, tl.minimum(tl.maximum(x, -32768.0), 32767.0), 0.0)
    return x.to(tl.float64) * _steps(tables, row, N).to(tl.float64)


@triton.jit
def _decode(levels, tables, blocks, mask, N: tl.constexpr):
    x0, x1 = (
        _dequantized(levels, tables, 0, blocks, mask, N),
        _dequantized(levels, tables, 1, blocks, mask, N),
    )
    x2, x3 = (
        _dequantized(levels, tables, 2, blocks, mask, N),
        _dequantized(levels, tables, 3, blocks, mask, N),
    )
    x4, x5 = (
        _dequantized(levels, tables, 4, blocks, mask, N),
        _dequantized(levels, tables, 5, blocks, mask, N),
    )
    x6, x7 = (
        _dequantized(levels, tables, 6, blocks, mask, N),
        _dequantized(levels, tables, 7, blocks, mask, N),
    )
    out = 128 + _idct(x0, x1, x2, x3, x4, x5, x6, x7, 11, 18, N)
    return tl.minimum(tl.maximum(out, 0.0), 255.0).to(tl.int32).to(tl.uint8)


@triton.jit
def decode_kernel(
    levels, tables, luma, chroma,
    height, width, mcus_y, mcus_x, table_stride, chroma_table, red_table,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Levels to decoded 8-bit planes."""
    b, _program, my, mx, valid = _mcus(mcus_x, mcus_y, N)
    tables += b * table_stride
    blocks_x, blocks_y = tl.cdiv(width, 8), tl.cdiv(height, 8)
    levels += b * (blocks_x * blocks_y + (CHANNELS - 1) * mcus_x * mcus_y) * 64
    for k in range(H * V):
        by, bx = my * V + k // H, mx * H + k % H
        y, x = 8 * by + _rows(), 8 * bx + _columns()
        mask = tl.reshape(valid & (by < blocks_y) & (bx < blocks_x), (N, 1))
        out = _decode(levels, tables, tl.reshape(by * blocks_x + bx, (N, 1)), mask, N)
        tl.store(luma + (b * (mcus_y * (8 * V)) + y) * (mcus_x * (8 * H)) + x, out, mask=valid)
    if CHANNELS == 3:
        y, x = 8 * my + _rows(), 8 * mx + _columns()
        at = (b * (2 * mcus_y * 8) + y) * (mcus_x * 8) + x
        block = tl.reshape(my * mcus_x + mx, (N, 1)) + blocks_x * blocks_y
        mask = tl.reshape(valid, (N, 1))
        tl.store(chroma + at, _decode(levels, tables + chroma_table, block, mask, N), mask=valid)
        mcus = mcus_x * mcus_y
        out = _decode(levels, tables + red_table, block + mcus, mask, N)
        tl.store(chroma + mcus * 64 + at, out, mask=valid)


@triton.jit
def _near(x, count, RATIO: tl.constexpr, FANCY: tl.constexpr):
    """The sample that covers a position and the next nearest, inside the component."""
    near = x // RATIO
    far = near
    if RATIO == 2 and FANCY:
        far = tl.minimum(tl.maximum(near + 2 * (x % 2) - 1, 0), count - 1)
    return near, far


@triton.jit
def _upsampled(
    plane, y, x, height, width, pitch, mask, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr
):
    """The triangle filter, rounded as libjpeg-turbo rounds it (``jdsample.c``)."""
    near_y, far_y = _near(y, tl.cdiv(height, V), V, FANCY)
    near_x, far_x = _near(x, tl.cdiv(width, H), H, FANCY)
    p = tl.load(plane + near_y * pitch + near_x, mask=mask, other=0).to(tl.int32)
    if FANCY and V == 2:
        p = 3 * p + tl.load(plane + far_y * pitch + near_x, mask=mask, other=0).to(tl.int32)
    if FANCY and H == 2:
        q = tl.load(plane + near_y * pitch + far_x, mask=mask, other=0).to(tl.int32)
        if V == 2:
            q = 3 * q + tl.load(plane + far_y * pitch + far_x, mask=mask, other=0).to(tl.int32)
            p = (3 * p + q + 8 - x % 2) >> 4
        else:
            p = (3 * p + q + 1 + x % 2) >> 2
    elif FANCY and V == 2:
        p = (p + 1 + y % 2) >> 2
    return p


@triton.jit
def _restored_value(x, RANGE: tl.constexpr, LOW: tl.constexpr, SPAN: tl.constexpr):
    """A grey level in the image's range, rounded once."""
    if RANGE == "bytes":
        return x
    elif RANGE == "grey":
        return x.to(tl.float32)
    elif RANGE == "unit":
        return tl.div_rn(x.to(tl.float32), 255.0)
    else:
        return (LOW + x.to(tl.float64) / 255.0 * SPAN).to(tl.float32)


@triton.jit
def _store_pixel(out, x, mask, RANGE: tl.constexpr, LOW: tl.constexpr, SPAN: tl.constexpr):
    tl.store(out, _restored_value(x, RANGE, LOW, SPAN).to(out.dtype.element_ty), mask=mask)


@triton.jit
def _pixels(height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """This program's image and pixels."""
    down, across = tl.cdiv(height, ROWS), tl.cdiv(width, COLUMNS)
    b = tl.program_id(0) // (down * across)
    rest = tl.program_id(0) % (down * across)
    y = rest // across * ROWS + tl.arange(0, ROWS)[:, None]
    x = rest % across * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    return b.to(tl.int64), y, x, (y < height) & (x < width)


@triton.jit
def _area(b, height, width):
    """In 64 bits, as ``b`` has: a side that is 1 is a constant to the compiler and cannot be cast."""
    return (b * 0 + height) * width


@triton.jit
def image_kernel(
    luma, chroma, out, flags, height, width, mcus_y, mcus_x,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr, INVERSE: tl.constexpr,
    RANGE: tl.constexpr, LOW: tl.constexpr, SPAN: tl.constexpr,
    KEEP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Decoded planes to an image: chroma upsampling, colour, clamp, range. ``out`` is contiguous."""
    b, y, x, mask = _pixels(height, width, ROWS, COLUMNS)
    area = _area(b, height, width)
    at = y.to(tl.int64) * width + x
    out += b * CHANNELS * area
    luma += b * (mcus_y * (8 * V)) * (mcus_x * (8 * H))
    sample = tl.load(luma + y * (mcus_x * (8 * H)) + x, mask=mask, other=0).to(tl.int32)
    if CHANNELS == 1:
        _store_pixel(out + at, sample, mask, RANGE, LOW, SPAN)
    else:
        pitch = mcus_x * 8
        chroma += b * 2 * (mcus_y * 8) * pitch
        cb = _upsampled(chroma, y, x, height, width, pitch, mask, H, V, FANCY)
        cr = _upsampled(chroma + mcus_y * 8 * pitch, y, x, height, width, pitch, mask, H, V, FANCY)
        if KEEP:
            flag = tl.load(flags + b * area + at, mask=mask, other=0).to(tl.int32)
        for i in tl.static_range(3):
            value = (
                INVERSE[4 * i] * sample
                + INVERSE[4 * i + 1] * cb
                + INVERSE[4 * i + 2] * cr
                + INVERSE[4 * i + 3]
            ) >> 16
            if KEEP:
                flag += (16 << i) * ((value < 0) | (value > 255)).to(tl.int32)
            _store_pixel(out + i * area + at, _clamped(value), mask, RANGE, LOW, SPAN)
        if KEEP:
            tl.store(flags + b * area + at, flag.to(tl.uint8), mask=mask)


@triton.jit
def _spikes(r, s):
    """Density of a smoothed staircase's thresholds at a residual r; s is their width in steps."""
    s = tl.minimum(tl.maximum(s, 1e-3), 1.0)
    total = r * 0.0
    for m in tl.static_range(12):
        z = (r + (5.5 - m)) / s
        total += tl.exp(-0.5 * z * z)
    return total * 0.398942280 / s


@triton.jit
def _slope(u, step, RECORD: tl.constexpr, P: tl.constexpr):
    """The slopes of ``surrogates.py``."""
    r = u - ((u + 12582912.0) - 12582912.0)
    if RECORD == "cubic" or RECORD == "reich2024" or RECORD == "reich2024_ste":
        return 3.0 * r * r
    elif RECORD == "sin":
        return 1.0 - tl.cos(6.283185307 * r)
    elif RECORD == "fourier":
        total = r * 0.0
        for n in tl.static_range(1, 10):
            total += (2 * (n % 2) - 1) * tl.cos(6.283185307 * n * r)
        return 1.0 - 2.0 * total
    elif RECORD == "soft_round":
        # sech² of the distance to the middle between two levels; even, so that one exponential is enough.
        e = tl.exp(-2.0 * P * (0.5 - tl.abs(r)))
        full: tl.constexpr = (2.718281828459045**P - 1) / (2.718281828459045**P + 1)
        return (4.0 * e / ((1.0 + e) * (1.0 + e))) * (P / (2 * full))
    elif RECORD == "gaussian":
        return _spikes(r, P / step)
    elif RECORD == "table_gaussian":
        return _spikes(r, tl.maximum(tl.abs(u - r), 0.5) * P / step)
    elif RECORD == "distortion":
        return tl.where(tl.abs(u) < 0.5, 4.0 * u * u, 1.0)
    elif RECORD == "dead_zone":
        return tl.where(tl.abs(u) > 1.2886751345948129, 1.0, 0.0)
    else:
        return r * 0.0 + 1.0


@triton.jit
def _row(
    g, coefficients, tables, row, blocks, mask,
    RECORD: tl.constexpr, P: tl.constexpr, TABLE_RECORD: tl.constexpr, TABLE_P: tl.constexpr,
    TABLES: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """A row of the dequantised coefficients' gradient to that of the coefficients; what it adds to the table's."""
    c = tl.load(coefficients + 64 * blocks + 8 * row + tl.arange(0, 8)[None, :], mask=mask, other=0)
    step = _steps(tables, row, N).to(tl.float32)
    u = tl.div_rn(c.to(tl.float32), 8.0 * step)
    entry = g
    if TABLES:
        magnitude = (tl.abs(u) + 0.5).to(tl.int32).to(tl.float32)
        level = tl.where(u < 0, -magnitude, magnitude)
        entry = g * (level - _slope(u, step, TABLE_RECORD, TABLE_P) * u)
    return g * _slope(u, step, RECORD, P), entry


@triton.jit
def _adjoint(
    tile, coefficients, tables, blocks, mask,
    RECORD: tl.constexpr, P: tl.constexpr, TABLE_RECORD: tl.constexpr, TABLE_P: tl.constexpr,
    TABLES: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Gradient of decoded samples to that of samples, and eight rows of the table's."""
    x0, x1, x2, x3, x4, x5, x6, x7 = _fdct(tile, 0, 0, N)
    x0, t0 = _row(x0, coefficients, tables, 0, blocks, mask, RECORD, P, TABLE_RECORD, TABLE_P, TABLES, N)
    x1, t1 = _row(x1, coefficients, tables, 1, blocks, mask, RECORD, P, TABLE_RECORD, TABLE_P, TABLES, N)
    x2, t2 = _row(x2, coefficients, tables, 2, blocks, mask, RECORD, P, TABLE_RECORD, TABLE_P, TABLES, N)
    x3, t3 = _row(x3, coefficients, tables, 3, blocks, mask, RECORD, P, TABLE_RECORD, TABLE_P, TABLES, N)
    x4, t4 = _row(x4, coefficients, tables, 4, blocks, mask, RECORD, P, TABLE_RECORD, TABLE_P, TABLES, N)
    x5, t5 = _row(x5, coefficients, tables, 5, blocks, mask, RECORD, P, TABLE_RECORD, TABLE_P, TABLES, N)
    x6, t6 = _row(x6, coefficients, tables, 6, blocks, mask, RECORD, P, TABLE_RECORD, TABLE_P, TABLES, N)
    x7, t7 = _row(x7, coefficients, tables, 7, blocks, mask, RECORD, P, TABLE_RECORD, TABLE_P, TABLES, N)
    return _idct(x0, x1, x2, x3, x4, x5, x6, x7, 0, 0, N), t0, t1, t2, t3, t4, t5, t6, t7


@triton.jit
def _folded(tile, y, x, height, width):
    """Gradients of replicated rows to the last row; those of replicated columns to the column after the last.

    There the next kernel finds them: the last column of pixels may be a part of its chroma sample only.
    """
    below = tl.sum(tl.where(y >= height - 1, tile, 0.0), axis=1)
    tile = tl.where(y == height - 1, below[:, None, :], tile)
    right = tl.sum(tl.where(x >= width, tile, 0.0), axis=2)
    return tl.where(x == width, right[:, :, None], tile)


@triton.jit
def _unclipped(g, flag, BIT: tl.constexpr, CLIP_SLOPE: tl.constexpr):
    return tl.where((flag & BIT) != 0, g * CLIP_SLOPE, g)


@triton.jit
def _store_sums(sums, t0, t1, t2, t3, t4, t5, t6, t7):
    to = sums + tl.arange(0, 8)
    tl.store(to, tl.sum(t0, axis=0))
    tl.store(to + 8, tl.sum(t1, axis=0))
    tl.store(to + 16, tl.sum(t2, axis=0))
    tl.store(to + 24, tl.sum(t3, axis=0))
    tl.store(to + 32, tl.sum(t4, axis=0))
    tl.store(to + 40, tl.sum(t5, axis=0))
    tl.store(to + 48, tl.sum(t6, axis=0))
    tl.store(to + 56, tl.sum(t7, axis=0))


@triton.jit
def _taps(RATIO: tl.constexpr, FANCY: tl.constexpr):
    if FANCY and RATIO == 2:
        return 4
    else:
        return RATIO


@triton.jit
def _tap(sample, count, t, RATIO: tl.constexpr, FANCY: tl.constexpr):
    """A position that a sample is upsampled to, and its weight there."""
    if FANCY and RATIO == 2:
        at = tl.minimum(tl.maximum(2 * sample - 1 + t, 0), 2 * count - 1)
        weight = tl.where((t == 1) | (t == 2), 0.75, 0.25)
    else:
        at = RATIO * sample + t
        weight = 1.0
    return at, weight


@triton.jit
def gradient_kernel(
    gradient, tables, coefficients, flags, chroma_flags, luma, chroma, sums,
    height, width, mcus_y, mcus_x, stride_b, stride_c, stride_y, stride_x, table_stride, chroma_table, red_table,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr, INVERSE: tl.constexpr,
    CLIP_SLOPE: tl.constexpr, RECORD: tl.constexpr, P: tl.constexpr, TABLE_RECORD: tl.constexpr,
    TABLE_P: tl.constexpr, TABLES: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Gradient of the decoded image to that of the encoder's downsampled planes, and to partial sums for tables."""
    b, program, my, mx, valid = _mcus(mcus_x, mcus_y, N)
    gradient += b * stride_b
    tables += b * table_stride
    flags += b * height * width
    mcus = mcus_x * mcus_y
    per_image: tl.constexpr = H * V + CHANNELS - 1
    coefficients += b * mcus * (per_image * 64)
    sums += (b * tl.cdiv(mcus, N) + program) * (CHANNELS * 64)
    mask = tl.reshape(valid, (N, 1))
    t0, t1, t2, t3 = (tl.zeros((N, 8), tl.float32),) * 4
    t4, t5, t6, t7 = (tl.zeros((N, 8), tl.float32),) * 4
    for k in range(H * V):
        by, bx = my * V + k // H, mx * H + k % H
        y, x = 8 * by + _rows(), 8 * bx + _columns()
        inside = valid & (y < height) & (x < width)
        offsets = y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x
        flag = tl.load(flags + y.to(tl.int64) * width + x, mask=inside, other=0).to(tl.int32)
        g = tl.load(gradient + offsets, mask=inside, other=0.0)
        if CHANNELS == 1:
            g *= INVERSE[0]
        else:
            green = tl.load(gradient + stride_c + offsets, mask=inside, other=0.0)
            blue = tl.load(gradient + 2 * stride_c + offsets, mask=inside, other=0.0)
            g = INVERSE[0] * _unclipped(g, flag, 16, CLIP_SLOPE)
            g += INVERSE[3] * _unclipped(green, flag, 32, CLIP_SLOPE)
            g += INVERSE[6] * _unclipped(blue, flag, 64, CLIP_SLOPE)
        tile = _unclipped(g, flag, 8, CLIP_SLOPE)
        block = tl.reshape(by * (mcus_x * H) + bx, (N, 1))
        tile, u0, u1, u2, u3, u4, u5, u6, u7 = _adjoint(
            tile, coefficients, tables, block, mask, RECORD, P[0], TABLE_RECORD, TABLE_P[0], TABLES, N
        )
        if TABLES:
            t0, t1, t2, t3 = t0 + u0, t1 + u1, t2 + u2, t3 + u3
            t4, t5, t6, t7 = t4 + u4, t5 + u5, t6 + u6, t7 + u7
        at = (b * (mcus_y * (8 * V)) + y) * (mcus_x * (8 * H)) + x
        tl.store(luma + at, _folded(tile, y, x, height, width), mask=valid)
    if TABLES:
        _store_sums(sums, t0, t1, t2, t3, t4, t5, t6, t7)
    if CHANNELS == 3:
        y, x = 8 * my + _rows(), 8 * mx + _columns()
        rows, columns = tl.cdiv(height, V), tl.cdiv(width, H)
        cb = tl.zeros((N, 8, 8), tl.float32)
        cr = tl.zeros((N, 8, 8), tl.float32)
        across: tl.constexpr = _taps(H, FANCY)
        for k in range(_taps(V, FANCY) * across):
            py, weight_y = _tap(y, rows, k // across, V, FANCY)
            px, weight_x = _tap(x, columns, k % across, H, FANCY)
            inside = valid & (y < rows) & (x < columns) & (py < height) & (px < width)
            offsets = py.to(tl.int64) * stride_y + px.to(tl.int64) * stride_x
            flag = tl.load(flags + py.to(tl.int64) * width + px, mask=inside, other=0).to(tl.int32)
            red = tl.load(gradient + offsets, mask=inside, other=0.0) * (weight_y * weight_x)
            green = tl.load(gradient + stride_c + offsets, mask=inside, other=0.0) * (weight_y * weight_x)
            blue = tl.load(gradient + 2 * stride_c + offsets, mask=inside, other=0.0) * (weight_y * weight_x)
            red = _unclipped(red, flag, 16, CLIP_SLOPE)
            green = _unclipped(green, flag, 32, CLIP_SLOPE)
            blue = _unclipped(blue, flag, 64, CLIP_SLOPE)
            cb += INVERSE[1] * red + INVERSE[4] * green + INVERSE[7] * blue
            cr += INVERSE[2] * red + INVERSE[5] * green + INVERSE[8] * blue
        at = (b * (2 * mcus_y * 8) + y) * (mcus_x * 8) + x
        cb = _unclipped(cb, tl.load(chroma_flags + at, mask=valid, other=0), 1, CLIP_SLOPE)
        cr = _unclipped(cr, tl.load(chroma_flags + mcus * 64 + at, mask=valid, other=0), 1, CLIP_SLOPE)
        block = tl.reshape(my * mcus_x + mx, (N, 1)) + mcus * (H * V)
        tile, u0, u1, u2, u3, u4, u5, u6, u7 = _adjoint(
            cb, coefficients, tables + chroma_table, block, mask,
            RECORD, P[1], TABLE_RECORD, TABLE_P[1], TABLES, N,
        )  # fmt: skip
        if TABLES:
            _store_sums(sums + 64, u0, u1, u2, u3, u4, u5, u6, u7)
        tl.store(chroma + at, _folded(tile, y, x, rows, columns), mask=valid)
        tile, u0, u1, u2, u3, u4, u5, u6, u7 = _adjoint(
            cr, coefficients, tables + red_table, block + mcus, mask,
            RECORD, P[2], TABLE_RECORD, TABLE_P[2], TABLES, N,
        )  # fmt: skip
        if TABLES:
            _store_sums(sums + 128, u0, u1, u2, u3, u4, u5, u6, u7)
        tl.store(chroma + mcus * 64 + at, _folded(tile, y, x, rows, columns), mask=valid)


@triton.jit
def _gathered(plane, y, x, height, width, pitch, mask, H: tl.constexpr, V: tl.constexpr):
    """Gradient of a full-resolution sample from that of the downsampled and padded plane."""
    row, column = y // V, x // H
    g = tl.load(plane + row * pitch + column, mask=mask, other=0.0)
    last = x == width - 1
    beyond = tl.load(plane + row * pitch + column + 1, mask=mask & last & (column % 8 != 7), other=0.0)
    # The last row and column stand for those that pad their box, too.
    times_y = tl.where(y == height - 1, (row + 1) * V - y, 1).to(tl.float32)
    times_x = tl.where(last, (column + 1) * H - x, 1).to(tl.float32)
    return (g * times_x * (1.0 / H) + beyond) * times_y * (1.0 / V)


@triton.jit
def spread_kernel(
    luma, chroma, flags, out, height, width, mcus_y, mcus_x,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FORWARD: tl.constexpr,
    CLIP_SLOPE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Gradient of the encoder's planes to that of the image: box filter, colour, clamp."""
    b, y, x, mask = _pixels(height, width, ROWS, COLUMNS)
    area = _area(b, height, width)
    at = y.to(tl.int64) * width + x
    out += b * CHANNELS * area
    flag = tl.load(flags + b * area + at, mask=mask, other=0).to(tl.int32)
    luma += b * (mcus_y * (8 * V)) * (mcus_x * (8 * H))
    g = _gathered(luma, y, x, height, width, mcus_x * (8 * H), mask, 1, 1)
    if CHANNELS == 1:
        tl.store(out + at, _unclipped(g * FORWARD[0], flag, 1, CLIP_SLOPE), mask=mask)
    else:
        pitch = mcus_x * 8
        chroma += b * 2 * (mcus_y * 8) * pitch
        cb = _gathered(chroma, y, x, height, width, pitch, mask, H, V)
        cr = _gathered(chroma + mcus_y * 8 * pitch, y, x, height, width, pitch, mask, H, V)
        for i in tl.static_range(3):
            value = FORWARD[i] * g + FORWARD[3 + i] * cb + FORWARD[6 + i] * cr
            tl.store(out + i * area + at, _unclipped(value, flag, 1 << i, CLIP_SLOPE), mask=mask)
