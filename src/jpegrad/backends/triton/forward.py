# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, no-check-untyped-defs
"""The Triton kernels of the exact forward: image to levels or decoded planes, levels to planes, planes to image."""

import triton
import triton.language as tl

from jpegrad.backends.triton.blocks import (
    block_columns,
    block_rows,
    fdct,
    idct,
    level_of,
    mcu_places,
    pixel_places,
    store_rows,
    table_row,
    wide_product,
)


@triton.jit
def _in_steps(c, step):
    return tl.div_rn(c.to(tl.float32), 8.0 * step.to(tl.float32))


@triton.jit
def _sample(pointer, offsets, mask, RANGE: tl.constexpr, LOW: tl.constexpr, SCALE: tl.constexpr):
    """Grey levels 0…255 as saving the image would round them; flags: 1 if the clamp acted, 128 if it met no number.

    Then 1 for NaN.
    """
    x = tl.load(pointer + offsets, mask=mask, other=0)
    if RANGE == "bytes":
        return x.to(tl.int32), x.to(tl.int32) * 0, x.to(tl.int32) * 0
    elif RANGE == "real":
        p = (x.to(tl.float64) - LOW) * SCALE
        outside = ((p >= 0.0) & (p <= 255.0)) == 0
        finite = tl.abs(x) < float("inf")
        p = tl.where(p >= 0.0, tl.where(p <= 255.0, p, 255.0), 0.0)
        # Adding 1.5·2^52 leaves the integer nearest, half to even.
        grey = ((p + 6755399441055744.0) - 6755399441055744.0).to(tl.int32)
        return grey, tl.where(outside, tl.where(finite, 1, 129), 0), (x != x).to(tl.int32)
    else:
        x = x.to(tl.float32)
        top: tl.constexpr = 1.0 if RANGE == "unit" else 255.0
        outside = ((x >= 0.0) & (x <= top)) == 0
        flag = tl.where(outside, tl.where(tl.abs(x) < float("inf"), 1, 129), 0)
        undefined = (x != x).to(tl.int32)
        x = tl.where(x >= 0.0, tl.where(x <= top, x, top), 0.0)
        if RANGE == "grey":
            return ((x + 12582912.0) - 12582912.0).to(tl.int32), flag, undefined
        else:
            # 255·x = p + lost exactly, so that a tie of p is decided by what p lost.
            big = 256.0 * x
            p = big - x
            lost = (big - p) - x
            nearest = (p + 12582912.0) - 12582912.0
            d = p - nearest
            up = ((d == 0.5) & (lost > 0.0)).to(tl.int32)
            down = ((d == -0.5) & (lost < 0.0)).to(tl.int32)
            return nearest.to(tl.int32) + up - down, flag, undefined


@triton.jit
def _mixed(a, b, c, COLOR: tl.constexpr, ROW: tl.constexpr):
    """A row of a colour conversion: three 16-bit fixed-point factors and a bias."""
    x = COLOR[4 * ROW] * a + COLOR[4 * ROW + 1] * b + COLOR[4 * ROW + 2] * c + COLOR[4 * ROW + 3]
    return _clamped(x >> 16)


@triton.jit
def _clamped(x):
    return tl.minimum(tl.maximum(x, 0), 255)


@triton.jit
def _beyond(x):
    """Flag of a decoded sample that the clamp moves."""
    return ((x < 0) | (x > 255)).to(tl.int32)


@triton.jit
def _restored(x0, x1, x2, x3, x4, x5, x6, x7, t0, t1, t2, t3, t4, t5, t6, t7, N: tl.constexpr):
    """Levels and steps to samples around 128, before the clamp."""
    return 128 + idct(x0 * t0, x1 * t1, x2 * t2, x3 * t3, x4 * t4, x5 * t5, x6 * t6, x7 * t7, 11, 18, N)


