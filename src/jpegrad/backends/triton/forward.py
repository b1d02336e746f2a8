"""The Triton kernels of the exact forward: image to levels or decoded planes, levels to planes, planes to image."""

import triton
import triton.language as tl

from jpegrad.backends.triton.blocks import (
    blocks_of,
    channel,
    chroma_block,
    color_of,
    fdct,
    idct,
    level_of,
    load_level,
    luma_block,
    mcu_places,
    near,
    nearest,
    pixel_places,
    store_rows,
    store_unconverted,
    store_undefined,
    table_row,
    tables_of,
    wide_product,
)


@triton.jit
def _in_steps(c, step):
    return tl.div_rn(c.to(tl.float32), 8.0 * step.to(tl.float32))


@triton.jit
def _sample(pointer, offsets, mask, RANGE: tl.constexpr):
    """Grey levels 0…255 as saving the image would round them; flags: 1 if the clamp acted, 128 if it met no number.

    Then 1 for NaN.
    """
    x = tl.load(pointer + offsets, mask=mask, other=0)
    if RANGE[0] == "bytes":
        return x.to(tl.int32), x.to(tl.int32) * 0, x.to(tl.int32) * 0
    elif RANGE[0] == "real":
        x = x.to(tl.float32)
        p = (x.to(tl.float64) - RANGE[1]) * RANGE[2]
        outside = ((p >= 0.0) & (p <= 255.0)) == 0
        finite = tl.abs(x) < float("inf")
        p = tl.where(p >= 0.0, tl.where(p <= 255.0, p, 255.0), 0.0)
        return nearest(p).to(tl.int32), tl.where(outside, tl.where(finite, 1, 129), 0), (x != x).to(tl.int32)
    else:
        x = x.to(tl.float32)
        low: tl.constexpr = -1.0 if RANGE[0] == "signed" else 0.0
        top: tl.constexpr = 255.0 if RANGE[0] == "grey" else 1.0
        clamped = tl.minimum(tl.where(x >= low, x, low), top)
        flag = tl.where(clamped == x, 0, tl.where(tl.abs(x) < float("inf"), 1, 129))
        # From 1.5·2^23 on a float's lowest bits are the nearest integer, half to even; 255·x is rounded only there.
        if RANGE[0] == "grey":
            shifted = clamped + 12582912.0
        elif RANGE[0] == "unit":
            shifted = tl.fma(clamped, 255.0, 12582912.0)
        else:
            # Levels 127.5·(x + 1) change where 127.5·x is an integer: what the nearest one leaves decides. At 0 the
            # tie goes to 128, with all that 1 + x in float64 does not tell from 0.
            shifted = tl.fma(clamped, 127.5, 12582912.0)
            left = tl.fma(clamped, 127.5, 12582912.0 - shifted)
            shifted += tl.where(left >= -7.077671781985373e-15, 128.0, 127.0)
        return shifted.to(tl.int32, bitcast=True) & 255, flag, (x != x).to(tl.int32)


@triton.jit
def pixels_of(image, strides, y, x, mask, CHANNELS: tl.constexpr, RANGE: tl.constexpr):
    """Samples of every channel, flags of their clamps, whether there is a NaN among them."""
    offsets = y * strides[2] + x * strides[3]
    sample, flags, undefined = _sample(image, offsets, mask, RANGE)
    samples = (sample,)
    for i in tl.static_range(1, CHANNELS):
        sample, flag, nan = _sample(channel(image, strides, i), offsets, mask, RANGE)
        samples += (sample,)
        flags += flag << i
        undefined |= nan
    return samples, flags, undefined


@triton.jit
def _product(color, x, ROW: tl.constexpr):
    """A row of 16-bit fixed-point factors that tensors give, times samples: float64 holds them whatever they are."""
    found = nearest(color[3 * ROW] * 65536.0) * x[0]
    found += nearest(color[3 * ROW + 1] * 65536.0) * x[1]
    return found + nearest(color[3 * ROW + 2] * 65536.0) * x[2]


@triton.jit
def _mixed(rgb, COLOR: tl.constexpr, color, ROW: tl.constexpr):
    """A row of a colour conversion: three 16-bit fixed-point factors and a bias."""
    if color is None:
        x = (
            COLOR[4 * ROW] * rgb[0]
            + COLOR[4 * ROW + 1] * rgb[1]
            + COLOR[4 * ROW + 2] * rgb[2]
            + COLOR[4 * ROW + 3]
        )
        return _clamped(x >> 16)
    else:
        samples = (rgb[0].to(tl.float64), rgb[1].to(tl.float64), rgb[2].to(tl.float64))
        half: tl.constexpr = 32768.0 if ROW == 0 else 32767.0
        x = _product(color, samples, ROW) + (nearest(color[9 + ROW] * 65536.0) + half)
        x = tl.floor(x * (1.0 / 65536))
        return tl.where(x > 0.0, tl.minimum(x, 255.0), 0.0).to(tl.int32)


