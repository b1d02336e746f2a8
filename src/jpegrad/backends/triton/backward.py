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
    blocks_of,
    channel,
    chroma_block,
    color_of,
    factors_of,
    fdct,
    idct,
    luma_block,
    mcu_places,
    moved,
    part,
    pixel_places,
    row_places,
    store_rows,
    tables_of,
    wide_product,
)
from jpegrad.backends.triton.slopes import added, adjoint, store_sums


@triton.jit
def _unclipped(g, clipped, slopes, CLIP_SLOPE: tl.constexpr):
    """Through a clamp, backwards; ``slopes`` are those that a smooth one has where it acts, or None."""
    if slopes is not None:
        return g * tl.load(slopes, mask=clipped != 0, other=1.0)
    elif CLIP_SLOPE == 0:
        return tl.where(clipped != 0, 0.0, g)
    else:
        return tl.where(clipped != 0, g * CLIP_SLOPE, g)


@triton.jit
def to_pixels(
    out, at, ycc, flag, clips, area, mask, CHANNELS: tl.constexpr, FORWARD, CLIP_SLOPE: tl.constexpr
):  # fmt: skip
    """Gradients of Y, Cb, Cr at pixels to those of the pixels; none of infinite numbers, NaN of pixels with NaN.

    Without a conversion ``FORWARD`` they are stored as they are.
    """
    undefined: tl.constexpr = 128 if CLIP_SLOPE == 0 else 1024
    if FORWARD is None:
        for i in tl.static_range(CHANNELS):
            tl.store(out + i * area + at, ycc[i], mask=mask)
    else:
        for i in tl.static_range(CHANNELS):
            value = FORWARD[i] * ycc[0]
            if CHANNELS == 3:
                value += FORWARD[3 + i] * ycc[1] + FORWARD[6 + i] * ycc[2]
            value = _unclipped(value, flag & (1 << i), moved(moved(clips, i * area), at), CLIP_SLOPE)
            if CLIP_SLOPE != 0:
                value = tl.where((flag & (128 << i)) != 0, 0.0, value)
            value = tl.where((flag & undefined) != 0, float("nan"), value)
            tl.store(out + i * area + at, value, mask=mask)


@triton.jit
def of_image(gradient, strides, flags, clips, b, area):
    """What ``decoded`` is told of the b-th image."""
    rgb, luma = part(clips, 3, 3 * b * area), part(clips, 1, b * area)
    return gradient + b * strides[0], strides, flags + b * area, area, rgb, luma


@triton.jit
def decoded(image, y, x, width, inside, CHANNELS: tl.constexpr, CLIP_SLOPE: tl.constexpr):
    """Gradient of the decoded channels before their clamp, and the flags.

    ``image`` is gradient, strides, flags, area of a channel, slopes of the clamps of RGB and of Y if they are smooth.
    """
    gradient, strides, flags, area, rgb, _luma_slopes = image
    pixel = y * width + x
    offsets = y * strides[2] + x * strides[3]
    flag = tl.load(flags + pixel, mask=inside, other=0).to(tl.int32)
    channels = ()
    for i in tl.static_range(CHANNELS):
        g = tl.load(channel(gradient, strides, i) + offsets, mask=inside, other=0.0).to(tl.float32)
        # Of one channel the clamp is that of Y.
        if CHANNELS == 3:
            g = _unclipped(g, flag & (16 << i), moved(moved(rgb, i * area), pixel), CLIP_SLOPE)
        channels += (g,)
    return channels, flag


