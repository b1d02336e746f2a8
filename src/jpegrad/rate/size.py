"""``bits``: the exact size of the .jpg file of some coefficients, with a gradient."""

import torch
from torch import Tensor

from jpegrad.coefficients import NO_DENSITY, Coefficients, check_8_bit_tables
from jpegrad.entropy.scan import check_huffman, scan_bytes
from jpegrad.entropy.symbols import HUFFMAN_TABLES
from jpegrad.rate.models import ALL, RateModel, Scan


def bits(
    coefficients: Coefficients,
    *,
    huffman: str = "default",
    rate: str | RateModel = "marginal",
    metadata: bool = True,
) -> Tensor:
    """Exact size in bits of the .jpg file that ``to_bytes`` would write, with a gradient to image, quality and tables.

    The value is 8 · bytes of the whole file: headers, tables, coded data with its stuffed zeros and padding. The slope
    comes from a rate model, by way of ``coefficients.unrounded`` if ``encode`` recorded it, else of
    ``coefficients.levels``.

    Args:
        coefficients: from ``encode``, from a file, or your own; levels that are no integers count as rounded, levels
            that baseline cannot hold (AC beyond ±1023, DC differences beyond ±2047) as clamped, NaN as 0.
        huffman: ``"default"`` (tables of Annex K) or ``"optimized"`` (made for the image, Pillow's ``optimize=True``).
        rate: where the slope comes from: a name of ``jpegrad.rate.ALL`` or a record of your own.
        metadata: count the carried marker segments too.

    Returns:
        ``[...]``, the leading dimensions of the levels; float64, in which every size is exact.

    Raises:
        TypeError, ValueError: an argument is not as described, a table entry is above 255, or an MCU has more than 10
            blocks.

    Source: ITU-T T.81 Annexes B, F and K; libjpeg-turbo ``jchuff.c``, ``jcmarker.c``.

    Example:
        >>> import jpegrad, torch
        >>> image = torch.rand(2, 3, 40, 24, requires_grad=True)
        >>> size = bits(jpegrad.encode(image, quality=75))
        >>> size.shape, size[0].item() == 8 * len(jpegrad.to_bytes(jpegrad.encode(image, quality=75), 0))
        (torch.Size([2]), True)
        >>> size.sum().backward()
    """
    if not isinstance(coefficients, Coefficients):
        raise TypeError(f"coefficients: expected Coefficients, got {type(coefficients).__name__}")
    check_huffman(huffman)
    check_8_bit_tables("coefficients", coefficients)
    model = _model(rate)
    c = coefficients
    values = c.levels if c.unrounded is None else c.unrounded
    levels = tuple(level.detach() for level in c.levels)
    scan, listed = scan_bytes(levels, *c.size, c.subsampling, huffman).double().unbind(-1)
    size = 8 * (scan + listed + header_bytes(c, metadata))
    if not (torch.is_grad_enabled() and any(value.requires_grad for value in values)):
        return size
    levels = tuple(level.round() for level in levels)
    soft = model.soft(Scan(values, levels, c.size, c.subsampling, huffman, 8 * scan, c.unrounded is None))
    return size + (soft - soft.detach())


def header_bytes(coefficients: Coefficients, metadata: bool = True) -> int:
    """Bytes of the file that are not coded data: all marker segments, but not the symbols that DHT segments list."""
    components = coefficients.channels
    tables = min(components, coefficients.tables.shape[-3])
    space = coefficients.space
    # JFIF's APP0; Adobe's APP14 if the components are R, G and B, and of four; then APP0 has the density alone.
    application = 18 if space in ("gray", "YCbCr") else 16
    application += 18 if components == 4 and coefficients.density != NO_DENSITY else 0
    frame, scan, huffman = 10 + 3 * components, 8 + 2 * components, 21 * HUFFMAN_TABLES[components]
    carried = sum(4 + len(payload) for _, payload in coefficients.metadata) if metadata else 0
    return 2 + application + carried + 69 * tables + frame + huffman + scan + 2


def _model(rate: str | RateModel) -> RateModel:
    if isinstance(rate, RateModel):
        return rate
    if not isinstance(rate, str):
        raise TypeError(f"rate: expected a name or a RateModel, got {type(rate).__name__}")
    if rate not in ALL:
        raise ValueError(f"rate: expected one of {tuple(ALL)}, got {rate!r}")
    return ALL[rate]