@triton.jit
def _unmixed(ycc, INVERSE: tl.constexpr, color, ROW: tl.constexpr):
    """A row of the conversion back, before its clamp, or another number beyond the same bound."""
    if color is None:
        x = INVERSE[4 * ROW] * ycc[0] + INVERSE[4 * ROW + 1] * ycc[1] + INVERSE[4 * ROW + 2] * ycc[2]
        return (x + INVERSE[4 * ROW + 3]) >> 16
    else:
        samples = ()
        for i in tl.static_range(3):
            samples += (ycc[i].to(tl.float64) - color[9 + i],)
        x = tl.floor((_product(color, samples, ROW) + 32768.0) * (1.0 / 65536))
        return tl.where(x > -1.0, tl.minimum(x, 256.0), -1.0).to(tl.int32)


@triton.jit
def _clamped(x):
    return tl.minimum(tl.maximum(x, 0), 255)


@triton.jit
def _beyond(x):
    """Flag of a decoded sample that the clamp moves."""
    return ((x < 0) | (x > 255)).to(tl.int32)


@triton.jit
def _code(tile, tables, coefficients, levels, ratios, place):
    """Encode samples −128…127 ``[N, 8, 8]``; without room for levels, decode them to samples before the clamp."""
    rows = fdct(tile, 11, 15)
    if coefficients is not None:
        store_rows(coefficients, place, rows)
    steps, found, in_steps = (), (), ()
    for i in tl.static_range(8):
        steps += (table_row(tables[0], i, rows[i]),)
    if ratios is not None:
        for i in tl.static_range(8):
            in_steps += (_in_steps(rows[i], steps[i]),)
        store_rows(ratios, place, in_steps)
    for i in tl.static_range(8):
        found += (level_of(rows[i], steps[i], table_row(tables[1], i, rows[i])),)
    if levels is not None:
        store_rows(levels, place, found)
        return tile
    else:
        restored = ()
        for i in tl.static_range(8):
            restored += (found[i] * steps[i],)
        return 128 + idct(restored, 11, 18)


