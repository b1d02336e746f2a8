"""The Triton kernels of the soft forward: image to decoded planes of real numbers, and those to an image.

Samples are kept around 0, so that float32 resolves them finely. What the backward pass needs of the rounding is stored
per coefficient: its slope, and what the table's gradient multiplies. Clamps are smoothed by the noise that they see;
their slopes are stored where they act.
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
    part,
    pixel_places,
    row_places,
    store_undefined,
    table_row,
    tables_of,
    wide_product,
)
from jpegrad.backends.triton.slopes import normal_tail, soft_of


@triton.jit
def _clamp(x, deviation, LEAK: tl.constexpr):
    """Grey levels through a clamp that leaks, its slope, and where it acts.

    With noise of a ``deviation`` it is the mean of the clamp, as in ``stages/noise.py``; six deviations away float32
    sees no clamp. Decoded samples have a variance of 0.04 at least.
    """
    clamped = tl.minimum(tl.maximum(x, 0.0), 255.0)
    if deviation is None:
        acts = clamped != x
        mean = clamped
        slope = tl.where(acts, LEAK + 0.0, 1.0)
    else:
        acts = (x < 6.0 * deviation) | (x > 255.0 - 6.0 * deviation)
        inverse = 1.0 / deviation
        _density, below, excess = _bound(x * inverse)
        _density, above, excess_above = _bound((255.0 - x) * inverse)
        mean = tl.where(acts, clamped + deviation * (excess - excess_above), x)
        slope = 1.0 - below - above
        slope += LEAK * (1.0 - slope)
    if LEAK != 0:
        mean += tl.where(acts & (tl.abs(x) < float("inf")), LEAK * (x - mean), 0.0)
    return mean, slope, acts.to(tl.int32)


@triton.jit
def _bound(x):
    """A bound ``x`` deviations below: the density there, the probability below it, E[max(noise − abs(x), 0)]."""
    z = tl.minimum(tl.abs(x), 9.0)
    e = tl.exp(-0.5 * z * z)
    p = normal_tail(z, e)
    return 0.398942280 * e, tl.where(x < 0, 1.0 - p, p), 0.398942280 * e - z * p


@triton.jit
def _lost(x, variance):
    """By how much the clamp lessens the variance of x + noise."""
    inverse = 1.0 / tl.sqrt(variance)
    to_low = tl.minimum(tl.maximum(x * inverse, -9.0), 9.0)
    to_high = tl.minimum(tl.maximum((255.0 - x) * inverse, -9.0), 9.0)
    at_low, below, _excess = _bound(to_low)
    at_high, above, _excess = _bound(to_high)
    mean = at_low - to_low * below - at_high + to_high * above
    square = 1.0 + (to_low * to_low - 1.0) * below - to_low * at_low
    square += (to_high * to_high - 1.0) * above - to_high * at_high
    return variance * (1.0 - tl.maximum(square - mean * mean, 0.0))


@triton.jit
def _grey(pointer, mask, noise, RANGE: tl.constexpr, LEAK: tl.constexpr):
    """Grey levels behind the clamp and its slope; flags as in the exact forward; NaN; variance that the clamp takes."""
    x = tl.load(pointer, mask=mask, other=0).to(tl.float32)
    level = (x - RANGE[0]) * RANGE[1]
    level = tl.where(x != x, 0.0, level)
    outside = (tl.abs(x) < float("inf")) == 0
    if noise is None:
        clamped, slope, acts = _clamp(level, None, LEAK)
        lost = level * 0.0
    else:
        clamped, slope, acts = _clamp(level, noise[0], LEAK)
        # Rounding adds to this noise, so that it reaches farther than that of the clamp.
        reach = 6.0 * tl.sqrt(noise[1])
        lost = tl.where((level < reach) | (level > 255.0 - reach), _lost(level, noise[1]), 0.0)
    acts = tl.where(outside, 129, acts)
    return clamped, slope, acts, (x != x).to(tl.int32), lost


@triton.jit
def _pixels(
    image, strides, y, x, mask, noise, clips, pixel, area,
    CHANNELS: tl.constexpr, RANGE: tl.constexpr, LEAK: tl.constexpr,
):  # fmt: skip
    """Every channel's grey levels, flags, NaN and lost variance; slopes of the clamps that act go to ``clips``."""
    image += y.to(tl.int64) * strides[2] + x.to(tl.int64) * strides[3]
    levels, losses = (), ()
    flags = (y + x) * 0
    undefined = flags
    for i in tl.static_range(CHANNELS):
        level, slope, acts, nan, lost = _grey(image + i * strides[1], mask, noise, RANGE, LEAK)
        if clips is not None:
            tl.store(clips + i * area + pixel[0], slope, mask=pixel[1] & (acts != 0))
        levels += (level,)
        losses += (lost,)
        flags += acts << i
        undefined |= nan
    return levels, flags, undefined, losses


