"""The calls of ``torchjpeg.codec``: levels and tables of .jpg files as tensors of int16."""

import itertools
import math
import os

import torch
from torch import Tensor

from jpegrad.codec import decode, encode
from jpegrad.coefficients import Coefficients
from jpegrad.io import read, write
from jpegrad.sampling import blocks, ceil_div, ratios
from jpegrad.tables import check_real

Read = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""Sizes, tables, levels of Y, levels of Cb and Cr."""
_LARGEST = torch.iinfo(torch.int16).max


def read_coefficients(path: str | os.PathLike[str]) -> Read:
    """As ``torchjpeg.codec.read_coefficients``.

    Args:
        path: of a .jpg file, gray or YCbCr.

    Returns:
        dimensions ``[C, 2]`` int32, (height, width) of each component in samples; quantization ``[C, 8, 8]`` int16;
        levels of Y ``[1, blocks_y, blocks_x, 8, 8]`` int16; those of Cb and Cr ``[2, …]``, or None of a gray file.

    Raises:
        JPEGError: not a JPEG file, corrupt, or not supported.
        ValueError: a file of other components, of Cb and Cr of different sizes, or with a table entry above 32767.
        OSError: the file cannot be opened.

    Source: torchjpeg, ``codec/codec_ops.cpp``.

    Example:
        >>> import jpegrad
        >>> jpegrad.write("a.jpg", jpegrad.encode(torch.rand(3, 40, 24), 75))
        >>> dimensions, quantization, y, cbcr = read_coefficients("a.jpg")
        >>> dimensions.tolist(), y.shape, cbcr.shape
        ([[40, 24], [20, 12], [20, 12]], torch.Size([1, 5, 3, 8, 8]), torch.Size([2, 3, 2, 8, 8]))
    """
    return _as_tensors(read(path, level_dtype=torch.int16))


def quantize_at_quality(
    pixels: Tensor,
    quality: int,
    color_samp_factor_vertical: int = 2,
    color_samp_factor_horizontal: int = 2,
    baseline: bool = True,
) -> Read:
    """As ``torchjpeg.codec.quantize_at_quality``; :func:`jpegrad.encode` has the same levels, with gradients.

    Args:
        pixels: ``[3 or 1, H, W]`` in 0…1.
        quality: 1…100.
        color_samp_factor_vertical, color_samp_factor_horizontal: samples of luma to one of chroma.
        baseline: whether table entries end at 255; False only where they do so anyway, from quality 24 on.

    Returns:
        As of :func:`read_coefficients`.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> quantize_at_quality(torch.rand(3, 40, 24), 75)[2].dtype
        torch.int16
    """
    if not baseline and quality < 24:
        raise ValueError(
            f"baseline: expected True below quality 24, where entries exceed 255; got {baseline}"
        )
    if pixels.ndim != 3:
        raise ValueError(f"pixels: expected shape [3 or 1, H, W], got {list(pixels.shape)}")
    factors = f"{color_samp_factor_horizontal}x{color_samp_factor_vertical},1x1,1x1"
    return _as_tensors(encode(pixels.detach(), quality, subsampling=None if len(pixels) == 1 else factors))


def write_coefficients(
    path: str | os.PathLike[str],
    dimensions: Tensor,
    quantization: Tensor,
    Y_coefficients: Tensor,
    CrCb_coefficients: Tensor | None = None,
) -> None:
    """As ``torchjpeg.codec.write_coefficients``.

    Args:
        path: of the file.
        dimensions, quantization, Y_coefficients, CrCb_coefficients: as :func:`read_coefficients` returns them.

    Raises:
        TypeError, ValueError: an argument is not as described, or the sizes do not belong together.
        OSError: the file cannot be written.

    Example:
        >>> levels = quantize_at_quality(torch.rand(3, 40, 24), 75)
        >>> write_coefficients("b.jpg", *levels)
        >>> all(map(torch.equal, read_coefficients("b.jpg"), levels))
        True
    """
    write(path, _coefficients(dimensions, quantization, Y_coefficients, CrCb_coefficients))


def reconstruct_full_image(
    y_coefficients: Tensor,
    quantization: Tensor,
    cbcr_coefficients: Tensor | None = None,
    crop: Tensor | None = None,
) -> Tensor:
    """As ``torchjpeg.codec.reconstruct_full_image``, with the pixels that every viewer shows.

    Args:
        y_coefficients, quantization, cbcr_coefficients: as :func:`read_coefficients` returns them.
        crop: its dimensions; None is whole blocks.

    Returns:
        ``[3, H, W]``, of a gray picture ``[H, W]``; float32 in 0…1.

    Raises:
        TypeError, ValueError: as of :func:`write_coefficients`.

    Example:
        >>> dimensions, quantization, y, cbcr = quantize_at_quality(torch.rand(3, 40, 24), 75)
        >>> reconstruct_full_image(y, quantization, cbcr, dimensions).shape
        torch.Size([3, 40, 24])
    """
    if crop is None:
        check_real("y_coefficients", y_coefficients)
        crop = _whole_blocks(y_coefficients, cbcr_coefficients)
    image = decode(_coefficients(crop, quantization, y_coefficients, cbcr_coefficients))
    return image[0] if cbcr_coefficients is None else image


def _whole_blocks(y: Tensor, cbcr: Tensor | None) -> Tensor:
    """The sizes of a picture that fills its blocks."""
    rows, columns = y.shape[1:3]
    sizes = [(8 * rows, 8 * columns)]
    if cbcr is not None:
        down, across = ceil_div(rows, cbcr.shape[1]), ceil_div(columns, cbcr.shape[2])
        sizes += [(ceil_div(8 * rows, down), ceil_div(8 * columns, across))] * 2
    return torch.tensor(sizes)


def _as_tensors(coefficients: Coefficients) -> Read:
    c = coefficients
    if c.space not in ("gray", "YCbCr"):
        raise ValueError(f"path: expected a file that is gray or YCbCr, got {c.space}")
    if c.channels == 3 and c.levels[1].shape != c.levels[2].shape:
        raise ValueError(f"path: expected Cb and Cr of one size, got sampling {c.subsampling}")
    if (c.tables > _LARGEST).any():
        raise ValueError(f"path: expected table entries up to {_LARGEST}, got {int(c.tables.max())}")
    height, width = c.size
    sizes = [(ceil_div(height, v), ceil_div(width, h)) for h, v in ratios(c.channels, c.subsampling)]
    tables = c.tables[[min(i, len(c.tables) - 1) for i in range(c.channels)]]
    y, *chroma = (plane.to(torch.int16) for plane in c.levels)
    return (
        torch.tensor(sizes, dtype=torch.int32),
        tables.to(torch.int16),
        y[None],
        torch.stack(chroma) if chroma else None,
    )


def _coefficients(dimensions: Tensor, quantization: Tensor, y: Tensor, cbcr: Tensor | None) -> Coefficients:
    count = 1 if cbcr is None else 3
    expected = [
        ("dimensions", dimensions, 2, (count, 2)),
        ("quantization", quantization, 3, (count, 8, 8)),
        ("Y_coefficients", y, 5, (1,)),
    ]
    if cbcr is not None:
        expected.append(("CrCb_coefficients", cbcr, 5, (2,)))
    for name, value, ndim, shape in expected:
        check_real(name, value)
        if value.ndim != ndim or tuple(value.shape[: len(shape)]) != shape:
            raise ValueError(
                f"{name}: expected {ndim} dimensions, [{', '.join(map(str, shape))}, …], got {list(value.shape)}"
            )
    sizes = [tuple(map(int, size)) for size in dimensions.tolist()]
    (height, width), subsampling = sizes[0], "4:4:4"
    levels = [y[0].float()]
    if cbcr is not None:
        fitting = [
            (h, v)
            for h, v in sorted(itertools.product(range(1, 5), repeat=2), key=math.prod)
            if sizes[1:] == [(ceil_div(height, v), ceil_div(width, h))] * 2
            and tuple(cbcr.shape[1:3]) == blocks((height, width), (h, v))
        ]
        if not fitting:
            raise ValueError(
                f"dimensions: expected those of 1 to 4 samples of luma across and down to one of chroma, got {sizes} "
                f"with {cbcr.shape[1]} × {cbcr.shape[2]} blocks of chroma"
            )
        (h, v), *_ = fitting
        subsampling = f"{h}x{v},1x1,1x1"
        levels += [*cbcr.float()]
    tables = quantization.float()
    if count == 3 and torch.equal(tables[1], tables[2]):
        tables = tables[:2]
    return Coefficients(tuple(levels), tables, (height, width), subsampling)