@triton.jit(do_not_specialize=["height"])
def encode_kernel(
    image, strides, tables, colors, planes, seen, flags, coefficients, levels, ratios, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, COLOR: tl.constexpr, RANGE: tl.constexpr,
    ALIGNED: tl.constexpr, N: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """An image to its levels if there is room for them, else to its decoded 8-bit planes, padded to whole MCUs.

    What a backward pass needs is stored where there is room: flags of the clamps, coefficients (8 times the
    orthonormal), coefficients in steps. ``seen`` becomes 1 for an image with a NaN. ``colors`` stand for COLOR.
    """
    b, mcu = mcu_places(height, width, H, V, N, LONG)
    valid, color = mcu[2], color_of(colors, b)
    rows, columns = tl.cdiv(height, 8 * V) * 8, tl.cdiv(width, 8 * H) * 8
    image += b * strides[0]
    for k in range(H * V):
        y, x, place = luma_block(mcu, k, height, width, H, V)
        column = x if ALIGNED else tl.minimum(x, width - 1)
        row = tl.minimum(y, height - 1)
        samples, flag, undefined = pixels_of(image, strides, row, column, valid, CHANNELS, RANGE)
        sample = _mixed(samples, COLOR, color, 0) if CHANNELS == 3 else samples[0]
        out = _code(
            sample - 128, tables_of(tables, 0, b), blocks_of(coefficients, 0, b, height, width, H, V),
            blocks_of(levels, 0, b, height, width, H, V), blocks_of(ratios, 0, b, height, width, H, V), place,
        )  # fmt: skip
        if levels is None:
            luma = planes[0] + b * wide_product(b, rows * V, columns * H)
            tl.store(luma + (y * (columns * H) + x), _clamped(out).to(tl.uint8), mask=valid)
            flag += 8 * _beyond(out)
        if seen is not None:
            tl.store(seen + b, 1, mask=tl.max(tl.reshape(undefined, (N * 64,)), 0) > 0)
        if flags is not None:
            area = wide_product(b, height, width)
            if flags[0].dtype.element_ty == tl.uint8:
                flag = (flag & 127) + 128 * undefined
            else:
                flag += 1024 * undefined
            inside = valid & (y < height) & (x < width)
            tl.store(flags[0] + b * area + (y * width + x), flag.to(flags[0].dtype.element_ty), mask=inside)
    if CHANNELS == 3:
        y, x, place = chroma_block(mcu, width, H)
        cb = tl.zeros((N, 8, 8), tl.int32)
        cr = tl.zeros((N, 8, 8), tl.int32)
        for k in range(H * V):
            # Below the image, libjpeg replicates the last downsampled row, not the last row of pixels.
            row = tl.minimum(tl.minimum(y, tl.cdiv(height, V) - 1) * V + k // H, height - 1)
            column = x * H + k % H
            column = column if ALIGNED else tl.minimum(column, width - 1)
            rgb, _flag, _undefined = pixels_of(image, strides, row, column, valid, CHANNELS, RANGE)
            cb += _mixed(rgb, COLOR, color, 1)
            cr += _mixed(rgb, COLOR, color, 2)
        # An alternating bias keeps the mean of pairs and squares unbiased.
        bias = x % 2 + (V - 1) if H == 2 else H * V // 2
        chroma = ((cb + bias) // (H * V), (cr + bias) // (H * V))
        for c in tl.static_range(1, 3):
            out = _code(
                chroma[c - 1] - 128, tables_of(tables, c, b), blocks_of(coefficients, c, b, height, width, H, V),
                blocks_of(levels, c, b, height, width, H, V), blocks_of(ratios, c, b, height, width, H, V), place,
            )  # fmt: skip
            if levels is None:
                plane, at = (2 * b + (c - 1)) * wide_product(b, rows, columns), y * columns + x
                tl.store(planes[1] + plane + at, _clamped(out).to(tl.uint8), mask=valid)
                if flags is not None:
                    tl.store(flags[1] + plane + at, _beyond(out).to(tl.uint8), mask=valid)


@triton.jit
def _decode(levels, steps, place):
    """Samples before the clamp, or others beyond the same bound.

    Levels from anywhere have up to 16 bits, or are no integers, and need float64. Below a sum of 16383 over a block,
    twice that of any picture, the constants, less than 2^14 each, leave both passes of 32-bit integers room.
    """
    rows = ()
    total = tl.zeros(place[0].shape, tl.float32) + tl.zeros((1, 8), tl.float32)
    for i in tl.static_range(8):
        x = load_level(levels, place, i)
        x *= table_row(steps, i, x).to(tl.float32)
        # What is no integer counts as too much.
        total += tl.where(x == tl.floor(x), tl.abs(x), 65536.0)
        rows += (x,)
    if tl.max(tl.sum(total, 1), 0) < 16383.0:
        whole = ()
        for i in tl.static_range(8):
            whole += (rows[i].to(tl.int32),)
        samples = 128 + idct(whole, 11, 18)
    else:
        wide = ()
        for i in tl.static_range(8):
            x = load_level(levels, place, i)
            wide += (x.to(tl.float64) * table_row(steps, i, x).to(tl.float64),)
        found = 128.0 + idct(wide, 11, 18)
        samples = tl.minimum(tl.maximum(found, -1.0), 256.0).to(tl.int32)
    return samples


@triton.jit(do_not_specialize=["height"])
def decode_kernel(
    levels, tables, planes, flags, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, N: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Levels to decoded 8-bit planes, and flags of the clamps where there is room."""
    b, mcu = mcu_places(height, width, H, V, N, LONG)
    valid = mcu[2]
    rows, columns = tl.cdiv(height, 8 * V) * 8, tl.cdiv(width, 8 * H) * 8
    for k in range(H * V):
        y, x, place = luma_block(mcu, k, height, width, H, V)
        out = _decode(blocks_of(levels, 0, b, height, width, H, V), tables_of(tables, 0, b)[0], place)
        luma = planes[0] + b * wide_product(b, rows * V, columns * H)
        tl.store(luma + (y * (columns * H) + x), _clamped(out).to(tl.uint8), mask=valid)
        if flags is not None:
            flag = (8 * _beyond(out)).to(flags[0].dtype.element_ty)
            inside = valid & (y < height) & (x < width)
            tl.store(flags[0] + b * wide_product(b, height, width) + (y * width + x), flag, mask=inside)
    if CHANNELS == 3:
        y, x, place = chroma_block(mcu, width, H)
        for c in tl.static_range(1, 3):
            out = _decode(blocks_of(levels, c, b, height, width, H, V), tables_of(tables, c, b)[0], place)
            plane, at = (2 * b + (c - 1)) * wide_product(b, rows, columns), y * columns + x
            tl.store(planes[1] + plane + at, _clamped(out).to(tl.uint8), mask=valid)
            if flags is not None:
                tl.store(flags[1] + plane + at, _beyond(out).to(tl.uint8), mask=valid)


@triton.jit
def upsampled(plane, y, x, height, width, pitch, mask, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr):
    """The triangle filter, rounded as libjpeg-turbo rounds it (``jdsample.c``)."""
    near_y, far_y = near(y, tl.cdiv(height, V), V, FANCY)
    near_x, far_x = near(x, tl.cdiv(width, H), H, FANCY)
    near_row, far_row = near_y * pitch, far_y * pitch
    p = tl.load(plane + (near_row + near_x), mask=mask, other=0).to(tl.int32)
    if FANCY and V == 2:
        p = 3 * p + tl.load(plane + (far_row + near_x), mask=mask, other=0).to(tl.int32)
    if FANCY and H == 2:
        q = tl.load(plane + (near_row + far_x), mask=mask, other=0).to(tl.int32)
        if V == 2:
            q = 3 * q + tl.load(plane + (far_row + far_x), mask=mask, other=0).to(tl.int32)
            p = (3 * p + q + 8 - x % 2) >> 4
        else:
            p = (3 * p + q + 1 + x % 2) >> 2
    elif FANCY and V == 2:
        p = (p + 1 + y % 2) >> 2
    return p


@triton.jit
def store_pixel(out, x, mask, RANGE: tl.constexpr):
    """A grey level in the image's range, rounded once."""
    if RANGE[0] == "bytes":
        tl.store(out, x.to(tl.uint8), mask=mask)
    elif RANGE[0] == "grey":
        tl.store(out, x.to(tl.float32), mask=mask)
    elif RANGE[0] == "unit" or RANGE[0] == "signed":
        # 1/255 in two parts, of which the first has few bits: the sum is rounded as the quotient for all 256 levels.
        grey = (x if RANGE[0] == "unit" else 2 * x - 255).to(tl.float32)
        tl.store(out, tl.fma(grey, 0.0039215087890625, grey * 5.983839201917363e-8), mask=mask)
    else:
        tl.store(out, (RANGE[1] + x.to(tl.float64) / 255.0 * RANGE[2]).to(tl.float32), mask=mask)


@triton.jit(do_not_specialize=["height"])
def image_kernel(
    planes, colors, out, flags, image, strides, seen, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr, INVERSE: tl.constexpr,
    RANGE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Decoded planes to an image: chroma upsampling, colour, clamp, range. ``out`` is contiguous.

    Pixels with a NaN in the encoder's image, if that is given, are NaN. ``colors`` stand for INVERSE.
    """
    b, y, x, mask = pixel_places(height, width, ROWS, COLUMNS, LONG)
    area, color = wide_product(b, height, width), color_of(colors, b)
    at = y * width + x
    out += b * CHANNELS * area
    rows, columns = tl.cdiv(height, 8 * V) * 8, tl.cdiv(width, 8 * H) * 8
    luma = planes[0] + b * wide_product(b, rows * V, columns * H)
    sample = tl.load(luma + (y * (columns * H) + x), mask=mask, other=0).to(tl.int32)
    if CHANNELS == 1:
        store_pixel(out + at, sample, mask, RANGE)
    else:
        plane = wide_product(b, rows, columns)
        chroma = planes[1] + 2 * b * plane
        cb = upsampled(chroma, y, x, height, width, columns, mask, H, V, FANCY)
        cr = upsampled(chroma + plane, y, x, height, width, columns, mask, H, V, FANCY)
        if flags is not None:
            flag = tl.load(flags + b * area + at, mask=mask, other=0).to(tl.int32)
        for i in tl.static_range(3):
            value = _unmixed((sample, cb, cr), INVERSE, color, i)
            if flags is not None:
                flag += (16 << i) * _beyond(value)
            store_pixel(out + i * area + at, _clamped(value), mask, RANGE)
        if flags is not None:
            tl.store(flags + b * area + at, flag.to(flags.dtype.element_ty), mask=mask)
        if color is not None and RANGE[0] != "bytes":
            store_unconverted(out, at, area, color, mask)
    if seen is not None:
        store_undefined(image, strides, seen, out, at, b, y, x, area, mask, CHANNELS)
