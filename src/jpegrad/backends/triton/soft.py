"""The Triton kernels of the soft forward: image to decoded planes of real numbers, and those to an image.

Samples are kept around 0, so that float32 resolves them finely. What the backward pass needs of the rounding is stored
per coefficient: its slope, and what the table's gradient multiplies.
"""

import triton
import triton.language as tl

from jpegrad.backends.triton.blocks import (
    blocks_of,
    chroma_block,
    fdct,
    idct,
    luma_block,
    mcu_places,
    near,
    pixel_places,
    row_places,
    store_undefined,
    table_row,
    tables_of,
    wide_product,
)
from jpegrad.backends.triton.slopes import soft_of


@triton.jit
def _clamp(x, LEAK: tl.constexpr):
    """Grey levels through a clamp that leaks, and where it acts."""
    clamped = tl.minimum(tl.maximum(x, 0.0), 255.0)
    acts = (clamped != x).to(tl.int32)
    return (clamped if LEAK == 0 else clamped + LEAK * (x - clamped)), acts


@triton.jit
def _grey(pointer, mask, RANGE: tl.constexpr, LEAK: tl.constexpr):
    """Grey levels behind the clamp, which infinite numbers do not leak through; flags as in the exact forward."""
    x = tl.load(pointer, mask=mask, other=0).to(tl.float32)
    level = (x - RANGE[0]) * RANGE[1]
    finite = tl.abs(x) < float("inf")
    outside = ((level >= 0.0) & (level <= 255.0)) == 0
    clamped = tl.where(level >= 0.0, tl.where(level <= 255.0, level, 255.0), 0.0)
    if LEAK != 0:
        clamped += tl.where(outside & finite, LEAK * (level - clamped), 0.0)
    return clamped, tl.where(outside, tl.where(finite, 1, 129), 0), (x != x).to(tl.int32)


@triton.jit
def _pixels(
    image, strides, y, x, mask, CHANNELS: tl.constexpr, RANGE: tl.constexpr, LEAK: tl.constexpr
):  # fmt: skip
    image += y.to(tl.int64) * strides[2] + x.to(tl.int64) * strides[3]
    level, flags, undefined = _grey(image, mask, RANGE, LEAK)
    levels = (level,)
    for i in tl.static_range(1, CHANNELS):
        level, flag, nan = _grey(image + i * strides[1], mask, RANGE, LEAK)
        levels += (level,)
        flags += flag << i
        undefined |= nan
    return levels, flags, undefined


@triton.jit
def _mixed(rgb, ROWS: tl.constexpr, ROW: tl.constexpr):
    return (
        ROWS[4 * ROW] * rgb[0] + ROWS[4 * ROW + 1] * rgb[1] + ROWS[4 * ROW + 2] * rgb[2] + ROWS[4 * ROW + 3]
    )


@triton.jit
def _code(tile, tables, parameter, slopes, factors, place, RECORD: tl.constexpr):
    """Samples around 0 ``[N, 8, 8]`` to decoded ones before the clamp."""
    rows = fdct(tile, 0, 0)
    restored = ()
    for i in tl.static_range(8):
        step = table_row(tables[0], i, rows[i])
        u = rows[i] * table_row(tables[1], i, rows[i])
        value, slope, widening = soft_of(u, step, RECORD, parameter)
        if slopes is not None:
            tl.store(row_places(slopes, place, i), slope, mask=place[1])
        if factors is not None:
            tl.store(row_places(factors, place, i), value - slope * u - widening, mask=place[1])
        restored += (value * step,)
    return idct(restored, 0, 0)


