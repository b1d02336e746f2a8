"""The Triton kernels of the soft forward: image to decoded planes of real numbers, and those to an image.

Samples are kept around 0, so that float32 resolves them finely. What the backward pass needs of the rounding is stored
per coefficient: its slope, and what the table's gradient multiplies. Clamps are smoothed by the noise that they see;
their slopes are stored where they act.
"""

import triton
import triton.language as tl

from jpegrad.backends.triton.blocks import (
    any_of,
    blocks_of,
    channel,
    chroma_block,
    color_of,
    fdct,
    idct,
    load_level,
    luma_block,
    mcu_places,
    near,
    part,
    pixel_places,
    row_places,
    store_unconverted,
    store_undefined,
    table_row,
    tables_of,
    wide_product,
)
from jpegrad.backends.triton.slopes import may_be_wide, normal_tail, soft_of


@triton.jit
def _clamp(x, deviation, some, far, LEAK: tl.constexpr):
    """Grey levels through a clamp that leaks, its slope, and where it acts.

    With noise of a ``deviation`` it is the mean of the clamp, as in ``stages/noise.py``; six deviations away float32
    sees no clamp. For all lanes alike, ``some`` says whether a clamp may act anywhere, and ``far`` whether both bounds
    may be near. Decoded samples have a variance of 0.04 at least.
    """
    clamped = tl.minimum(tl.maximum(x, 0.0), 255.0)
    if deviation is None:
        acts = clamped != x
        mean = clamped
        slope = tl.where(acts, LEAK + 0.0, 1.0)
        if LEAK != 0:
            mean += tl.where(acts & (tl.abs(x) < float("inf")), LEAK * (x - mean), 0.0)
    else:
        near = _nearest(x)
        acts = near < 6.0 * deviation
        mean = x
        slope = tl.full(x.shape, 1.0, tl.float32)
        if some:
            inverse = 1.0 / deviation
            _density, beyond, excess = _bound(near * inverse)
            if far:
                _density, other, excess_other = _bound((255.0 - near) * inverse)
                beyond += other
                excess -= excess_other
            moved = deviation * excess
            mean = tl.where(acts, clamped + tl.where(x < 127.5, moved, -moved), x)
            slope = 1.0 - beyond
            if LEAK != 0:
                slope += LEAK * beyond
                mean += tl.where(acts & (tl.abs(x) < float("inf")), LEAK * (x - mean), 0.0)
    return mean, slope, acts.to(tl.int32)


@triton.jit
def _nearest(x):
    """How far the nearest bound is; negative beyond it."""
    return tl.minimum(x, 255.0 - x)


@triton.jit
def _is_far(variance):
    """Whether both bounds may lie within six deviations."""
    return variance > 440.0


@triton.jit
def _bound(x):
    """A bound ``x`` deviations below: the density there, the probability below it, E[max(noise − abs(x), 0)]."""
    z = tl.minimum(tl.abs(x), 9.0)
    e = tl.exp(-0.5 * z * z)
    p = normal_tail(z, e)
    return 0.398942280 * e, tl.where(x < 0, 1.0 - p, p), 0.398942280 * e - z * p


@triton.jit
def _lost(near, variance, far):
    """By how much the clamp lessens the variance of noise whose nearest bound is ``near``."""
    inverse = 1.0 / tl.sqrt(variance)
    z = tl.minimum(tl.maximum(near * inverse, -9.0), 9.0)
    density, beyond, _excess = _bound(z)
    mean = density - z * beyond
    square = 1.0 + (z * z - 1.0) * beyond - z * density
    if far:
        z = tl.minimum((255.0 - near) * inverse, 9.0)
        density, beyond, _excess = _bound(z)
        mean -= density - z * beyond
        square += (z * z - 1.0) * beyond - z * density
    return variance * (1.0 - tl.maximum(square - mean * mean, 0.0))