@triton.jit
def _luma(image, y, x, width, inside, CHANNELS: tl.constexpr, INVERSE, CLIP_SLOPE: tl.constexpr):
    """Gradient of decoded samples of Y at pixels, and the flags there."""
    channels, flag = decoded(image, y, x, width, inside, CHANNELS, CLIP_SLOPE)
    g = INVERSE[0] * channels[0]
    for i in tl.static_range(1, CHANNELS):
        g += INVERSE[3 * i] * channels[i]
    return _unclipped(g, flag & 8, moved(image[5], y * width + x), CLIP_SLOPE), flag


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
    b, image, flags, slopes, y, x, valid, height, width,
    H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr, INVERSE, CLIP_SLOPE: tl.constexpr,
):  # fmt: skip
    """Gradients of decoded samples of Cb and Cr: the adjoint of upsampling, of colour, and of both clamps."""
    rows, columns = tl.cdiv(height, V), tl.cdiv(width, H)
    red = (y + x).to(tl.float32) * 0.0
    green, blue = red, red
    covered = valid & (y < rows) & (x < columns)
    across: tl.constexpr = _taps(H, FANCY)
    for k in range(_taps(V, FANCY) * across):
        py, weight_y = _tap(y, rows, k // across, V, FANCY)
        px, weight_x = _tap(x, columns, k % across, H, FANCY)
        weight = weight_y * weight_x
        inside = covered & (py < height) & (px < width)
        rgb, _flag = decoded(image, py, px, width, inside, 3, CLIP_SLOPE)
        red += weight * rgb[0]
        green += weight * rgb[1]
        blue += weight * rgb[2]
    cb = INVERSE[1] * red + INVERSE[4] * green + INVERSE[7] * blue
    cr = INVERSE[2] * red + INVERSE[5] * green + INVERSE[8] * blue
    pitch = tl.cdiv(width, 8 * H) * 8
    plane = wide_product(b, tl.cdiv(height, 8 * V) * 8, pitch)
    first, second, at = 2 * b * plane, (2 * b + 1) * plane, y * pitch + x
    clipped = (
        tl.load(flags + first + at, mask=valid, other=0),
        tl.load(flags + second + at, mask=valid, other=0),
    )
    cb = _unclipped(cb, clipped[0], moved(moved(slopes, first), at), CLIP_SLOPE)
    return cb, _unclipped(cr, clipped[1], moved(moved(slopes, second), at), CLIP_SLOPE)


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
def _at(tile, row, column):
    """Values of ``[N, 8, 8]`` at rows ``[1, 8, 1]`` and columns ``[1, 1, 8]``."""
    N: tl.constexpr = tile.shape[0]
    index = tl.broadcast_to(8 * row + column, tile.shape)
    flat = tl.gather(tl.reshape(tile, (N, 64)), tl.reshape(index, (N, 64)), 1)
    return tl.reshape(flat, tile.shape)


@triton.jit
def _box(tile, y, x, k, height, width, H: tl.constexpr, V: tl.constexpr, ALIGNED: tl.constexpr):
    """Gradient of downsampled samples of an MCU to that of samples at the pixels of its k-th luma block."""
    row = (k // H * 8 + block_rows()) // V
    column = (k % H * 8 + block_columns()) // H
    g = _at(tile, row, column)
    if ALIGNED:
        return g * (1.0 / (H * V))
    else:
        # A column beyond the last repeats the last column of pixels, which may be a part of its box only.
        beyond = _at(tile, row, tl.minimum(column + 1, 7))
        beyond = tl.where((x == width - 1) & (column < 7), beyond, 0.0)
        return (g * _times(x, x // H, width - 1, H) + beyond) * _times(y, y // V, height - 1, V)


@triton.jit
def _with_chroma(
    tile, chroma, y, x, k, height, width, H: tl.constexpr, V: tl.constexpr, ALIGNED: tl.constexpr
):  # fmt: skip
    """Gradients of an MCU's k-th luma block and of chroma at its pixels."""
    tiles = (tile,)
    for i in tl.static_range(2):
        tiles += (_box(chroma[i], y, x, k, height, width, H, V, ALIGNED),)
    return tiles


@triton.jit(do_not_specialize=["height"])
def gradient_kernel(
    gradient, strides, tables, parameters, kept, factors, flags, clips, out, sums, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr,
    INVERSE: tl.constexpr, FORWARD: tl.constexpr, CLIP_SLOPE: tl.constexpr, RECORDS: tl.constexpr,
    ALIGNED: tl.constexpr, N: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Gradient of the decoded image to that of the image; and to sums for the tables, one per program, if wanted.

    ``kept`` and ``factors`` are as in ``adjoint``, ``clips`` as in ``soft_kernel``, and then those of RGB.
    """
    TABLES: tl.constexpr = sums is not None
    b, mcu = mcu_places(height, width, H, V, N, LONG)
    valid, area = mcu[2], wide_product(b, height, width)
    image = of_image(gradient, strides, flags[0], clips, b, area)
    pixels = part(clips, 0, b * CHANNELS * area)
    out += b * CHANNELS * area
    if TABLES:
        sums += tl.program_id(0).to(tl.int64) * (CHANNELS * 64)
    if CHANNELS == 3:
        y, x, place = chroma_block(mcu, width, H)
        gradients = _chroma(
            b, image, flags[1], part(clips, 2, 0), y, x, valid, height, width, H, V, FANCY, INVERSE, CLIP_SLOPE,
        )  # fmt: skip
        chroma = ()
        for c in tl.static_range(1, 3):
            tile, entries = adjoint(
                gradients[c - 1], blocks_of(kept, c, b, height, width, H, V),
                blocks_of(factors, c, b, height, width, H, V), tables_of(tables, c, b), place, c, RECORDS, parameters,
                TABLES,
            )  # fmt: skip
            if TABLES:
                store_sums(sums + 64 * c, entries)
            if not ALIGNED:
                tile = _folded(tile, y, x, tl.cdiv(height, V) - 1, tl.cdiv(width, H))
            chroma += (tile,)
    blocks, factor = blocks_of(kept, 0, b, height, width, H, V), blocks_of(factors, 0, b, height, width, H, V)
    entries_y = tables_of(tables, 0, b)
    totals = (tl.zeros((N, 8), tl.float32),) * 8
    for k in range(H * V):
        y, x, place = luma_block(mcu, k, height, width, H, V)
        inside = valid & (y < height) & (x < width)
        tile, flag = _luma(image, y, x, width, inside, CHANNELS, INVERSE, CLIP_SLOPE)
        tile, entries = adjoint(tile, blocks, factor, entries_y, place, 0, RECORDS, parameters, TABLES)
        if TABLES:
            totals = added(totals, entries)
        if not ALIGNED:
            tile = _folded(tile, y, x, height - 1, width - 1)
        tiles = (
            _with_chroma(tile, chroma, y, x, k, height, width, H, V, ALIGNED) if CHANNELS == 3 else (tile,)
        )
        at = y * width + x
        to_pixels(out, at, tiles, flag, pixels, area, inside, CHANNELS, FORWARD, CLIP_SLOPE)
    if TABLES:
        store_sums(sums, totals)


@triton.jit
def _samples(coefficients, place):
    rows = ()
    for i in tl.static_range(8):
        rows += (tl.load(row_places(coefficients, place, i), mask=place[1], other=0.0),)
    return idct(rows, 0, 0)


@triton.jit(do_not_specialize=["height"])
def encode_gradient_kernel(
    gradients, flags, clips, out, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FORWARD: tl.constexpr, CLIP_SLOPE: tl.constexpr,
    ALIGNED: tl.constexpr, N: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Gradient of the coefficients to that of the image; ``clips`` are the slopes of the pixels' clamps, if smooth."""
    b, mcu = mcu_places(height, width, H, V, N, LONG)
    area = wide_product(b, height, width)
    flags += b * area
    clips = moved(clips, b * CHANNELS * area)
    out += b * CHANNELS * area
    if CHANNELS == 3:
        y, x, place = chroma_block(mcu, width, H)
        chroma = ()
        for c in tl.static_range(1, 3):
            tile = _samples(blocks_of(gradients, c, b, height, width, H, V), place)
            if not ALIGNED:
                tile = _folded(tile, y, x, tl.cdiv(height, V) - 1, tl.cdiv(width, H))
            chroma += (tile,)
    for k in range(H * V):
        y, x, place = luma_block(mcu, k, height, width, H, V)
        inside = mcu[2] & (y < height) & (x < width)
        tile = _samples(blocks_of(gradients, 0, b, height, width, H, V), place)
        if not ALIGNED:
            tile = _folded(tile, y, x, height - 1, width - 1)
        tiles = (
            _with_chroma(tile, chroma, y, x, k, height, width, H, V, ALIGNED) if CHANNELS == 3 else (tile,)
        )
        pixel = y * width + x
        flag = tl.load(flags + pixel, mask=inside, other=0).to(tl.int32)
        to_pixels(out, pixel, tiles, flag, clips, area, inside, CHANNELS, FORWARD, CLIP_SLOPE)


@triton.jit(do_not_specialize=["height"])
def decode_gradient_kernel(
    gradient, strides, colors, flags, clips, out, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr,
    INVERSE: tl.constexpr, CLIP_SLOPE: tl.constexpr, N: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Gradient of the decoded image to that of the dequantised coefficients; ``clips`` as in ``gradient_kernel``.

    ``colors`` times the one number of INVERSE stand for it.
    """
    b, mcu = mcu_places(height, width, H, V, N, LONG)
    valid = mcu[2]
    area = wide_product(b, height, width)
    image = of_image(gradient, strides, flags[0], clips, b, area)
    if colors is None:
        inverse: tl.constexpr = INVERSE
    else:
        inverse = factors_of(color_of(colors, b), INVERSE[0])
    if CHANNELS == 3:
        y, x, place = chroma_block(mcu, width, H)
        tiles = _chroma(
            b, image, flags[1], part(clips, 2, 0), y, x, valid, height, width, H, V, FANCY, inverse, CLIP_SLOPE,
        )  # fmt: skip
        for c in tl.static_range(1, 3):
            store_rows(blocks_of(out, c, b, height, width, H, V), place, fdct(tiles[c - 1], 0, 0))
    for k in range(H * V):
        y, x, place = luma_block(mcu, k, height, width, H, V)
        inside = valid & (y < height) & (x < width)
        tile, _flag = _luma(image, y, x, width, inside, CHANNELS, inverse, CLIP_SLOPE)
        store_rows(blocks_of(out, 0, b, height, width, H, V), place, fdct(tile, 0, 0))


@triton.jit
def _widened(tile, H: tl.constexpr):
    """Every column H times."""
    ROWS: tl.constexpr = tile.shape[0]
    COLUMNS: tl.constexpr = tile.shape[1]
    return tl.reshape(tl.broadcast_to(tile[:, :, None], (ROWS, COLUMNS, H)), (ROWS, COLUMNS * H))


@triton.jit(do_not_specialize=["height"])
def stencil_kernel(
    gradient, strides, flags, clips, out, height, width,
    CHANNELS: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr,
    INVERSE: tl.constexpr, FORWARD: tl.constexpr, CLIP_SLOPE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """The backward pass of a quantiser of slope 1, by tiles of chroma samples."""
    rows, columns = tl.cdiv(height, V), tl.cdiv(width, H)
    b, y, x, valid = pixel_places(rows, columns, ROWS, COLUMNS, LONG)
    area = wide_product(b, height, width)
    image = of_image(gradient, strides, flags[0], clips, b, area)
    pixels = part(clips, 0, b * CHANNELS * area)
    out += b * CHANNELS * area
    if CHANNELS == 3:
        cb, cr = _chroma(
            b, image, flags[1], part(clips, 2, 0), y, x, valid, height, width, H, V, FANCY, INVERSE, CLIP_SLOPE,
        )  # fmt: skip
        cb, cr = _widened(cb, H), _widened(cr, H)
    _b, y, x, _valid = pixel_places(rows, columns * H, ROWS, COLUMNS * H, LONG)
    for j in tl.static_range(V):
        py = y * V + j
        inside = (py < height) & (x < width)
        luma, flag = _luma(image, py, x, width, inside, CHANNELS, INVERSE, CLIP_SLOPE)
        gradients = (luma,)
        if CHANNELS == 3:
            times = _times(py, y, height - 1, V) * _times(x, x // H, width - 1, H)
            gradients += (times * cb, times * cr)
        at = py * width + x
        to_pixels(out, at, gradients, flag, pixels, area, inside, CHANNELS, FORWARD, CLIP_SLOPE)