@triton.jit
def _code(tile, tables, reciprocals, coefficients, levels, ratios, block, mask, N: tl.constexpr):
    """Encode samples −128…127 ``[N, 8, 8]``; without room for levels, decode them to samples before the clamp."""
    x0, x1, x2, x3, x4, x5, x6, x7 = fdct(tile, 11, 15, N)
    if coefficients is not None:
        store_rows(coefficients, block, mask, x0, x1, x2, x3, x4, x5, x6, x7)
    t0, t1 = table_row(tables, 0, N), table_row(tables, 1, N)
    t2, t3 = table_row(tables, 2, N), table_row(tables, 3, N)
    t4, t5 = table_row(tables, 4, N), table_row(tables, 5, N)
    t6, t7 = table_row(tables, 6, N), table_row(tables, 7, N)
    if ratios is not None:
        u0, u1, u2, u3 = _in_steps(x0, t0), _in_steps(x1, t1), _in_steps(x2, t2), _in_steps(x3, t3)
        u4, u5, u6, u7 = _in_steps(x4, t4), _in_steps(x5, t5), _in_steps(x6, t6), _in_steps(x7, t7)
        store_rows(ratios, block, mask, u0, u1, u2, u3, u4, u5, u6, u7)
    x0, x1 = level_of(x0, t0, table_row(reciprocals, 0, N)), level_of(x1, t1, table_row(reciprocals, 1, N))
    x2, x3 = level_of(x2, t2, table_row(reciprocals, 2, N)), level_of(x3, t3, table_row(reciprocals, 3, N))
    x4, x5 = level_of(x4, t4, table_row(reciprocals, 4, N)), level_of(x5, t5, table_row(reciprocals, 5, N))
    x6, x7 = level_of(x6, t6, table_row(reciprocals, 6, N)), level_of(x7, t7, table_row(reciprocals, 7, N))
    if levels is not None:
        store_rows(levels, block, mask, x0, x1, x2, x3, x4, x5, x6, x7)
        return tile
    else:
        return _restored(x0, x1, x2, x3, x4, x5, x6, x7, t0, t1, t2, t3, t4, t5, t6, t7, N)


@triton.jit
def _of_image(pointer, b, blocks):
    """An image's blocks of 64, if there is room for any."""
    if pointer is not None:
        return pointer + b * blocks * 64
    else:
        return None