@triton.jit
def _grey(pointer, mask, noise, RANGE: tl.constexpr, LEAK: tl.constexpr):
    """Grey levels behind the clamp and its slope; flags as in the exact forward; NaN; variance that the clamp takes."""
    x = tl.load(pointer, mask=mask, other=0).to(tl.float32)
    level = (x - RANGE[0]) * RANGE[1]
    level = tl.where(x != x, 0.0, level)
    outside = (tl.abs(x) < float("inf")) == 0
    lost = tl.zeros(level.shape, tl.float32)
    if noise is None:
        clamped, slope, acts = _clamp(level, None, None, None, LEAK)
    else:
        # Rounding adds to this noise, so that it reaches farther than that of the clamp.
        near, far = _nearest(level), _is_far(noise[1])
        reached = near < 6.0 * tl.sqrt(noise[1])
        some = any_of(reached)
        clamped, slope, acts = _clamp(level, noise[0], some, far, LEAK)
        if some:
            lost = tl.where(reached, _lost(near, noise[1], far), 0.0)
    acts = tl.where(outside, 129, acts)
    return clamped, slope, acts, (x != x).to(tl.int32), lost


@triton.jit
def pixels_of(
    image, strides, y, x, mask, noise, clips, pixel, area,
    CHANNELS: tl.constexpr, RANGE: tl.constexpr, LEAK: tl.constexpr,
):  # fmt: skip
    """Every channel's grey levels, flags, NaN and lost variance; slopes of the clamps that act go to ``clips``."""
    offsets = y * strides[2] + x * strides[3]
    levels, losses = (), ()
    flags = (y + x) * 0
    undefined = flags
    for i in tl.static_range(CHANNELS):
        level, slope, acts, nan, lost = _grey(channel(image, strides, i) + offsets, mask, noise, RANGE, LEAK)
        if clips is not None:
            tl.store(clips + i * area + pixel[0], slope, mask=pixel[1] & (acts != 0))
        levels += (level,)
        losses += (lost,)
        flags += acts << i
        undefined |= nan
    return levels, flags, undefined, losses


@triton.jit
def _mixed(rgb, ROWS, ROW: tl.constexpr):
    return (
        ROWS[4 * ROW] * rgb[0] + ROWS[4 * ROW + 1] * rgb[1] + ROWS[4 * ROW + 2] * rgb[2] + ROWS[4 * ROW + 3]
    )


@triton.jit
def _rows(color, BACK: tl.constexpr):
    """Rows of a conversion that tensors give, of samples to those around 0 or of these ``BACK``."""
    found = ()
    for i in tl.static_range(3):
        a, b, c = color[3 * i], color[3 * i + 1], color[3 * i + 2]
        bias = color[9 + i] - 128.0
        if BACK:
            bias = a * (128.0 - color[9]) + b * (128.0 - color[10]) + c * (128.0 - color[11])
        found += (a.to(tl.float32), b.to(tl.float32), c.to(tl.float32), bias.to(tl.float32))
    return found


@triton.jit
def _averaged(variance, N: tl.constexpr):
    """As ``Component.averaged_variance``."""
    return (variance + 1.0 / 12) * (1.0 / N) + (1.0 - 1.0 / (N * N)) / 12


@triton.jit
def _noise_of(noise, color, H: tl.constexpr, V: tl.constexpr):
    """The noise with the variances of the components' coefficients, by the gains of a conversion of tensors."""
    if noise is None:
        return None
    elif color is None:
        return noise
    else:
        found = (noise[0], noise[1])
        for i in tl.static_range(3):
            gain = color[3 * i] * color[3 * i] + color[3 * i + 1] * color[3 * i + 1]
            gain = (gain + color[3 * i + 2] * color[3 * i + 2]).to(tl.float32)
            found += (_averaged(gain * noise[1], 1 if i == 0 else H * V),)
        return found


@triton.jit
def _squared(rgb, ROWS, ROW: tl.constexpr):
    """What variances of the channels add to a plane's."""
    found = ROWS[4 * ROW] * ROWS[4 * ROW] * rgb[0] + ROWS[4 * ROW + 1] * ROWS[4 * ROW + 1] * rgb[1]
    return found + ROWS[4 * ROW + 2] * ROWS[4 * ROW + 2] * rgb[2]


