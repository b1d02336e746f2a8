"""The Triton kernels of colour conversions that tensors give: gradients to their numbers, summed by program."""

import triton
import triton.language as tl

from jpegrad.backends.triton import forward, soft
from jpegrad.backends.triton.backward import decoded, of_image, to_pixels
from jpegrad.backends.triton.blocks import (
    color_of,
    factors_of,
    moved,
    pixel_places,
    wide_product,
)


@triton.jit
def _store_total(sums, tile):
    tl.store(sums, tl.sum(tl.reshape(tile, (tile.numel,)), 0))


@triton.jit
def _part_of_program(sums):
    return sums + 12 * (tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1))


@triton.jit(do_not_specialize=["height"])
def encoder_kernel(
    planes, image, strides, colors, noise, flags, clips, out, sums, height, width,
    SOFT: tl.constexpr, RANGE: tl.constexpr, FORWARD: tl.constexpr, CLIP_SLOPE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Gradients of Y, Cb and Cr at pixels, ``planes``, to those of the image, and of the encoder's matrix and offset.

    ``noise``, ``clips`` and RANGE are as in the forward's kernel; FORWARD is what factors are multiplied by.
    """
    b, y, x, mask = pixel_places(height, width, ROWS, COLUMNS, LONG)
    area = wide_product(b, height, width)
    at = y * width + x
    gradients = ()
    for i in tl.static_range(3):
        gradients += (tl.load(planes + (3 * b + i) * area + at, mask=mask, other=0.0),)
    pixels = image + b * strides[0]
    if SOFT:
        samples, _flag, _undefined, _lost = soft.pixels_of(
            pixels, strides, y, x, mask, noise, None, None, area, 3, RANGE, CLIP_SLOPE
        )
    else:
        samples, _flag, _undefined = forward.pixels_of(pixels, strides, y, x, mask, 3, RANGE)
    sums = _part_of_program(sums)
    for i in tl.static_range(3):
        for j in tl.static_range(3):
            _store_total(sums + 3 * i + j, gradients[i] * samples[j].to(tl.float32))
        _store_total(sums + 9 + i, gradients[i])
    flag = tl.load(flags + b * area + at, mask=mask, other=0).to(tl.int32)
    factors = factors_of(color_of(colors, b), FORWARD[0])
    to_pixels(
        out + 3 * b * area, at, gradients, flag, moved(clips, 3 * b * area), area, mask, 3, factors, CLIP_SLOPE
    )  # fmt: skip


@triton.jit(do_not_specialize=["height"])
def decoder_kernel(
    gradient, strides, flags, clips, planes, colors, sums, height, width,
    SOFT: tl.constexpr, H: tl.constexpr, V: tl.constexpr, FANCY: tl.constexpr, INVERSE: tl.constexpr,
    CLIP_SLOPE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Gradient of the decoded image to that of the decoder's matrix and offset.

    ``planes`` are the decoded ones, padded to whole MCUs; INVERSE is what factors are multiplied by.
    """
    b, y, x, mask = pixel_places(height, width, ROWS, COLUMNS, LONG)
    area, color = wide_product(b, height, width), color_of(colors, b)
    channels, _flag = decoded(
        of_image(gradient, strides, flags, clips, b, area), y, x, width, mask, 3, CLIP_SLOPE
    )
    rows, columns = tl.cdiv(height, 8 * V) * 8, tl.cdiv(width, 8 * H) * 8
    plane = wide_product(b, rows, columns)
    luma = planes[0] + b * wide_product(b, rows * V, columns * H)
    chroma = planes[1] + 2 * b * plane
    sample = tl.load(luma + (y * (columns * H) + x), mask=mask, other=0)
    if SOFT:
        cb = soft.upsampled(chroma, y, x, height, width, columns, mask, H, V, FANCY)
        cr = soft.upsampled(chroma + plane, y, x, height, width, columns, mask, H, V, FANCY)
    else:
        cb = forward.upsampled(chroma, y, x, height, width, columns, mask, H, V, FANCY)
        cr = forward.upsampled(chroma + plane, y, x, height, width, columns, mask, H, V, FANCY)
    samples = (sample, cb, cr)
    # Samples of the soft forward are around 0.
    middle: tl.constexpr = 128.0 if SOFT else 0.0
    factors = factors_of(color, INVERSE[0])
    sums = _part_of_program(sums)
    for j in tl.static_range(3):
        shifted = (samples[j].to(tl.float32) + (middle - color[9 + j]).to(tl.float32)) * INVERSE[0]
        to_offset = shifted * 0.0
        for i in tl.static_range(3):
            _store_total(sums + 3 * i + j, channels[i] * shifted)
            to_offset -= factors[3 * i + j] * channels[i]
        _store_total(sums + 9 + j, to_offset)