@triton.jit(do_not_specialize=["height", "mcus_y", "mcus_x", "table_stride", "chroma_table", "red_table"])
def encode_kernel(
    image, tables, reciprocals, luma, chroma, seen, flags, chroma_flags,
    coefficients_y, coefficients_cb, coefficients_cr, levels_y, levels_cb, levels_cr, ratios_y, ratios_cb, ratios_cr,
    height, width, mcus_y, mcus_x, stride_b, stride_c, stride_y, stride_x, table_stride, chroma_table, red_table,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, COLOR: tl.constexpr,
    RANGE: tl.constexpr, LOW: tl.constexpr, SCALE: tl.constexpr, ALIGNED: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """An image to its levels if there is room for them, else to its decoded 8-bit planes, padded to whole MCUs.

    What a backward pass needs is stored where there is room: flags of the clamps, coefficients (8 times the
    orthonormal), coefficients in steps. ``seen`` becomes 1 for an image with a NaN.
    """
    b, _program, my, mx, valid = mcu_places(mcus_x, mcus_y, N)
    image += b * stride_b
    tables += b * table_stride
    reciprocals += b * table_stride
    blocks_x, blocks_y = tl.cdiv(width, 8), tl.cdiv(height, 8)
    blocks, mcus = wide_product(b, blocks_y, blocks_x), wide_product(b, mcus_y, mcus_x)
    coefficients = _of_image(coefficients_y, b, blocks)
    levels = _of_image(levels_y, b, blocks)
    ratios = _of_image(ratios_y, b, blocks)
    for k in range(H * V):
        by, bx = my * V + k // H, mx * H + k % H
        y, x = 8 * by + block_rows(), 8 * bx + block_columns()
        column = x if ALIGNED else tl.minimum(x, width - 1)
        offsets = tl.minimum(y, height - 1).to(tl.int64) * stride_y + column.to(tl.int64) * stride_x
        sample, flag, undefined = _sample(image, offsets, valid, RANGE, LOW, SCALE)
        if CHANNELS == 3:
            green, green_flag, green_undefined = _sample(image + stride_c, offsets, valid, RANGE, LOW, SCALE)
            blue, blue_flag, blue_undefined = _sample(image + 2 * stride_c, offsets, valid, RANGE, LOW, SCALE)
            flag += 2 * green_flag + 4 * blue_flag
            undefined |= green_undefined | blue_undefined
            sample = _mixed(sample, green, blue, COLOR, 0)
        block = tl.reshape(by * blocks_x + bx, (N, 1))
        mask = tl.reshape(valid & (by < blocks_y) & (bx < blocks_x), (N, 1))
        out = _code(sample - 128, tables, reciprocals, coefficients, levels, ratios, block, mask, N)
        if levels_y is None:
            at = (b * (mcus_y * (8 * V)) + y) * (mcus_x * (8 * H)) + x
            tl.store(luma + at, _clamped(out).to(tl.uint8), mask=valid)
            flag += 8 * _beyond(out)
        if seen is not None:
            tl.store(seen + b, 1, mask=tl.max(tl.reshape(undefined, (N * 64,)), 0) > 0)
        if flags is not None:
            at = (b * height + y) * width + x
            if flags.dtype.element_ty == tl.uint8:
                flag = (flag & 127) + 128 * undefined
            else:
                flag += 1024 * undefined
            tl.store(flags + at, flag.to(flags.dtype.element_ty), mask=valid & (y < height) & (x < width))
    if CHANNELS == 3:
        y, x = 8 * my + block_rows(), 8 * mx + block_columns()
        cb = tl.zeros((N, 8, 8), tl.int32)
        cr = tl.zeros((N, 8, 8), tl.int32)
        for k in range(H * V):
            # Below the image, libjpeg replicates the last downsampled row, not the last row of pixels.
            row = tl.minimum(tl.minimum(y, tl.cdiv(height, V) - 1) * V + k // H, height - 1)
            column = x * H + k % H
            column = column if ALIGNED else tl.minimum(column, width - 1)
            offsets = row.to(tl.int64) * stride_y + column.to(tl.int64) * stride_x
            red, _flag, _undefined = _sample(image, offsets, valid, RANGE, LOW, SCALE)
            green, _flag, _undefined = _sample(image + stride_c, offsets, valid, RANGE, LOW, SCALE)
            blue, _flag, _undefined = _sample(image + 2 * stride_c, offsets, valid, RANGE, LOW, SCALE)
            cb += _mixed(red, green, blue, COLOR, 1)
            cr += _mixed(red, green, blue, COLOR, 2)
        # An alternating bias keeps the mean of pairs and squares unbiased.
        bias = x % 2 + (V - 1) if H == 2 else H * V // 2
        cb, cr = (cb + bias) // (H * V), (cr + bias) // (H * V)
        block, mask = tl.reshape(my * mcus_x + mx, (N, 1)), tl.reshape(valid, (N, 1))
        at = (b * (2 * mcus_y * 8) + y) * (mcus_x * 8) + x
        out = _code(
            cb - 128, tables + chroma_table, reciprocals + chroma_table, _of_image(coefficients_cb, b, mcus),
            _of_image(levels_cb, b, mcus), _of_image(ratios_cb, b, mcus), block, mask, N,
        )  # fmt: skip
        if levels_y is None:
            tl.store(chroma + at, _clamped(out).to(tl.uint8), mask=valid)
            if flags is not None:
                tl.store(chroma_flags + at, _beyond(out).to(tl.uint8), mask=valid)
        out = _code(
            cr - 128, tables + red_table, reciprocals + red_table, _of_image(coefficients_cr, b, mcus),
            _of_image(levels_cr, b, mcus), _of_image(ratios_cr, b, mcus), block, mask, N,
        )  # fmt: skip
        if levels_y is None:
            at += mcus * 64
            tl.store(chroma + at, _clamped(out).to(tl.uint8), mask=valid)
            if flags is not None:
                tl.store(chroma_flags + at, _beyond(out).to(tl.uint8), mask=valid)


@triton.jit
def _dequantized(levels, tables, row, block, mask, N: tl.constexpr):
    """A row of coefficients in float64: levels from anywhere have up to 16 bits, or are no numbers at all."""
    at = 64 * block.to(tl.int64) + 8 * row + tl.arange(0, 8)[None, :]
    x = tl.load(levels + at, mask=mask, other=0.0)
    x = tl.where(x == x, tl.minimum(tl.maximum(x, -32768.0), 32767.0), 0.0)
    return x.to(tl.float64) * table_row(tables, row, N).to(tl.float64)


@triton.jit
def _decode(levels, tables, block, mask, N: tl.constexpr):
    """Samples before the clamp."""
    x0, x1 = _dequantized(levels, tables, 0, block, mask, N), _dequantized(levels, tables, 1, block, mask, N)
    x2, x3 = _dequantized(levels, tables, 2, block, mask, N), _dequantized(levels, tables, 3, block, mask, N)
    x4, x5 = _dequantized(levels, tables, 4, block, mask, N), _dequantized(levels, tables, 5, block, mask, N)
    x6, x7 = _dequantized(levels, tables, 6, block, mask, N), _dequantized(levels, tables, 7, block, mask, N)
    return 128 + idct(x0, x1, x2, x3, x4, x5, x6, x7, 11, 18, N)


@triton.jit
def _store_sample(pointer, x, mask):
    tl.store(pointer, tl.minimum(tl.maximum(x, 0.0), 255.0).to(tl.int32).to(tl.uint8), mask=mask)


@triton.jit(do_not_specialize=["height", "mcus_y", "mcus_x", "table_stride", "chroma_table", "red_table"])
def decode_kernel(
    levels_y, levels_cb, levels_cr, tables, luma, chroma, flags, chroma_flags,
    height, width, mcus_y, mcus_x, table_stride, chroma_table, red_table,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Levels to decoded 8-bit planes, and flags of the clamps where there is room."""
    b, _program, my, mx, valid = mcu_places(mcus_x, mcus_y, N)
    tables += b * table_stride
    blocks_x, blocks_y = tl.cdiv(width, 8), tl.cdiv(height, 8)
    levels = _of_image(levels_y, b, wide_product(b, blocks_y, blocks_x))
    for k in range(H * V):
        by, bx = my * V + k // H, mx * H + k % H
        y, x = 8 * by + block_rows(), 8 * bx + block_columns()
        mask = tl.reshape(valid & (by < blocks_y) & (bx < blocks_x), (N, 1))
        out = _decode(levels, tables, tl.reshape(by * blocks_x + bx, (N, 1)), mask, N)
        _store_sample(luma + (b * (mcus_y * (8 * V)) + y) * (mcus_x * (8 * H)) + x, out, valid)
        if flags is not None:
            flag = (8 * _beyond(out)).to(flags.dtype.element_ty)
            tl.store(flags + (b * height + y) * width + x, flag, mask=valid & (y < height) & (x < width))
    if CHANNELS == 3:
        mcus = wide_product(b, mcus_y, mcus_x)
        y, x = 8 * my + block_rows(), 8 * mx + block_columns()
        at = (b * (2 * mcus_y * 8) + y) * (mcus_x * 8) + x
        block, mask = tl.reshape(my * mcus_x + mx, (N, 1)), tl.reshape(valid, (N, 1))
        cb = _decode(_of_image(levels_cb, b, mcus), tables + chroma_table, block, mask, N)
        _store_sample(chroma + at, cb, valid)
        cr = _decode(_of_image(levels_cr, b, mcus), tables + red_table, block, mask, N)
        _store_sample(chroma + mcus * 64 + at, cr, valid)
        if flags is not None:
            tl.store(chroma_flags + at, _beyond(cb).to(tl.uint8), mask=valid)
            tl.store(chroma_flags + mcus * 64 + at, _beyond(cr).to(tl.uint8), mask=valid)


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
    near_row, far_row = plane + near_y.to(tl.int64) * pitch, plane + far_y.to(tl.int64) * pitch
    p = tl.load(near_row + near_x, mask=mask, other=0).to(tl.int32)
    if FANCY and V == 2:
        p = 3 * p + tl.load(far_row + near_x, mask=mask, other=0).to(tl.int32)
    if FANCY and H == 2:
        q = tl.load(near_row + far_x, mask=mask, other=0).to(tl.int32)
        if V == 2:
            q = 3 * q + tl.load(far_row + far_x, mask=mask, other=0).to(tl.int32)
            p = (3 * p + q + 8 - x % 2) >> 4
        else:
            p = (3 * p + q + 1 + x % 2) >> 2
    elif FANCY and V == 2:
        p = (p + 1 + y % 2) >> 2
    return p


@triton.jit
def _store_pixel(out, x, mask, RANGE: tl.constexpr, LOW: tl.constexpr, SPAN: tl.constexpr):
    """A grey level in the image's range, rounded once."""
    if RANGE == "bytes":
        tl.store(out, x.to(tl.uint8), mask=mask)
    elif RANGE == "grey":
        tl.store(out, x.to(tl.float32), mask=mask)
    elif RANGE == "unit":
        tl.store(out, tl.div_rn(x.to(tl.float32), 255.0), mask=mask)
    else:
        tl.store(out, (LOW + x.to(tl.float64) / 255.0 * SPAN).to(tl.float32), mask=mask)


@triton.jit(do_not_specialize=["height", "mcus_y", "mcus_x"])
def image_kernel(
    luma, chroma, out, flags, image, seen, height, width, mcus_y, mcus_x, stride_b, stride_c, stride_y, stride_x,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr, INVERSE: tl.constexpr,
    RANGE: tl.constexpr, LOW: tl.constexpr, SPAN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Decoded planes to an image: chroma upsampling, colour, clamp, range. ``out`` is contiguous.

    Pixels with a NaN in the encoder's image, if that is given, are NaN.
    """
    b, y, x, mask = pixel_places(height, width, ROWS, COLUMNS)
    area = wide_product(b, height, width)
    row = y.to(tl.int64)
    at = row * width + x
    out += b * CHANNELS * area
    luma += b * (mcus_y * (8 * V)) * (mcus_x * (8 * H))
    sample = tl.load(luma + row * (mcus_x * (8 * H)) + x, mask=mask, other=0).to(tl.int32)
    if CHANNELS == 1:
        _store_pixel(out + at, sample, mask, RANGE, LOW, SPAN)
    else:
        pitch = mcus_x * 8
        plane = wide_product(b, mcus_y * 8, pitch)
        chroma += 2 * b * plane
        cb = _upsampled(chroma, y, x, height, width, pitch, mask, H, V, FANCY)
        cr = _upsampled(chroma + plane, y, x, height, width, pitch, mask, H, V, FANCY)
        if flags is not None:
            flag = tl.load(flags + b * area + at, mask=mask, other=0).to(tl.int32)
        for i in tl.static_range(3):
            color = INVERSE[4 * i] * sample + INVERSE[4 * i + 1] * cb + INVERSE[4 * i + 2] * cr
            value = (color + INVERSE[4 * i + 3]) >> 16
            if flags is not None:
                flag += (16 << i) * _beyond(value)
            _store_pixel(out + i * area + at, _clamped(value), mask, RANGE, LOW, SPAN)
        if flags is not None:
            tl.store(flags + b * area + at, flag.to(flags.dtype.element_ty), mask=mask)
    if seen is not None:
        # Of most images nothing is loaded.
        mask &= tl.load(seen + b) != 0
        image += b * stride_b + row * stride_y + x.to(tl.int64) * stride_x
        undefined = mask & (row < 0)
        for i in tl.static_range(CHANNELS):
            number = tl.load(image + i * stride_c, mask=mask, other=0)
            undefined |= number != number
        for i in tl.static_range(CHANNELS):
            tl.store(out + i * area + at, float("nan"), mask=undefined)
