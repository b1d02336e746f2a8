# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, no-check-untyped-defs
"""The Triton kernels of the backward pass: the adjoint of the real-valued pipeline, one kernel a call.

A program owns a few MCUs, whose boxes of pixels overlap no others: chroma comes first, its gradients stay in registers
and meet those of the luma blocks at their pixels. Only the triangle filter reaches over the border, by one sample,
which is read twice. Where the quantiser's slope is 1 the transforms cancel, and a stencil over pixels is left.
"""

import triton
import triton.language as tl

from jpegrad.backends.triton.blocks import (
    block_columns,
    block_rows,
    fdct,
    idct,
    mcu_places,
    pixel_places,
    store_rows,
    wide_product,
)
from jpegrad.backends.triton.slopes import adjoint, store_sums


@triton.jit
def _unclipped(g, clipped, CLIP_SLOPE: tl.constexpr):
    """Through a clamp, backwards."""
    if CLIP_SLOPE == 0:
        return tl.where(clipped != 0, 0.0, g)
    else:
        return tl.where(clipped != 0, g * CLIP_SLOPE, g)


@triton.jit
def _to_pixels(
    out, luma, cb, cr, flag, area, mask, CHANNELS: tl.constexpr, FORWARD: tl.constexpr, CLIP_SLOPE: tl.constexpr
):  # fmt: skip
    """Gradients of Y, Cb, Cr at pixels to those of the pixels; none of infinite numbers, NaN of pixels with NaN."""
    undefined: tl.constexpr = 128 if CLIP_SLOPE == 0 else 1024
    for i in tl.static_range(CHANNELS):
        value = FORWARD[i] * luma
        if CHANNELS == 3:
            value += FORWARD[3 + i] * cb + FORWARD[6 + i] * cr
        value = _unclipped(value, flag & (1 << i), CLIP_SLOPE)
        if CLIP_SLOPE != 0:
            value = tl.where((flag & (128 << i)) != 0, 0.0, value)
        value = tl.where((flag & undefined) != 0, float("nan"), value)
        tl.store(out + i * area, value, mask=mask)