@triton.jit
def _quantised(
    tile, lost, base, tables, parameter, slopes, factors, levels, ratios, place, RECORD: tl.constexpr
):  # fmt: skip
    """Samples around 0 ``[N, 8, 8]`` to mean levels, by rows, and the variance of a block's coefficients.

    ``base`` is that variance without clamps and ``lost`` what these take of it, by sample.
    """
    rows = fdct(tile, 0, 0)
    wide = may_be_wide(tables[0], RECORD, parameter)
    variance = None
    if base is not None:
        variance = tl.maximum(base - tl.sum(tl.sum(lost, 2), 1)[:, None] * (1.0 / 64), 0.0)
        if RECORD == "gaussian":
            parameter = tl.maximum(tl.sqrt(variance), 1e-6)
    values = ()
    for i in tl.static_range(8):
        step = table_row(tables[0], i, rows[i])
        u = rows[i] * table_row(tables[1], i, rows[i])
        value, slope, widening = soft_of(u, step, RECORD, parameter, wide)
        if slopes is not None:
            tl.store(row_places(slopes, place, i), slope, mask=place[1])
        if factors is not None:
            # What the table's gradient is multiplied by: of steps times levels, or of the levels alone.
            factor = -slope * u - widening
            if levels is None:
                factor += value
            tl.store(row_places(factors, place, i), factor, mask=place[1])
        if ratios is not None:
            tl.store(row_places(ratios, place, i), u, mask=place[1])
        if levels is not None:
            tl.store(row_places(levels, place, i), value, mask=place[1])
        values += (value,)
    return values, variance


@triton.jit
def _restored(values, variance, steps, spread, place, LEAK: tl.constexpr):
    """Levels by rows to decoded samples ``[N, 8, 8]``, the slope of their clamp, and where that acts.

    ``variance`` is that of a block's coefficients, or None for a sharp clamp; ``spread`` gets that of its samples.
    """
    restored = ()
    decoded = values[0] * 0.0
    for i in tl.static_range(8):
        value = values[i]
        step = table_row(steps, i, value)
        if variance is not None:
            share = tl.abs(value - ((value + 12582912.0) - 12582912.0))
            square = step * step
            decoded += square * (share - share * share) + tl.maximum(variance - square * (1.0 / 12), 0.0)
        restored += (value * step,)
    samples = idct(restored, 0, 0) + 128.0
    if variance is None:
        return _clamp(samples, None, None, None, LEAK)
    else:
        total = tl.sum(decoded, 1)[:, None] * (1.0 / 64)
        tl.store(spread + place[0], total, mask=place[1])
        total = tl.maximum(total, 0.04)
        deviation = tl.sqrt(total)[:, :, None]
        some = any_of(_nearest(samples) < 6.0 * deviation)
        return _clamp(samples, deviation, some, any_of(_is_far(total)), LEAK)


@triton.jit
def _base(noise, C: tl.constexpr):
    if noise is None:
        return None
    else:
        return noise[2 + C]


@triton.jit
def _store_luma(out, slope, acts, planes, flags, clips, b, y, x, height, width, rows, columns, valid, flag):
    """Decoded samples of Y around 0, and their clamps beside those of the pixels in ``flag``."""
    tl.store(planes[0] + b * wide_product(b, rows, columns) + (y * columns + x), out - 128.0, mask=valid)
    if flags is not None:
        inside = valid & (y < height) & (x < width)
        area, at = b * wide_product(b, height, width), y * width + x
        tl.store(flags[0] + area + at, (flag + 8 * acts).to(flags[0].dtype.element_ty), mask=inside)
        if clips is not None:
            tl.store(clips[1] + area + at, slope, mask=inside & (acts != 0))