@triton.jit
def _mixed(rgb, ROWS: tl.constexpr, ROW: tl.constexpr):
    return (
        ROWS[4 * ROW] * rgb[0] + ROWS[4 * ROW + 1] * rgb[1] + ROWS[4 * ROW + 2] * rgb[2] + ROWS[4 * ROW + 3]
    )


@triton.jit
def _squared(rgb, ROWS: tl.constexpr, ROW: tl.constexpr):
    """What variances of the channels add to a plane's."""
    found = ROWS[4 * ROW] * ROWS[4 * ROW] * rgb[0] + ROWS[4 * ROW + 1] * ROWS[4 * ROW + 1] * rgb[1]
    return found + ROWS[4 * ROW + 2] * ROWS[4 * ROW + 2] * rgb[2]


@triton.jit
def _code(
    tile, lost, base, tables, parameter, slopes, factors, spread, place, RECORD: tl.constexpr, LEAK: tl.constexpr
):  # fmt: skip
    """Samples around 0 ``[N, 8, 8]`` to decoded ones, the slope of their clamp, and where that acts.

    ``base`` is the variance of a coefficient without clamps and ``lost`` what these take of it, by sample; ``spread``
    gets that of the decoded samples.
    """
    rows = fdct(tile, 0, 0)
    restored = ()
    if base is not None:
        variance = tl.maximum(base - tl.sum(tl.sum(lost, 2), 1)[:, None] * (1.0 / 64), 0.0)
        decoded = rows[0] * 0.0
        if RECORD == "gaussian":
            parameter = tl.maximum(tl.sqrt(variance), 1e-6)
    for i in tl.static_range(8):
        step = table_row(tables[0], i, rows[i])
        u = rows[i] * table_row(tables[1], i, rows[i])
        value, slope, widening = soft_of(u, step, RECORD, parameter)
        if slopes is not None:
            tl.store(row_places(slopes, place, i), slope, mask=place[1])
        if factors is not None:
            tl.store(row_places(factors, place, i), value - slope * u - widening, mask=place[1])
        if base is not None:
            share = tl.abs(value - ((value + 12582912.0) - 12582912.0))
            decoded += step * step * (share - share * share) + tl.maximum(
                variance - step * step * (1.0 / 12), 0.0
            )
        restored += (value * step,)
    samples = idct(restored, 0, 0) + 128.0
    if base is None:
        return _clamp(samples, None, LEAK)
    else:
        total = tl.sum(decoded, 1)[:, None] * (1.0 / 64)
        tl.store(spread + place[0], total, mask=place[1])
        deviation = tl.sqrt(tl.maximum(total, 0.04))
        return _clamp(samples, deviation[:, :, None], LEAK)


@triton.jit
def _base(noise, C: tl.constexpr):
    if noise is None:
        return None
    else:
        return noise[2 + C]