@triton.jit(do_not_specialize=["height"])
def soft_kernel(
    image, strides, tables, parameters, planes, seen, flags, slopes, factors, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, COLOR: tl.constexpr, RANGE: tl.constexpr,
    LEAK: tl.constexpr, RECORD: tl.constexpr, ALIGNED: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """An image to its decoded planes, around 0 and padded to whole MCUs; ``seen`` becomes 1 for an image with a NaN."""
    b, mcu = mcu_places(height, width, H, V, N)
    valid = mcu[2]
    rows, columns = tl.cdiv(height, 8 * V) * 8, tl.cdiv(width, 8 * H) * 8
    image += b * strides[0]
    for k in range(H * V):
        y, x, place = luma_block(mcu, k, height, width, H, V)
        column = x if ALIGNED else tl.minimum(x, width - 1)
        row = tl.minimum(y, height - 1)
        levels, flag, undefined = _pixels(image, strides, row, column, valid, CHANNELS, RANGE, LEAK)
        sample = _mixed(levels, COLOR, 0) if CHANNELS == 3 else levels[0] - 128.0
        out = _code(
            sample, tables_of(tables, 0, b), parameters[0], blocks_of(slopes, 0, b, height, width, H, V),
            blocks_of(factors, 0, b, height, width, H, V), place, RECORD,
        )  # fmt: skip
        out, acts = _clamp(out + 128.0, LEAK)
        tl.store(planes[0] + (b * (rows * V) + y) * (columns * H) + x, out - 128.0, mask=valid)
        tl.store(seen + b, 1, mask=tl.max(tl.reshape(undefined, (N * 64,)), 0) > 0)
        if flags is not None:
            flag += 8 * acts
            if flags[0].dtype.element_ty == tl.uint8:
                flag = (flag & 127) + 128 * undefined
            else:
                flag += 1024 * undefined
            inside = valid & (y < height) & (x < width)
            at = (b * height + y) * width + x
            tl.store(flags[0] + at, flag.to(flags[0].dtype.element_ty), mask=inside)
    if CHANNELS == 3:
        y, x, place = chroma_block(mcu, width, H)
        cb = tl.zeros((N, 8, 8), tl.float32)
        cr = tl.zeros((N, 8, 8), tl.float32)
        for k in range(H * V):
            row = tl.minimum(tl.minimum(y, tl.cdiv(height, V) - 1) * V + k // H, height - 1)
            column = x * H + k % H
            column = column if ALIGNED else tl.minimum(column, width - 1)
            rgb, _flag, _undefined = _pixels(image, strides, row, column, valid, CHANNELS, RANGE, LEAK)
            cb += _mixed(rgb, COLOR, 1)
            cr += _mixed(rgb, COLOR, 2)
        # Of libjpeg's rounding of the mean what is left on average; it alternates along a row of pairs.
        share: tl.constexpr = 1.0 / (H * V)
        bias = (x % 2).to(tl.float32) - 0.5 if H == 2 else (0.5 if H * V > 1 else 0.0)
        chroma = ((cb + bias) * share, (cr + bias) * share)
        for c in tl.static_range(1, 3):
            out = _code(
                chroma[c - 1], tables_of(tables, c, b), parameters[c],
                blocks_of(slopes, c, b, height, width, H, V), blocks_of(factors, c, b, height, width, H, V),
                place, RECORD,
            )  # fmt: skip
            out, acts = _clamp(out + 128.0, LEAK)
            at = ((2 * b + (c - 1)) * rows + y) * columns + x
            tl.store(planes[1] + at, out - 128.0, mask=valid)
            if flags is not None:
                tl.store(flags[1] + at, acts.to(tl.uint8), mask=valid)


@triton.jit
def _upsampled(
    plane, y, x, height, width, pitch, mask, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr
):
    near_y, far_y = near(y, tl.cdiv(height, V), V, FANCY)
    near_x, far_x = near(x, tl.cdiv(width, H), H, FANCY)
    near_row, far_row = plane + near_y.to(tl.int64) * pitch, plane + far_y.to(tl.int64) * pitch
    p = tl.load(near_row + near_x, mask=mask, other=0.0)
    if FANCY and V == 2:
        p = 0.75 * p + 0.25 * tl.load(far_row + near_x, mask=mask, other=0.0)
    if FANCY and H == 2:
        q = tl.load(near_row + far_x, mask=mask, other=0.0)
        if V == 2:
            q = 0.75 * q + 0.25 * tl.load(far_row + far_x, mask=mask, other=0.0)
        p = 0.75 * p + 0.25 * q
    return p


@triton.jit(do_not_specialize=["height"])
def soft_image_kernel(
    planes, out, flags, image, strides, seen, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr, INVERSE: tl.constexpr,
    RANGE: tl.constexpr, LEAK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Decoded planes to an image: chroma upsampling, colour, clamp, range. ``out`` is contiguous."""
    b, y, x, mask = pixel_places(height, width, ROWS, COLUMNS)
    area = wide_product(b, height, width)
    row = y.to(tl.int64)
    at = row * width + x
    out += b * CHANNELS * area
    rows, columns = tl.cdiv(height, 8 * V) * 8, tl.cdiv(width, 8 * H) * 8
    luma = planes[0] + b * (rows * V) * (columns * H)
    sample = tl.load(luma + row * (columns * H) + x, mask=mask, other=0.0)
    if CHANNELS == 1:
        tl.store(out + at, (sample + 128.0) * RANGE[1] + RANGE[0], mask=mask)
    else:
        plane = wide_product(b, rows, columns)
        chroma = planes[1] + 2 * b * plane
        cb = _upsampled(chroma, y, x, height, width, columns, mask, H, V, FANCY)
        cr = _upsampled(chroma + plane, y, x, height, width, columns, mask, H, V, FANCY)
        if flags is not None:
            flag = tl.load(flags + b * area + at, mask=mask, other=0).to(tl.int32)
        for i in tl.static_range(3):
            value, acts = _clamp(_mixed((sample, cb, cr), INVERSE, i), LEAK)
            if flags is not None:
                flag += (16 << i) * acts
            tl.store(out + i * area + at, value * RANGE[1] + RANGE[0], mask=mask)
        if flags is not None:
            tl.store(flags + b * area + at, flag.to(flags.dtype.element_ty), mask=mask)
    store_undefined(image, strides, seen, out, at, b, row, x, area, mask, CHANNELS)