@triton.jit
def _store_chroma(out, slope, acts, planes, flags, clips, plane, at, valid):
    tl.store(planes[1] + plane + at, out - 128.0, mask=valid)
    if flags is not None:
        tl.store(flags[1] + plane + at, acts.to(tl.uint8), mask=valid)
        if clips is not None:
            tl.store(clips[2] + plane + at, slope, mask=valid & (acts != 0))


@triton.jit(do_not_specialize=["height"])
def soft_kernel(
    image, strides, tables, colors, parameters, noise, planes, spreads, seen, flags, clips, slopes, factors, levels,
    ratios, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, COLOR: tl.constexpr, RANGE: tl.constexpr,
    LEAK: tl.constexpr, RECORD: tl.constexpr, ALIGNED: tl.constexpr, N: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """An image to its mean levels if there is room for them, else to its decoded planes, around 0 and in whole MCUs.

    ``noise`` has the deviation of a pixel as its clamp sees it, the variance of a pixel, and that of each component's
    coefficients, or is None for sharp clamps. ``spreads`` are then the variances of each block's decoded samples, and
    ``clips`` the slopes of the clamps of pixels, Y, and Cb and Cr, written where a flag is set. ``seen`` becomes 1 for
    an image with a NaN. ``ratios`` get the coefficients in steps. ``colors`` stand for COLOR.
    """
    b, mcu = mcu_places(height, width, H, V, N, LONG)
    valid, color = mcu[2], color_of(colors, b)
    if colors is None:
        mix: tl.constexpr = COLOR
    else:
        mix = _rows(color, False)
    noise = _noise_of(noise, color, H, V)
    rows, columns = tl.cdiv(height, 8 * V) * 8, tl.cdiv(width, 8 * H) * 8
    area = wide_product(b, height, width)
    image += b * strides[0]
    for k in range(H * V):
        y, x, place = luma_block(mcu, k, height, width, H, V)
        column = x if ALIGNED else tl.minimum(x, width - 1)
        row = tl.minimum(y, height - 1)
        pixel = (y * width + x, valid & (y < height) & (x < width))
        pixels, flag, undefined, losses = pixels_of(
            image, strides, row, column, valid, noise, part(clips, 0, b * CHANNELS * area), pixel, area,
            CHANNELS, RANGE, LEAK,
        )  # fmt: skip
        sample = _mixed(pixels, mix, 0) if CHANNELS == 3 else pixels[0] - 128.0
        lost = _squared(losses, mix, 0) if CHANNELS == 3 else losses[0]
        values, variance = _quantised(
            sample, lost, _base(noise, 0), tables_of(tables, 0, b), parameters[0],
            blocks_of(slopes, 0, b, height, width, H, V), blocks_of(factors, 0, b, height, width, H, V),
            blocks_of(levels, 0, b, height, width, H, V), blocks_of(ratios, 0, b, height, width, H, V), place, RECORD,
        )  # fmt: skip
        if flags is not None:
            if flags[0].dtype.element_ty == tl.uint8:
                flag = (flag & 127) + 128 * undefined
            else:
                flag += 1024 * undefined
        if levels is None:
            tl.store(seen + b, 1, mask=tl.max(tl.reshape(undefined, (N * 64,)), 0) > 0)
            spread = part(spreads, 0, b * tl.cdiv(height, 8) * tl.cdiv(width, 8))
            out, slope, acts = _restored(values, variance, tables_of(tables, 0, b)[0], spread, place, LEAK)
            _store_luma(
                out, slope, acts, planes, flags, clips, b, y, x, height, width, rows * V, columns * H, valid, flag
            )  # fmt: skip
        elif flags is not None:
            tl.store(flags[0] + b * area + pixel[0], flag.to(flags[0].dtype.element_ty), mask=pixel[1])
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
            rgb, _flag, _undefined, losses = pixels_of(
                image, strides, row, column, valid, noise, None, None, area, CHANNELS, RANGE, LEAK
            )
            cb += _mixed(rgb, mix, 1)
            cr += _mixed(rgb, mix, 2)
            lost_cb += _squared(losses, mix, 1)
            lost_cr += _squared(losses, mix, 2)
        # Of libjpeg's rounding of the mean what is left on average; it alternates along a row of pairs.
        share: tl.constexpr = 1.0 / (H * V)
        bias = (x % 2).to(tl.float32) - 0.5 if H == 2 else (0.5 if H * V > 1 else 0.0)
        chroma = ((cb + bias) * share, (cr + bias) * share)
        losses = (lost_cb * (share * share), lost_cr * (share * share))
        for c in tl.static_range(1, 3):
            mcus = tl.cdiv(height, 8 * V) * tl.cdiv(width, 8 * H)
            values, variance = _quantised(
                chroma[c - 1], losses[c - 1], _base(noise, c), tables_of(tables, c, b), parameters[c],
                blocks_of(slopes, c, b, height, width, H, V), blocks_of(factors, c, b, height, width, H, V),
                blocks_of(levels, c, b, height, width, H, V), blocks_of(ratios, c, b, height, width, H, V), place,
                RECORD,
            )  # fmt: skip
            if levels is None:
                spread = part(spreads, 1, (2 * b + (c - 1)) * mcus)
                out, slope, acts = _restored(
                    values, variance, tables_of(tables, c, b)[0], spread, place, LEAK
                )
                plane = (2 * b + (c - 1)) * wide_product(b, rows, columns)
                _store_chroma(out, slope, acts, planes, flags, clips, plane, y * columns + x, valid)


@triton.jit
def _loaded(levels, noise, place):
    """Levels by rows; the variance of the coefficients, if there is noise."""
    values = ()
    for i in tl.static_range(8):
        values += (load_level(levels, place, i),)
    if noise is None:
        return values, None
    else:
        return values, tl.load(noise + place[0], mask=place[1], other=0.0)


@triton.jit(do_not_specialize=["height"])
def soft_decode_kernel(
    levels, noise, tables, planes, spreads, flags, clips, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, LEAK: tl.constexpr, N: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Levels to decoded planes, around 0 and padded to whole MCUs.

    ``noise`` has the variances of each block's coefficients, or is None for sharp clamps; the rest as in
    :func:`soft_kernel`.
    """
    b, mcu = mcu_places(height, width, H, V, N, LONG)
    valid = mcu[2]
    rows, columns = tl.cdiv(height, 8 * V) * 8, tl.cdiv(width, 8 * H) * 8
    for k in range(H * V):
        y, x, place = luma_block(mcu, k, height, width, H, V)
        at = b * tl.cdiv(height, 8) * tl.cdiv(width, 8)
        values, variance = _loaded(blocks_of(levels, 0, b, height, width, H, V), part(noise, 0, at), place)
        out, slope, acts = _restored(
            values, variance, tables_of(tables, 0, b)[0], part(spreads, 0, at), place, LEAK
        )
        _store_luma(
            out, slope, acts, planes, flags, clips, b, y, x, height, width, rows * V, columns * H, valid, 0
        )  # fmt: skip
    if CHANNELS == 3:
        y, x, place = chroma_block(mcu, width, H)
        mcus = tl.cdiv(height, 8 * V) * tl.cdiv(width, 8 * H)
        for c in tl.static_range(1, 3):
            values, variance = _loaded(
                blocks_of(levels, c, b, height, width, H, V), part(noise, c, b * mcus), place
            )
            spread = part(spreads, 1, (2 * b + (c - 1)) * mcus)
            out, slope, acts = _restored(values, variance, tables_of(tables, c, b)[0], spread, place, LEAK)
            plane = (2 * b + (c - 1)) * wide_product(b, rows, columns)
            _store_chroma(out, slope, acts, planes, flags, clips, plane, y * columns + x, valid)


@triton.jit
def upsampled(plane, y, x, height, width, pitch, mask, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr):
    near_y, far_y = near(y, tl.cdiv(height, V), V, FANCY)
    near_x, far_x = near(x, tl.cdiv(width, H), H, FANCY)
    near_row, far_row = near_y * pitch, far_y * pitch
    p = tl.load(plane + (near_row + near_x), mask=mask, other=0.0)
    if FANCY and V == 2:
        p = 0.75 * p + 0.25 * tl.load(plane + (far_row + near_x), mask=mask, other=0.0)
    if FANCY and H == 2:
        q = tl.load(plane + (near_row + far_x), mask=mask, other=0.0)
        if V == 2:
            q = 0.75 * q + 0.25 * tl.load(plane + (far_row + far_x), mask=mask, other=0.0)
        p = 0.75 * p + 0.25 * q
    return p


@triton.jit(do_not_specialize=["height"])
def soft_image_kernel(
    planes, spreads, colors, out, flags, clips, image, strides, seen, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr, INVERSE: tl.constexpr,
    RANGE: tl.constexpr, LEAK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Decoded planes to an image: chroma upsampling, colour, clamp, range. ``out`` is contiguous.

    ``spreads`` are the variances of each block's samples, which smooth the clamp; its slopes go to ``clips``.
    ``colors`` stand for INVERSE.
    """
    b, y, x, mask = pixel_places(height, width, ROWS, COLUMNS, LONG)
    area, color = wide_product(b, height, width), color_of(colors, b)
    if colors is None:
        mix: tl.constexpr = INVERSE
    else:
        mix = _rows(color, True)
    at = y * width + x
    out += b * CHANNELS * area
    rows, columns = tl.cdiv(height, 8 * V) * 8, tl.cdiv(width, 8 * H) * 8
    luma = planes[0] + b * wide_product(b, rows * V, columns * H)
    sample = tl.load(luma + (y * (columns * H) + x), mask=mask, other=0.0)
    if CHANNELS == 1:
        tl.store(out + at, (sample + 128.0) * RANGE[1] + RANGE[0], mask=mask)
    else:
        plane = wide_product(b, rows, columns)
        chroma = planes[1] + 2 * b * plane
        cb = upsampled(chroma, y, x, height, width, columns, mask, H, V, FANCY)
        cr = upsampled(chroma + plane, y, x, height, width, columns, mask, H, V, FANCY)
        if flags is not None:
            flag = tl.load(flags + b * area + at, mask=mask, other=0).to(tl.int32)
        if spreads is not None:
            across, mcus_x = tl.cdiv(width, 8), tl.cdiv(width, 8 * H)
            mcus = tl.cdiv(height, 8 * V) * mcus_x
            block = spreads[0] + b * tl.cdiv(height, 8) * across + ((y // 8) * across + x // 8)
            other = spreads[1] + 2 * b * mcus + ((y // (8 * V)) * mcus_x + x // (8 * H))
            spread = (
                tl.load(block, mask=mask, other=0.0),
                tl.load(other, mask=mask, other=0.0),
                tl.load(other + mcus, mask=mask, other=0.0),
            )
        for i in tl.static_range(3):
            mixed = _mixed((sample, cb, cr), mix, i)
            if spreads is None:
                value, slope, acts = _clamp(mixed, None, None, None, LEAK)
            else:
                variance = tl.maximum(_squared(spread, mix, i), 0.04)
                deviation = tl.sqrt(variance)
                some = any_of(_nearest(mixed) < 6.0 * deviation)
                value, slope, acts = _clamp(mixed, deviation, some, any_of(_is_far(variance)), LEAK)
            if flags is not None:
                flag += (16 << i) * acts
            if clips is not None:
                tl.store(clips + (3 * b + i) * area + at, slope, mask=mask & (acts != 0))
            tl.store(out + i * area + at, value * RANGE[1] + RANGE[0], mask=mask)
        if flags is not None:
            tl.store(flags + b * area + at, flag.to(flags.dtype.element_ty), mask=mask)
        if color is not None:
            store_unconverted(out, at, area, color, mask)
    if seen is not None:
        store_undefined(image, strides, seen, out, at, b, y, x, area, mask, CHANNELS)