@triton.jit
def _luma(
    gradient, flags, y, x, width, stride_c, stride_y, stride_x, inside,
    CHANNELS: tl.constexpr, INVERSE: tl.constexpr, CLIP_SLOPE: tl.constexpr,
):  # fmt: skip
    """Gradient of decoded samples of Y at pixels, and the flags there."""
    offsets = y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x
    flag = tl.load(flags + y.to(tl.int64) * width + x, mask=inside, other=0).to(tl.int32)
    g = tl.load(gradient + offsets, mask=inside, other=0.0)
    if CHANNELS == 1:
        g *= INVERSE[0]
    else:
        green = tl.load(gradient + stride_c + offsets, mask=inside, other=0.0)
        blue = tl.load(gradient + 2 * stride_c + offsets, mask=inside, other=0.0)
        g = INVERSE[0] * _unclipped(g, flag & 16, CLIP_SLOPE)
        g += INVERSE[3] * _unclipped(green, flag & 32, CLIP_SLOPE)
        g += INVERSE[6] * _unclipped(blue, flag & 64, CLIP_SLOPE)
    return _unclipped(g, flag & 8, CLIP_SLOPE), flag


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
def _chroma(
    gradient, flags, chroma_flags, y, x, height, width, pitch, plane, stride_c, stride_y, stride_x, valid,
    H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr, INVERSE: tl.constexpr, CLIP_SLOPE: tl.constexpr,
):  # fmt: skip
    """Gradients of decoded samples of Cb and Cr: the adjoint of upsampling, of colour, and of both clamps."""
    rows, columns = tl.cdiv(height, V), tl.cdiv(width, H)
    cb = (y + x).to(tl.float32) * 0.0
    cr = cb
    across: tl.constexpr = _taps(H, FANCY)
    for k in range(_taps(V, FANCY) * across):
        py, weight_y = _tap(y, rows, k // across, V, FANCY)
        px, weight_x = _tap(x, columns, k % across, H, FANCY)
        weight = weight_y * weight_x
        inside = valid & (y < rows) & (x < columns) & (py < height) & (px < width)
        offsets = py.to(tl.int64) * stride_y + px.to(tl.int64) * stride_x
        flag = tl.load(flags + py.to(tl.int64) * width + px, mask=inside, other=0).to(tl.int32)
        red = tl.load(gradient + offsets, mask=inside, other=0.0)
        green = tl.load(gradient + stride_c + offsets, mask=inside, other=0.0)
        blue = tl.load(gradient + 2 * stride_c + offsets, mask=inside, other=0.0)
        red = _unclipped(red, flag & 16, CLIP_SLOPE)
        green = _unclipped(green, flag & 32, CLIP_SLOPE)
        blue = _unclipped(blue, flag & 64, CLIP_SLOPE)
        cb += weight * (INVERSE[1] * red + INVERSE[4] * green + INVERSE[7] * blue)
        cr += weight * (INVERSE[2] * red + INVERSE[5] * green + INVERSE[8] * blue)
    at = y.to(tl.int64) * pitch + x
    cb = _unclipped(cb, tl.load(chroma_flags + at, mask=valid, other=0), CLIP_SLOPE)
    return cb, _unclipped(cr, tl.load(chroma_flags + plane + at, mask=valid, other=0), CLIP_SLOPE)


@triton.jit
def _times(at, sample, last, RATIO: tl.constexpr):
    """How many positions of its box a pixel stands for: the last one also for those that pad the box."""
    return tl.where(at == last, (sample + 1) * RATIO - at, 1).to(tl.float32) * (1.0 / RATIO)


@triton.jit
def _folded(tile, y, x, last, column):
    """Gradients of replicated rows to the last row, those of columns from ``column`` on to that column."""
    below = tl.sum(tl.where(y >= last, tile, 0.0), axis=1)
    tile = tl.where(y == last, below[:, None, :], tile)
    right = tl.sum(tl.where(x >= column, tile, 0.0), axis=2)
    return tl.where(x == column, right[:, :, None], tile)


@triton.jit
def _at(tile, row, column, N: tl.constexpr):
    """Values of ``[N, 8, 8]`` at rows ``[1, 8, 1]`` and columns ``[1, 1, 8]``."""
    index = tl.broadcast_to(8 * row + column, (N, 8, 8))
    flat = tl.gather(tl.reshape(tile, (N, 64)), tl.reshape(index, (N, 64)), 1)
    return tl.reshape(flat, (N, 8, 8))


@triton.jit
def _boxes(
    tile, y, x, k, height, width,
    H: tl.constexpr, V: tl.constexpr, ALIGNED: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Gradient of downsampled samples of an MCU to that of samples at the pixels of its k-th luma block."""
    row = (k // H * 8 + block_rows()) // V
    column = (k % H * 8 + block_columns()) // H
    g = _at(tile, row, column, N)
    if ALIGNED:
        return g * (1.0 / (H * V))
    else:
        # A column beyond the last repeats the last column of pixels, which may be a part of its box only.
        beyond = _at(tile, row, tl.minimum(column + 1, 7), N)
        beyond = tl.where((x == width - 1) & (column < 7), beyond, 0.0)
        return (g * _times(x, x // H, width - 1, H) + beyond) * _times(y, y // V, height - 1, V)


@triton.jit(do_not_specialize=["height", "mcus_y", "mcus_x", "table_stride", "chroma_table", "red_table"])
def gradient_kernel(
    gradient, tables, reciprocals, coefficients_y, coefficients_cb, coefficients_cr, flags, chroma_flags, out, sums,
    height, width, mcus_y, mcus_x, stride_b, stride_c, stride_y, stride_x, table_stride, chroma_table, red_table,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr,
    INVERSE: tl.constexpr, FORWARD: tl.constexpr, CLIP_SLOPE: tl.constexpr,
    RECORD: tl.constexpr, P: tl.constexpr, TABLE_RECORD: tl.constexpr, TABLE_P: tl.constexpr,
    TABLES: tl.constexpr, ALIGNED: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Gradient of the decoded image to that of the image, and to sums for the tables, one per program."""
    b, program, my, mx, valid = mcu_places(mcus_x, mcus_y, N)
    mcus, area = wide_product(b, mcus_y, mcus_x), wide_product(b, height, width)
    blocks_x, blocks_y = tl.cdiv(width, 8), tl.cdiv(height, 8)
    gradient += b * stride_b
    tables += b * table_stride
    reciprocals += b * table_stride
    flags += b * area
    out += b * CHANNELS * area
    coefficients_y += b * blocks_y * blocks_x * 64
    sums += (b * tl.cdiv(mcus_x * mcus_y, N) + program) * (CHANNELS * 64)
    if CHANNELS == 3:
        y, x = 8 * my + block_rows(), 8 * mx + block_columns()
        cb, cr = _chroma(
            gradient, flags, chroma_flags + b * 2 * mcus * 64, y, x, height, width, mcus_x * 8, mcus * 64,
            stride_c, stride_y, stride_x, valid, H, V, FANCY, INVERSE, CLIP_SLOPE,
        )  # fmt: skip
        block, mask = tl.reshape(my * mcus_x + mx, (N, 1)), tl.reshape(valid, (N, 1))
        cb, u0, u1, u2, u3, u4, u5, u6, u7 = adjoint(
            cb, coefficients_cb + b * mcus * 64, tables + chroma_table, reciprocals + chroma_table, block, mask,
            RECORD, P[1], TABLE_RECORD, TABLE_P[1], TABLES, N,
        )  # fmt: skip
        if TABLES:
            store_sums(sums + 64, u0, u1, u2, u3, u4, u5, u6, u7)
        cr, u0, u1, u2, u3, u4, u5, u6, u7 = adjoint(
            cr, coefficients_cr + b * mcus * 64, tables + red_table, reciprocals + red_table, block, mask,
            RECORD, P[2], TABLE_RECORD, TABLE_P[2], TABLES, N,
        )  # fmt: skip
        if TABLES:
            store_sums(sums + 128, u0, u1, u2, u3, u4, u5, u6, u7)
        if not ALIGNED:
            cb = _folded(cb, y, x, tl.cdiv(height, V) - 1, tl.cdiv(width, H))
            cr = _folded(cr, y, x, tl.cdiv(height, V) - 1, tl.cdiv(width, H))
    t0, t1, t2, t3 = (tl.zeros((N, 8), tl.float32),) * 4
    t4, t5, t6, t7 = (tl.zeros((N, 8), tl.float32),) * 4
    for k in range(H * V):
        by, bx = my * V + k // H, mx * H + k % H
        y, x = 8 * by + block_rows(), 8 * bx + block_columns()
        inside = valid & (y < height) & (x < width)
        tile, flag = _luma(
            gradient, flags, y, x, width, stride_c, stride_y, stride_x, inside, CHANNELS, INVERSE, CLIP_SLOPE
        )
        block = tl.reshape(by * blocks_x + bx, (N, 1))
        mask = tl.reshape(valid & (by < blocks_y) & (bx < blocks_x), (N, 1))
        tile, u0, u1, u2, u3, u4, u5, u6, u7 = adjoint(
            tile, coefficients_y, tables, reciprocals, block, mask,
            RECORD, P[0], TABLE_RECORD, TABLE_P[0], TABLES, N,
        )  # fmt: skip
        if TABLES:
            t0, t1, t2, t3 = t0 + u0, t1 + u1, t2 + u2, t3 + u3
            t4, t5, t6, t7 = t4 + u4, t5 + u5, t6 + u6, t7 + u7
        if not ALIGNED:
            tile = _folded(tile, y, x, height - 1, width - 1)
        at = out + y.to(tl.int64) * width + x
        if CHANNELS == 3:
            blue = _boxes(cb, y, x, k, height, width, H, V, ALIGNED, N)
            red = _boxes(cr, y, x, k, height, width, H, V, ALIGNED, N)
            _to_pixels(at, tile, blue, red, flag, area, inside, CHANNELS, FORWARD, CLIP_SLOPE)
        else:
            _to_pixels(at, tile, None, None, flag, area, inside, CHANNELS, FORWARD, CLIP_SLOPE)
    if TABLES:
        store_sums(sums, t0, t1, t2, t3, t4, t5, t6, t7)


@triton.jit
def _load_rows(pointer, block, mask):
    at = pointer + 64 * block.to(tl.int64) + tl.arange(0, 8)[None, :]
    return (
        tl.load(at, mask=mask, other=0.0),
        tl.load(at + 8, mask=mask, other=0.0),
        tl.load(at + 16, mask=mask, other=0.0),
        tl.load(at + 24, mask=mask, other=0.0),
        tl.load(at + 32, mask=mask, other=0.0),
        tl.load(at + 40, mask=mask, other=0.0),
        tl.load(at + 48, mask=mask, other=0.0),
        tl.load(at + 56, mask=mask, other=0.0),
    )


@triton.jit
def _samples(coefficients, block, mask, N: tl.constexpr):
    x0, x1, x2, x3, x4, x5, x6, x7 = _load_rows(coefficients, block, mask)
    return idct(x0, x1, x2, x3, x4, x5, x6, x7, 0, 0, N)


@triton.jit(do_not_specialize=["height", "mcus_y", "mcus_x"])
def encode_gradient_kernel(
    gradient_y, gradient_cb, gradient_cr, flags, out, height, width, mcus_y, mcus_x,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FORWARD: tl.constexpr, CLIP_SLOPE: tl.constexpr,
    ALIGNED: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Gradient of the coefficients to that of the image."""
    b, _program, my, mx, valid = mcu_places(mcus_x, mcus_y, N)
    mcus, area = wide_product(b, mcus_y, mcus_x), wide_product(b, height, width)
    blocks_x, blocks_y = tl.cdiv(width, 8), tl.cdiv(height, 8)
    flags += b * area
    out += b * CHANNELS * area
    gradient_y += b * blocks_y * blocks_x * 64
    if CHANNELS == 3:
        y, x = 8 * my + block_rows(), 8 * mx + block_columns()
        block, mask = tl.reshape(my * mcus_x + mx, (N, 1)), tl.reshape(valid, (N, 1))
        cb = _samples(gradient_cb + b * mcus * 64, block, mask, N)
        cr = _samples(gradient_cr + b * mcus * 64, block, mask, N)
        if not ALIGNED:
            cb = _folded(cb, y, x, tl.cdiv(height, V) - 1, tl.cdiv(width, H))
            cr = _folded(cr, y, x, tl.cdiv(height, V) - 1, tl.cdiv(width, H))
    for k in range(H * V):
        by, bx = my * V + k // H, mx * H + k % H
        y, x = 8 * by + block_rows(), 8 * bx + block_columns()
        inside = valid & (y < height) & (x < width)
        mask = tl.reshape(valid & (by < blocks_y) & (bx < blocks_x), (N, 1))
        tile = _samples(gradient_y, tl.reshape(by * blocks_x + bx, (N, 1)), mask, N)
        if not ALIGNED:
            tile = _folded(tile, y, x, height - 1, width - 1)
        place = y.to(tl.int64) * width + x
        flag = tl.load(flags + place, mask=inside, other=0).to(tl.int32)
        if CHANNELS == 3:
            blue = _boxes(cb, y, x, k, height, width, H, V, ALIGNED, N)
            red = _boxes(cr, y, x, k, height, width, H, V, ALIGNED, N)
            _to_pixels(out + place, tile, blue, red, flag, area, inside, CHANNELS, FORWARD, CLIP_SLOPE)
        else:
            _to_pixels(out + place, tile, None, None, flag, area, inside, CHANNELS, FORWARD, CLIP_SLOPE)


@triton.jit
def _store_frequencies(pointer, tile, block, mask, N: tl.constexpr):
    x0, x1, x2, x3, x4, x5, x6, x7 = fdct(tile, 0, 0, N)
    store_rows(pointer, block, mask, x0, x1, x2, x3, x4, x5, x6, x7)


@triton.jit(do_not_specialize=["height", "mcus_y", "mcus_x"])
def decode_gradient_kernel(
    gradient, flags, chroma_flags, out_y, out_cb, out_cr,
    height, width, mcus_y, mcus_x, stride_b, stride_c, stride_y, stride_x,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr,
    INVERSE: tl.constexpr, CLIP_SLOPE: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Gradient of the decoded image to that of the dequantised coefficients."""
    b, _program, my, mx, valid = mcu_places(mcus_x, mcus_y, N)
    mcus = wide_product(b, mcus_y, mcus_x)
    blocks_x, blocks_y = tl.cdiv(width, 8), tl.cdiv(height, 8)
    gradient += b * stride_b
    flags += wide_product(b, height, width) * b
    out_y += b * blocks_y * blocks_x * 64
    if CHANNELS == 3:
        y, x = 8 * my + block_rows(), 8 * mx + block_columns()
        cb, cr = _chroma(
            gradient, flags, chroma_flags + b * 2 * mcus * 64, y, x, height, width, mcus_x * 8, mcus * 64,
            stride_c, stride_y, stride_x, valid, H, V, FANCY, INVERSE, CLIP_SLOPE,
        )  # fmt: skip
        block, mask = tl.reshape(my * mcus_x + mx, (N, 1)), tl.reshape(valid, (N, 1))
        _store_frequencies(out_cb + b * mcus * 64, cb, block, mask, N)
        _store_frequencies(out_cr + b * mcus * 64, cr, block, mask, N)
    for k in range(H * V):
        by, bx = my * V + k // H, mx * H + k % H
        y, x = 8 * by + block_rows(), 8 * bx + block_columns()
        inside = valid & (y < height) & (x < width)
        tile, _flag = _luma(
            gradient, flags, y, x, width, stride_c, stride_y, stride_x, inside, CHANNELS, INVERSE, CLIP_SLOPE
        )
        mask = tl.reshape(valid & (by < blocks_y) & (bx < blocks_x), (N, 1))
        _store_frequencies(out_y, tile, tl.reshape(by * blocks_x + bx, (N, 1)), mask, N)


@triton.jit
def _widened(tile, ROWS: tl.constexpr, COLUMNS: tl.constexpr, H: tl.constexpr):
    """Every column H times."""
    return tl.reshape(tl.broadcast_to(tile[:, :, None], (ROWS, COLUMNS, H)), (ROWS, COLUMNS * H))


@triton.jit(do_not_specialize=["height", "mcus_y", "mcus_x"])
def stencil_kernel(
    gradient, flags, chroma_flags, out, height, width, mcus_y, mcus_x, stride_b, stride_c, stride_y, stride_x,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr,
    INVERSE: tl.constexpr, FORWARD: tl.constexpr, CLIP_SLOPE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The backward pass of a quantiser of slope 1, by tiles of chroma samples."""
    rows, columns = tl.cdiv(height, V), tl.cdiv(width, H)
    b, y, x, valid = pixel_places(rows, columns, ROWS, COLUMNS)
    area = wide_product(b, height, width)
    gradient += b * stride_b
    flags += b * area
    out += b * CHANNELS * area
    if CHANNELS == 3:
        plane = wide_product(b, mcus_y * 8, mcus_x * 8)
        cb, cr = _chroma(
            gradient, flags, chroma_flags + b * 2 * plane, y, x, height, width, mcus_x * 8, plane,
            stride_c, stride_y, stride_x, valid, H, V, FANCY, INVERSE, CLIP_SLOPE,
        )  # fmt: skip
        cb, cr = _widened(cb, ROWS, COLUMNS, H), _widened(cr, ROWS, COLUMNS, H)
    _b, y, px, _valid = pixel_places(rows, columns * H, ROWS, COLUMNS * H)
    for j in tl.static_range(V):
        py = y * V + j
        inside = (py < height) & (px < width)
        luma, flag = _luma(
            gradient,
            flags,
            py,
            px,
            width,
            stride_c,
            stride_y,
            stride_x,
            inside,
            CHANNELS,
            INVERSE,
            CLIP_SLOPE,
        )
        at = out + py.to(tl.int64) * width + px
        if CHANNELS == 3:
            times = _times(py, y, height - 1, V) * _times(px, px // H, width - 1, H)
            _to_pixels(at, luma, times * cb, times * cr, flag, area, inside, CHANNELS, FORWARD, CLIP_SLOPE)
        else:
            _to_pixels(at, luma, None, None, flag, area, inside, CHANNELS, FORWARD, CLIP_SLOPE)