@triton.jit(do_not_specialize=["height"])
def soft_kernel(
    image, strides, tables, parameters, noise, planes, spreads, seen, flags, clips, slopes, factors, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, COLOR: tl.constexpr, RANGE: tl.constexpr,
    LEAK: tl.constexpr, RECORD: tl.constexpr, ALIGNED: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """An image to its decoded planes, around 0 and padded to whole MCUs; ``seen`` becomes 1 for an image with a NaN.

    ``noise`` has the deviation of a pixel as its clamp sees it, the variance of a pixel, and that of each component's
    coefficients, or is None for sharp clamps. ``spreads`` are then the variances of each block's decoded samples, and
    ``clips`` the slopes of the clamps of pixels, Y, and Cb and Cr, written where a flag is set.
    """
    b, mcu = mcu_places(height, width, H, V, N)
    valid = mcu[2]
    rows, columns = tl.cdiv(height, 8 * V) * 8, tl.cdiv(width, 8 * H) * 8
    area = wide_product(b, height, width)
    image += b * strides[0]
    for k in range(H * V):
        y, x, place = luma_block(mcu, k, height, width, H, V)
        column = x if ALIGNED else tl.minimum(x, width - 1)
        row = tl.minimum(y, height - 1)
        inside = valid & (y < height) & (x < width)
        pixel = (y.to(tl.int64) * width + x, inside)
        levels, flag, undefined, losses = _pixels(
            image, strides, row, column, valid, noise, part(clips, 0, b * CHANNELS * area), pixel, area,
            CHANNELS, RANGE, LEAK,
        )  # fmt: skip
        sample = _mixed(levels, COLOR, 0) if CHANNELS == 3 else levels[0] - 128.0
        lost = _squared(losses, COLOR, 0) if CHANNELS == 3 else losses[0]
        out, slope, acts = _code(
            sample, lost, _base(noise, 0), tables_of(tables, 0, b), parameters[0],
            blocks_of(slopes, 0, b, height, width, H, V), blocks_of(factors, 0, b, height, width, H, V),
            part(spreads, 0, b * tl.cdiv(height, 8) * tl.cdiv(width, 8)), place, RECORD, LEAK,
        )  # fmt: skip
        tl.store(planes[0] + (b * (rows * V) + y) * (columns * H) + x, out - 128.0, mask=valid)
        tl.store(seen + b, 1, mask=tl.max(tl.reshape(undefined, (N * 64,)), 0) > 0)
        if flags is not None:
            flag += 8 * acts
            if flags[0].dtype.element_ty == tl.uint8:
                flag = (flag & 127) + 128 * undefined
            else:
                flag += 1024 * undefined
            tl.store(flags[0] + b * area + pixel[0], flag.to(flags[0].dtype.element_ty), mask=inside)
            if clips is not None:
                tl.store(clips[1] + b * area + pixel[0], slope, mask=inside & (acts != 0))
    if CHANNELS == 3:
        y, x, place = chroma_block(mcu, width, H)
        cb = tl.zeros((N, 8, 8), tl.float32)
        cr = tl.zeros((N, 8, 8), tl.float32)
        lost_cb = tl.zeros((N, 8, 8), tl.float32)
        lost_cr = tl.zeros((N, 8, 8), tl.float32)
        for k in range(H * V):
            row = tl.minimum(tl.minimum(y, tl.cdiv(height, V) - 1) * V + k // H, height - 1)
            column = x * H + k % H
            column = column if ALIGNED else tl.minimum(column, width - 1)
            rgb, _flag, _undefined, losses = _pixels(
                image, strides, row, column, valid, noise, None, None, area, CHANNELS, RANGE, LEAK
            )
            cb += _mixed(rgb, COLOR, 1)
            cr += _mixed(rgb, COLOR, 2)
            lost_cb += _squared(losses, COLOR, 1)
            lost_cr += _squared(losses, COLOR, 2)
        # Of libjpeg's rounding of the mean what is left on average; it alternates along a row of pairs.
        share: tl.constexpr = 1.0 / (H * V)
        bias = (x % 2).to(tl.float32) - 0.5 if H == 2 else (0.5 if H * V > 1 else 0.0)
        chroma = ((cb + bias) * share, (cr + bias) * share)
        losses = (lost_cb * (share * share), lost_cr * (share * share))
        for c in tl.static_range(1, 3):
            mcus = tl.cdiv(height, 8 * V) * tl.cdiv(width, 8 * H)
            out, slope, acts = _code(
                chroma[c - 1], losses[c - 1], _base(noise, c), tables_of(tables, c, b), parameters[c],
                blocks_of(slopes, c, b, height, width, H, V), blocks_of(factors, c, b, height, width, H, V),
                part(spreads, 1, (2 * b + (c - 1)) * mcus), place, RECORD, LEAK,
            )  # fmt: skip
            at = ((2 * b + (c - 1)) * rows + y) * columns + x
            tl.store(planes[1] + at, out - 128.0, mask=valid)
            if flags is not None:
                tl.store(flags[1] + at, acts.to(tl.uint8), mask=valid)
                if clips is not None:
                    tl.store(clips[2] + at, slope, mask=valid & (acts != 0))


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
    planes, spreads, out, flags, clips, image, strides, seen, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr, INVERSE: tl.constexpr,
    RANGE: tl.constexpr, LEAK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Decoded planes to an image: chroma upsampling, colour, clamp, range. ``out`` is contiguous.

    ``spreads`` are the variances of each block's samples, which smooth the clamp; its slopes go to ``clips``.
    """
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
        if spreads is not None:
            across, mcus_x = tl.cdiv(width, 8), tl.cdiv(width, 8 * H)
            mcus = tl.cdiv(height, 8 * V) * mcus_x
            block = spreads[0] + b * tl.cdiv(height, 8) * across + (y // 8) * across + x // 8
            other = spreads[1] + 2 * b * mcus + (y // (8 * V)) * mcus_x + x // (8 * H)
            spread = (
                tl.load(block, mask=mask, other=0.0),
                tl.load(other, mask=mask, other=0.0),
                tl.load(other + mcus, mask=mask, other=0.0),
            )
        for i in tl.static_range(3):
            mixed = _mixed((sample, cb, cr), INVERSE, i)
            if spreads is None:
                value, slope, acts = _clamp(mixed, None, LEAK)
            else:
                deviation = tl.sqrt(tl.maximum(_squared(spread, INVERSE, i), 0.04))
                value, slope, acts = _clamp(mixed, deviation, LEAK)
            if flags is not None:
                flag += (16 << i) * acts
            if clips is not None:
                tl.store(clips + (3 * b + i) * area + at, slope, mask=mask & (acts != 0))
            tl.store(out + i * area + at, value * RANGE[1] + RANGE[0], mask=mask)
        if flags is not None:
            tl.store(flags + b * area + at, flag.to(flags.dtype.element_ty), mask=mask)
    store_undefined(image, strides, seen, out, at, b, row, x, area, mask, CHANNELS)
